//! The file that a process runs: identity, path and digest, through `/proc/PID/exe`.
//!
//! The digest is of the open executable, not of a path, so a file swapped in under the same name changes
//! nothing. The kernel refuses writes to a file that is being executed.

use super::verity::{self, Verity};
use super::{Digests, Entry, MAX_EXECUTABLE, ObserveError, Snapshot};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// `statfs(2)`: the program behind a FUSE mount answers each read as it likes, and may never answer.
const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;

/// Tells two states of a file apart without reading it. Only root can turn the change time back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Nanoseconds since the Unix epoch.
    pub modified_ns: i128,
    /// Nanoseconds since the Unix epoch.
    pub changed_ns: i128,
}

impl FileId {
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from_stat(&rustix::fs::fstat(file)?))
    }

    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the fields' types differ between architectures"
    )]
    fn from_stat(stat: &Stat) -> Self {
        let nanos =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            device: u64::from(stat.st_dev),
            inode: u64::from(stat.st_ino),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed_ns: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// SHA-256 of an executable, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    Sha256([u8; 32]),
    /// Larger than [`MAX_EXECUTABLE`].
    TooLarge,
    /// On a file system whose contents another program makes up (FUSE).
    MadeUp,
    /// Not readable, with the reason.
    Unreadable(String),
}

impl Digest {
    #[must_use]
    pub const fn sha256(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Sha256(digest) => Some(digest),
            _ => None,
        }
    }
}

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    pub id: FileId,
    /// The last part of the path as the kernel shows it, whichever mount namespace it is in.
    pub name: Option<String>,
    /// The path, if the file at that path *here* is the file that runs. Absent for a file that was
    /// replaced or deleted since, and for one in another mount namespace, where anybody may mount
    /// anything under any name.
    pub path: Option<PathBuf>,
    pub digest: Digest,
    /// What the kernel measures of it, if it does.
    pub verity: Option<Verity>,
}

/// A program that a helper is about to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub name: Option<String>,
    /// Resolved. Absent if the file at that path here is another one.
    pub path: Option<PathBuf>,
    pub digest: Digest,
    pub verity: Option<Verity>,
}

pub(super) fn running_id(entry: &Entry) -> Result<FileId, ObserveError> {
    let file = open(entry, OFlags::PATH)?;
    FileId::of(file).map_err(|source| proc_error(entry, source))
}

pub(super) fn running(entry: &Entry, digests: &Digests) -> Result<Executable, ObserveError> {
    let opened = open(entry, OFlags::PATH)?;
    let id = FileId::of(&opened).map_err(|source| proc_error(entry, source))?;
    let link = rustix::fs::readlinkat(&entry.directory, "exe", Vec::new())
        .map_err(|errno| Entry::error(entry.pid, "exe", errno))?;
    let link = PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes()));
    let (digest, verity) = measured(&opened, &id, digests, || {
        open(entry, OFlags::RDONLY | OFlags::NONBLOCK).map_err(io::Error::other)
    });
    let path = if shows(&link, &id) {
        Some(link.clone())
    } else {
        None
    };
    Ok(Executable {
        id,
        name: name_of(&link),
        path,
        digest,
        verity,
    })
}

pub(super) fn program(
    entry: &Entry,
    path: &Path,
    snapshot: &Snapshot,
    digests: &Digests,
) -> Result<Program, ObserveError> {
    let refuse = |reason: String| ObserveError::Program {
        path: path.to_owned(),
        reason,
    };
    if !path.is_absolute() || path.as_os_str().len() > 4096 {
        return Err(refuse("the path is not absolute".to_owned()));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(&entry.directory, "root", flags, Mode::empty())
        .map_err(|errno| Entry::error(entry.pid, "root", errno))?;
    // In the caller's root: its absolute symlinks must not be followed in ours.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open_in_root = |flags: OFlags| {
        rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    let opened = open_in_root(OFlags::PATH).map_err(|errno| refuse(errno.to_string()))?;
    let stat = rustix::fs::fstat(&opened).map_err(|errno| refuse(errno.to_string()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse("not a regular file".to_owned()));
    }
    if !may_execute(&stat, snapshot) {
        return Err(refuse("the caller may not execute it".to_owned()));
    }
    let id = FileId::from_stat(&stat);
    let (digest, verity) = measured(&opened, &id, digests, || {
        open_in_root(OFlags::RDONLY | OFlags::NONBLOCK).map_err(io::Error::from)
    });
    let resolved = resolved(&opened);
    let path = resolved.clone().filter(|path| shows(path, &id));
    Ok(Program {
        name: resolved.as_deref().and_then(name_of),
        path,
        digest,
        verity,
    })
}

fn open(entry: &Entry, flags: OFlags) -> Result<OwnedFd, ObserveError> {
    rustix::fs::openat(
        &entry.directory,
        "exe",
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Entry::error(entry.pid, "exe", errno))
}

fn proc_error(entry: &Entry, source: io::Error) -> ObserveError {
    ObserveError::Proc {
        pid: entry.pid,
        file: "exe",
        source,
    }
}

/// `opened` is a path descriptor: nothing has been read, and no other program asked, until the file
/// system is known to be of a kind that can be believed.
fn measured(
    opened: &OwnedFd,
    id: &FileId,
    digests: &Digests,
    reopen: impl FnOnce() -> io::Result<OwnedFd>,
) -> (Digest, Option<Verity>) {
    match rustix::fs::fstatfs(opened) {
        Ok(found) if u64::try_from(found.f_type).is_ok_and(|kind| kind == FUSE_SUPER_MAGIC) => {
            return (Digest::MadeUp, None);
        }
        Ok(_) => {}
        Err(errno) => return (Digest::Unreadable(errno.to_string()), None),
    }
    let file = reopen().and_then(|file| {
        if FileId::of(&file)? != *id {
            return Err(io::Error::other("it was replaced while it was looked at"));
        }
        Ok(File::from(file))
    });
    let mut file = match file {
        Ok(file) => file,
        Err(error) => return (Digest::Unreadable(error.to_string()), None),
    };
    let verity = verity::measure(&file);
    if id.size > MAX_EXECUTABLE {
        return (Digest::TooLarge, verity);
    }
    match digests.digest(&mut file, id) {
        Ok(digest) => (Digest::Sha256(digest), verity),
        Err(error) => (Digest::Unreadable(error.to_string()), verity),
    }
}

/// Whether the file at `path`, as this process sees it, is the one of `id`.
fn shows(path: &Path, id: &FileId) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && rustix::fs::stat(path).is_ok_and(|stat| FileId::from_stat(&stat) == *id)
}

fn resolved(opened: &OwnedFd) -> Option<PathBuf> {
    use rustix::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()
}

fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name().map(OsStr::as_bytes)?;
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    std::str::from_utf8(name).ok().map(str::to_owned)
}

/// By mode bits, as `execve(2)` without ACLs and capabilities would decide. Root needs one bit as well.
fn may_execute(stat: &Stat, snapshot: &Snapshot) -> bool {
    let mode = stat.st_mode;
    if snapshot.uid == 0 {
        return mode & 0o111 != 0;
    }
    if stat.st_uid == snapshot.uid {
        return mode & 0o100 != 0;
    }
    if stat.st_gid == snapshot.gid || snapshot.groups.contains(&stat.st_gid) {
        return mode & 0o010 != 0;
    }
    mode & 0o001 != 0
}
