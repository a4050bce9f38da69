//! Everything of a verified pack that can be made again.

use crate::issued::Recorded;
use crate::outcome::{Again, Outcome, What, differs, lacks};
use crate::{decision, erasure, issuance, verdict};
use estate::{Estate, EstateFiles};
use facts::{FactSet, Timestamp};
use ledger::body::{Body, EstateVersion, SessionStart};
use ledger::pack::{Erased, PackRecord, Report, Trust};
use ledger::{EstateRef, HexDigest, Record, RecordType};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// From when a version of the estate is recorded to when the last record under an older one is, at most: endorsements
/// are waited for up to five minutes, and the rest is for clocks.
const SUPERSEDED_S: u64 = 600;

/// One record that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Number of its ledger's checkpoint in the pack.
    #[serde(skip)]
    pub checkpoint: u64,
    pub ledger: String,
    pub index: u64,
    pub what: What,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// By whose word something was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vouched {
    /// Two authors of the estate in force have signed it.
    Authors,
    /// Nobody but whoever holds the key of the server's ledger.
    Server,
}

/// All that was looked at, in the order of the pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rechecked(pub Vec<Item>);

impl Rechecked {
    /// The first that came out otherwise, with what is different.
    #[must_use]
    pub fn first_difference(&self) -> Option<(&Item, &str)> {
        self.0.iter().find_map(|item| match &item.outcome {
            Outcome::Differs(why) => Some((item, why.as_str())),
            Outcome::Recomputed | Outcome::NotRecomputable(_) => None,
        })
    }

    /// How many came out the same.
    #[must_use]
    pub fn recomputed(&self) -> usize {
        let same = |item: &&Item| item.outcome == Outcome::Recomputed;
        self.0.iter().filter(same).count()
    }

    /// Who vouches for an erasure that the pack tells.
    #[must_use]
    pub fn vouched(&self, erased: &Erased) -> Vouched {
        let of_it = |item: &&Item| {
            (item.checkpoint, item.index, item.what) == (0, erased.by_record, What::Erasure)
        };
        match self.0.iter().find(of_it).map(|item| &item.outcome) {
            Some(Outcome::Recomputed) => Vouched::Authors,
            _ => Vouched::Server,
        }
    }

    /// Those for which something lacks, with what.
    pub fn not_recomputable(&self) -> impl Iterator<Item = (&Item, &str)> {
        self.0.iter().filter_map(|item| match &item.outcome {
            Outcome::NotRecomputable(why) => Some((item, why.as_str())),
            Outcome::Recomputed | Outcome::Differs(_) => None,
        })
    }
}

/// Makes everything again that the records of a pack decided and concluded. `trust` is what the pack was verified
/// with.
#[must_use]
pub fn pack(report: &Report, trust: &Trust) -> Rechecked {
    let pack = Pack::new(report, trust);
    let items = report.records.iter().filter_map(|item| {
        let (what, again) = match item.record.kind() {
            RecordType::Intent | RecordType::Decision => {
                (What::Decision, decision::again(&pack, item))
            }
            RecordType::Issuance => (What::Issuance, issuance::again(&pack, item)),
            RecordType::Verdict => (What::Verdict, verdict::again(&pack, item)),
            RecordType::Erasure => (What::Erasure, erasure::again(&pack, item)),
            _ => return None,
        };
        Some(Item {
            checkpoint: item.checkpoint,
            ledger: item.record.origin().to_owned(),
            index: item.index,
            what,
            outcome: outcome(again),
        })
    });
    Rechecked(items.collect())
}

/// INVARIANT: what a record of the server's ledger rests on was recorded before it.
pub(crate) fn before(item: &PackRecord, index: u64) -> Again {
    if item.checkpoint == 0 && index >= item.index {
        return differs(format!(
            "it rests on the server's record {index}, which is not before it"
        ));
    }
    Ok(())
}

fn outcome(again: Again) -> Outcome {
    again.map_or_else(|early| early, |()| Outcome::Recomputed)
}

/// A pack, by what records name of it.
pub(crate) struct Pack<'a> {
    pub(crate) trust: &'a Trust,
    blobs: &'a BTreeMap<String, Vec<u8>>,
    erased: HashMap<HexDigest, &'a Erased>,
    server: HashMap<u64, &'a Record>,
    sessions: HashMap<(u64, String), SessionStart>,
    /// By the place of its record; `None` for one that cannot be read here.
    estates: RefCell<HashMap<u64, Option<Rc<Estate>>>>,
    prepared: RefCell<HashMap<(u64, u64), Arc<estate::Prepared>>>,
}

impl<'a> Pack<'a> {
    fn new(report: &'a Report, trust: &'a Trust) -> Self {
        let of_server = report.records.iter().filter(|item| item.checkpoint == 0);
        let mut sessions = HashMap::new();
        for item in &report.records {
            if let Ok(start) = item.record.expect_body::<SessionStart>() {
                // Whoever uses a name again does not change what came before.
                let name = (item.checkpoint, start.session.clone());
                sessions.entry(name).or_insert(start);
            }
        }
        Self {
            trust,
            blobs: &report.blobs,
            erased: report.erased.iter().map(|one| (one.sha256, one)).collect(),
            server: of_server.map(|item| (item.index, &item.record)).collect(),
            sessions,
            estates: RefCell::default(),
            prepared: RefCell::default(),
        }
    }

    /// A record of the server's ledger that is of this type.
    pub(crate) fn body<T: Body>(&self, index: u64) -> Option<T> {
        self.server.get(&index)?.expect_body().ok()
    }

