//! What records have of the name that a client gives its application: `application_name`, which people type into
//! connection strings and may be a person's.
//!
//! Records stay for ever, so that what must not stay is not written: the name can be left out, or stand behind a keyed
//! hash. The key never leaves the gateway's folder; without it nobody can try names, and once it is removed nobody can
//! tell any more what was behind the hashes of before.

use crypto::SecretBytes;
use facts::Finding;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// In the gateway's folder.
const KEY_FILE: &str = "application-name.key";
const KEY: usize = 32;
/// Hex digits of a hash that are recorded: 128 bits.
const DIGITS: usize = 32;
/// Letters of a name, at most.
const LONGEST: usize = 64;

/// How the name that a client gives its application is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApplicationName {
    /// As it is.
    #[default]
    Recorded,
    /// By its HMAC under a key in `data_dir`: the same name is the same hash, as long as the key is there.
    Hashed,
    /// Not at all.
    Dropped,
}

/// Names of applications, as they are recorded.
pub(crate) enum Applications {
    Recorded,
    Hashed(SecretBytes),
    Dropped,
}

impl Applications {
    /// With the key in `dir`, which is made if there is none. Blocks on the disk.
    ///
    /// # Errors
    /// `GATEWAY-APPLICATION-KEY`.
    pub(crate) fn open(how: ApplicationName, dir: &Path) -> Result<Self, Finding> {
        match how {
            ApplicationName::Recorded => Ok(Self::Recorded),
            ApplicationName::Dropped => Ok(Self::Dropped),
            ApplicationName::Hashed => {
                let path = dir.join(KEY_FILE);
                key(&path).map(Self::Hashed).map_err(|error| {
                    Finding::new(
                        "GATEWAY-APPLICATION-KEY",
                        "the key of applications' names cannot be read or made",
                    )
                    .expected(format!("a file of {KEY} bytes"))
                    .observed(format!("{}: {error}", path.display()))
                    .next("restore the file from a backup, or remove it: hashes of before then tell nothing any more")
                })
            }
        }
    }

    /// What a record has of `name`, which is unverified. A client that gives none has none.
    pub(crate) fn recorded(&self, name: &str) -> String {
        let name = printable(name);
        match self {
            Self::Hashed(key) if !name.is_empty() => {
                let mut hash =
                    crypto::hex::encode(&crypto::hmac_sha256(key.expose(), name.as_bytes()));
                hash.truncate(DIGITS);
                format!("hmac-sha256:{hash}")
            }
            Self::Recorded | Self::Hashed(_) => name,
            Self::Dropped => String::new(),
        }
    }
}

/// Nothing but plain characters, and not many.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(LONGEST)
        .collect()
}

fn key(path: &Path) -> io::Result<SecretBytes> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.len() == KEY => return Ok(SecretBytes::new(bytes)),
        Ok(bytes) => {
            let what = format!("it has {} bytes", bytes.len());
            return Err(io::Error::other(what));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let made = crypto::random::<KEY>();
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&made)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(SecretBytes::new(made.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_a_client_calls_itself_is_cut_and_cleaned() {
        assert_eq!(printable("psql\u{1b}[2J\n"), "psql[2J");
        assert_eq!(printable(&"x".repeat(500)).len(), LONGEST);
    }

    #[test]
    fn a_hash_is_that_of_a_name_by_this_key_alone() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, other] = folders
            .each_ref()
            .map(|dir| Applications::open(ApplicationName::Hashed, dir.path()).unwrap());
        let hash = one.recorded("ada's psql");
        assert!(
            hash.starts_with("hmac-sha256:") && hash.len() == 12 + DIGITS,
            "{hash}"
        );
        assert!(!hash.contains("ada"));
        assert_eq!(hash, one.recorded("ada's psql"));
        assert_ne!(hash, one.recorded("bob's psql"));
        assert_ne!(hash, other.recorded("ada's psql"));
        assert_eq!(one.recorded(""), "");
        // The next start has the same key.
        let again = Applications::open(ApplicationName::Hashed, folders[0].path()).unwrap();
        assert_eq!(hash, again.recorded("ada's psql"));
        let path = folders[0].path().join(KEY_FILE);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // As docs/operate/erasure.md has it done by others.
        let key = std::fs::read(&path).unwrap();
        let expected = crypto::hex::encode(&crypto::hmac_sha256(&key, b"ada's psql"));
        assert!(expected.starts_with(hash.strip_prefix("hmac-sha256:").unwrap()));
        std::fs::remove_file(&path).unwrap();
        let anew = Applications::open(ApplicationName::Hashed, folders[0].path()).unwrap();
        assert_ne!(hash, anew.recorded("ada's psql"));
    }

    #[test]
    fn a_key_that_was_cut_is_not_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(KEY_FILE), b"short").unwrap();
        let refused = Applications::open(ApplicationName::Hashed, dir.path())
            .err()
            .unwrap();
        assert_eq!(refused.code, "GATEWAY-APPLICATION-KEY");
    }

    #[test]
    fn dropped_is_nothing_and_recorded_is_the_name() {
        let dir = tempfile::tempdir().unwrap();
        for (how, recorded) in [
            (ApplicationName::Recorded, "psql"),
            (ApplicationName::Dropped, ""),
        ] {
            let applications = Applications::open(how, dir.path()).unwrap();
            assert_eq!(applications.recorded("psql"), recorded);
        }
        assert!(!dir.path().join(KEY_FILE).exists());
    }
}
