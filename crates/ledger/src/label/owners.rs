//! The labels of records, by what each owner has: what a server makes. What a record is about is told as everywhere
//! else ([`crate::about`]).

use super::{Epoch, LabelKey, MOST_OWNERS, Rows, Said, row};
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

const EPOCH: &[u8] = b"trilith-label-epoch-v1 ";

/// Whose labels a ledger has, and what is whose.
pub struct Owners {
    each: Vec<(Theirs, LabelKey)>,
    epoch: Epoch,
}

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
        let epoch = epoch(&owners);
        Ok(Self {
            each: owners,
            epoch,
        })
    }

    /// The rows of these records of the ledger `origin`, of which the first is at `first`. `earlier` reads those that an
    /// erasure names.
    pub fn rows(
        &self,
        origin: &str,
        first: u64,
        records: &[Vec<u8>],
        earlier: impl Fn(u64) -> Option<Vec<u8>>,
    ) -> Rows {
        let rows = (first..).zip(records);
        let rows = rows.map(|(index, bytes)| self.row(origin, index, bytes, &earlier));
        Rows {
            epoch: self.epoch,
            bytes: rows.collect::<Vec<_>>().concat(),
        }
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
            key.label(&self.epoch, said, &leaf)
        };
        row(self.each.iter().map(label).collect())
    }
}

/// Another one once there is another owner, something else is whose, or records are read otherwise. By the owners' keys,
/// so that nobody tries patterns; whoever has one sees no more than that something changed.
fn epoch(owners: &[(Theirs, LabelKey)]) -> Epoch {
    let each = owners.iter().map(|(theirs, key)| {
        let of = [EPOCH, &[about::RULES], theirs.canonical().as_bytes()].concat();
        crypto::hmac_sha256(key.0.expose(), &of)
    });
    let mut each: Vec<_> = each.collect();
    // Not by their order in a file.
    each.sort_unstable();
    Epoch(crypto::sha256(&each.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(patterns: &[&str]) -> Owners {
        let texts: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        let ada = Theirs::new(&texts, &[], &[]).unwrap();
        let bob = Theirs::new(&[], &["m9".to_owned()], &[]).unwrap();
        let keyed = [(ada, 1), (bob, 2)].map(|(one, seed)| (one, LabelKey::new([seed; 32])));
        Owners::new(keyed.into()).unwrap()
    }

    /// A pattern more had shown everybody whose records they are: their labels alone were others.
    #[test]
    fn a_pattern_that_is_added_changes_the_labels_of_every_record() {
        let records: Vec<Vec<u8>> = (0..8_u8).map(|byte| vec![byte]).collect();
        let labels = |owners: &Owners| {
            let rows = owners.rows("example.org/server", 0, &records, |_| None);
            let (labels, _) = rows.bytes.as_chunks::<16>();
            labels.to_vec()
        };
        let one = labels(&owners(&["spiffe://example.org/a"]));
        assert_eq!(one, labels(&owners(&["spiffe://example.org/a"])));
        // What cannot be read is everybody's before and after.
        for more in [
            owners(&["spiffe://example.org/a", "spiffe://example.org/b"]),
            owners(&["spiffe://example.org/a*"]),
        ] {
            let more = labels(&more);
            assert!(one.iter().all(|label| !more.contains(label)));
        }
    }

    #[test]
    fn neither_order_nor_repetition_makes_an_epoch() {
        let (a, b) = ("spiffe://example.org/a", "spiffe://example.org/b");
        assert_eq!(owners(&[a, b]).epoch, owners(&[b, a, b]).epoch);
        assert_ne!(owners(&[a]).epoch, owners(&[b]).epoch);
    }
}
