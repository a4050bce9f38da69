//! What is gone beside the ledger, as rows of the state: by them a start removes what a crash has left, or a restored
//! folder has brought back, and nobody is told that something is lost which was erased.

use super::State;
use ledger::body::Erasure;
use ledger::{HexDigest, Record, RecordError, pack};
use store::{Change, MetaRow};

const PREFIX: &str = "erased ";

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
    /// Index of the record by which the content of this digest is gone.
    #[must_use]
    pub fn erased(&self, sha256: &HexDigest) -> Option<u64> {
        self.erased.get(sha256).copied()
    }

    /// All that is gone.
    #[must_use]
    pub fn all_erased(&self) -> Vec<HexDigest> {
        self.erased.keys().copied().collect()
    }

    /// The certificate of a chip is the same in each of its verdicts: what somebody brings again is there again.
    pub(super) fn named_again(&self, record: &Record) -> Result<Vec<Change>, RecordError> {
        if self.erased.is_empty() {
            return Ok(Vec::new());
        }
        let mut named = pack::grounds(record)?.blobs;
        named.retain(|sha256| self.erased.contains_key(sha256));
        Ok(named
            .iter()
            .map(|sha256| row(sha256, String::new()))
            .collect())
    }
}
