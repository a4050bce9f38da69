//! The endpoint's socket on disk: made, found stale, and removed again.
//!
//! Every local process may connect (mode 0777, as SPIRE does): who it is decides what it gets. Who can
//! write to the directory could put another socket in its place and hand out false trust bundles, so the
//! directory must not be writable by others.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// Rest after a failed accept: out of descriptors, most likely.
const REST: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("socket path {0:?} is not absolute")]
    Relative(PathBuf),
    #[error("{action} {path:?}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0:?} is in use by another process")]
    InUse(PathBuf),
    #[error("{0:?} exists and is not a socket; remove it or choose another path")]
    NotASocket(PathBuf),
    #[error(
        "{path:?} is writable by others (mode {mode:o}); anybody could replace the socket in it"
    )]
    Directory { path: PathBuf, mode: u32 },
}

/// A bound socket, removed when dropped.
#[derive(Debug)]
pub struct Listener {
    pub(crate) inner: UnixListener,
    path: PathBuf,
    inode: u64,
    /// Held while the socket is ours; the file stays, since removing it would race with the next holder.
    _lock: File,
}

impl Listener {
    /// Binds `path` (absolute). Its directory is made with mode 0755 if it is missing, whatever the umask. A socket that was
    /// left behind is replaced; one that somebody listens on is not. Must run in a Tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |action, source| BindError::Io {
            action,
            path: path.to_owned(),
            source,
        };
        if !path.is_absolute() {
            return Err(BindError::Relative(path.to_owned()));
        }
        directory(path.parent().unwrap_or(Path::new("/")))?;
        // One holder at a time from here on, so that looking and removing cannot cross.
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", error)),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => return Err(BindError::InUse(path.to_owned())),
                Err(_) => fs::remove_file(path).map_err(|error| failed("remove stale", error))?,
            },
        }
        let inner = UnixListener::bind(path).map_err(|error| failed("bind", error))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))
            .map_err(|error| failed("set the mode of", error))?;
        let inode = fs::symlink_metadata(path)
            .map_err(|error| failed("look at", error))?
            .ino();
        Ok(Self {
            inner,
            path: path.to_owned(),
            inode,
            _lock: lock,
        })
    }

    /// The next connection, for those who serve something else than the Workload API. An accept that fails
    /// is tried again. Can be dropped without losing a connection.
    pub async fn accept(&self) -> UnixStream {
        loop {
            match self.inner.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// For `SPIFFE_ENDPOINT_SOCKET` (endpoint spec, section 4).
    #[must_use]
    pub fn uri(&self) -> String {
        format!("unix://{}", self.path.display())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

fn directory(path: &Path) -> Result<(), BindError> {
    let failed = |action, source| BindError::Io {
        action,
        path: path.to_owned(),
        source,
    };
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for folder in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o755).create(folder) {
            // The umask has taken from the mode; who connects has to pass through.
            Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
                .map_err(|error| failed("set the mode of", error))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("make", error)),
        }
    }
    let mode = fs::metadata(path)
        .map_err(|error| failed("look at", error))?
        .mode();
    let (writable, sticky) = (mode & 0o022 != 0, mode & 0o1000 != 0);
    if writable && !sticky {
        return Err(BindError::Directory {
            path: path.to_owned(),
            mode: mode & 0o7777,
        });
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&name)
        .map_err(|source| BindError::Io {
            action: "open the lock",
            path: PathBuf::from(&name),
            source,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BindError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(BindError::Io {
            action: "lock",
            path: PathBuf::from(name),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_directory(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let path = directory.path().join("api.sock");
        (directory, path)
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let (_directory, path) = in_directory(0o755);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(BindError::InUse(_))));
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o777);
        assert_eq!(listener.uri(), format!("unix://{}", path.display()));
        drop(listener);
        assert!(!path.exists());

        let _foreign = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(BindError::InUse(_))));
    }

    /// In a process of its own, since a umask is of the whole process.
    #[tokio::test]
    async fn whoever_starts_it_with_a_tight_umask_shuts_nobody_out() {
        const UNDER: &str = "WORKLOAD_API_TEST_FOLDER";
        if let Some(folder) = std::env::var_os(UNDER) {
            let folder = PathBuf::from(folder);
            let _listener = Listener::bind(&folder.join("a/b/api.sock")).unwrap();
            for made in ["a", "a/b"] {
                let mode = fs::metadata(folder.join(made)).unwrap().mode();
                assert_eq!(mode & 0o7777, 0o755, "{made}");
            }
            let mode = fs::metadata(folder.join("a/b/api.sock.lock"));
            assert_eq!(mode.unwrap().mode() & 0o777, 0o600);
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let ran = std::process::Command::new("/bin/sh")
            .args(["-c", "umask 077 && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "listener::tests::whoever_starts_it_with_a_tight_umask_shuts_nobody_out",
            ])
            .env(UNDER, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    async fn other_files_and_open_directories_are_refused() {
        let (_directory, path) = in_directory(0o755);
        fs::write(&path, b"precious").unwrap();
        assert!(matches!(
            Listener::bind(&path),
            Err(BindError::NotASocket(_))
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");

        let (_directory, path) = in_directory(0o777);
        assert!(matches!(
            Listener::bind(&path),
            Err(BindError::Directory { .. })
        ));
        assert!(matches!(
            Listener::bind(Path::new("api.sock")),
            Err(BindError::Relative(_))
        ));
    }
}
