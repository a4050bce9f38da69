//! The ledger on disk: segments, group commit, tiles, blobs, and mirrors of other ledgers.
//!
//! One append-only segment is the point of durability: a commit is one write and one fdatasync of
//! records and the signed checkpoint that covers them. Tiles are derived from segments, later and by
//! another thread; entry bundles when somebody asks for them. Formats and proofs are the business of
//! `ledger`.
//!
//! What an attacker who can write to the directory gains: he can make the ledger refuse to open or
//! to serve. He cannot make it sign a history other than the one that it signed before, as long as
//! one peer remembers a checkpoint ([`Options::expected_at_least`]); and what he changes in tiles
//! or blobs fails the proof of whoever checks.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod age;
mod append;
mod batch;
mod blobs;
mod committer;
mod disk;
mod error;
mod frame;
mod head;
mod ledger;
mod log;
mod mirror;
mod nodes;
mod offline;
mod oneshot;
mod options;
mod reader;
mod recovery;
mod retention;
mod segment;
mod tiler;

pub use age::{EARLIEST_MS, Old};
pub use append::{Append, AppendMany, Committed};
pub use blobs::{Blobs, Intended};
pub use disk::{Disk, DiskFile, RealDisk, read_file, read_whole, replace};
pub use error::StoreError;
pub use head::{Head, Heads};
pub use ledger::{Ledger, LedgerHandle};
pub use mirror::Mirror;
pub use offline::{BlobFolder, Folder, LINEAGE, keep_lineage, lineage_in};
pub use options::{OnFailure, Options, system_clock};
pub use reader::Reader;
pub use retention::{KEPT_BESIDE, Prunable, Pruned};
