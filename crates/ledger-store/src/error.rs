//! What can go wrong with a ledger on disk, grouped by who must act.

use ledger::{Code, KeyError, RecordError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Cloned to everybody whose append shared the same fate.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    #[error("{path} is in use by another process; stop it, or check with `fuser`")]
    Locked { path: PathBuf },
    #[error("another process opened this ledger (epoch {found}, ours is {ours}); this one stops")]
    EpochTaken { ours: u64, found: String },
    #[error(
        "{path} is damaged at byte {at}: {what}. Nothing was cut; restore the file from a backup \
         or a mirror, then run `trilith recover`"
    )]
    Corrupt {
        path: PathBuf,
        at: u64,
        what: String,
    },
    /// Of a ledger whose oldest records were pruned: their hashes are in the tiles alone.
    #[error(
        "the tiles in {path}, which alone have the hashes of what was pruned, are damaged or lost: {what}. Nothing was \
         changed; copy `tile` and `tiled` into the ledger's folder from a backup or from the server's mirror of it \
         (`mirrors/…` in its data_dir)"
    )]
    Tiles { path: PathBuf, what: String },
    #[error(
        "the ledger has {found} records, but a checkpoint of {expected} is known: it was rolled \
         back. Run `trilith recover` if a backup was restored on purpose"
    )]
    RolledBack { expected: u64, found: u64 },
    #[error("the ledger's first {size} records are not those of the checkpoint that is known")]
    Forked { size: u64 },
    #[error("the ledger in {path} is of another key or origin: {what}")]
    NotOurs { path: PathBuf, what: String },
    #[error("the disk is full; free space, appends go on by themselves")]
    DiskFull,
    #[error("the ledger's queue is full: {waiting} bytes wait for the disk")]
    Busy { waiting: usize },
    #[error("the ledger stopped after: {cause}. Nothing is retried; restart the process")]
    Poisoned { cause: Arc<str> },
    #[error("the ledger is closed")]
    Closed,
    #[error("{what} {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        source: Arc<io::Error>,
    },
    #[error("there is no record {index} in a ledger of {size} records")]
    NoRecord { index: u64, size: u64 },
    #[error(
        "record {index} is gone: records 1 to {} were pruned by record {record}", .minimum - 1
    )]
    Pruned {
        index: u64,
        /// The lowest index that is left, but for the first record.
        minimum: u64,
        /// The `retention` record that says so.
        record: u64,
    },
    #[error("nothing was pruned: {what}")]
    Prune { what: String },
    /// More is needed still than is kept beside what stays.
    #[error("nothing was pruned: {what}")]
    Apart { what: String },
    #[error("the mirror holds {expected} records, these begin at {found}")]
    Position { expected: u64, found: u64 },
    #[error("the ledger that is mirrored: {what}")]
    Mirror { what: String },
    #[error("a blob has at most {limit} bytes, this one {length}")]
    BlobTooLarge { length: usize, limit: usize },
    #[error("the checkpoint was not signed")]
    Sign(#[source] Arc<KeyError>),
    #[error("a record to be kept is not one")]
    Record(#[source] Arc<RecordError>),
}

impl Code for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "LEDGER-LOCKED",
            Self::EpochTaken { .. } => "LEDGER-EPOCH-TAKEN",
            Self::Corrupt { .. } => "LEDGER-SEGMENT-CORRUPT",
            Self::Tiles { .. } => "LEDGER-TILES",
            Self::RolledBack { .. } => "LEDGER-ROLLED-BACK",
            Self::Forked { .. } => "LEDGER-FORKED",
            Self::NotOurs { .. } => "LEDGER-NOT-OURS",
            Self::DiskFull => "LEDGER-DISK-FULL",
            Self::Busy { .. } => "LEDGER-BUSY",
            Self::Poisoned { .. } => "LEDGER-POISONED",
            Self::Closed => "LEDGER-CLOSED",
            Self::Io { .. } => "LEDGER-IO",
            Self::NoRecord { .. } => "LEDGER-NO-RECORD",
            Self::Pruned { .. } => "LEDGER-PRUNED",
            Self::Prune { .. } | Self::Apart { .. } => "LEDGER-PRUNE",
            Self::Position { .. } => "LEDGER-MIRROR-POSITION",
            Self::Mirror { .. } => "LEDGER-MIRROR",
            Self::BlobTooLarge { .. } => "LEDGER-BLOB-SIZE",
            Self::Sign(_) => "LEDGER-SIGN",
            Self::Record(error) => error.code(),
        }
    }
}

impl StoreError {
    /// True if the process must stop: the ledger will never take a record again.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Poisoned { .. } | Self::EpochTaken { .. })
    }

    /// For `map_err`: names the operation and its path.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            if source.kind() == io::ErrorKind::StorageFull {
                return Self::DiskFull;
            }
            let source = Arc::new(source);
            Self::Io { what, path, source }
        }
    }
}
