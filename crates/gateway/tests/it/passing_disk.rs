//! The real disk, through the hands of somebody who may let a change fail, or whoever makes it die.

use ledger_store::{Disk, DiskFile, RealDisk};
use std::io;
use std::path::Path;

/// What is done about changes.
pub(crate) trait Hands: Clone + Send + Sync + 'static {
    /// In the place of writing to `file`.
    fn write(&self, file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// In the place of syncing `file`.
    fn sync(&self, file: &dyn DiskFile) -> io::Result<()>;

    /// Before a change of a file's length or name, or of a folder.
    fn before(&self) {}
}

#[derive(Clone, Default)]
pub(crate) struct PassingDisk<H>(pub(crate) H);

impl<H: Hands> PassingDisk<H> {
    fn wrap(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let hands = self.0.clone();
        Box::new(PassingFile { hands, file })
    }
}

struct PassingFile<H> {
    hands: H,
    file: Box<dyn DiskFile>,
}

impl<H: Hands> DiskFile for PassingFile<H> {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.hands.write(self.file.as_ref(), bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.hands.before();
        self.file.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.hands.sync(self.file.as_ref())
    }
}

impl<H: Hands> Disk for PassingDisk<H> {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(RealDisk.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(RealDisk.create(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.before();
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.before();
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.before();
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        RealDisk.lock(path)
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        RealDisk.reserve(path, bytes)
    }
}
