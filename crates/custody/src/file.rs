//! Keys as files: PKCS #8 in a directory that only its owner can enter.
//!
//! What someone gains who can write to the directory: they can put a key of theirs in the place of
//! one that is not there yet. Who can read it has the keys. Nothing here hides keys from root.

use crypto::{Algorithm, Custody, Error, KeyPair, Signer, Zeroizing};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer than any key that is kept here.
const MAX_FILE: u64 = 16 * 1024;
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const SUFFIX: &str = ".pk8";

/// Why a directory or a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileCustodyError {
    #[error("a key's name is 1 to 64 of a-z, 0-9, '-' and '.', and starts with a letter")]
    Name,
    #[error("{path}: {operation}")]
    Io {
        path: PathBuf,
        operation: &'static str,
        source: io::Error,
    },
    #[error("{path} is a {found}, expected a {expected}; remove it and start again")]
    Kind {
        path: PathBuf,
        expected: &'static str,
        found: &'static str,
    },
    #[error("{path} has mode {mode:04o}, expected {expected:04o}; run: chmod {expected:o} {path}")]
    Mode {
        path: PathBuf,
        mode: u32,
        expected: u32,
    },
    #[error("{path} belongs to uid {owner}, and its directory to uid {expected}")]
    Owner {
        path: PathBuf,
        owner: u32,
        expected: u32,
    },
    #[error("{path} is longer than any key")]
    TooLong { path: PathBuf },
    #[error("{path} holds no key that can be read")]
    Key {
        path: PathBuf,
        source: crypto::Error,
    },
    #[error("{path} holds a key of {found}, expected {expected}")]
    Algorithm {
        path: PathBuf,
        expected: Algorithm,
        found: Algorithm,
    },
}

/// A directory of keys. Every operation looks at the directory and the files anew; nothing is cached
/// but the keys that were handed out.
#[derive(Debug, Clone)]
pub struct FileCustody {
    directory: PathBuf,
}

impl FileCustody {
    /// Uses `directory`; makes it, with mode 0700, if it is not there.
    ///
    /// # Errors
    /// [`FileCustodyError::Mode`] if others can enter it, [`FileCustodyError::Kind`] if it is a
    /// symbolic link or no directory.
    pub fn open(directory: &Path) -> Result<Self, FileCustodyError> {
        let custody = Self {
            directory: directory.to_owned(),
        };
        match std::fs::DirBuilder::new()
            .mode(DIRECTORY_MODE)
            .create(directory)
        {
            Ok(()) => {
                if let Some(parent) = directory.parent() {
                    sync_directory(parent)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(io_error(directory, "make the directory")(source)),
        }
        custody.check_directory()?;
        Ok(custody)
    }

    fn path(&self, name: &str) -> Result<PathBuf, FileCustodyError> {
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        let starts = name.starts_with(|first: char| first.is_ascii_lowercase());
        if starts && name.len() <= 64 && name.bytes().all(allowed) {
            Ok(self.directory.join(format!("{name}{SUFFIX}")))
        } else {
            Err(FileCustodyError::Name)
        }
    }

    /// Returns the owner of the directory.
    fn check_directory(&self) -> Result<u32, FileCustodyError> {
        let path = &self.directory;
        let found = std::fs::symlink_metadata(path).map_err(io_error(path, "look at it"))?;
        if !found.is_dir() {
            return Err(FileCustodyError::Kind {
                path: path.clone(),
                expected: "directory",
                found: kind(&found),
            });
        }
        check_mode(path, &found, DIRECTORY_MODE)?;
        Ok(found.uid())
    }

    fn read(&self, path: &Path) -> Result<Option<KeyPair>, FileCustodyError> {
        let owner = self.check_directory()?;
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error(path, "look at it")(source)),
            Ok(found) if !found.is_file() => {
                return Err(FileCustodyError::Kind {
                    path: path.to_owned(),
                    expected: "file",
                    found: kind(&found),
                });
            }
            Ok(_) => {}
        }
        // Between looking and opening only the owner of the directory could have changed it. What
        // was opened is looked at again, so that modes are those of the bytes that are read.
        let file = File::open(path).map_err(io_error(path, "open"))?;
        let opened = file.metadata().map_err(io_error(path, "look at it"))?;
        check_mode(path, &opened, FILE_MODE)?;
        if opened.uid() != owner {
            return Err(FileCustodyError::Owner {
                path: path.to_owned(),
                owner: opened.uid(),
                expected: owner,
            });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(io_error(path, "read"))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
            return Err(FileCustodyError::TooLong {
                path: path.to_owned(),
            });
        }
        KeyPair::from_pkcs8(&bytes)
            .map(Some)
            .map_err(|source| FileCustodyError::Key {
                path: path.to_owned(),
                source,
            })
    }

