//! What is gone beside the ledger, as rows of the state: by them a start removes what a crash has left, or a restored
//! folder has brought back, and nobody is told that something is lost which was erased.

use super::State;
use ledger::body::{Erasure, Retention, Snapshot};
use ledger::pack::contents;
use ledger::{HexDigest, Record, RecordError};
use store::{Change, MetaRow};

const PREFIX: &str = "erased ";
/// The newest snapshot: the index of its record, and the digest of its blob.
const SNAPSHOT: &str = "snapshot";
/// The same of the one that stands in for what was pruned.
const STANDS_IN: &str = "stands-in";

/// The row of the newest snapshot.
pub(super) fn snapshot(index: u64, body: &Snapshot) -> Change {
    Change::Meta(MetaRow {
        key: SNAPSHOT.to_owned(),
        value: format!("{index} {}", body.state.sha256),
    })
}

/// One row a content; the value is the index of the record, or nothing for what a later record names again.
fn row(sha256: &HexDigest, value: String) -> Change {
    Change::Meta(MetaRow {
        key: format!("{PREFIX}{sha256}"),
        value,
    })
}

/// What a row says: a content, and the record by which it is gone.
pub(super) fn read(row: &MetaRow) -> Option<(HexDigest, Option<u64>)> {
    let sha256 = row.key.strip_prefix(PREFIX)?.parse().ok()?;
    Some((sha256, row.value.parse().ok()))
}

pub(super) fn changes(index: u64, body: &Erasure) -> Vec<Change> {
    let erased = body.erased.iter();
    erased
        .map(|item| row(&item.sha256, index.to_string()))
        .collect()
}

impl State {
    /// A snapshot stands in for what is gone from now on, if it is the newest.
    pub(super) fn retention(&self, body: &Retention) -> Vec<Change> {
        let newest = self.meta.get(SNAPSHOT);
        let newest = newest.and_then(|row| Some((row, row.split_once(' ')?.0)));
        let named = body.snapshot.map(|index| index.0.to_string());
        newest
            .filter(|(_, index)| named.as_deref() == Some(*index))
            .map(|(row, _)| {
                Change::Meta(MetaRow {
                    key: STANDS_IN.to_owned(),
                    value: row.clone(),
                })
            })
            .into_iter()
            .collect()
    }

    /// Records by which contents are gone.
    pub(crate) fn erasures(&self) -> impl Iterator<Item = u64> {
        self.erased.values().copied()
    }

    /// Index of the record by which the content of this digest is gone.
    #[must_use]
    pub(crate) fn erased(&self, sha256: &HexDigest) -> Option<u64> {
        self.erased.get(sha256).copied()
    }

    /// Whether the last word on a content is that it is gone. INVARIANT: never of what a start needs, whatever a record
    /// says: the authority's document, the estate in force, and the snapshot that stands in for records that are gone.
    #[must_use]
    pub(crate) fn is_gone(&self, sha256: &HexDigest) -> bool {
        let named = sha256.to_string();
        let document = self.bundle().and_then(|row| row.blob.as_deref());
        let estate = self.estate().map(|row| row.blob.as_str());
        let stands_in = self.meta.get(STANDS_IN);
        let stands_in = stands_in.and_then(|row| Some(row.split_once(' ')?.1));
        let needed = [document, estate, stands_in].contains(&Some(named.as_str()));
        !needed && self.erased.contains_key(sha256)
    }

    /// All that is gone.
    #[must_use]
    pub(crate) fn all_erased(&self) -> Vec<HexDigest> {
        let erased = self.erased.keys().copied();
        erased.filter(|sha256| self.is_gone(sha256)).collect()
    }

