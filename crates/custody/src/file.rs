//! Keys as PKCS#8 files that only their owner can read.
//!
//! Who can read the folder has the keys: this guards against other users of the machine and against half
//! written files, not against root.

use crypto::{Algorithm, Custody, Error, KeyPair, Signer};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A PKCS#8 document of any key that we make is far smaller.
const MAX_KEY_FILE: u64 = 16 * 1024;
const EXTENSION: &str = ".pk8";

/// A folder of private keys, mode 0700, each key a file of mode 0600.
pub struct FileCustody {
    directory: OwnedFd,
    pub(crate) path: PathBuf,
    /// Making a key is look, make, link: one at a time within this process.
    making: Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum FileCustodyError {
    #[error("cannot {operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{path} has mode {mode:04o}; others than its owner must have no access: chmod go= {path}"
    )]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("{path} belongs to uid {owner}, not to uid {own} that runs this process")]
    Owner { path: PathBuf, owner: u32, own: u32 },
    #[error("{path} is not a {expected}")]
    Kind {
        path: PathBuf,
        expected: &'static str,
    },
    #[error(
        "{0:?} is not a key name: lower-case letters, digits, `-` and `.`, at most 64, not a leading `.`"
    )]
    Name(String),
    #[error("{path} holds a key of algorithm {found}, not {expected}")]
    Algorithm {
        path: PathBuf,
        found: Algorithm,
        expected: Algorithm,
    },
    #[error("{path} is larger than any key")]
    TooLarge { path: PathBuf },
}

impl FileCustody {
    /// Opens the folder at `path`; makes it with mode 0700 if it is not there.
    ///
    /// # Errors
    /// If it is not a folder of this user alone.
    pub fn open(path: &Path) -> Result<Self, FileCustodyError> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make", path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed("open", path, error))?;
        private(&directory, path, FileType::Directory)?;
        Ok(Self {
            directory,
            path: path.to_owned(),
            making: Mutex::new(()),
        })
    }

    fn read(&self, name: &str) -> Result<Option<KeyPair>, Failure> {
        let file_name = file_name(name)?;
        let path = self.path.join(&file_name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, &*file_name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed("open", &path, error).into()),
        };
        private(&file, &path, FileType::RegularFile)?;
        let mut bytes = crypto::Zeroizing::new(Vec::with_capacity(512));
        std::fs::File::from(file)
            .take(MAX_KEY_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| FileCustodyError::Io {
                operation: "read",
                path: path.clone(),
                source,
            })?;
        if bytes.len() as u64 > MAX_KEY_FILE {
            return Err(FileCustodyError::TooLarge { path }.into());
        }
        Ok(Some(KeyPair::from_pkcs8(&bytes)?))
    }

    /// Writes a key so that its file is there whole and durable, or not at all.
    fn make(&self, name: &str, algorithm: Algorithm) -> Result<KeyPair, Failure> {
        let key = KeyPair::generate(algorithm)?;
        let bytes = key.to_pkcs8()?;
        let file_name = file_name(name)?;
        let path = self.path.join(&file_name);
        let temporary = format!(".{name}.{}", crypto::hex::encode(&crypto::random::<8>()));
        let io = |operation, error: std::io::Error| FileCustodyError::Io {
            operation,
            path: path.clone(),
            source: error,
        };

        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &*temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed("make", &path, error))?;
        let mut file = std::fs::File::from(file);
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        // `linkat` fails if the name exists: of two makers one wins and nothing is overwritten.
        let linked = written.map_err(|error| io("write", error)).and_then(|()| {
            rustix::fs::linkat(
                &self.directory,
                &*temporary,
                &self.directory,
                &*file_name,
                AtFlags::empty(),
            )
            .map_err(|error| failed("make", &path, error))
        });
        let removed = rustix::fs::unlinkat(&self.directory, &*temporary, AtFlags::empty());
        linked?;
        removed.map_err(|error| failed("tidy up after", &path, error))?;
        rustix::fs::fsync(self.directory.as_fd())
            .map_err(|error| failed("make durable", &path, error))?;
        Ok(key)
    }
}

impl Custody for FileCustody {
    fn load_or_generate(&self, name: &str, algorithm: Algorithm) -> Result<Arc<dyn Signer>, Error> {
        // A poisoned lock guards no data.
        let _making = self
            .making
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = match self.read(name).map_err(|error| error.of(name))? {
            Some(key) => key,
            None => self.make(name, algorithm).map_err(|error| error.of(name))?,
        };
        let found = key.public_key().algorithm();
        if found != algorithm {
            let error = FileCustodyError::Algorithm {
                path: self.path.join(format!("{name}{EXTENSION}")),
                found,
                expected: algorithm,
            };
            return Err(Failure::from(error).of(name));
        }
        Ok(Arc::new(key))
    }

