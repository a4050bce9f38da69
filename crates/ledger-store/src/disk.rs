//! The few things that the store asks of a disk, so that a test can let each of them fail.
//! Paths are whole; nothing here knows what the files mean.

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// How often and how long a lock that is held is waited for: 500 ms in all.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A file that is written at positions and forced to disk as a whole.
pub trait DiskFile: Send + Sync {
    fn length(&self) -> io::Result<u64>;
    /// Up to `buffer.len()` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Durable when it returns, data and length (fdatasync).
    fn sync(&self) -> io::Result<()>;
}

/// A file system.
pub trait Disk: Send + Sync {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// For reading only.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// For reading and writing; made if it is missing, readable by the owner only.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Names in a directory; none if it is missing.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Holds the lock until the guard is dropped; `WouldBlock` if another process goes on holding it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Makes a file that occupies exactly `bytes` of the disk. If there is no room for more, it stays
    /// as long as it was.
    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()>;
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // Of a folder that comes from anywhere: nobody waits for who writes to a pipe.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        Ok(Box::new(file?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(open_for_writing(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = open_for_writing(path)?;
        let mut tries = LOCK_TRIES;
        // A process that another thread is about to start holds every descriptor, so a lock that was
        // given back as well, from its fork to its exec.
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) if tries > 0 => tries -= 1,
                Ok(()) => return Ok(Box::new(file)),
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = open_for_writing(path)?;
        let before = file.metadata()?.len();
        if before > bytes {
            file.set_len(bytes)?;
            return file.sync_all();
        }
        let grown = match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => file.sync_all(),
            // A file system that cannot promise space is filled by hand.
            Err(error) if error == rustix::io::Errno::OPNOTSUPP => fill(&file, bytes),
            Err(error) => Err(error.into()),
        };
        if grown.is_err() {
            file.set_len(before)?;
        }
        grown
    }
}

fn open_for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let block = vec![0_u8; 1 << 20];
    let mut at = 0;
    while at < bytes {
        file.write_all_at(&block, at)?;
        at += block.len() as u64;
    }
    file.sync_all()
}

/// Reads a whole small file; `None` if it is missing, an error if it is longer than `limit`.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::Error::other("the file is longer than it may be"));
    }
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Reads a whole file of the system's, also one that has no length, as a pipe; an error if it has more than `limit` bytes.
pub fn read_whole(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Puts `bytes` in place of `path` as a whole: temporary file, fsync, rename. The caller syncs the
/// directory, once for as many files as it likes.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("tmp");
    let file = disk.create(&temporary)?;
    file.truncate(0)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)
}