    /// Writes a new key under a name of its own, durable, and then links it to its place, which fails
    /// if another process was faster: a key file is there whole or not at all, and is never replaced.
    /// Returns whether this call put it there.
    fn write(&self, path: &Path, pair: &KeyPair) -> Result<bool, FileCustodyError> {
        self.check_directory()?;
        let key_error = |source| FileCustodyError::Key {
            path: path.to_owned(),
            source,
        };
        let bytes = pair.to_pkcs8().map_err(key_error)?;
        let unique = crypto::hex::encode(&crypto::random::<8>());
        let temporary = self.directory.join(format!(".new-{unique}"));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&temporary)
            .map_err(io_error(&temporary, "create"))?;
        let written = file
            .write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(io_error(&temporary, "write"));
        let linked = written.and_then(|()| match std::fs::hard_link(&temporary, path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(io_error(path, "link")(source)),
        });
        std::fs::remove_file(&temporary).map_err(io_error(&temporary, "remove"))?;
        let linked = linked?;
        sync_directory(&self.directory)?;
        Ok(linked)
    }

    fn find_or_make(
        &self,
        name: &str,
        algorithm: Algorithm,
    ) -> Result<Arc<dyn Signer>, FileCustodyError> {
        let path = self.path(name)?;
        let pair = match self.read(&path)? {
            Some(pair) => pair,
            None => self.make(&path, algorithm)?,
        };
        let found = pair.public_key().algorithm();
        if found != algorithm {
            return Err(FileCustodyError::Algorithm {
                path,
                expected: algorithm,
                found,
            });
        }
        Ok(Arc::new(pair))
    }

    fn make(&self, path: &Path, algorithm: Algorithm) -> Result<KeyPair, FileCustodyError> {
        let key_error = |source| FileCustodyError::Key {
            path: path.to_owned(),
            source,
        };
        let pair = KeyPair::generate(algorithm).map_err(key_error)?;
        if self.write(path, &pair)? {
            return Ok(pair);
        }
        self.read(path)?
            .ok_or_else(|| io_error(path, "read")(io::ErrorKind::NotFound.into()))
    }

    fn delete(&self, name: &str) -> Result<(), FileCustodyError> {
        let path = self.path(name)?;
        self.check_directory()?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.map_err(io_error(&path, "remove"))?,
        }
        sync_directory(&self.directory)
    }
}

impl Custody for FileCustody {
    fn load_or_generate(&self, name: &str, algorithm: Algorithm) -> Result<Arc<dyn Signer>, Error> {
        self.find_or_make(name, algorithm).map_err(of_key(name))
    }

    fn load(&self, name: &str) -> Result<Option<Arc<dyn Signer>>, Error> {
        let pair = self.path(name).and_then(|path| self.read(&path));
        pair.map(|found| found.map(|pair| Arc::new(pair) as Arc<dyn Signer>))
            .map_err(of_key(name))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.delete(name).map_err(of_key(name))
    }
}

fn of_key(name: &str) -> impl Fn(FileCustodyError) -> Error {
    move |source| Error::Custody {
        name: name.to_owned(),
        source: Box::new(source),
    }
}

fn io_error(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> FileCustodyError {
    move |source| FileCustodyError::Io {
        path: path.to_owned(),
        operation,
        source,
    }
}

fn check_mode(path: &Path, found: &Metadata, expected: u32) -> Result<(), FileCustodyError> {
    let mode = found.mode() & 0o7777;
    if mode == expected {
        return Ok(());
    }
    Err(FileCustodyError::Mode {
        path: path.to_owned(),
        mode,
        expected,
    })
}

fn kind(found: &Metadata) -> &'static str {
    if found.is_symlink() {
        "symbolic link"
    } else if found.is_dir() {
        "directory"
    } else if found.is_file() {
        "file"
    } else {
        "special file"
    }
}

/// Makes a name in `directory`, or its absence, survive a crash.
fn sync_directory(directory: &Path) -> Result<(), FileCustodyError> {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(io_error(directory, "sync the directory"))
}