    fn load(&self, name: &str) -> Result<Option<Arc<dyn Signer>>, Error> {
        let key = self.read(name).map_err(|error| error.of(name))?;
        Ok(key.map(|key| Arc::new(key) as Arc<dyn Signer>))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let remove = || -> Result<(), Failure> {
            let file_name = file_name(name)?;
            let path = self.path.join(&file_name);
            match rustix::fs::unlinkat(&self.directory, &*file_name, AtFlags::empty()) {
                Ok(()) => rustix::fs::fsync(self.directory.as_fd())
                    .map_err(|error| failed("make durable", &path, error).into()),
                Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(failed("remove", &path, error).into()),
            }
        };
        remove().map_err(|error| error.of(name))
    }
}

/// Either kind of failure, before it is known which key it was.
enum Failure {
    Files(FileCustodyError),
    Crypto(Error),
}

impl Failure {
    fn of(self, name: &str) -> Error {
        Error::Custody {
            name: name.to_owned(),
            source: match self {
                Self::Files(error) => Box::new(error),
                Self::Crypto(error) => Box::new(error),
            },
        }
    }
}

impl From<FileCustodyError> for Failure {
    fn from(error: FileCustodyError) -> Self {
        Self::Files(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Crypto(error)
    }
}

fn failed(operation: &'static str, path: &Path, error: Errno) -> FileCustodyError {
    FileCustodyError::Io {
        operation,
        path: path.to_owned(),
        source: error.into(),
    }
}

fn file_name(name: &str) -> Result<String, FileCustodyError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(FileCustodyError::Name(name.to_owned()));
    }
    Ok(format!("{name}{EXTENSION}"))
}

/// Refuses what is not of this user alone. Looks at the open file, so nothing can be swapped in between.
fn private(file: &OwnedFd, path: &Path, kind: FileType) -> Result<(), FileCustodyError> {
    let stat = rustix::fs::fstat(file).map_err(|error| failed("inspect", path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != kind {
        let expected = if kind == FileType::Directory {
            "folder"
        } else {
            "regular file"
        };
        return Err(FileCustodyError::Kind {
            path: path.to_owned(),
            expected,
        });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileCustodyError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return Err(FileCustodyError::Owner {
            path: path.to_owned(),
            owner: stat.st_uid,
            own,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn custody() -> (tempfile::TempDir, FileCustody) {
        let directory = tempfile::tempdir().unwrap();
        let custody = FileCustody::open(&directory.path().join("keys")).unwrap();
        (directory, custody)
    }

    fn cause(error: &Error) -> String {
        std::error::Error::source(&error).unwrap().to_string()
    }

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let (directory, custody) = custody();
        let made = custody
            .load_or_generate("ca-1", Algorithm::EcdsaP256)
            .unwrap();
        let again = FileCustody::open(&directory.path().join("keys")).unwrap();
        let found = again.load("ca-1").unwrap().unwrap();
        assert_eq!(made.public_key(), found.public_key());
        found
            .public_key()
            .verify(b"m", &found.sign(b"m").unwrap())
            .unwrap();
        let names: Vec<_> = std::fs::read_dir(directory.path().join("keys"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["ca-1.pk8"], "no temporary file stays");
        custody.remove("ca-1").unwrap();
        assert!(custody.load("ca-1").unwrap().is_none());
    }

    #[test]
    fn another_algorithm_is_refused_and_the_key_kept() {
        let (_directory, custody) = custody();
        custody
            .load_or_generate("ledger", Algorithm::Ed25519)
            .unwrap();
        let Err(error) = custody.load_or_generate("ledger", Algorithm::EcdsaP256) else {
            panic!("handed out a key of another algorithm");
        };
        assert!(cause(&error).contains("holds a key of algorithm"));
        assert!(custody.load("ledger").unwrap().is_some());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (directory, custody) = custody();
        custody
            .load_or_generate("ca", Algorithm::EcdsaP256)
            .unwrap();
        let path = directory.path().join("keys/ca.pk8");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(cause(&custody.load("ca").err().unwrap()).contains("mode 0640"));
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        assert!(matches!(
            FileCustody::open(directory.path()),
            Err(FileCustodyError::TooOpen { mode: 0o711, .. })
        ));
    }

    #[test]
    fn a_link_is_not_followed() {
        let (directory, custody) = custody();
        custody
            .load_or_generate("ca", Algorithm::EcdsaP256)
            .unwrap();
        let keys = directory.path().join("keys");
        symlink(keys.join("ca.pk8"), keys.join("other.pk8")).unwrap();
        assert!(custody.load("other").is_err());
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let (_directory, custody) = custody();
        for name in [
            "",
            "..",
            "../ca",
            "a/b",
            ".hidden",
            "CA",
            "a\0b",
            &"a".repeat(65),
        ] {
            assert!(custody.load(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_truncated_key_is_refused_not_replaced() {
        let (directory, custody) = custody();
        custody
            .load_or_generate("ca", Algorithm::EcdsaP256)
            .unwrap();
        let path = directory.path().join("keys/ca.pk8");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..40]).unwrap();
        assert!(
            custody
                .load_or_generate("ca", Algorithm::EcdsaP256)
                .is_err()
        );
        assert_eq!(std::fs::read(&path).unwrap().len(), 40);
    }
}
