//! A ledger's folder read from outside, while the process that owns it may be running: nothing is locked,
//! written, cut or removed. What is seen is the tree as it was when the folder was opened.
//!
//! The key is the one that the ledger's first record names, or the one that the links in the folder's `lineage` lead
//! to from there. Whoever reads a folder that he does not trust compares [`Folder::key`] with one that he has from
//! elsewhere.

use crate::disk::{Disk, DiskFile};
use crate::head::Head;
use crate::log::Log;
use crate::segment::Segment;
use crate::{Options, Reader, RealDisk, StoreError, recovery, retention};
use ledger::body::Begin;
use ledger::merkle::empty_root;
use ledger::{Checkpoint, LedgerKey, Record, lineage};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The owner goes on writing: what is read in the middle of a commit is read again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// A ledger's folder, opened for reading.
#[derive(Clone)]
pub struct Folder {
    reader: Reader,
    key: LedgerKey,
    torn: bool,
}

impl Folder {
    /// True if a ledger or a mirror lies in `dir`.
    #[must_use]
    pub fn is_ledger(dir: &Path) -> bool {
        let segments = Log::segment_dir(dir);
        segments.join(Segment::name(0)).is_file()
            || (segments.is_dir() && retention::begin_path(dir).is_file())
    }

    /// Opens the ledger or mirror in `dir`.
    ///
    /// # Errors
    /// As opening it for good, but for the lock; and refuses a folder that holds no record yet.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let mut tries = TRIES;
        loop {
            match Self::attempt(dir) {
                Err(
                    StoreError::Corrupt { .. }
                    | StoreError::RolledBack { .. }
                    | StoreError::Tiles { .. },
                ) if tries > 1 => {
                    tries -= 1;
                    std::thread::sleep(PAUSE);
                }
                // A segment that is pruned meanwhile.
                Err(StoreError::Io { source, .. })
                    if tries > 1
                        && source.kind() == io::ErrorKind::NotFound
                        && Self::is_ledger(dir) =>
                {
                    tries -= 1;
                    std::thread::sleep(PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    fn attempt(dir: &Path) -> Result<Self, StoreError> {
        let torn = Arc::new(AtomicBool::new(false));
        let options = Options {
            disk: Arc::new(ReadOnly(RealDisk, Arc::clone(&torn))),
            ..Options::default()
        };
        let segments = Log::segment_dir(dir);
        let disk = options.disk.as_ref();
        let bytes = if segments.join(Segment::name(0)).is_file() {
            Segment::open(disk, &segments, 0, false)?.first_record()?
        } else {
            // Of a pruned ledger: proven, once it is open, by the key that it names.
            retention::begin(disk, dir)?
        };
        let unsound = |error| StoreError::Record(Arc::new(error));
        let record = Record::from_vec(bytes).map_err(unsound)?;
        let begin: Begin = record.expect_body().map_err(unsound)?;
        let named = |what: String| StoreError::NotOurs {
            path: dir.to_owned(),
            what,
        };
        let key = crypto::PublicKey::from_spki_der(&begin.ledger_key.0);
        let key = key.map_err(|error| named(error.to_string()))?;
        let key = LedgerKey::new(record.origin(), key).map_err(|error| named(error.to_string()))?;
        let key = lineage_in(dir, &key)?;
        let empty = Head {
            checkpoint: Checkpoint {
                origin: key.origin().clone(),
                size: 0,
                root: empty_root(),
            },
            note: "".into(),
        };
        let log = recovery::open(dir, &key, &options, empty)?.writer.log;
        // What is there is there, whatever the folder says to be pruned: a copy that was grown says what its source does.
        if log.segments.first() == 0 {
            log.forget_kept();
        }
        Ok(Self {
            reader: Reader::new(log),
            key,
            torn: torn.load(Ordering::Relaxed),
        })
    }

    /// Whether something stands behind the last whole commit: one that its owner is writing, that a crash cut short, or
    /// whose bytes were changed since. What is read ends before it.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        self.torn
    }

    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The key that the first record names or leads to, which signed what was found.
    #[must_use]
    pub const fn key(&self) -> &LedgerKey {
        &self.key
    }
}

/// The file in a ledger's folder that tells of the logs that it went on as.
pub const LINEAGE: &str = "lineage";
/// Bytes of it, at most.
const LINEAGE_BYTES: usize = 1 << 20;

/// `key`, with what the folder of a ledger says of its lineage. The links vouch for themselves.
///
/// # Errors
/// If the file is there and cannot be read, or its links do not verify.
pub fn lineage_in(dir: &Path, key: &LedgerKey) -> Result<LedgerKey, StoreError> {
    let path = dir.join(LINEAGE);
    let read = crate::disk::read_file(&RealDisk, &path, LINEAGE_BYTES);
    let Some(bytes) = read.map_err(StoreError::io("cannot read", &path))? else {
        return Ok(key.clone());
    };
    let links = lineage::from_json(&String::from_utf8_lossy(&bytes));
    let followed = links.and_then(|links| lineage::follow(key, &links));
    followed.map_err(|error| StoreError::NotOurs {
        path,
        what: error.to_string(),
    })
}

/// Tells whoever reads the folder of the lineage of `key`, if it has one. Where the file says so already nothing is
/// written: a ledger is opened on a full disk as well.
///
/// # Errors
/// If the file cannot be written.
pub fn keep_lineage(dir: &Path, key: &LedgerKey) -> Result<(), StoreError> {
    let (path, links) = (dir.join(LINEAGE), lineage::links(key));
    if links.is_empty() {
        return Ok(());
    }
    let told = lineage::to_json(&links);
    // What cannot be read is written anew.
    let there = crate::disk::read_file(&RealDisk, &path, LINEAGE_BYTES).ok();
    if there.flatten().as_deref() == Some(told.as_bytes()) {
        return Ok(());
    }
    RealDisk
        .create_dir_all(dir)
        .map_err(StoreError::io("cannot create", dir))?;
    let written = crate::disk::replace(&RealDisk, &path, told.as_bytes());
    written
        .and_then(|()| RealDisk.sync_dir(dir))
        .map_err(StoreError::io("cannot write", &path))
}

/// A disk on which every change is a thing that does not happen; and whether something was to be cut off.
#[derive(Clone)]
struct ReadOnly(RealDisk, Arc<AtomicBool>);

struct Unchanged(Box<dyn DiskFile>, Arc<AtomicBool>);

impl DiskFile for Unchanged {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// What its owner is writing is left out, and stays there.
    fn truncate(&self, _length: u64) -> io::Result<()> {
        self.1.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for ReadOnly {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        match dir.is_dir() {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let torn = Arc::clone(&self.1);
        Ok(Box::new(Unchanged(self.0.open(path)?, torn)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn reserve(&self, _path: &Path, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// Blobs of a folder, read from outside: content is checked, nothing is written.
#[derive(Clone)]
pub struct BlobFolder {
    dir: PathBuf,
    limit: usize,
}

impl BlobFolder {
    /// Blobs in `dir`, of at most `limit` bytes.
    #[must_use]
    pub const fn new(dir: PathBuf, limit: usize) -> Self {
        Self { dir, limit }
    }

    /// The blob, if it is there and is what its name says.
    pub fn get(&self, sha256: &ledger::HexDigest) -> Result<Option<Vec<u8>>, StoreError> {
        crate::blobs::read(&RealDisk, &self.dir, sha256, self.limit)
    }
}
