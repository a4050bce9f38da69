//! Everything of a verified pack that can be made again.

use crate::issued::Recorded;
use crate::outcome::{Again, Outcome, What, differs, lacks};
use crate::{approval, decision, erasure, issuance, verdict};
use estate::{Estate, EstateFiles};
use facts::{FactSet, Timestamp};
use ledger::body::{Body, EstateVersion, Proof, SessionStart};
use ledger::pack::{Erased, PackRecord, Report, Trust};
use ledger::{EstateRef, HexDigest, LedgerKey, Record, RecordType};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// From when a version of the estate is recorded to when the last record under an older one is, at most: endorsements
/// are waited for up to five minutes, and the rest is for clocks.
pub(crate) const SUPERSEDED_S: u64 = 600;
/// Versions of the estate that are kept compiled, at most: a large one takes hundreds of megabytes.
const COMPILED: usize = 2;

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
    // Those of one version together, so that each is compiled once.
    let mut records: Vec<(usize, &PackRecord)> = report.records.iter().enumerate().collect();
    records.sort_by_key(|(_, item)| item.record.estate().map(|estate| estate.index));
    let items = records.into_iter().filter_map(|(at, item)| {
        let (what, again) = match item.record.kind() {
            RecordType::Intent | RecordType::Decision => {
                (What::Decision, decision::again(&pack, item))
            }
            RecordType::Issuance => (What::Issuance, issuance::again(&pack, item)),
            RecordType::Verdict => (What::Verdict, verdict::again(&pack, item)),
            RecordType::Erasure => (What::Erasure, erasure::again(&pack, item)),
            RecordType::InvariantApproval => (What::Approval, approval::again(&pack, item)),
            _ => return None,
        };
        let item = Item {
            checkpoint: item.checkpoint,
            ledger: item.record.origin().to_owned(),
            index: item.index,
            what,
            outcome: outcome(again),
        };
        Some((at, item))
    });
    let items: BTreeMap<usize, Item> = items.collect();
    Rechecked(items.into_values().collect())
}

/// Of versions and their proofs: which approval each rests on.
fn approved(report: &Report) -> Vec<(u64, HexDigest)> {
    let of_server = report.records.iter().filter(|item| item.checkpoint == 0);
    let mut proofs = HashMap::new();
    let mut approved = Vec::new();
    for item in of_server {
        if let Ok(proof) = item.record.expect_body::<Proof>()
            && let Some(at) = proof.approval_index
        {
            proofs.insert(item.index, at.0);
            approved.push((at.0, proof.version));
        }
        // It stands behind its proof.
        if let Ok(version) = item.record.expect_body::<EstateVersion>()
            && let Some(at) = version.proof_index
            && let Some(approval) = proofs.get(&at.0)
        {
            approved.push((*approval, version.version));
        }
    }
    approved
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
    /// The trusted key with the links of the pack, which lead to the one that signs now.
    pub(crate) ledger_key: &'a LedgerKey,
    blobs: &'a BTreeMap<String, Vec<u8>>,
    erased: HashMap<HexDigest, &'a Erased>,
    server: HashMap<u64, &'a Record>,
    /// What the server's records are, those included that only its entries have, and when they were made.
    dated: BTreeMap<u64, (RecordType, u64)>,
    sessions: HashMap<(u64, String), SessionStart>,
    /// The places of approvals, with versions that rest on them.
    approved: Vec<(u64, HexDigest)>,
    /// The last that were asked for.
    estates: RefCell<VecDeque<Compiled>>,
    /// By the place of the estate's record, and that of the issuance.
    prepared: RefCell<HashMap<(u64, u64), Arc<estate::Prepared>>>,
}

struct Compiled {
    /// The place of its record.
    index: u64,
    /// `None` for one that cannot be read here.
    estate: Option<Rc<Estate>>,
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
        let own = report.records.iter().filter(|item| item.checkpoint == 0);
        let own = own.map(|item| (item.index, item.record.kind(), item.record.stamp().wall));
        let entries = report.dated.iter();
        let entries = entries.map(|entry| (entry.index, entry.kind, entry.wall));
        let dated = own.chain(entries);
        Self {
            trust,
            ledger_key: &report.ledger_key,
            dated: dated
                .map(|(index, kind, wall)| (index, (kind, wall)))
                .collect(),
            blobs: &report.blobs,
            erased: report.erased.iter().map(|one| (one.sha256, one)).collect(),
            server: of_server.map(|item| (item.index, &item.record)).collect(),
            sessions,
            approved: approved(report),
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
        if places.is_empty() {
            return None;
        }
        let there = self.dated.range(places.clone());
        let times = there.map(|(index, (_, wall))| (*wall, *index));
        times.min().map(|(wall, index)| (index, wall))
    }

    /// The place of the newest version of the estate before a record of the server's.
    pub(crate) fn newest_before(&self, index: u64) -> Option<u64> {
        let before = self.dated.range(..index).rev();
        let mut versions = before.filter(|(_, (kind, _))| *kind == RecordType::EstateVersion);
        versions.next().map(|(index, _)| *index)
    }

