//! Packs: a question with every record, proof and input that its answer rests on.
//!
//! Whoever has a server's ledger makes them: the server of what it holds open, anybody else of a copy ([`Copied`]). What differs
//! between the two is a [`Keeper`]; what a pack has does not.

mod asked;
mod belonging;
mod copied;
mod log;

pub use copied::Copied;
pub(crate) use log::note;
pub use log::{Log, Tiles};

use facts::Finding;
use ledger::body::{self, Anchor, Issuance};
use ledger::pack::{Answers, PackBuilder, PackRecord, Question, Trust, grounds};
use ledger::tile::{Kind, TilePath};
use ledger::{Base64, HexDigest, LedgerKey, NewestAnchors, Record, RecordError, RecordType};
use ledger_store::{Head, StoreError};
use spiffe_core::TrustDomain;
use spiffe_core::recorded::fitting;
use std::collections::BTreeSet;
use std::ops::{Deref, RangeInclusive};
use std::sync::Arc;

/// Records read at once.
const BATCH: u64 = 4_096;
/// Ledgers of at most so many records are shown whole, the server's first, so that a pack shows that
/// nothing was left out.
const MOST_RECORDS: u64 = 65_536;
/// Bytes of all tiles of a pack, at most: it is made in memory, and some people send it by mail.
const MOST_TILES: usize = 64 << 20;
/// Records of one ledger that answer, at most: the newest, and the question says so.
const MOST_ACCESSES: u64 = 10_000;
/// Certificates of a pack, at most.
const MOST_CERTIFICATES: usize = 10_000;

/// Who makes a pack, and what is there for it.
pub trait Keeper {
    /// What this one says of a pack that is not made.
    type Refusal: From<Unmade>;

    fn trust_domain(&self) -> &TrustDomain;

    /// The key of the server's ledger, with those before it.
    fn ledger_key(&self) -> &LedgerKey;

    /// The server's ledger.
    fn reader(&self) -> Log;

    /// The origin of the ledger that `name` means: empty or `server` the server's, else a gateway's origin or its last
    /// part.
    fn named(&self, name: &str) -> Result<String, Self::Refusal>;

    /// A gateway's ledger. INVARIANT: it has the records that were anchored, and is no other.
    fn mirror(&self, gateway: &Gateway) -> Result<Log, Self::Refusal>;

    /// Records of the server's ledger by which it went on as a new log.
    fn links(&self) -> Vec<u64>;

    /// Records of the server's ledger by which that gateway's went on as a new log.
    fn gateway_links(&self, origin: &str) -> Vec<u64>;

    /// The record by which a content is gone.
    fn erased(&self, sha256: &HexDigest) -> Option<u64>;

    /// Whether it is gone, or about to go.
    fn is_erased(&self, sha256: &HexDigest) -> bool;

