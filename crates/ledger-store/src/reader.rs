//! Reading a ledger: records, proofs, tiles, heads. Cheap to clone; never waits for the committer.

use crate::log::Log;
use crate::retention::Pruned;
use crate::{Head, Heads, StoreError};
use ledger::merkle::{self, Hash};
use ledger::tile::{Kind, TilePath, WIDTH};
use ledger::{Receipt, Record, encode_bundle};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of records that one [`Reader::read`] returns, at most (one record is always returned).
const READ_BYTES: usize = 16 << 20;

#[derive(Clone)]
pub struct Reader {
    log: Arc<Log>,
}

impl Reader {
    pub(crate) const fn new(log: Arc<Log>) -> Self {
        Self { log }
    }

    /// The newest durable checkpoint.
    #[must_use]
    pub fn head(&self) -> Arc<Head> {
        self.log.heads.get()
    }

    /// Records in the ledger.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head().checkpoint.size
    }

    /// Heads after the first `seen` records, from now on.
    #[must_use]
    pub fn subscribe(&self, seen: u64) -> Heads {
        Heads::new(Arc::clone(&self.log), seen)
    }

    /// Records of `range`, as far as they exist and fit into 16 MiB: call again from where it
    /// ended. Empty only if the range is, or lies behind the end.
    ///
    /// # Errors
    /// `LEDGER-PRUNED` if the range begins among what is gone: of that only what is kept beside is read, one by one.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let end = range.end.min(self.size());
        if let Some(kept) = self.log.kept().filter(|_| range.start < end)
            && range.start < kept.pruned.minimum
        {
            return match kept.beside(range.start) {
                Some(record) => Ok(vec![record.clone()]),
                None => Err(kept.gone(range.start)),
            };
        }
        self.log.segments.read(range.start, end, READ_BYTES)
    }

    /// Records of `range` as far as they exist and fit into `max_bytes` (one record always does). If
    /// the tree was signed where one of them ends, they end with the last such, and the note is there:
    /// whoever follows can check and keep them without having seen the head.
    pub fn read_signed(
        &self,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<String>), StoreError> {
        let end = range.end.min(self.size());
        if range.start < end {
            self.there(range.start)?;
        }
        let segments = &self.log.segments;
        segments.read_signed(range.start, end, max_bytes)
    }

    /// One record, checked against the tree.
    pub fn record(&self, index: u64) -> Result<Record, StoreError> {
        let bytes = self.bytes(index, self.size())?;
        Record::from_vec(bytes).map_err(|error| StoreError::Record(Arc::new(error)))
    }

    fn bytes(&self, index: u64, size: u64) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::NoRecord { index, size };
        if index >= size {
            return Err(missing());
        }
        let records = self.read(index..index + 1)?;
        let bytes = records.into_iter().next().ok_or_else(missing)?;
        let leaf = self.log.hashes(0, index, 1)?;
        if leaf.first() == Some(&merkle::leaf_hash(&bytes)) {
            Ok(bytes)
        } else {
            Err(StoreError::Corrupt {
                path: Log::segment_dir(&self.log.dir),
                at: index,
                what: format!("record {index} does not hash to its leaf in the tree"),
            })
        }
    }

    /// Proof that record `index` is in the ledger of `size` records.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        self.at_most(size)?;
        let proof = merkle::inclusion_proof(index, size, self.log.as_ref())?;
        proof.ok_or(StoreError::NoRecord { index, size })
    }

    /// Proof that the ledger of `new` records extends that of `old`.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        self.at_most(new)?;
        let proof = merkle::consistency_proof(old, new, self.log.as_ref())?;
        proof.ok_or(StoreError::NoRecord {
            index: old,
            size: new,
        })
    }

    /// Proof that `records`, a subtree of the ledger of `size` records, are of it: what mirrors are sent.
    pub fn subtree(&self, records: Range<u64>, size: u64) -> Result<Vec<Hash>, StoreError> {
        self.at_most(size)?;
        let (start, end) = (records.start, records.end);
        let proof = merkle::subtree_proof(start, end, size, self.log.as_ref())?;
        proof.ok_or(StoreError::NoRecord { index: end, size })
    }

    /// Root of the first `size` records.
    pub fn root(&self, size: u64) -> Result<Hash, StoreError> {
        self.at_most(size)?;
        merkle::root(size, self.log.as_ref())
    }

    /// The receipt of a record under the newest checkpoint.
    pub fn receipt(&self, index: u64) -> Result<Receipt, StoreError> {
        let head = self.head();
        Ok(Receipt {
            record: self.bytes(index, head.checkpoint.size)?,
            index,
            proof: self.inclusion(index, head.checkpoint.size)?,
            checkpoint: head.note.as_ref().to_owned(),
        })
    }

    /// The bytes of a tile or entry bundle, partial ones too; `None` if the ledger is not that
    /// large. Full tiles of hashes come from their files, partial ones from memory, bundles from segments.
    pub fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let widest = TilePath::at(path.kind, path.index, self.size());
        if widest.is_none_or(|widest| widest.width() < path.width()) {
            return Ok(None);
        }
        match path.kind {
            Kind::Hashes(level) => {
                let width = usize::from(path.width());
                let hashes = self.log.hashes(level, path.index * WIDTH, width)?;
                Ok(Some(hashes.as_flattened().to_vec()))
            }
            Kind::Entries => {
                let records = self.bundle(path.index, u64::from(path.width()))?;
                Ok(encode_bundle(records.iter().map(Vec::as_slice)).ok())
            }
        }
    }

    /// The first `width` records of an entry bundle.
    fn bundle(&self, index: u64, width: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let first = index * WIDTH;
        self.there(first)?;
        self.log.segments.read(first, first + width, READ_BYTES)
    }

    /// What is gone of the ledger's records, and by which record; `None`: nothing.
    #[must_use]
    pub fn pruned(&self) -> Option<Pruned> {
        self.log.kept().map(|kept| kept.pruned)
    }

    /// Records below what is left that are kept beside, but for the first one.
    #[must_use]
    pub fn kept_beside(&self) -> Vec<u64> {
        let kept = self.log.kept();
        kept.map_or_else(Vec::new, |kept| kept.apart.keys().copied().collect())
    }

    /// The lowest index from `from` on whose record was not pruned: where whoever walks over what is left goes on.
    #[must_use]
    pub fn next_there(&self, from: u64) -> u64 {
        match self.log.kept() {
            Some(kept) if from < kept.pruned.minimum && kept.beside(from).is_none() => {
                let next = kept.apart.range(from..).next();
                next.map_or(kept.pruned.minimum, |(index, _)| *index)
            }
            _ => from,
        }
    }

    /// Refuses what is gone, and the first record, of which nothing but itself is left.
    fn there(&self, index: u64) -> Result<(), StoreError> {
        match self.log.kept() {
            Some(kept) if index < kept.pruned.minimum => Err(kept.gone(index)),
            _ => Ok(()),
        }
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(crate) fn close_tiler(&self) {
        self.log.tiler.close();
    }

    fn at_most(&self, size: u64) -> Result<(), StoreError> {
        let held = self.size();
        if size <= held {
            Ok(())
        } else {
            let index = size.saturating_sub(1);
            Err(StoreError::NoRecord { index, size: held })
        }
    }
}