    pub(crate) fn bytes(&self, sha256: &HexDigest) -> Option<&'a [u8]> {
        self.blobs.get(&sha256.to_string()).map(Vec::as_slice)
    }

    /// That `what` is not in the pack, and why if the ledger says so.
    pub(crate) fn lacking<T>(&self, sha256: &HexDigest, what: &str) -> Result<T, Outcome> {
        let Some(erased) = self.erased.get(sha256) else {
            return lacks(what);
        };
        lacks(format!(
            "{what}: erased by the server's record {} on {}, by {}: {}",
            erased.by_record,
            Timestamp::from_millis(erased.at),
            erased.by,
            erased.reason
        ))
    }

    /// How the session of a record began.
    pub(crate) fn session(&self, item: &PackRecord, session: &str) -> Option<&SessionStart> {
        self.sessions.get(&(item.checkpoint, session.to_owned()))
    }

    /// The path of an identity of the trust domain.
    pub(crate) fn path<'i>(&self, spiffe_id: &'i str) -> Option<&'i str> {
        let path = spiffe_id.strip_prefix("spiffe://")?;
        path.strip_prefix(self.trust.trust_domain.as_str())?
            .strip_prefix('/')
    }

    /// The index of the version of the estate that an issuance names.
    pub(crate) fn issued_under(&self, issuance: u64) -> Option<u64> {
        Some(self.server.get(&issuance)?.estate()?.index)
    }

    /// The oldest version under which gateways took SVIDs, when that at `estate` was in force.
    pub(crate) fn floor(&self, estate: u64) -> u64 {
        let version = self.body::<EstateVersion>(estate);
        version.map_or(0, |version| version.floor.0)
    }

    /// Of the server's records at these places: the first by its time, in milliseconds.
    pub(crate) fn earliest(&self, places: &Range<u64>) -> Option<(u64, u64)> {
        let there = self
            .server
            .iter()
            .filter(|(index, _)| places.contains(index));
        let times = there.map(|(index, record)| (record.stamp().wall, *index));
        times.min().map(|(wall, index)| (index, wall))
    }

    /// The version of the estate that a record names. In the server's own ledger it stands before the record.
    pub(crate) fn estate(&self, item: &PackRecord) -> Result<(EstateRef, Rc<Estate>), Outcome> {
        let Some(reference) = item.record.estate() else {
            return lacks("the record names no version of the estate");
        };
        before(item, reference.index)?;
        self.in_force(item, reference.index)?;
        let known = self.estates.borrow().get(&reference.index).cloned();
        let estate = match known {
            Some(estate) => estate,
            None => {
                let estate = self.compiled(&reference)?.map(Rc::new);
                let mut estates = self.estates.borrow_mut();
                estates.insert(reference.index, estate.clone());
                estate
            }
        };
        match estate {
            Some(estate) if estate.version() == reference.version.to_string() => {
                Ok((reference, estate))
            }
            Some(_) => differs(format!(
                "the server's record {} is of another version of the estate than the record names",
                reference.index
            )),
            None => lacks(format!(
                "the estate of the server's record {} is none that this version reads",
                reference.index
            )),
        }
    }

    /// The server judges by the version in force and records at once, so that no other was in force long before. A
    /// gateway judges by the newest that has reached it, of which its ledger says nothing.
    fn in_force(&self, item: &PackRecord, estate: u64) -> Again {
        if item.checkpoint > 0 {
            return Ok(());
        }
        let newer = self.server.iter().filter(|(index, record)| {
            (estate + 1..item.index).contains(index) && record.kind() == RecordType::EstateVersion
        });
        let newer = newer.map(|(index, record)| (record.stamp().wall, *index));
        let Some((wall, index)) = newer.min() else {
            return Ok(());
        };
        let latest = Timestamp::from_millis(wall).plus_secs(SUPERSEDED_S);
        if latest < Timestamp::from_millis(item.record.stamp().wall) {
            return differs(format!(
                "it rests on the estate of the server's record {estate}, and a newer one, record {index}, had been in force for more than {SUPERSEDED_S} s"
            ));
        }
        Ok(())
    }

    fn compiled(&self, reference: &EstateRef) -> Result<Option<Estate>, Outcome> {
        let at = reference.index;
        let Some(version) = self.body::<EstateVersion>(at) else {
            return lacks(format!(
                "the server's record {at} is not in the pack, or no version of the estate"
            ));
        };
        if version.version != version.blob.sha256 {
            return differs(format!(
                "the server's record {at} names another version than its files have"
            ));
        }
        let Some(blob) = self.bytes(&version.blob.sha256) else {
            let what = format!("the files of the estate of the server's record {at}");
            return self.lacking(&version.blob.sha256, &what);
        };
        let files = EstateFiles::from_blob(blob).ok();
        Ok(files.and_then(|files| Estate::compile_recorded(&files).ok()))
    }

    /// `facts` as decisions of the version at `estate` take them; of each issuance made once.
    pub(crate) fn prepared(
        &self,
        (at, estate): (u64, &Estate),
        issuance: u64,
        facts: impl FnOnce() -> FactSet,
    ) -> Arc<estate::Prepared> {
        let mut prepared = self.prepared.borrow_mut();
        let made = prepared.entry((at, issuance));
        Arc::clone(made.or_insert_with(|| Arc::new(estate.prepare(&facts()))))
    }
}

impl Recorded for Pack<'_> {
    type Error = Infallible;

    fn record(&self, index: u64) -> Result<Option<Record>, Infallible> {
        Ok(self.server.get(&index).map(|record| Record::clone(record)))
    }

    fn blob(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.bytes(sha256).map(<[u8]>::to_vec))
    }
}