    /// A content that is there if it was kept.
    fn content(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Self::Refusal>;

    /// A content that a record names. One that is not there is left out, where that is nobody's fault; whoever verifies
    /// the pack is told what cannot be made again without it.
    fn needed(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Self::Refusal>;

    /// The issuance of an SVID, where it is known without a search.
    fn svid(&self, serial: &str) -> Option<u64>;

    /// Whether an SVID of that identity is known to live.
    fn lives(&self, id: &str) -> bool;

    /// Paths of the identities in the estate in force, and whether each is one by itself and no template.
    fn declared(&self) -> Result<Vec<(String, bool)>, Self::Refusal>;

    /// Root certificates: what leads to none of them is in no pack.
    fn roots(&self) -> Vec<Vec<u8>>;

    /// SVIDs of these issuances with the authorities that issued them, as far as they are kept. Nothing vouches for them.
    fn certificates(&self, wanted: &[(u64, Issuance)]) -> Vec<[Vec<u8>; 2]>;
}

/// Why no pack is made.
#[derive(Debug, thiserror::Error)]
pub enum Unmade {
    /// Nothing goes by that name.
    #[error("{0}")]
    Unknown(Box<Finding>),
    /// It makes no sense as it stands.
    #[error("{0}")]
    Invalid(Box<Finding>),
    /// It cannot be done as things are.
    #[error("{0}")]
    Precondition(Box<Finding>),
    /// A ledger is not here.
    #[error("{0}")]
    Unavailable(Box<Finding>),
    #[error("reading the ledger")]
    Ledger(#[from] StoreError),
    #[error("reading a record")]
    Record(#[from] RecordError),
}

/// What a pack is made under, and whether it has certificates.
pub struct Under {
    pub head: Arc<Head>,
    pub certificates: bool,
}

impl Deref for Under {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

/// The path of an identity, from it or its SPIFFE ID.
pub fn identity_path(domain: &TrustDomain, text: &str) -> Result<String, Unmade> {
    let prefix = format!("spiffe://{domain}/");
    let path = text.strip_prefix(&prefix).unwrap_or(text);
    match domain.identity(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(error) => Err(Unmade::Invalid(Box::new(
            Finding::new("IDENTITY-NAME", "this is no identity of this trust domain")
                .expected("a path such as payments/api, or its SPIFFE ID")
                .observed(error.to_string()),
        ))),
    }
}

/// The pack under construction; what it needs is added once.
struct Collector<'a, K> {
    keeper: &'a K,
    builder: PackBuilder,
    own: BTreeSet<u64>,
    head: Under,
    /// What says of which SVIDs the pack may have the certificates: issuances, and sessions that began with them.
    telling: Vec<PackRecord>,
    /// Bytes of tiles that it may still take.
    room: usize,
}

/// A gateway's ledger, up to an anchor that stands below the pack's head.
struct Anchored {
    anchor: u64,
    origin: String,
    size: u64,
    checkpoint: String,
    reader: Log,
}

/// The answer of `keeper` under a head of its ledger. `known` are the ledgers of gateways that are anchored below it; where
/// the ledger is small they are looked up in it.
pub fn make<K: Keeper>(
    keeper: &K,
    question: Question,
    known: Vec<Gateway>,
    head: Under,
) -> Result<Vec<u8>, K::Refusal> {
    match question {
        Question::Record { ledger, index } => {
            let question = |ledger| Question::Record { ledger, index };
            placed(keeper, &ledger, index..=index, question, (&known, head))
        }
        Question::Range { ledger, from, to } => {
            let question = |ledger| Question::Range { ledger, from, to };
            placed(keeper, &ledger, from..=to, question, (&known, head))
        }
        Question::Issuance { serial } => issued(keeper, &serial, head),
        Question::Access {
            identity,
            resource,
            newest,
        } => accesses(
            keeper,
            (&identity, resource.as_deref(), newest),
            known,
            head,
        ),
        Question::Session { .. } | Question::Period { .. } => {
            asked::of_gateways(keeper, question, known, head)
        }
        Question::Lifetime { .. } | Question::Estate { .. } | Question::Verdict { .. } => {
            asked::of_server(keeper, question, head)
        }
    }
}

/// Records by their places, the sessions that they belong to, and what they rest on.
fn placed<K: Keeper>(
    keeper: &K,
    ledger: &str,
    places: RangeInclusive<u64>,
    question: impl FnOnce(String) -> Question,
    (anchored, head): (&[Gateway], Under),
) -> Result<Vec<u8>, K::Refusal> {
    let name = keeper.named(ledger)?;
    let server = name == keeper.ledger_key().origin().as_str();
    let gateway = anchored.iter().find(|row| row.origin == name);
    let size = match server {
        true => head.checkpoint.size,
        false => gateway.map_or(0, |row| row.size),
    };
    let last = *places.end();
    if last >= size {
        return Err(unknown(
            Finding::new("PACK-RECORD", "the ledger has no such record")
                .expected(format!("an index below {size}, the end of what is anchored"))
                .observed(format!("{}:{last}", if server { "server" } else { name.as_str() }))
                .next(
                    "`trilith ledger search` lists records; a gateway's are anchored within seconds",
                ),
        )
        .into());
    }
    let mut collector = Collector::new(keeper, &question(name), head)?;
    match gateway {
        Some(row) if !server => {
            let gateway = row.open(keeper)?;
            let belongs = belonging::before(&gateway.reader, &places)?;
            let places = places.chain(belongs).collect();
            collector.gateway(&gateway, &places)?;
        }
        _ => {
            for index in places {
                collector.own(index)?;
            }
        }
    }
    Ok(collector.build())
}

/// The issuance of an SVID.
fn issued<K: Keeper>(keeper: &K, serial: &str, head: Under) -> Result<Vec<u8>, K::Refusal> {
    let size = head.checkpoint.size;
    let question = Question::Issuance {
        serial: serial.to_owned(),
    };
    let whole = keeper.reader().pruned().is_none();
    let found = if size <= MOST_RECORDS && whole {
        let origin = keeper.ledger_key().origin().as_str();
        let mut answers = Answers::new(&question, keeper.trust_domain().as_str(), origin, true);
        walk(&keeper.reader(), size, |index, record| {
            answers.see(index, record);
        })?;
        answers.indices()
    } else {
        let index = match keeper.svid(serial) {
            Some(index) => Some(index),
            // Its record is sought: an issuance that has ended is in no state.
            None => issuance(&keeper.reader(), |issuance| issuance.serial == serial)?,
        };
        index.into_iter().filter(|index| *index < size).collect()
    };
    if found.is_empty() {
        nothing_gone(&keeper.reader())?;
        return Err(unknown_serial(serial).into());
    }
    let mut collector = Collector::new(keeper, &question, head)?;
    for index in found {
        collector.own(index)?;
    }
    collector.own_tiles()?;
    Ok(collector.build())
}

/// Refuses an identity that is not declared and was never issued: that it did nothing says nothing.
fn known<K: Keeper>(keeper: &K, path: &str, id: &str) -> Result<(), K::Refusal> {
    let declared = keeper.declared()?;
    let issued = |issuance: &Issuance| issuance.spiffe_id == id;
    // That a template could have an instance of this path does not make it one that is declared.
    let known = declared
        .iter()
        .any(|(declared, alone)| *alone && declared == path);
    if known || keeper.lives(id) || issuance(&keeper.reader(), issued)?.is_some() {
        return Ok(());
    }
    nothing_gone(&keeper.reader())?;
    let meant = estate::closest(path, declared.iter().map(|(declared, _)| declared.as_str()));
    let meant = meant.map(|closest| format!("did you mean `{closest}`?"));
    let refused =
        unknown(
            Finding::new(
                "PACK-IDENTITY-UNKNOWN",
                "no such identity is declared, and none was issued",
            )
            .expected("an identity of the estate in force, or one that was issued once")
            .observed(id.to_owned())
            .next(meant.unwrap_or_else(|| {
                "look it up in the estate: trilith estate export DIR".to_owned()
            })),
        );
    Err(refused.into())
}

fn unknown(finding: Finding) -> Unmade {
    Unmade::Unknown(Box::new(finding))
}

fn unknown_serial(serial: &str) -> Unmade {
    unknown(
        Finding::new("PACK-SERIAL", "no SVID of that serial was issued")
            .observed(serial.to_owned())
            .next("serials: trilith ledger search --ledger server --type issuance"),
    )
}

/// The sessions of an identity, what it did in them, and what became of that, in every gateway's ledger.
fn accesses<K: Keeper>(
    keeper: &K,
    (identity, resource, newest): (&str, Option<&str>, Option<u64>),
    known_before: Vec<Gateway>,
    head: Under,
) -> Result<Vec<u8>, K::Refusal> {
    let path = identity_path(keeper.trust_domain(), identity)?;
    let domain = keeper.trust_domain().as_str();
    let id = format!("spiffe://{domain}/{path}");
    let gateways = match head.checkpoint.size {
        0..=MOST_RECORDS => newest_anchors(&keeper.reader(), head.checkpoint.size)?,
        _ => known_before,
    };
    let ask = |newest| Question::Access {
        identity: id.clone(),
        resource: resource.map(str::to_owned),
        newest,
    };
    let most = newest.unwrap_or(MOST_ACCESSES).min(MOST_ACCESSES);
    let mut found = Vec::new();
    let (mut any, mut all) = (false, newest.is_none());
    for gateway in gateways {
        let gateway = gateway.open(keeper)?;
        let mut answers = Answers::new(&ask(Some(most)), domain, &gateway.origin, false);
        walk(&gateway.reader, gateway.size, |index, record| {
            answers.see(index, record);
        })?;
        any |= answers.total() > 0;
        all &= answers.total() <= most;
        found.push((gateway, answers.indices()));
    }
    if !any {
        known(keeper, &path, &id)?;
    }
    // Where nothing was left out the question does not say that something may have been.
    let question = ask((!all).then_some(most));
    let mut collector = Collector::new(keeper, &question, head)?;
    collector.own_tiles()?;
    for (gateway, indices) in &found {
        collector.gateway(gateway, indices)?;
        let number = collector.builder.checkpoint(&gateway.checkpoint);
        collector.tiles(number, gateway.size, &gateway.reader)?;
    }
    Ok(collector.build())
}

/// The newest anchor of each ledger among the first `size` records: exactly what who walks them finds. The
/// state may be a moment behind.
fn newest_anchors(reader: &Log, size: u64) -> Result<Vec<Gateway>, Unmade> {
    let mut newest = NewestAnchors::default();
    walk(reader, size, |index, record| {
        if let Ok(Some(anchor)) = Anchor::of(record) {
            let origin = anchor.origin.clone();
            newest.put(&origin, Gateway::of(index, anchor));
        }
    })?;
    Ok(newest.into_iter().map(|(_, gateway)| gateway).collect())
}

/// A gateway's ledger as the server's anchors it, whose mirror was not looked at yet.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The record that says so.
    pub anchor: u64,
    pub origin: String,
    /// SPKI.
    pub key: Base64,
    pub size: u64,
    /// The signed note.
    pub checkpoint: String,
}

impl Gateway {
    fn of(index: u64, anchor: Anchor) -> Self {
        Self {
            anchor: index,
            origin: anchor.origin,
            key: anchor.ledger_key,
            size: anchor.size.0,
            checkpoint: anchor.checkpoint,
        }
    }

    fn open<K: Keeper>(&self, keeper: &K) -> Result<Anchored, K::Refusal> {
        Ok(Anchored {
            anchor: self.anchor,
            origin: self.origin.clone(),
            size: self.size,
            checkpoint: self.checkpoint.clone(),
            reader: keeper.mirror(self)?,
        })
    }
}

/// Shows the first `size` records of a ledger in order, as far as they are left; one that cannot be read answers nothing.
fn walk(reader: &Log, size: u64, mut see: impl FnMut(u64, &Record)) -> Result<(), Unmade> {
    let mut index = 0;
    while index < size {
        index = reader.next_there(index);
        let end = size.min(index.saturating_add(BATCH));
        let records = reader.read(index..end)?;
        if records.is_empty() {
            return Err(Unmade::Unavailable(Box::new(
                Finding::new("PACK-MIRROR", "a ledger is not here up to its anchor")
                    .expected(format!("{size} records"))
                    .observed(format!("{index} records"))
                    .next("wait until the gateway is connected: its records are fetched again"),
            )));
        }
        for bytes in records {
            if let Ok(record) = Record::from_vec(bytes) {
                see(index, &record);
            }
            index += 1;
        }
    }
    Ok(())
}

/// Refuses where records are gone: what nothing answers that is left may have been answered by them.
fn nothing_gone(reader: &Log) -> Result<(), Unmade> {
    let Some(pruned) = reader.pruned() else {
        return Ok(());
    };
    let index = (1..pruned.minimum).find(|index| reader.next_there(*index) != *index);
    match index.map(|index| reader.read(index..index.saturating_add(1))) {
        Some(Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// The index of the first issuance that is `wanted`, of what is left.
fn issuance(reader: &Log, wanted: impl Fn(&Issuance) -> bool) -> Result<Option<u64>, Unmade> {
    let mut index = 0;
    loop {
        index = reader.next_there(index);
        let records = reader.read(index..index.saturating_add(BATCH))?;
        if records.is_empty() {
            return Ok(None);
        }
        for bytes in records {
            let issuance = Record::from_vec(bytes)
                .ok()
                .and_then(|record| record.expect_body::<Issuance>().ok());
            if issuance.is_some_and(|issuance| wanted(&issuance)) {
                return Ok(Some(index));
            }
            index += 1;
        }
    }
}

impl<'a, K: Keeper> Collector<'a, K> {
    /// Begins with the records by which whoever trusts a former key of the ledger learns the one that signed `head`.
    fn new(keeper: &'a K, question: &Question, head: Under) -> Result<Self, K::Refusal> {
        let mut collector = Self {
            keeper,
            builder: PackBuilder::new(question, &head.note),
            own: BTreeSet::new(),
            head,
            telling: Vec::new(),
            room: MOST_TILES,
        };
        for index in keeper.links() {
            collector.own(index)?;
        }
        collector.goes_on()?;
        Ok(collector)
    }

    /// The proofs that the head holds each tree that a link of the ledger names.
    fn goes_on(&mut self) -> Result<(), K::Refusal> {
        let (origin, size) = (&self.head.checkpoint.origin, self.head.checkpoint.size);
        for (end, _root) in self.keeper.ledger_key().goes_on_from(origin.as_str()) {
            if (1..size).contains(&end) {
                let proof = self.keeper.reader().consistency(end, size);
                self.builder.extends(0, end, &proof.map_err(Unmade::from)?);
            }
        }
        Ok(())
    }

    /// A record of the server's ledger and, through it, what it rests on. What the head does not reach is
    /// left out, and whoever verifies the pack is told.
    fn own(&mut self, index: u64) -> Result<(), K::Refusal> {
        let reader = self.keeper.reader();
        let size = self.head.checkpoint.size;
        let mut open = vec![index];
        while let Some(index) = open.pop() {
            if index >= size || !self.own.insert(index) {
                continue;
            }
            let record = reader.record(index).map_err(Unmade::from)?;
            let rests_on = grounds(&record).map_err(Unmade::from)?;
            let proof = reader.inclusion(index, size);
            // Whoever decides an issuance again needs the facts; who has erased them still has the records.
            let issuance = record.expect_body::<Issuance>().ok();
            if issuance.is_some() {
                self.tells(0, index, &record);
            }
            let opening = issuance.map(|issuance| HexDigest(issuance.commit.0.0));
            // A file that an erasure left behind is none that anybody is shown.
            let shown = opening.filter(|digest| self.keeper.erased(digest).is_none());
            if let Some(digest) = shown
                && let Some(content) = self.keeper.content(&digest)?
            {
                self.builder.blob(content);
            }
            // What is gone is shown by the record that says so, in its place.
            let named = opening.into_iter().chain(rests_on.blobs.iter().copied());
            let by = named.filter_map(|sha256| Some((sha256, self.keeper.erased(&sha256)?)));
            let by = by.filter(|(_, erasure)| *erasure > index);
            let gone: BTreeSet<HexDigest> = by
                .map(|(sha256, index)| {
                    open.push(index);
                    sha256
                })
                .collect();
            self.builder.receipt(&ledger::Receipt {
                record: record.into_bytes(),
                index,
                proof: proof.map_err(Unmade::from)?,
                checkpoint: self.head.note.to_string(),
            });
            for digest in rests_on.blobs {
                if gone.contains(&digest) {
                    continue;
                }
                if let Some(content) = self.keeper.needed(&digest)? {
                    self.builder.blob(content);
                }
            }
            open.extend(rests_on.records);
        }
        Ok(())
    }

    /// Records of a gateway under the checkpoint that is anchored, with the anchor.
    fn gateway(&mut self, gateway: &Anchored, indices: &BTreeSet<u64>) -> Result<(), K::Refusal> {
        self.own(gateway.anchor)?;
        // How whoever knows its first key learns the one that signed it.
        for index in self.keeper.gateway_links(&gateway.origin) {
            self.own(index)?;
        }
        self.builder.checkpoint(&gateway.checkpoint);
        for index in indices.iter().copied() {
            let reader = &gateway.reader;
            let record = reader.record(index).map_err(Unmade::from)?;
            let rests_on = grounds(&record).map_err(Unmade::from)?;
            if record.kind() == RecordType::SessionStart {
                self.tells(1, index, &record);
            }
            let proof = reader.inclusion(index, gateway.size);
            self.builder.receipt(&ledger::Receipt {
                record: record.into_bytes(),
                index,
                proof: proof.map_err(Unmade::from)?,
                checkpoint: gateway.checkpoint.clone(),
            });
            for named in rests_on.records {
                self.own(named)?;
            }
        }
        Ok(())
    }

    /// `checkpoint` is 0 for the server's ledger, and anything else for a gateway's.
    fn tells(&mut self, checkpoint: u64, index: u64, record: &Record) {
        if self.head.certificates {
            self.telling.push(PackRecord {
                checkpoint,
                index,
                record: record.clone(),
                answers: false,
            });
        }
    }

    /// The pack.
    fn build(mut self) -> Vec<u8> {
        for der in self.certificates() {
            self.builder.certificate(der);
        }
        self.builder.build()
    }

    /// Those that are kept of the newest issuances, as far as whoever trusts what the keeper does takes them:
    /// none whose root has ended, and none that is not what its record says. Of an opening that was erased there is none.
    fn certificates(&self) -> Vec<Vec<u8>> {
        let keeper = self.keeper;
        let of_server = self.telling.iter().filter(|item| item.checkpoint == 0);
        let issuances = of_server.filter_map(|item| {
            let issuance: Issuance = item.record.expect_body().ok()?;
            let erased = keeper.is_erased(&HexDigest(issuance.commit.0.0));
            (issuance.kind == body::SvidKind::X509 && !erased).then_some((item.index, issuance))
        });
        let mut wanted: Vec<(u64, Issuance)> = issuances.collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        wanted.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        wanted.truncate(MOST_CERTIFICATES);
        let trust = Trust {
            trust_domain: keeper.trust_domain().to_string(),
            ledger_key: keeper.ledger_key().clone(),
            x509_authorities: keeper.roots(),
            policy: None,
        };
        let chains = keeper.certificates(&wanted);
        fitting(&chains, &self.telling, &trust)
    }

    fn own_tiles(&mut self) -> Result<(), K::Refusal> {
        let size = self.head.checkpoint.size;
        let reader = self.keeper.reader();
        self.tiles(0, size, &reader)
    }

    /// Every tile and entry bundle of a ledger, if they are few enough: all or none.
    fn tiles(&mut self, number: u64, size: u64, reader: &Log) -> Result<(), K::Refusal> {
        if size > MOST_RECORDS || reader.pruned().is_some() {
            return Ok(());
        }
        let mut tiles = Vec::new();
        let mut room = self.room;
        let levels = (0..).map(Kind::Hashes);
        let levels = levels.take_while(|kind| TilePath::at(*kind, 0, size).is_some());
        for path in levels
            .chain([Kind::Entries])
            .flat_map(|kind| TilePath::all(kind, size))
        {
            let Some(content) = reader.tile(&path).map_err(Unmade::from)? else {
                return Ok(());
            };
            let Some(left) = room.checked_sub(content.len()) else {
                return Ok(());
            };
            room = left;
            tiles.push((path, content));
        }
        self.room = room;
        for (path, content) in tiles {
            self.builder.tile(number, path, content);
        }
        Ok(())
    }
}
