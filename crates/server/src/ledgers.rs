//! The ledgers of gateways, decision points and agents as outsiders may read them: each as far as a record of this
//! server's ledger anchors it that stands in what this server has published ([decision 0033]).
//!
//! INVARIANT: of a ledger nobody is shown more than is anchored, and no anchor that is not under a checkpoint which
//! everybody is shown; where there are witnesses, under one that enough of them have cosigned. So a head that somebody is
//! shown here is one that the server's ledger vouches for, whoever holds the gateway's key.
//!
//! [decision 0033]: ../../../docs/decisions/0033-ledgers-of-gateways-for-outsiders.md

use crate::core::Core;
use crate::cosign::Witnesses;
use crate::labels::Labels;
use crate::mirrors::{Kept, Mirrors, key_of, known_key};
use crate::refusal::Refusal;
use ledger::label::LabelPath;
use ledger::tile::TilePath;
use ledger::witness::origin_hash;
use ledger::{LedgerKey, ProofFile, line};
use ledger_store::StoreError;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::GatewayRow;

/// Anchors of one ledger that wait to be published, or witnessed: a gateway anchors some times a second at most, and
/// witnesses are asked every other.
const WAITING: usize = 64;

/// What is published of the server's own ledger: where there are witnesses, what enough of them have cosigned.
pub(crate) struct Vouching {
    pub(crate) size: u64,
    pub(crate) note: Arc<str>,
}

/// Of one ledger.
#[derive(Default)]
struct Anchors {
    line: String,
    /// The newest that is published.
    shown: Option<GatewayRow>,
    /// Those after it, in the order of the ledger.
    waiting: VecDeque<GatewayRow>,
}

impl Anchors {
    fn take(&mut self, newest: &GatewayRow) {
        let known = self.waiting.back().or(self.shown.as_ref());
        if known.is_some_and(|known| known.anchor >= newest.anchor) {
            return;
        }
        // The oldest stay: they are published first.
        if self.waiting.len() >= WAITING {
            self.waiting.pop_back();
        }
        self.waiting.push_back(newest.clone());
    }

    /// The newest that stands in the server's first `published` records.
    fn published(&mut self, published: u64) -> Option<&GatewayRow> {
        while let Some(next) = self.waiting.pop_front_if(|row| row.anchor < published) {
            self.shown = Some(next);
        }
        self.shown.as_ref()
    }
}

/// All of them, by the name of each.
#[derive(Default)]
pub(crate) struct Ledgers(Mutex<BTreeMap<String, Anchors>>);

impl Ledgers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Anchors>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `row` was anchored.
    pub(crate) fn anchored(&self, row: &GatewayRow) {
        let mut all = self.lock();
        let line = line(&row.origin);
        let anchors = all.entry(name(line)).or_insert_with(|| Anchors {
            line: line.to_owned(),
            ..Anchors::default()
        });
        anchors.take(row);
    }

    /// What is shown of every ledger.
    pub(crate) fn all(&self, core: &Core) -> Vec<Shown> {
        let Some(vouching) = Vouching::of(core) else {
            return Vec::new();
        };
        let rows: Vec<GatewayRow> = core.state().gateways().cloned().collect();
        rows.iter().for_each(|row| self.anchored(row));
        let shown: Vec<(String, GatewayRow)> = {
            let mut all = self.lock();
            let each = all.iter_mut();
            let each = each.filter_map(|(name, anchors)| {
                let row = anchors.published(vouching.size)?.clone();
                Some((name.clone(), row))
            });
            each.collect()
        };
        let shown = shown.into_iter();
        let shown = shown.filter_map(|(name, row)| Shown::new(core, name, row));
        let mut shown: Vec<Shown> = shown.collect();
        shown.sort_by(|one, other| one.row.origin.cmp(&other.row.origin));
        shown
    }

    /// What is shown of the ledger of that name; `None` if there is none, or nothing to be shown yet.
    pub(crate) fn of(&self, core: &Core, name: &str) -> Option<Shown> {
        Some(self.vouched(core, name)?.0)
    }

    fn vouched(&self, core: &Core, name: &str) -> Option<(Shown, Vouching)> {
        let published = Vouching::of(core)?.size;
        // INVARIANT: whoever holds this lock waits for no other.
        let known = self.lock().get(name).map(|anchors| anchors.line.clone());
        let held = self.lock().len();
        match known {
            Some(line) => {
                let row = core.state().gateway(&line).cloned()?;
                self.anchored(&row);
            }
            // A stranger may ask for any name.
            None if held >= core.state().gateways().count() => return None,
            // Anchored before this server was started.
            None => {
                let rows: Vec<GatewayRow> = core.state().gateways().cloned().collect();
                rows.iter().for_each(|row| self.anchored(row));
            }
        }
        let row = {
            let mut all = self.lock();
            all.get_mut(name)?.published(published)?.clone()
        };
        // Somebody else may have seen more than was published above.
        let vouching = Vouching::of(core)?;
        Some((Shown::new(core, name.to_owned(), row)?, vouching))
    }

    /// The record by which the server's ledger anchors what is shown, with the proof that it stands under the published
    /// checkpoint: c2sp.org/tlog-proof, whose `extra` is the record. Blocks on the disk.
    pub(crate) fn anchor(&self, core: &Core, name: &str) -> Result<Option<String>, Refusal> {
        let vouched = self.vouched(core, name);
        let proof = vouched.map(|(shown, vouching)| vouching.proof(core, &shown.row));
        proof.transpose()
    }
}

