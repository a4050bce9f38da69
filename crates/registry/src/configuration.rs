//! The registries that may be asked, from a file of the operator's. No other is ever connected to, but where one of
//! these sends us for bytes whose digest is known.

use crate::origin::Origin;
use crate::reference::is_host;
use crypto::{SecretBytes, Zeroizing};
use facts::Finding;
use rustls::ClientConfig;
use serde::Deserialize;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Of the file, of one with credentials, and of authorities.
const LONGEST: u64 = 1 << 20;
const LONGEST_CREDENTIALS: u64 = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    /// Where images are kept, by digest.
    cache: Option<PathBuf>,
    /// Of an image, all layers together.
    #[serde(default = "most")]
    most_bytes: u64,
    /// For an image as a whole.
    #[serde(default = "seconds")]
    timeout_s: u64,
    #[serde(default)]
    registry: Vec<DeclaredRegistry>,
}

const fn most() -> u64 {
    4 << 30
}

const fn seconds() -> u64 {
    900
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredRegistry {
    /// As images name it.
    host: String,
    url: Option<String>,
    ca: Option<PathBuf>,
    credentials: Option<PathBuf>,
    #[serde(default)]
    token: Vec<String>,
    #[serde(default)]
    blobs: Vec<String>,
}

/// The registries of a file.
pub struct Registries {
    /// The file, for people.
    path: PathBuf,
    folder: Option<PathBuf>,
    pub(crate) most_bytes: u64,
    pub(crate) timeout: Duration,
    registries: Vec<Registry>,
}

pub(crate) struct Registry {
    pub(crate) host: String,
    pub(crate) origin: Origin,
    /// Before each path; empty, or `/…`.
    pub(crate) prefix: String,
    pub(crate) tls: Arc<ClientConfig>,
    /// `user:password`.
    pub(crate) credentials: Option<SecretBytes>,
    /// Beside itself: who may be shown the credentials, for a token.
    pub(crate) tokens: Vec<Origin>,
    /// Beside itself, and beside what is public: who may have its blobs.
    pub(crate) blobs: Vec<Origin>,
}

fn unusable(path: &Path, observed: impl Into<String>) -> Finding {
    Finding::new(
        "REGISTRY-CONFIG",
        format!("the registries of {} cannot be used", path.display()),
    )
    .expected("[[registry]] with `host`, and `url` as https://HOST[:PORT] (http:// for an address of this machine alone)")
    .observed(observed)
    .next("correct the file: docs/operate/registries.md")
}

impl Registries {
    /// Reads the file, and what it names. Blocks; connects to nothing.
    ///
    /// # Errors
    /// `REGISTRY-CONFIG`, `REGISTRY-CREDENTIALS`.
    pub fn open(path: &Path) -> Result<Self, Finding> {
        let bytes = limited(path, LONGEST).map_err(|why| unusable(path, why))?;
        let text = String::from_utf8(bytes).map_err(|_| unusable(path, "no text"))?;
        let declared: Declared =
            toml::from_str(&text).map_err(|error| unusable(path, error.message()))?;
        let beside = path.parent().unwrap_or(Path::new("."));
        let registries = declared.registry.into_iter();
        let registries: Vec<Registry> = registries
            .map(|one| Registry::open(one, path, beside))
            .collect::<Result<_, _>>()?;
        let mut hosts: Vec<&str> = registries.iter().map(|one| one.host.as_str()).collect();
        hosts.sort_unstable();
        if let Some([twice, ..]) = hosts.windows(2).find(|two| two.first() == two.last()) {
            return Err(unusable(path, format!("{twice} stands there twice")));
        }
        Ok(Self {
            path: path.to_owned(),
            folder: declared.cache.map(|folder| beside.join(folder)),
            most_bytes: declared.most_bytes,
            timeout: Duration::from_secs(declared.timeout_s.clamp(1, 86_400)),
            registries,
        })
    }

    /// Where images are kept, if the file says so.
    #[must_use]
    pub fn cache(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// # Errors
    /// `REGISTRY-UNLISTED`.
    pub(crate) fn named(&self, host: &str) -> Result<&Registry, Finding> {
        let mut all = self.registries.iter();
        all.find(|one| one.host == host).ok_or_else(|| {
            let hosts: Vec<&str> = self
                .registries
                .iter()
                .map(|one| one.host.as_str())
                .collect();
            Finding::new(
                "REGISTRY-UNLISTED",
                "this registry is none that may be asked",
            )
            .expected(match hosts.as_slice() {
                [] => "a [[registry]]; none is listed".to_owned(),
                hosts => format!("one of: {}", hosts.join(", ")),
            })
            .observed(host.chars().take(255).collect::<String>())
            .next(format!(
                "add to {} the lines [[registry]] and host = \"{host}\"",
                self.path.display()
            ))
        })
    }
}

impl Registry {
    fn open(declared: DeclaredRegistry, path: &Path, beside: &Path) -> Result<Self, Finding> {
        let host = declared.host;
        if !is_host(&host) {
            return Err(unusable(path, format!("{host:?} is no host of images")));
        }
        let origin =
            |url: &str| Origin::parse(url).map_err(|why| unusable(path, format!("{url}: {why}")));
        let plain = |url: &String| match origin(url)? {
            (origin, rest) if rest == "/" => Ok(origin),
            _ => Err(unusable(
                path,
                format!("{url}: it has more than host and port"),
            )),
        };
        let url = declared.url.unwrap_or_else(|| format!("https://{host}"));
        let (itself, prefix) = origin(&url)?;
        if prefix.contains('?') {
            return Err(unusable(path, format!("{url}: it has a query")));
        }
        let credentials = declared
            .credentials
            .map(|file| credentials(&beside.join(file)));
        Ok(Self {
            host,
            origin: itself,
            prefix: prefix.trim_end_matches('/').to_owned(),
            tls: Arc::new(client(
                declared.ca.map(|ca| beside.join(ca)).as_deref(),
                path,
            )?),
            credentials: credentials.transpose()?,
            tokens: declared.token.iter().map(plain).collect::<Result<_, _>>()?,
            blobs: declared.blobs.iter().map(plain).collect::<Result<_, _>>()?,
        })
    }
}

fn limited(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= most => Ok(bytes),
        _ => Err(format!("{} has more than {most} bytes", path.display())),
    }
}

/// What others may read is not taken, as custody takes no such key.
fn credentials(path: &Path) -> Result<SecretBytes, Finding> {
    let refused = |observed: String| {
        Finding::new(
            "REGISTRY-CREDENTIALS",
            format!("the credentials in {} cannot be used", path.display()),
        )
        .expected("a file of yours of mode 0600 with one line, USER:PASSWORD")
        .observed(observed)
        .next(format!("chmod 600 {}", path.display()))
    };
    let file = File::open(path).map_err(|error| refused(error.to_string()))?;
    let metadata = file
        .metadata()
        .map_err(|error| refused(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refused("no file".to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(refused(format!("mode {:o}", metadata.mode() & 0o7777)));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(8192));
    let read = file.take(LONGEST_CREDENTIALS).read_to_end(&mut text);
    read.map_err(|error| refused(error.to_string()))?;
    let line = text.trim_ascii();
    let known = line.contains(&b':') && line.iter().all(|byte| (0x20..0x7f).contains(byte));
    if !known {
        return Err(refused("something else".to_owned()));
    }
    Ok(SecretBytes::new(line.to_vec()))
}

fn client(ca: Option<&Path>, path: &Path) -> Result<ClientConfig, Finding> {
    crypto::client_trusting(ca).map_err(|error| {
        let why = format!(
            "{error}, not {}: install ca-certificates, or name a file",
            error.expected
        );
        unusable(path, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn open(text: &str) -> Result<Registries, Finding> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.toml");
        fs::write(&path, text).unwrap();
        for (name, mode) in [("good", 0o600), ("loose", 0o640)] {
            let file = folder.path().join(name);
            fs::write(&file, "reader:secret\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(folder.path().join("ca.pem"), "nothing").unwrap();
        Registries::open(&path)
    }

    #[test]
    fn a_registry_is_asked_if_it_is_listed_and_no_other_is() {
        let read = open(
            "[[registry]]\nhost = \"127.0.0.1:5000\"\nurl = \"http://127.0.0.1:5000\"\ncredentials = \"good\"\n",
        );
        let read = read.unwrap();
        let one = read.named("127.0.0.1:5000").ok().unwrap();
        assert_eq!(one.credentials.as_ref().unwrap().expose(), b"reader:secret");
        for other in ["127.0.0.1", "127.0.0.1:5001", "registry.example"] {
            let refused = read.named(other).err().unwrap();
            assert_eq!(refused.code, "REGISTRY-UNLISTED");
            assert!(
                refused
                    .next
                    .unwrap()
                    .contains(&format!("host = \"{other}\""))
            );
        }
    }

    #[test]
    fn what_a_file_says_wrongly_is_refused() {
        let here = "[[registry]]\nhost = \"127.0.0.1:5000\"\nurl = \"http://127.0.0.1:5000\"\n";
        for (text, code) in [
            (
                format!("{here}credentials = \"loose\"\n"),
                "REGISTRY-CREDENTIALS",
            ),
            (
                format!("{here}credentials = \"absent\"\n"),
                "REGISTRY-CREDENTIALS",
            ),
            (format!("{here}ca = \"ca.pem\"\n"), "REGISTRY-CONFIG"),
            (format!("{here}{here}"), "REGISTRY-CONFIG"),
            (format!("{here}insecure = true\n"), "REGISTRY-CONFIG"),
            (
                format!("{here}token = [\"https://a/b\"]\n"),
                "REGISTRY-CONFIG",
            ),
            (
                format!("{here}blobs = [\"http://10.0.0.1\"]\n"),
                "REGISTRY-CONFIG",
            ),
            (
                here.replace("http://127.0.0.1", "http://10.0.0.1"),
                "REGISTRY-CONFIG",
            ),
            (
                here.replace("\"127.0.0.1:5000\"\nurl", "\"app\"\nurl"),
                "REGISTRY-CONFIG",
            ),
            ("registry = 1".to_owned(), "REGISTRY-CONFIG"),
        ] {
            assert_eq!(open(&text).err().unwrap().code, code, "{text}");
        }
    }
}
