//! Which contents an erasure is about, and who lives by them. Reads the ledger once for each of the two questions, and of
//! the second what was recorded meanwhile again, when nobody can name the contents any more.

use crate::core::Core;
use crate::erase::Marked;
use crate::refusal::Refusal;
use crate::state::State;
use estate::{Estate, EstateFiles};
use facts::{Finding, names};
use ledger::body::{AssumeRefused, ErasedItem, EstateVersion, Issuance, Proof, Verdict};
use ledger::{Decimal, HexDigest, Record, RecordType};
use std::collections::{BTreeMap, BTreeSet};

/// Of a machine that was revoked, and not merely evicted or locked.
const BANNED: &str = "AGENT-REVOKED";
/// Records read at once.
const BATCH: u64 = 4_096;
/// Logins that an old version has are looked for in its text where it does not compile any more; shorter ones say too
/// little to be looked for in a reason.
const SHORTEST_SECRET: usize = 4;

pub(super) struct Whom {
    /// Path and SPIFFE ID.
    pub(super) path: Option<(String, String)>,
    pub(super) records: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: &'static str,
    pub(super) sha256: HexDigest,
    /// The first record that names it.
    pub(super) record: u64,
}

impl Item {
    pub(super) fn recorded(&self) -> ErasedItem {
        ErasedItem {
            kind: self.kind.to_owned(),
            sha256: self.sha256,
            record: Decimal(self.record),
        }
    }
}

pub(super) struct Kept {
    pub(super) item: Item,
    pub(super) why: String,
}

#[derive(Default)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    /// What somebody lives by.
    pub(super) kept: Vec<Kept>,
    /// Contents that were erased before.
    pub(super) before: u64,
    /// Records of this ledger that name the identity in clear.
    pub(super) clear: u64,
    /// What is gone of the ledger, in words: contents that only such records name are not found.
    pub(super) pruned: Option<String>,
    /// What the reason must not say, in lower case.
    pub(super) secrets: BTreeSet<String>,
    /// Who asks for the contents, as far as the ledger was read.
    asking: Asking,
}

/// The records that name contents which may go; who of them lives is asked at the end.
#[derive(Default)]
struct Asking {
    /// Records that were looked at.
    read: u64,
    places: Vec<u64>,
}

/// What a record names that can be erased.
fn named(record: &Record) -> Vec<(&'static str, HexDigest)> {
    let mut named = Vec::new();
    if let Ok(issuance) = record.expect_body::<Issuance>() {
        named.push(("opening", HexDigest(issuance.commit.0.0)));
    } else if let Ok(refused) = record.expect_body::<AssumeRefused>() {
        named.extend(refused.facts_blob.map(|blob| ("facts", blob.sha256)));
    } else if let Ok(verdict) = record.expect_body::<Verdict>() {
        named.extend(verdict.facts_blob.map(|blob| ("facts", blob.sha256)));
        let evidence = verdict.evidence.iter();
        named.extend(evidence.map(|one| ("evidence", one.sha256)));
    } else if let Ok(version) = record.expect_body::<EstateVersion>() {
        named.push(("estate", version.blob.sha256));
    } else if let Ok(proof) = record.expect_body::<Proof>() {
        named.extend(proof.blob.map(|blob| ("proof", blob.sha256)));
    }
    named
}

impl Plan {
    /// All that the request is about, whoever lives by it.
    pub(super) fn find(core: &Core, whom: &Whom) -> Result<Self, Refusal> {
        let pruned = core.journal.reader().pruned();
        let mut plan = Self {
            pruned: pruned.map(|pruned| {
                let (last, by) = (pruned.minimum.saturating_sub(1), pruned.record);
                format!("records 1 to {last} were pruned by record {by}: contents that they alone name are not found, and stay")
            }),
            ..Self::default()
        };
        let mut found = BTreeMap::new();
        let size = core.journal.reader().size();
        let mut places: BTreeSet<u64> = whom.records.iter().copied().collect();
        if let Some(beyond) = places.iter().find(|index| **index >= size) {
            return Err(Refusal::Unknown(
                Finding::new("ERASE-RECORD", "the server's ledger has no such record")
                    .expected(format!("an index below {size}"))
                    .observed(beyond.to_string())
                    .next("trilith ledger search --ledger server"),
            ));
        }
        if let Some((path, id)) = &whom.path {
            let current = core.current.load_full().map(|current| current.index);
            let clear = in_clear(path, id);
            walk(core, 0, |index, record| {
                let text = std::str::from_utf8(record.bytes()).unwrap_or_default();
                plan.clear += u64::from(clear.iter().any(|name| text.contains(name.as_str())));
                let theirs = match record.kind() {
                    RecordType::Issuance => record
                        .expect_body::<Issuance>()
                        .is_ok_and(|issuance| issuance.spiffe_id == *id),
                    RecordType::AssumeRefused => record
                        .expect_body::<AssumeRefused>()
                        .is_ok_and(|refused| refused.spiffe_id.as_ref() == Some(id)),
                    RecordType::Verdict => record
                        .expect_body::<Verdict>()
                        .is_ok_and(|verdict| verdict.node == *id),
                    RecordType::EstateVersion if Some(index) != current => {
                        gives(core, record, path)
                    }
                    _ => false,
                };
                if theirs {
                    places.insert(index);
                }
            })?;
        }
        for index in places {
            let record = read(core, index)?;
            add(&mut found, index, &record);
            // The proof of a version names what the version has.
            let version: Option<EstateVersion> = record.expect_body().ok();
            if let Some(version) = &version {
                plan.secrets.extend(logins(core, version));
            }
            if let Some(proof) = version.and_then(|version| version.proof_index) {
                add(&mut found, proof.0, &read(core, proof.0)?);
            }
        }
        let state = core.state();
        for (sha256, item) in found {
            match state.erased(&sha256) {
                Some(_) => plan.before += 1,
                None => plan.items.push(item),
            }
        }
        drop(state);
        plan.items.sort_by_key(|item| (item.record, item.sha256));
        plan.ask(core)?;
        Ok(plan)
    }