    /// The versions that rest on the approval at `index`, as they and their proofs say.
    pub(crate) fn approved(&self, index: u64) -> impl Iterator<Item = HexDigest> {
        let of_it = move |one: &&(u64, HexDigest)| one.0 == index;
        self.approved
            .iter()
            .filter(of_it)
            .map(|(_, version)| *version)
    }

    /// The version of the estate that a record names. In the server's own ledger it stands before the record.
    pub(crate) fn estate(&self, item: &PackRecord) -> Result<(EstateRef, Rc<Estate>), Outcome> {
        let Some(reference) = item.record.estate() else {
            return lacks("the record names no version of the estate");
        };
        let estate = self.in_place(item, &reference)?;
        Ok((reference, estate))
    }

    /// The version of the estate of a place, by which the server made a record or a gateway decided.
    pub(crate) fn in_place(
        &self,
        item: &PackRecord,
        reference: &EstateRef,
    ) -> Result<Rc<Estate>, Outcome> {
        before(item, reference.index)?;
        self.in_force(item, reference.index)?;
        match self.kept(reference)? {
            Some(estate) if estate.version() == reference.version.to_string() => Ok(estate),
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

    fn kept(&self, reference: &EstateRef) -> Result<Option<Rc<Estate>>, Outcome> {
        let mut estates = self.estates.borrow_mut();
        let at = estates
            .iter()
            .position(|kept| kept.index == reference.index);
        if let Some(known) = at.and_then(|at| estates.remove(at)) {
            let estate = known.estate.clone();
            estates.push_back(known);
            return Ok(estate);
        }
        // Room comes first: what is compiled needs it.
        while estates.len() >= COMPILED
            && let Some(oldest) = estates.pop_front()
        {
            let mut prepared = self.prepared.borrow_mut();
            prepared.retain(|(at, _), _| *at != oldest.index);
        }
        let estate = self.compiled(reference)?.map(Rc::new);
        estates.push_back(Compiled {
            index: reference.index,
            estate: estate.clone(),
        });
        Ok(estate)
    }

    /// The server judges by the version in force and records at once, so that no other was in force long before. A
    /// gateway judges by the newest that has reached it, of which its ledger says nothing.
    fn in_force(&self, item: &PackRecord, estate: u64) -> Again {
        if item.checkpoint > 0 {
            return Ok(());
        }
        // INVARIANT: `before` was asked, so that the range is one.
        let since = self.dated.range(estate + 1..item.index);
        let newer = since.filter(|(_, (kind, _))| *kind == RecordType::EstateVersion);
        let newer = newer.map(|(index, (_, wall))| (*wall, *index));
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

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::body::BlobRef;
    use ledger::pack::Question;
    use ledger::{Decimal, LedgerSigner, Stamp};

    fn files() -> EstateFiles {
        let mut files = EstateFiles::new();
        files.insert("estate.toml", "trust_domain = \"example.org\"\n");
        files
    }

    /// As many places at which this version came into force.
    fn versions(signer: &LedgerSigner, many: u64) -> Report {
        let blob = files().to_blob();
        let sha256 = HexDigest::of(&blob);
        let version = EstateVersion {
            version: sha256,
            blob: BlobRef::of(&blob),
            parent: None,
            author: "uid:0".to_owned(),
            message: String::new(),
            proof_index: None,
            floor: Decimal(0),
        };
        let stamp = Stamp { wall: 1, mono: 1 };
        let record = |index| PackRecord {
            checkpoint: 0,
            index,
            record: version
                .record()
                .actor("uid:0", "self")
                .seal(signer.key().origin(), index, stamp)
                .unwrap(),
            answers: true,
        };
        Report {
            question: Question::Estate { version: sha256 },
            ledger_key: signer.key().clone(),
            checkpoints: Vec::new(),
            records: (0..many).map(record).collect(),
            blobs: BTreeMap::from([(sha256.to_string(), blob)]),
            certificates: BTreeMap::new(),
            whole: Vec::new(),
            extents: Vec::new(),
            quorum: None,
            doubts: Vec::new(),
            erased: Vec::new(),
            dated: Vec::new(),
        }
    }

    /// A pack of many versions took as many times the memory of one.
    #[test]
    fn a_few_versions_are_kept_compiled_and_no_more() {
        let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        let signer = LedgerSigner::new("example.org/server", Arc::new(key)).unwrap();
        let report = versions(&signer, 5);
        let trust = Trust {
            trust_domain: "example.org".to_owned(),
            ledger_key: signer.key().clone(),
            x509_authorities: Vec::new(),
            policy: None,
        };
        let pack = Pack::new(&report, &trust);
        let version = HexDigest::of(&files().to_blob());
        for index in [0, 1, 2, 0, 3, 4, 4] {
            let estate = pack.kept(&EstateRef { version, index }).unwrap().unwrap();
            pack.prepared((index, &estate), 7, FactSet::new);
            let kept = pack.estates.borrow();
            assert!(kept.len() <= COMPILED);
            assert_eq!(kept.back().unwrap().index, index);
            let prepared = pack.prepared.borrow();
            assert!(
                prepared
                    .keys()
                    .all(|(at, _)| kept.iter().any(|one| one.index == *at))
            );
            assert!(prepared.contains_key(&(index, 7)));
        }
    }
}
