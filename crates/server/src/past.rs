//! A server's ledger from its folder, without the server: records under a checkpoint that a trusted key signed,
//! and the blobs that they name. For what is asked of the past by those who need not trust the server.
//!
//! Opening it is opening a ledger, which cuts off a commit that was never finished: give it a copy, or the folder
//! of a server that does not run.

use crate::start::LARGEST_BLOB;
use facts::Finding;
use ledger::body::Erasure;
use ledger::{HexDigest, LedgerKey, Record};
use ledger_store::{Blobs, Mirror, Options, Reader, RealDisk};
use std::path::Path;
use std::sync::Arc;

/// Holds the folder's lock.
pub struct Past {
    key: LedgerKey,
    reader: Reader,
    blobs: Blobs,
    _mirror: Mirror,
}

impl Past {
    /// The ledger in the data directory `data`, whose checkpoints `key` signs.
    ///
    /// # Errors
    /// `HELD-LEDGER` if there is none, if it is in use, damaged, or signed by another key.
    pub fn open(data: &Path, key: &LedgerKey) -> Result<Self, Finding> {
        let dir = data.join("ledger");
        if !dir.is_dir() {
            return Err(unread(data, "there is no ledger in it"));
        }
        let failed = |error: ledger_store::StoreError| unread(data, &facts::with_causes(&error));
        let key = ledger_store::lineage_in(&dir, key).map_err(failed)?;
        let mirror = Mirror::open(&dir, key.clone(), &Options::default()).map_err(failed)?;
        let blobs = Blobs::open(&data.join("blobs"), LARGEST_BLOB, Arc::new(RealDisk));
        Ok(Self {
            reader: mirror.reader(),
            blobs: blobs.map_err(failed)?,
            key,
            _mirror: mirror,
        })
    }

    /// Records under the newest checkpoint.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    /// The record at `index`, as it was written; whether it is in the tree is not looked at.
    ///
    /// # Errors
    /// `HELD-LEDGER` if it cannot be read.
    pub fn record(&self, index: u64) -> Result<Record, Finding> {
        let failed = |what: String| unread(Path::new("record"), &format!("{index}: {what}"));
        let records = self.reader.read(index..index + 1);
        let bytes = records
            .map_err(|error| failed(facts::with_causes(&error)))?
            .into_iter()
            .next()
            .ok_or_else(|| failed("it is not there".to_owned()))?;
        Record::from_vec(bytes).map_err(|error| failed(facts::with_causes(&error)))
    }

    /// The record at `index`, and that it is under a checkpoint that the key signed.
    ///
    /// # Errors
    /// `HELD-LEDGER` if it is not.
    pub fn verified(&self, index: u64) -> Result<Record, Finding> {
        let failed = |what: String| unread(Path::new("record"), &format!("{index}: {what}"));
        let receipt = self
            .reader
            .receipt(index)
            .map_err(|error| failed(facts::with_causes(&error)))?;
        let verified = receipt
            .verify(&self.key)
            .map_err(|error| failed(facts::with_causes(&error)))?;
        Ok(verified.record)
    }

    /// A blob, which is what its digest says.
    ///
    /// # Errors
    /// `HELD-BLOB` if it is gone or another.
    pub fn blob(&self, digest: &HexDigest) -> Result<Vec<u8>, Finding> {
        let bytes = self.blobs.get(digest).ok().flatten();
        bytes
            .filter(|bytes| HexDigest::of(bytes) == *digest)
            .ok_or_else(|| {
                let finding = Finding::new(
                    "HELD-BLOB",
                    "a blob that a record names is not there, or another",
                )
                .expected(digest.to_string());
                match self.erasure(digest) {
                    Some((_, erased)) => finding
                        .observed(erased)
                        .next("what was erased cannot be read again; its record stays"),
                    None => finding.next("restore it from a backup or a mirror"),
                }
            })
    }

    /// The record by which a blob that is gone was erased; none while it is there, or if no record under the
    /// checkpoint says so.
    #[must_use]
    pub fn erased_by(&self, digest: &HexDigest) -> Option<u64> {
        if self.blob(digest).is_ok() {
            return None;
        }
        let (index, _) = self.erasure(digest)?;
        self.verified(index).is_ok().then_some(index)
    }

    /// By which record a content is gone, if one says so, and in words.
    fn erasure(&self, digest: &HexDigest) -> Option<(u64, String)> {
        (0..self.size()).rev().find_map(|index| {
            let record = self.record(index).ok()?;
            let erasure: Erasure = record.expect_body().ok()?;
            let names = erasure.erased.iter().any(|one| one.sha256 == *digest);
            names.then(|| {
                let at = facts::Timestamp::from_millis(record.stamp().wall);
                let (by, reason) = (erasure.by, erasure.reason);
                let told = format!("erased by record {index} on {at}, by {by}: {reason}");
                (index, told)
            })
        })
    }
}

fn unread(path: &Path, what: &str) -> Finding {
    Finding::new(
        "HELD-LEDGER",
        format!("the ledger of {} cannot be read", path.display()),
    )
    .expected("the data directory of a server that does not run, or a copy; and its own ledger key")
    .observed(what.to_owned())
    .next("name a copy of the data directory, and what `trilith trust` prints")
}