    /// Reads from where it has read to.
    fn ask(&mut self, core: &Core) -> Result<(), Refusal> {
        let wanted: BTreeSet<HexDigest> = self.digests().into_iter().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let Asking { read, places } = &mut self.asking;
        *read = walk(core, *read, |index, record| {
            if asks_for(record).iter().any(|one| wanted.contains(one)) {
                places.push(index);
            }
        })?;
        Ok(())
    }

    pub(super) fn digests(&self) -> Vec<HexDigest> {
        self.items.iter().map(|item| item.sha256).collect()
    }

    /// Of the records that name the contents, as far as the ledger was read; `None` where some of it is gone, and with
    /// it the places.
    pub(super) fn places(&self) -> Option<Vec<u64>> {
        self.pruned.is_none().then(|| self.asking.places.clone())
    }

    /// Sets apart what somebody lives by, or is about to name: what is not `marked`, where something is.
    pub(super) fn judged(mut self, core: &Core, marked: Option<&Marked>) -> Result<Self, Refusal> {
        self.ask(core)?;
        let wanted: BTreeSet<HexDigest> = self.digests().into_iter().collect();
        let current = core.current.load_full();
        let current = current
            .as_ref()
            .map(|current| (current.index, current.version));
        let now = core.now().as_millis();
        let mut needed: BTreeMap<HexDigest, String> = BTreeMap::new();
        if let Some(marked) = marked {
            let named = wanted.iter().filter(|sha256| !marked.has(sha256));
            let why = "somebody brings it again right now: try again";
            needed.extend(named.map(|sha256| (*sha256, why.to_owned())));
        }
        for index in &self.asking.places {
            let record = read(core, *index)?;
            for sha256 in asks_for(&record) {
                if !wanted.contains(&sha256) || needed.contains_key(&sha256) {
                    continue;
                }
                let why = lives(&core.state(), &record, *index, (current, now));
                if let Some(why) = why.or_else(|| known_by(core, &record, *index, &sha256)) {
                    needed.insert(sha256, why);
                }
            }
        }
        let items = std::mem::take(&mut self.items);
        for item in items {
            match needed.remove(&item.sha256) {
                Some(why) => self.kept.push(Kept { item, why }),
                None => self.items.push(item),
            }
        }
        Ok(self)
    }
}

fn add(found: &mut BTreeMap<HexDigest, Item>, record: u64, of: &Record) {
    for (kind, sha256) in named(of) {
        found.entry(sha256).or_insert(Item {
            kind,
            sha256,
            record,
        });
    }
}

/// All that a record names, also what is never erased.
fn asks_for(record: &Record) -> Vec<HexDigest> {
    let mut asked: Vec<HexDigest> = named(record)
        .into_iter()
        .map(|(_, sha256)| sha256)
        .collect();
    if let Ok(contents) = ledger::pack::contents(record) {
        asked.extend(contents);
    }
    asked
}

