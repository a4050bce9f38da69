//! The real disk, until it is told to be full or to fail.

use crate::passing_disk::{Hands, PassingDisk};
use ledger_store::DiskFile;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const FULL: u8 = 1;
const BROKEN: u8 = 2;

#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<AtomicU8>);

pub(crate) type FaultyDisk = PassingDisk<Faults>;

impl FaultyDisk {
    pub(crate) fn fill(&self) {
        self.0.0.store(FULL, Ordering::SeqCst);
    }

    pub(crate) fn empty(&self) {
        self.0.0.store(0, Ordering::SeqCst);
    }

    pub(crate) fn break_down(&self) {
        self.0.0.store(BROKEN, Ordering::SeqCst);
    }
}

impl Hands for Faults {
    fn write(&self, file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            FULL => Err(io::ErrorKind::StorageFull.into()),
            _ => file.write_at(bytes, offset),
        }
    }

    fn sync(&self, file: &dyn DiskFile) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            BROKEN => Err(io::Error::other("the disk is broken")),
            _ => file.sync(),
        }
    }
}
