//! Whose requests they are: an access key and its secret, from a file that nobody else may read, or from the
//! environment. Held in memory that is wiped, and never printed.

use crypto::{SecretBytes, Zeroizing};
use facts::Finding;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const LONGEST: u64 = 16 * 1024;
/// Longer than anybody's; a session token has some thousand characters.
const LONGEST_VALUE: usize = 8 * 1024;

pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: SecretBytes,
    /// Of credentials that end.
    pub(crate) token: Option<SecretBytes>,
}

impl Credentials {
    pub(crate) fn new(id: &str, secret: &str, token: Option<&str>) -> Self {
        let wrapped = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        Self {
            id: id.to_owned(),
            secret: wrapped(secret),
            token: token.map(wrapped),
        }
    }

    /// Of `file`, or of the environment where there is none. Read anew whenever the store refuses the old ones.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, Finding> {
        match file {
            Some(path) => Self::of_file(path),
            None => Self::of_environment(|name| std::env::var(name).ok()),
        }
    }

    /// The names that every S3 client knows.
    fn of_environment(value: impl Fn(&str) -> Option<String>) -> Result<Self, Finding> {
        let value = |name| value(name).map(Zeroizing::new);
        let token = value("AWS_SESSION_TOKEN");
        match (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => {
                Self::checked(&id, &secret, token.as_ref().map(|token| token.as_str()))
                    .ok_or_else(|| refused("AWS_ACCESS_KEY_ID and its secret", "something else"))
            }
            _ => Err(refused(
                "the environment",
                "no AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY",
            )),
        }
    }

    /// As the file that other clients keep has it: `aws_access_key_id = …` and `aws_secret_access_key = …`, at most
    /// one `[profile]` before them.
    fn of_file(path: &Path) -> Result<Self, Finding> {
        let refused = |observed: &str| refused(&path.display().to_string(), observed);
        let failed = |error: std::io::Error| refused(&error.to_string());
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(refused("no file"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(refused(&format!("mode {:o}", metadata.mode() & 0o7777)));
        }
        let mut text = Zeroizing::new(String::with_capacity(64 * 1024));
        let read = file.take(LONGEST).read_to_string(&mut text);
        read.map_err(failed)?;
        Self::parse(&text).ok_or_else(|| refused("something else"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (mut id, mut secret, mut token, mut profiles) = (None, None, None, 0);
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') && line.ends_with(']') {
                profiles += 1;
                continue;
            }
            let (name, value) = line.split_once('=')?;
            let slot = match name.trim() {
                "aws_access_key_id" => &mut id,
                "aws_secret_access_key" => &mut secret,
                "aws_session_token" => &mut token,
                _ => return None,
            };
            if slot.replace(value.trim()).is_some() {
                return None;
            }
        }
        if profiles > 1 {
            return None;
        }
        Self::checked(id?, secret?, token)
    }

    /// What can stand in a header, and nothing else.
    fn checked(id: &str, secret: &str, token: Option<&str>) -> Option<Self> {
        let plain = |text: &str| {
            (1..=LONGEST_VALUE).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let good = plain(id) && !id.contains(['/', ',']) && plain(secret);
        (good && token.is_none_or(plain)).then(|| Self::new(id, secret, token))
    }
}

fn refused(place: &str, observed: &str) -> Finding {
    Finding::new(
        "PUBLISH-CREDENTIALS",
        format!("the credentials of the object store in {place} cannot be used"),
    )
    .expected("a file of yours of mode 0600 with the lines aws_access_key_id = … and aws_secret_access_key = …, or both in the environment")
    .observed(observed)
    .next("correct `credentials` under [publish] in server.toml, or the file that it names")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const GOOD: &str =
        "# of the ledger\n[default]\naws_access_key_id = KEY\naws_secret_access_key=a/b+c=\n";

    #[test]
    fn a_file_is_read_if_it_is_ours_alone_and_says_what_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let read = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Credentials::read(Some(&path))
        };
        let good = read(GOOD, 0o600).ok().unwrap();
        assert_eq!(
            (good.id.as_str(), good.secret.expose()),
            ("KEY", b"a/b+c=".as_slice())
        );
        assert!(good.token.is_none());
        let with = format!("{GOOD}aws_session_token = t\n");
        let token = read(&with, 0o400).ok().unwrap().token.unwrap();
        assert_eq!(token.expose(), b"t");
        for (text, mode) in [
            (GOOD, 0o640),
            (GOOD, 0o604),
            ("", 0o600),
            ("aws_access_key_id = KEY\n", 0o600),
            (
                "aws_access_key_id = K/Y\naws_secret_access_key = s\n",
                0o600,
            ),
            (
                "aws_access_key_id = K\naws_secret_access_key = s\u{e9}\n",
                0o600,
            ),
            ("KEY:SECRET\n", 0o600),
            (&format!("{GOOD}[other]\n"), 0o600),
            (&format!("{GOOD}aws_access_key_id = K\n"), 0o600),
        ] {
            let finding = read(text, mode).err().unwrap();
            assert_eq!(finding.code, "PUBLISH-CREDENTIALS", "{text}");
            assert!(
                !finding.to_string().contains("a/b+c="),
                "the secret is shown"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Credentials::read(Some(&path)).is_err());
    }

    #[test]
    fn the_environment_needs_both() {
        let of = |pairs: &[(&str, &str)]| {
            Credentials::of_environment(|name| {
                let found = pairs.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let both = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert!(of(&both).is_ok());
        assert!(of(&both[..1]).is_err());
        let token = [both[0], both[1], ("AWS_SESSION_TOKEN", "two words")];
        assert!(of(&token).is_err());
    }
}
