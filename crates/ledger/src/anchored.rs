//! What a server's ledger anchors: of each ledger the newest anchor, folded over the server's records in order. Whoever
//! asks what has to be there asks by this, so that no two of them find something else.

use crate::body::Anchor;
use crate::{Record, RecordError, RecordType, line};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, btree_map};

/// What is kept of the newest anchor of each ledger, by the name of its first log.
///
/// INVARIANT: a ledger only grows, so that the newest anchor is of all that was ever anchored of it; whichever log of it
/// was anchored, its records stay where they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NewestAnchors<T>(BTreeMap<String, T>);

impl<T> Default for NewestAnchors<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> NewestAnchors<T> {
    /// Takes what is kept of an anchor of the ledger `origin`, after all before it; what was the newest until now.
    pub fn put(&mut self, origin: &str, kept: T) -> Option<T> {
        self.0.insert(line(origin).to_owned(), kept)
    }

    /// What is kept of the ledger, by any of its logs.
    #[must_use]
    pub fn of(&self, origin: &str) -> Option<&T> {
        self.0.get(line(origin))
    }

    /// Gives out what is kept of the ledger, by any of its logs.
    pub fn remove(&mut self, origin: &str) -> Option<T> {
        self.0.remove(line(origin))
    }

    /// By the names of the first logs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(line, kept)| (line.as_str(), kept))
    }
}

impl<T> IntoIterator for NewestAnchors<T> {
    type Item = (String, T);
    type IntoIter = btree_map::IntoIter<String, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Anchor {
    /// The anchor that these bytes are; `None` if they are another record, also one of a later type.
    ///
    /// # Errors
    /// They may be an anchor of any ledger, and this version cannot read them.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, RecordError> {
        match Record::parse(bytes) {
            Ok(record) => Self::of(&record),
            Err(RecordError::UnknownType(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Anchor::read`], of a record.
    ///
    /// # Errors
    /// It is an anchor whose body this version cannot read.
    pub fn of(record: &Record) -> Result<Option<Self>, RecordError> {
        let anchor = record.kind() == RecordType::Anchor;
        anchor.then(|| record.expect_body()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{Body as _, Stop};
    use crate::{Base64, Digest, Origin, RecordBuilder, Stamp};

    fn anchor(origin: &str, size: u64) -> Anchor {
        Anchor {
            gateway: "spiffe://example.org/infra/gateway/pg-1".to_owned(),
            origin: origin.to_owned(),
            ledger_key: Base64(vec![1, 2, 3]),
            size: size.into(),
            root: Digest([7; 32]),
            checkpoint: String::new(),
        }
    }

    fn bytes(record: RecordBuilder) -> Vec<u8> {
        let stamp = Stamp { wall: 1, mono: 1 };
        let draft = record.actor("server", "self").at(stamp).draft().unwrap();
        let origin = Origin::new("example.org/server").unwrap();
        draft.seal(&origin, 0, stamp)
    }

    #[test]
    fn the_newest_of_each_ledger_stands_whichever_log_of_it_was_anchored() {
        let mut newest = NewestAnchors::default();
        for (place, (origin, size)) in [
            ("example.org/pg-1", 3),
            ("example.org/pg-2", 9),
            ("example.org/pg-1@2", 5),
        ]
        .into_iter()
        .enumerate()
        {
            let read = Anchor::read(&bytes(anchor(origin, size).record()));
            let read = read.unwrap().unwrap();
            let before = newest.put(&read.origin, (place, read.size.0));
            assert_eq!(before, (place == 2).then_some((0, 3)));
        }
        let all: Vec<_> = newest.iter().collect();
        assert_eq!(
            all,
            [("example.org/pg-1", &(2, 5)), ("example.org/pg-2", &(1, 9))]
        );
        assert_eq!(newest.remove("example.org/pg-1@3"), Some((2, 5)));
        assert_eq!(newest.into_iter().count(), 1);
    }

    #[test]
    fn what_may_be_an_anchor_is_not_passed_over() {
        let stop = Stop {
            reason: "shutdown".to_owned(),
        };
        let stop = bytes(stop.record());
        assert!(Anchor::read(&stop).unwrap().is_none());
        let text = String::from_utf8(stop).unwrap();
        let of = |from: &str, to: &str| Anchor::read(text.replacen(from, to, 1).as_bytes());
        assert!(of("\"stop\"", "\"later\"").unwrap().is_none());
        assert!(of("\"stop\"", "\"anchor\"").is_err());
        assert!(of("{", "").is_err());
    }
}
