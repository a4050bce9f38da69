//! The real disk, until it is told to be full or to fail.

use ledger_store::{Disk, DiskFile, RealDisk};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const FULL: u8 = 1;
const BROKEN: u8 = 2;

#[derive(Clone, Default)]
pub(crate) struct FaultyDisk(Arc<AtomicU8>);

impl FaultyDisk {
    pub(crate) fn fill(&self) {
        self.0.store(FULL, Ordering::SeqCst);
    }

    pub(crate) fn empty(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    pub(crate) fn break_down(&self) {
        self.0.store(BROKEN, Ordering::SeqCst);
    }

    fn wrap(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let disk = self.clone();
        Box::new(Faulty { disk, file })
    }
}

struct Faulty {
    disk: FaultyDisk,
    file: Box<dyn DiskFile>,
}

impl DiskFile for Faulty {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.disk.0.load(Ordering::SeqCst) {
            FULL => Err(io::ErrorKind::StorageFull.into()),
            _ => self.file.write_at(bytes, offset),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.0.load(Ordering::SeqCst) {
            BROKEN => Err(io::Error::other("the disk is broken")),
            _ => self.file.sync(),
        }
    }
}

impl Disk for FaultyDisk {
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
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        RealDisk.lock(path)
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        RealDisk.reserve(path, bytes)
    }
}