/// Why what the record names has to stay; `None` if nobody lives by it.
fn lives(
    state: &State,
    record: &Record,
    index: u64,
    (current, now): (Option<(u64, HexDigest)>, u64),
) -> Option<String> {
    match record.kind() {
        RecordType::Issuance => {
            let issuance: Issuance = record.expect_body().ok()?;
            let svid = state.svid(&issuance.serial)?;
            let stands = svid.index == index && state.stands(svid) && svid.not_after > now;
            stands.then(|| {
                format!("the SVID of record {index} stands: revoke it, or wait until it has ended")
            })
        }
        RecordType::Verdict => {
            let verdict: Verdict = record.expect_body().ok()?;
            let (_, name) = verdict.node.rsplit_once("/trilith/node/")?;
            let node = state.node(name)?;
            // Whoever is evicted or locked may come back, and is told why it is out.
            let banned = node.locked.as_deref() == Some(BANNED);
            (!banned)
                .then(|| format!("the machine of record {index} is admitted, or out only for now: revoke it first"))
        }
        RecordType::EstateVersion => {
            let in_force = current.is_some_and(|(at, _)| at == index);
            let version: EstateVersion = record.expect_body().ok()?;
            let same = current.is_some_and(|(_, digest)| digest == version.version);
            (in_force || same)
                .then(|| format!("record {index} is of the estate in force: apply another first"))
        }
        RecordType::Proof => {
            let proof: Proof = record.expect_body().ok()?;
            let in_force = current.is_some_and(|(_, version)| version == proof.version);
            in_force
                .then(|| format!("record {index} proves the estate in force: apply another first"))
        }
        RecordType::AssumeRefused => None,
        // What these name is of nobody, and the server or a verifier goes by it.
        _ => Some(format!("record {index} ({}) goes by it", record.kind())),
    }
}

/// A ban holds for a chip, and for where an enclave or a cloud's machine runs: by these facts it is known which that is,
/// also to itself when it is readmitted. One that has joined by a token alone is known by its name.
fn known_by(core: &Core, record: &Record, index: u64, sha256: &HexDigest) -> Option<String> {
    let verdict: Verdict = record.expect_body().ok()?;
    let (_, name) = verdict.node.rsplit_once("/trilith/node/")?;
    let node = core.state().node(name).cloned()?;
    if node.facts != sha256.to_string() {
        return None;
    }
    let facts = core.machine_facts(&node).ok()?;
    let by_token = facts.text(names::MACHINE_JOIN) == Some("token");
    (!by_token).then(|| {
        format!("the machine of record {index} is revoked, and these facts say which it is: without them it could come back")
    })
}

/// The files of a version and what they compile to, if they are there and this version reads them.
fn compiled(core: &Core, version: &EstateVersion) -> Option<(Vec<u8>, Option<Estate>)> {
    let blob = core.blobs.get(&version.blob.sha256).ok()??;
    let estate = EstateFiles::from_blob(&blob)
        .ok()
        .and_then(|files| Estate::compile_recorded(&files).ok());
    Some((blob, estate))
}

/// Whether a version gives a login to whoever has this path.
fn gives(core: &Core, record: &Record, path: &str) -> bool {
    let version = record.expect_body::<EstateVersion>().ok();
    let Some((blob, estate)) = version.and_then(|version| compiled(core, &version)) else {
        return false;
    };
    let Some(estate) = estate else {
        // One that this version does not read: it goes if the path stands in it at all.
        return String::from_utf8_lossy(&blob).contains(path);
    };
    let identity = estate.identity(path);
    identity.is_some_and(|identity| identity.path == path && identity.login.is_some())
}

/// How those log in to whom a version gives a login, in lower case: as a whole, and what stands behind the name of the
/// provider's connection (`auth0|ada@example.org`).
fn logins(core: &Core, version: &EstateVersion) -> BTreeSet<String> {
    let Some((_, Some(estate))) = compiled(core, version) else {
        return BTreeSet::new();
    };
    let logins = estate
        .identities()
        .filter_map(|identity| identity.login.as_ref());
    let subjects = logins.flat_map(|login| {
        let last = login.subject.rsplit('|').next().unwrap_or_default();
        [login.subject.as_str(), last].map(str::to_lowercase)
    });
    subjects
        .filter(|subject| subject.len() >= SHORTEST_SECRET)
        .collect()
}

/// How records name an identity: as that, as whoever administers, and as Cedar does.
fn in_clear(path: &str, id: &str) -> [String; 3] {
    [
        format!("\"{id}\""),
        format!("person:{path}"),
        format!("::\\\"{path}\\\""),
    ]
}

fn read(core: &Core, index: u64) -> Result<Record, Refusal> {
    let record = core.journal.reader().record(index);
    record.map_err(|error| Refusal::internal("reading a record", &error))
}

/// Every record from `index` on, in order; one that this version cannot read names nothing that it could erase. Returns
/// where the next will stand.
fn walk(core: &Core, mut index: u64, mut see: impl FnMut(u64, &Record)) -> Result<u64, Refusal> {
    let reader = core.journal.reader();
    loop {
        // What is gone is left out, and the answer says so.
        index = reader.next_there(index);
        let records = reader
            .read(index..index.saturating_add(BATCH))
            .map_err(|error| Refusal::internal("reading the ledger", &error))?;
        if records.is_empty() {
            return Ok(index);
        }
        for bytes in records {
            if let Ok(record) = Record::from_vec(bytes) {
                see(index, &record);
            }
            index += 1;
        }
    }
}