    /// The certificate of a chip is the same in each of its verdicts: what somebody brings again is there again.
    pub(super) fn named_again(&self, record: &Record) -> Result<Vec<Change>, RecordError> {
        if self.erased.is_empty() {
            return Ok(Vec::new());
        }
        let mut named = contents(record)?;
        named.retain(|sha256| self.erased.contains_key(sha256));
        Ok(named
            .iter()
            .map(|sha256| row(sha256, String::new()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::body::{BlobRef, Body as _, Bundle, ErasedItem};
    use ledger::{Decimal, Origin, RecordBuilder, Stamp};

    const DOCUMENT: &[u8] = b"the authority's document";
    const LIST: &[u8] = b"what a machine sent";

    fn sealed(index: u64, record: RecordBuilder) -> Record {
        let origin = Origin::new("example.org/server").unwrap();
        let stamp = Stamp {
            wall: 1_700_000_000_000 + index,
            ..Stamp::default()
        };
        record.seal(&origin, index, stamp).unwrap()
    }

    fn bundle(blob: &[u8]) -> RecordBuilder {
        let bundle = Bundle {
            sequence: Decimal(1),
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            blob: Some(BlobRef::of(blob)),
        };
        bundle.record()
    }

    fn erasure(of: &[&[u8]]) -> RecordBuilder {
        let erased = of.iter().map(|bytes| ErasedItem {
            kind: "evidence".to_owned(),
            sha256: HexDigest::of(bytes),
            record: Decimal(0),
        });
        let erasure = Erasure {
            reason: "case 1".to_owned(),
            by: "uid:0".to_owned(),
            erased: erased.collect(),
            subject: None,
            signatures: Vec::new(),
        };
        erasure.record()
    }

    /// Any machine may have the bytes of the document recorded as evidence, and evidence may be erased.
    #[test]
    fn what_a_start_needs_is_never_gone() {
        let mut state = State::default();
        state.apply(0, &sealed(0, bundle(DOCUMENT))).unwrap();
        let erased = sealed(1, erasure(&[DOCUMENT, LIST]));
        state.apply(1, &erased).unwrap();
        assert_eq!(state.all_erased(), [HexDigest::of(LIST)]);
        assert!(!state.is_gone(&HexDigest::of(DOCUMENT)));
    }

    /// The state of a pruned ledger is computed from it: a machine that sends its bytes as evidence takes nothing away.
    #[test]
    fn the_snapshot_that_stands_in_for_what_was_pruned_is_never_gone() {
        const STATE: &[u8] = b"the rows of a state";
        let snapshot = |of: &[u8]| {
            let snapshot = Snapshot {
                size: Decimal(0),
                root: ledger::Digest([0; 32]),
                state: BlobRef::of(of),
                format: store::FORMAT.to_owned(),
            };
            snapshot.record()
        };
        let retention = Retention {
            minimum_index: Decimal(0),
            snapshot: Some(Decimal(1)),
            policy: String::new(),
            by: "uid:0".to_owned(),
        };
        let mut state = State::default();
        for (index, record) in [
            snapshot(LIST),
            snapshot(STATE),
            retention.record(),
            snapshot(DOCUMENT),
            erasure(&[LIST, STATE, DOCUMENT]),
        ]
        .into_iter()
        .enumerate()
        {
            let index = index as u64;
            state.apply(index, &sealed(index, record)).unwrap();
        }
        let gone = [LIST, STATE, DOCUMENT].map(|of| state.is_gone(&HexDigest::of(of)));
        assert_eq!(gone, [true, false, true]);
    }

    #[test]
    fn what_a_later_bundle_names_is_there_again() {
        let mut state = State::default();
        state.apply(0, &sealed(0, bundle(LIST))).unwrap();
        state.apply(1, &sealed(1, erasure(&[DOCUMENT]))).unwrap();
        assert!(state.is_gone(&HexDigest::of(DOCUMENT)));
        let named = sealed(2, bundle(DOCUMENT));
        assert_eq!(contents(&named).unwrap(), [HexDigest::of(DOCUMENT)]);
        state.apply(2, &named).unwrap();
        assert_eq!(state.erased(&HexDigest::of(DOCUMENT)), None);
    }
}
