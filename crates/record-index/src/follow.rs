//! An index that follows its ledger: applied in steps, dropped when it is of another tree.

use crate::Error;
use crate::terms::{Before, Fold};
use ledger::{Hash, Record};
use ledger_store::{Reader, StoreError};
use std::ops::Range;
use std::path::Path;
use store::index::{Applied, RecordIndex};

/// Records of one transaction.
const STEP: u64 = 20_000;

/// The index of one ledger, and what reads that ledger.
pub struct Index {
    pub(crate) reader: Reader,
    pub(crate) store: RecordIndex,
    fold: Fold,
}

/// How far an index goes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Records of the ledger that are indexed.
    pub size: u64,
    /// It was of another tree, or of another ledger, and was made anew.
    pub rebuilt: bool,
}

impl Index {
    /// Opens the index in the file `path`, or makes it. Nothing is read of the ledger yet.
    pub fn open(path: &Path, reader: Reader) -> Result<Self, Error> {
        Ok(Self::of(RecordIndex::open(path)?, reader))
    }

    /// An index that is gone with the process.
    pub fn in_memory(reader: Reader) -> Result<Self, Error> {
        Ok(Self::of(RecordIndex::in_memory()?, reader))
    }

    fn of(store: RecordIndex, reader: Reader) -> Self {
        Self {
            reader,
            store,
            fold: Fold::default(),
        }
    }

    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The database, for tests that lie in the index.
    #[doc(hidden)]
    #[must_use]
    pub const fn database(&self) -> &RecordIndex {
        &self.store
    }

    /// Brings the index up to the ledger's head. Blocks on the disk, off the commit path; several processes may
    /// do so at once.
    pub fn catch_up(&mut self) -> Result<Followed, Error> {
        let head = self.reader.head();
        let (origin, size) = (head.checkpoint.origin.to_string(), head.checkpoint.size);
        let mut rebuilt = false;
        let mut at = match self.store.applied()? {
            None => 0,
            Some(applied) if self.fits(&applied, &origin)? => applied.size,
            Some(_) => {
                self.store.clear()?;
                self.fold = Fold::default();
                rebuilt = true;
                0
            }
        };
        while at < size {
            at = self.step(at, size.min(at.saturating_add(STEP)), &origin)?;
        }
        Ok(Followed { size: at, rebuilt })
    }

    /// Where records go on, if the one at `index` is gone.
    fn gone_from(&self, index: u64) -> Option<u64> {
        let next = self.reader.next_there(index);
        (next != index).then_some(next)
    }

    /// Whether it was made of the ledger's first records.
    fn fits(&self, applied: &Applied, origin: &str) -> Result<bool, Error> {
        if applied.origin != origin || applied.size > self.reader.size() {
            return Ok(false);
        }
        Ok(crypto::hex::encode(&self.reader.root(applied.size)?) == applied.root)
    }

    /// Adds the records from `at` to `end`, or finds that somebody else did; returns how far it is now.
    fn step(&mut self, at: u64, end: u64, origin: &str) -> Result<u64, Error> {
        self.fold.batch = store::index::Batch::default();
        let mut earlier = Earlier {
            reader: &self.reader,
            store: Some(&self.store),
        };
        let mut index = at;
        while index < end {
            if let Some(next) = self.gone_from(index) {
                // An index that is made now knows nothing of what is gone.
                index = next;
                continue;
            }
            let records = self.reader.read(index..end)?;
            if records.is_empty() {
                break;
            }
            for bytes in records {
                self.fold.take(index, &bytes, &mut earlier)?;
                index += 1;
            }
        }
        let after = Applied {
            origin: origin.to_owned(),
            size: index,
            root: crypto::hex::encode(&self.reader.root(index)?),
        };
        let batch = std::mem::take(&mut self.fold.batch);
        if self.store.absorb(at, &after, &batch)? {
            return Ok(index);
        }
        // Another process was faster. What it added was made of the same records, or it is judged anew.
        self.fold = Fold::default();
        let applied = self.store.applied()?;
        let applied =
            applied.map(|applied| self.fits(&applied, origin).map(|fits| (fits, applied)));
        match applied.transpose()? {
            Some((true, applied)) => Ok(applied.size),
            _ => {
                self.store.clear()?;
                Ok(0)
            }
        }
    }
}

/// What lies before the records that are being folded.
pub(crate) struct Earlier<'a> {
    pub(crate) reader: &'a Reader,
    /// Absent where nothing but the ledger is to be believed.
    pub(crate) store: Option<&'a RecordIndex>,
}

impl Before for Earlier<'_> {
    type Error = Error;

    fn session(&mut self, session: &str) -> Result<Option<(u64, String)>, Error> {
        match self.store {
            Some(store) => Ok(store.session(session)?),
            None => Ok(None),
        }
    }

    fn record(&mut self, index: u64) -> Result<Option<Record>, Error> {
        record_at(self.reader, index)
    }
}

/// The record at `index`, if it is there, and one that this version can read.
pub(crate) fn record_at(reader: &Reader, index: u64) -> Result<Option<Record>, Error> {
    let bytes = match reader.read(index..index.saturating_add(1)) {
        Err(StoreError::Pruned { .. }) => return Ok(None),
        read => read?,
    };
    Ok(bytes
        .into_iter()
        .next()
        .and_then(|bytes| Record::from_vec(bytes).ok()))
}

/// Refuses a ledger of which records are gone.
pub(crate) fn whole(reader: &Reader) -> Result<(), Error> {
    let Some(pruned) = reader.pruned() else {
        return Ok(());
    };
    Err(Error::Ledger(StoreError::Pruned {
        index: 1,
        minimum: pruned.minimum,
        record: pruned.record,
    }))
}

/// Every record of a ledger up to `size`, and the root that they lead to; refuses one of which some are gone.
pub(crate) fn each_record(
    reader: &Reader,
    size: u64,
    take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<Hash, Error> {
    whole(reader)?;
    each_of(|range| reader.read(range), size, take)
}

/// As [`each_record`], of whatever gives records.
pub(crate) fn each_of(
    read: impl Fn(Range<u64>) -> Result<Vec<Vec<u8>>, StoreError>,
    size: u64,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<Hash, Error> {
    let mut frontier = ledger::Frontier::new();
    let mut index = 0;
    while index < size {
        let records = read(index..size)?;
        if records.is_empty() {
            return Err(StoreError::NoRecord { index, size }.into());
        }
        for bytes in records {
            frontier.push(ledger::merkle::leaf_hash(&bytes));
            take(index, &bytes)?;
            index += 1;
        }
    }
    Ok(frontier.root())
}
