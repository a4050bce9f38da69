//! The labels of records, by what each owner has: what a server makes. What a record is about is told as everywhere
//! else ([`crate::about`]).

use super::{LabelKey, MOST_OWNERS, Said, row};
use crate::Record;
use crate::about::{self, Erased, Theirs};
use crate::merkle::leaf_hash;
use thiserror::Error;

/// Records that one erasure names and that are looked at; more of them make it everybody's.
const MOST_ERASED: usize = 256;

/// Why these cannot be the owners of one ledger's labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OwnersError {
    #[error("owners are {MOST_OWNERS} at most")]
    Many,
    #[error("two owners have one key; each makes his own")]
    OneKey,
}

/// Whose labels a ledger has, and what is whose.
pub struct Owners(Vec<(Theirs, LabelKey)>);

impl Owners {
    /// Of each: what is his, and the key that he shares with the server.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub fn new(owners: Vec<(Theirs, LabelKey)>) -> Result<Self, OwnersError> {
        if owners.len() > MOST_OWNERS {
            return Err(OwnersError::Many);
        }
        let mut each = owners.iter().enumerate();
        let again = |(at, (_, key)): (usize, &(Theirs, LabelKey))| {
            owners.iter().skip(at + 1).any(|(_, other)| other == key)
        };
        if each.any(again) {
            return Err(OwnersError::OneKey);
        }
        Ok(Self(owners))
    }

    /// The rows of these records of the ledger `origin`, of which the first is at `first`. `earlier` reads those that an
    /// erasure names.
    pub fn rows(
        &self,
        origin: &str,
        first: u64,
        records: &[Vec<u8>],
        earlier: impl Fn(u64) -> Option<Vec<u8>>,
    ) -> Vec<u8> {
        let rows = (first..).zip(records);
        let rows = rows.map(|(index, bytes)| self.row(origin, index, bytes, &earlier));
        rows.collect::<Vec<_>>().concat()
    }

    fn row(
        &self,
        origin: &str,
        index: u64,
        bytes: &[u8],
        earlier: &impl Fn(u64) -> Option<Vec<u8>>,
    ) -> Vec<u8> {
        let mut erased = Erased::default();
        let named = about::erases(origin, index, bytes);
        erased.unseen = named.len() > MOST_ERASED;
        for index in named.into_iter().take(MOST_ERASED) {
            let record = earlier(index).and_then(|bytes| Record::from_vec(bytes).ok());
            erased.unseen |= record.is_none();
            erased.records.extend(record);
        }
        let read = about::read(origin, bytes, &erased);
        let leaf = leaf_hash(bytes);
        let label = |(theirs, key): &(Theirs, LabelKey)| {
            let said = match theirs.concerns(read.as_ref()) {
                true => Said::Yours,
                false => Said::NotYours,
            };
            key.label(said, &leaf)
        };
        row(self.0.iter().map(label).collect())
    }
}