impl Vouching {
    /// `None`: nothing is published, or witnessed, yet.
    pub(crate) fn of(core: &Core) -> Option<Self> {
        match core.witnesses.as_ref().map(Witnesses::newest) {
            Some(witnessed) => witnessed.map(|witnessed| Self {
                size: witnessed.size,
                note: Arc::clone(&witnessed.note),
            }),
            None => {
                let published = core.hub.published();
                (published.size > 0).then_some(Self {
                    size: published.size,
                    note: published.note,
                })
            }
        }
    }

    /// The record that anchors `row`, which is one of these, with its proof. Blocks on the disk.
    fn proof(&self, core: &Core, row: &GatewayRow) -> Result<String, Refusal> {
        let (reader, index) = (core.journal.reader(), row.anchor);
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Refusal::internal("reading an anchor", error)
        };
        let record = reader.record(index).map_err(|error| failed(&error))?;
        let hashes = reader.inclusion(index, self.size);
        let proof = ProofFile {
            extra: Some(record.into_bytes()),
            index,
            hashes: hashes.map_err(|error| failed(&error))?,
            checkpoint: self.note.as_ref().to_owned(),
        };
        Ok(proof.to_string())
    }
}

/// How a ledger is called in paths: its origin is a stranger's text.
fn name(line: &str) -> String {
    origin_hash(line).to_string()
}

/// A ledger as far as it is shown.
#[derive(Clone)]
pub(crate) struct Shown {
    /// SHA-256 of the first log's name, in hex.
    pub(crate) name: String,
    pub(crate) row: GatewayRow,
    /// The newest that is anchored, with those before it.
    pub(crate) key: LedgerKey,
}

impl Shown {
    /// `None`: what is anchored has no key that can be used; nobody could check what is shown.
    fn new(core: &Core, name: String, row: GatewayRow) -> Option<Self> {
        let key = known_key(core, &row.origin, || key_of(&row)).ok()?;
        Some(Self { name, row, key })
    }

    /// The name of its first log: what it is known by, also once it went on as another.
    pub(crate) fn line(&self) -> &str {
        line(&self.row.origin)
    }

    /// What is kept of it, which reaches to what is shown. Blocks on the disk.
    pub(crate) fn kept(&self, core: &Core) -> Result<Arc<Kept>, Refusal> {
        Mirrors::of(core, &self.row)
    }

    /// As [`Ledgers::anchor`]: what vouches for it, under the newest checkpoint that is published. `None`: nothing is.
    /// Blocks on the disk.
    pub(crate) fn anchor(&self, core: &Core) -> Result<Option<String>, Refusal> {
        let vouching = Vouching::of(core);
        let proof = vouching.map(|vouching| vouching.proof(core, &self.row));
        proof.transpose()
    }

    /// A tile at exactly that width; `None` if what is shown is not that large. Blocks on the disk.
    pub(crate) fn tile(&self, kept: &Kept, path: &TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let widest = TilePath::at(path.kind, path.index, self.row.size);
        if widest.is_none_or(|widest| widest.width() < path.width()) {
            return Ok(None);
        }
        kept.reader().tile(path)
    }

    /// As [`Shown::tile`], of labels.
    pub(crate) fn labels(
        &self,
        kept: &Kept,
        labels: &Labels,
        path: &LabelPath,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if path.records().end > self.row.size {
            return Ok(None);
        }
        labels.tile_of(&self.row.origin, kept.reader(), path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(size: u64, anchor: u64) -> GatewayRow {
        GatewayRow {
            origin: "example.org/gateway/pg".to_owned(),
            gateway: String::new(),
            ledger_key: String::new(),
            size,
            root: String::new(),
            checkpoint: String::new(),
            anchor,
        }
    }

    #[test]
    fn what_is_shown_is_what_a_published_record_anchors() {
        let mut anchors = Anchors::default();
        anchors.take(&row(10, 100));
        assert!(anchors.published(100).is_none(), "it is the next record");
        assert_eq!(anchors.published(101).unwrap().size, 10);
        anchors.take(&row(20, 200));
        anchors.take(&row(30, 300));
        anchors.take(&row(30, 300));
        assert_eq!(anchors.waiting.len(), 2);
        // Also while the next ones come all the time.
        assert_eq!(anchors.published(299).unwrap().size, 20);
        assert_eq!(anchors.published(299).unwrap().size, 20);
        assert_eq!(anchors.published(1_000).unwrap().size, 30);
    }

    #[test]
    fn where_witnesses_are_slow_the_oldest_and_the_newest_anchors_wait() {
        let mut anchors = Anchors::default();
        for number in 1..1_000 {
            anchors.take(&row(number, number));
        }
        assert_eq!(anchors.waiting.len(), WAITING);
        assert_eq!(anchors.published(2).unwrap().size, 1);
        assert_eq!(anchors.published(2_000).unwrap().size, 999);
        assert!(anchors.waiting.is_empty());
    }
}
