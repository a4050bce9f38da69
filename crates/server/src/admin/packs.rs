//! Packs: a question with every record, proof and input that its answer rests on.

mod asked;
mod belonging;

use super::estates::blob;
use super::records::sources;
use crate::core::Core;
use crate::mirrors;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::body::{self, Anchor};
use ledger::pack::{Answers, PackBuilder, PackRecord, Question, Trust, grounds};
use ledger::tile::{Kind, TilePath};
use ledger::{Base64, Checkpoint, Digest, HexDigest, Record, RecordType};
use ledger_store::{Head, Reader};
use proto::v1::Chunk;
use spiffe_core::recorded::fitting;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

const CHUNK: usize = 64 * 1024;
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
/// Witnesses have so long to look at what a pack is to show.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked. Whatever is none is refused before anything is recorded of it.
pub(super) fn question(text: &str) -> Result<Question, Refusal> {
    Question::read(text.as_bytes()).ok_or_else(|| {
        Refusal::Invalid(
            Finding::new("PACK-QUESTION", "this is no question that a pack answers")
                .expected(
                    "a document whose kind is access, record, issuance, session, lifetime, range, \
                     period, estate or verdict, with the fields of that kind and no other",
                )
                .next("docs/reference/cli.md says how `trilith pack` asks each"),
        )
    })
}

/// With the certificates that are kept, if `certificates` is true.
pub(super) async fn build(
    core: &Arc<Core>,
    asked: Question,
    certificates: bool,
) -> Result<Vec<Chunk>, Refusal> {
    // Gateways first, then the head: every anchor of these stands below it.
    let known = rows(core);
    let head = Under {
        head: head(core).await,
        certificates,
    };
    let core = Arc::clone(core);
    let pack = tokio::task::spawn_blocking(move || collect(&core, asked, known, head))
        .await
        .map_err(|error| Refusal::internal("making a pack", &error))??;
    Ok(pack
        .chunks(CHUNK)
        .map(|data| Chunk {
            data: data.to_vec(),
        })
        .collect())
}

/// What a pack is made under, and whether it has certificates.
struct Under {
    head: Arc<Head>,
    certificates: bool,
}

impl Deref for Under {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

/// What the pack is made under: the newest checkpoint as its witnesses cosigned it. Where they are not done in time
/// it is the newest all the same, and whoever verifies the pack is told that too few have seen it.
async fn head(core: &Core) -> Arc<Head> {
    let Some(witnesses) = &core.witnesses else {
        return core.journal.reader().head();
    };
    let published = core.hub.published().size;
    match witnesses.covering(published, PATIENCE).await {
        Some(witnessed) => Arc::new(Head {
            checkpoint: Checkpoint {
                origin: core.ledger_key.origin().clone(),
                size: witnessed.size,
                root: witnessed.root,
            },
            note: Arc::clone(&witnessed.note),
        }),
        None => core.journal.reader().head(),
    }
}

/// The pack under construction; what it needs is added once.
struct Collector<'a> {
    core: &'a Core,
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
    reader: Reader,
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal::internal("making a pack", error)
}

fn collect(
    core: &Core,
    question: Question,
    known: Vec<Unopened>,
    head: Under,
) -> Result<Vec<u8>, Refusal> {
    match question {
        Question::Record { ledger, index } => {
            let question = |ledger| Question::Record { ledger, index };
            placed(core, &ledger, index..=index, question, (&known, head))
        }
        Question::Range { ledger, from, to } => {
            let question = |ledger| Question::Range { ledger, from, to };
            placed(core, &ledger, from..=to, question, (&known, head))
        }
        Question::Issuance { serial } => issued(core, &serial, head),
        Question::Access {
            identity,
            resource,
            newest,
        } => accesses(core, (&identity, resource.as_deref(), newest), known, head),
        Question::Session { .. } | Question::Period { .. } => {
            asked::of_gateways(core, question, known, head)
        }
        Question::Lifetime { .. } | Question::Estate { .. } | Question::Verdict { .. } => {
            asked::of_server(core, question, head)
        }
    }
}

/// Records by their places, the sessions that they belong to, and what they rest on.
fn placed(
    core: &Core,
    ledger: &str,
    places: RangeInclusive<u64>,
    question: impl FnOnce(String) -> Question,
    (anchored, head): (&[Unopened], Under),
) -> Result<Vec<u8>, Refusal> {
    let source = sources(core, ledger)?.into_iter().next();
    let name = source.map_or_else(String::new, |source| source.name);
    let server = name == super::records::SERVER;
    let gateway = anchored.iter().find(|row| row.origin == name);
    let size = match server {
        true => head.checkpoint.size,
        false => gateway.map_or(0, |row| row.size),
    };
    let last = *places.end();
    if last >= size {
        return Err(Refusal::Unknown(
            Finding::new("PACK-RECORD", "the ledger has no such record")
                .expected(format!("an index below {size}, the end of what is anchored"))
                .observed(format!("{name}:{last}"))
                .next(
                    "`trilith ledger search` lists records; a gateway's are anchored within seconds",
                ),
        ));
    }
    let ledger = match server {
        true => core.ledger_key.origin().to_string(),
        false => name,
    };
    let mut collector = Collector::new(core, &question(ledger), head)?;
    match gateway {
        Some(row) if !server => {
            let gateway = row.open(core)?;
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
fn issued(core: &Core, serial: &str, head: Under) -> Result<Vec<u8>, Refusal> {
    let size = head.checkpoint.size;
    let question = Question::Issuance {
        serial: serial.to_owned(),
    };
    let whole = core.journal.reader().pruned().is_none();
    let found = if size <= MOST_RECORDS && whole {
        let origin = core.ledger_key.origin().as_str();
        let mut answers = Answers::new(&question, core.trust_domain.as_str(), origin, true);
        walk(core.journal.reader(), size, |index, record| {
            answers.see(index, record);
        })?;
        answers.indices()
    } else {
        let index = core.state().svid(serial).map(|svid| svid.index);
        let index = match index {
            Some(index) => Some(index),
            // An issuance that has ended is no longer in the state: its record is sought.
            None => issuance(core, |issuance| issuance.serial == serial)?,
        };
        index.into_iter().filter(|index| *index < size).collect()
    };
    if found.is_empty() {
        nothing_gone(core.journal.reader())?;
        return Err(unknown_serial(serial));
    }
    let mut collector = Collector::new(core, &question, head)?;
    for index in found {
        collector.own(index)?;
    }
    collector.own_tiles()?;
    Ok(collector.build())
}

/// Refuses an identity that is not declared and was never issued: that it did nothing says nothing.
fn known(core: &Core, path: &str, id: &str) -> Result<(), Refusal> {
    let current = core.current.load_full();
    let issued = |issuance: &body::Issuance| issuance.spiffe_id == id;
    let known = current
        .as_ref()
        // That a template could have an instance of this path does not make it one that is declared.
        .and_then(|current| current.estate.identity(path))
        .is_some_and(|identity| !identity.is_template());
    let lives = core.state().svids_of(id).next().is_some();
    if known || lives || issuance(core, issued)?.is_some() {
        return Ok(());
    }
    nothing_gone(core.journal.reader())?;
    let declared = current
        .iter()
        .flat_map(|current| current.estate.identities());
    let declared: Vec<&str> = declared.map(|identity| identity.path.as_str()).collect();
    let meant = super::acts::did_you_mean(path, declared);
    Err(Refusal::Unknown(
        Finding::new(
            "PACK-IDENTITY-UNKNOWN",
            "no such identity is declared, and none was issued",
        )
        .expected("an identity of the estate in force, or one that was issued once")
        .observed(id.to_owned())
        .next(
            meant.unwrap_or_else(|| {
                "look it up in the estate: trilith estate export DIR".to_owned()
            }),
        ),
    ))
}

fn unknown_serial(serial: &str) -> Refusal {
    Refusal::Unknown(
        Finding::new("PACK-SERIAL", "no SVID of that serial was issued")
            .observed(serial.to_owned())
            .next("serials: trilith ledger search --ledger server --type issuance"),
    )
}

/// The sessions of an identity, what it did in them, and what became of that, in every gateway's ledger.
fn accesses(
    core: &Core,
    (identity, resource, newest): (&str, Option<&str>, Option<u64>),
    known_before: Vec<Unopened>,
    head: Under,
) -> Result<Vec<u8>, Refusal> {
    let path = super::acts::identity_path(core, identity)?;
    let domain = core.trust_domain.as_str();
    let id = format!("spiffe://{domain}/{path}");
    let gateways = match head.checkpoint.size {
        0..=MOST_RECORDS => newest_anchors(core, head.checkpoint.size)?,
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
        let gateway = gateway.open(core)?;
        let mut answers = Answers::new(&ask(Some(most)), domain, &gateway.origin, false);
        walk(&gateway.reader, gateway.size, |index, record| {
            answers.see(index, record);
        })?;
        any |= answers.total() > 0;
        all &= answers.total() <= most;
        found.push((gateway, answers.indices()));
    }
    if !any {
        known(core, &path, &id)?;
    }
    // Where nothing was left out the question does not say that something may have been.
    let question = ask((!all).then_some(most));
    let mut collector = Collector::new(core, &question, head)?;
    collector.own_tiles()?;
    for (gateway, indices) in &found {
        collector.gateway(gateway, indices)?;
        let number = collector.builder.checkpoint(&gateway.checkpoint);
        collector.tiles(number, gateway.size, &gateway.reader)?;
    }
    Ok(collector.build())
}

/// What the state knows to be anchored.
fn rows(core: &Core) -> Vec<Unopened> {
    let state = core.state();
    let rows = state.gateways().map(|row| Unopened {
        anchor: row.anchor,
        origin: row.origin.clone(),
        key: row.ledger_key.parse().unwrap_or_default(),
        size: row.size,
        checkpoint: row.checkpoint.clone(),
    });
    rows.collect()
}

/// The newest anchor of each ledger among the first `size` records: exactly what who walks them finds. The
/// state may be a moment behind.
fn newest_anchors(core: &Core, size: u64) -> Result<Vec<Unopened>, Refusal> {
    let mut newest = BTreeMap::new();
    walk(core.journal.reader(), size, |index, record| {
        if let Ok(anchor) = record.expect_body::<Anchor>() {
            let unopened = Unopened {
                anchor: index,
                origin: anchor.origin,
                key: anchor.ledger_key,
                size: anchor.size.0,
                checkpoint: anchor.checkpoint,
            };
            // The newest log of it, where it went on as one.
            newest.insert(ledger::line(&unopened.origin).to_owned(), unopened);
        }
    })?;
    Ok(newest.into_values().collect())
}

/// An anchored ledger whose mirror was not looked at yet.
struct Unopened {
    anchor: u64,
    origin: String,
    key: Base64,
    size: u64,
    checkpoint: String,
}

impl Unopened {
    fn open(&self, core: &Core) -> Result<Anchored, Refusal> {
        let key = mirrors::ledger_key(&self.origin, &self.key.0)?;
        let known = mirrors::known_key(core, &self.origin, || Ok(key.clone()))?;
        let kept = core.mirrors.open(&known)?;
        kept.named();
        let head = Checkpoint::open(&self.checkpoint, &key)
            .map_err(|error| Refusal::internal("reading an anchor", &error))?;
        kept.reaches(&self.origin, self.size, &Digest(head.root).to_string())?;
        Ok(Anchored {
            anchor: self.anchor,
            origin: self.origin.clone(),
            size: self.size,
            checkpoint: self.checkpoint.clone(),
            reader: kept.reader().clone(),
        })
    }
}

/// Shows the first `size` records of a ledger in order, as far as they are left; one that cannot be read answers nothing.
fn walk(reader: &Reader, size: u64, mut see: impl FnMut(u64, &Record)) -> Result<(), Refusal> {
    let mut index = 0;
    while index < size {
        index = reader.next_there(index);
        let end = size.min(index.saturating_add(BATCH));
        let records = reader.read(index..end).map_err(|error| failed(&error))?;
        if records.is_empty() {
            return Err(Refusal::Unavailable(
                Finding::new("PACK-MIRROR", "a ledger is not here up to its anchor")
                    .expected(format!("{size} records"))
                    .observed(format!("{index} records"))
                    .next("wait until the gateway is connected: its records are fetched again"),
            ));
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
fn nothing_gone(reader: &Reader) -> Result<(), Refusal> {
    let Some(pruned) = reader.pruned() else {
        return Ok(());
    };
    let index = (1..pruned.minimum).find(|index| reader.next_there(*index) != *index);
    match index.map(|index| reader.read(index..index.saturating_add(1))) {
        Some(Err(error)) => Err(failed(&error)),
        _ => Ok(()),
    }
}

/// The index of the first issuance that is `wanted`, of what is left.
fn issuance(core: &Core, wanted: impl Fn(&body::Issuance) -> bool) -> Result<Option<u64>, Refusal> {
    let reader = core.journal.reader();
    let mut index = 0;
    loop {
        index = reader.next_there(index);
        let records = reader
            .read(index..index + 4_096)
            .map_err(|error| failed(&error))?;
        if records.is_empty() {
            return Ok(None);
        }
        for bytes in records {
            let issuance = Record::from_vec(bytes)
                .ok()
                .and_then(|record| record.expect_body::<body::Issuance>().ok());
            if issuance.is_some_and(|issuance| wanted(&issuance)) {
                return Ok(Some(index));
            }
            index += 1;
        }
    }
}

impl<'a> Collector<'a> {
    /// Begins with the records by which whoever trusts a former key of the ledger learns the one that signed `head`.
    fn new(core: &'a Core, question: &Question, head: Under) -> Result<Self, Refusal> {
        let mut collector = Self {
            core,
            builder: PackBuilder::new(question, &head.note),
            own: BTreeSet::new(),
            head,
            telling: Vec::new(),
            room: MOST_TILES,
        };
        let links = core.state().links();
        for index in links {
            collector.own(index)?;
        }
        collector.goes_on()?;
        Ok(collector)
    }

    /// The proofs that the head holds each tree that a link of the ledger names.
    fn goes_on(&mut self) -> Result<(), Refusal> {
        let (origin, size) = (&self.head.checkpoint.origin, self.head.checkpoint.size);
        for (end, _root) in self.core.ledger_key.goes_on_from(origin.as_str()) {
            if (1..size).contains(&end) {
                let proof = self.core.journal.reader().consistency(end, size);
                self.builder
                    .extends(0, end, &proof.map_err(|error| failed(&error))?);
            }
        }
        Ok(())
    }

    /// A record of the server's ledger and, through it, what it rests on. What the head does not reach is
    /// left out, and whoever verifies the pack is told.
    fn own(&mut self, index: u64) -> Result<(), Refusal> {
        let reader = self.core.journal.reader();
        let size = self.head.checkpoint.size;
        let mut open = vec![index];
        while let Some(index) = open.pop() {
            if index >= size || !self.own.insert(index) {
                continue;
            }
            let record = reader.record(index).map_err(|error| failed(&error))?;
            let rests_on = grounds(&record).map_err(|error| failed(&error))?;
            let proof = reader.inclusion(index, size);
            // Whoever decides an issuance again needs the facts; who has erased them still has the records.
            let issuance = record.expect_body::<body::Issuance>().ok();
            if issuance.is_some() {
                self.tells(0, index, &record);
            }
            let opening = issuance.map(|issuance| HexDigest(issuance.commit.0.0));
            // A file that an erasure left behind is none that anybody is shown.
            let shown = opening.filter(|digest| self.core.state().erased(digest).is_none());
            if let Some(digest) = shown
                && let Some(content) = self
                    .core
                    .blobs
                    .get(&digest)
                    .map_err(|error| failed(&error))?
            {
                self.builder.blob(content);
            }
            // What is gone is shown by the record that says so, in its place.
            let named = opening.into_iter().chain(rests_on.blobs.iter().copied());
            let gone: BTreeSet<HexDigest> = {
                let state = self.core.state();
                let by = named.filter_map(|sha256| Some((sha256, state.erased(&sha256)?)));
                let by = by.filter(|(_, erasure)| *erasure > index);
                by.map(|(sha256, index)| {
                    open.push(index);
                    sha256
                })
                .collect()
            };
            self.builder.receipt(&ledger::Receipt {
                record: record.into_bytes(),
                index,
                proof: proof.map_err(|error| failed(&error))?,
                checkpoint: self.head.note.to_string(),
            });
            for digest in rests_on.blobs {
                if gone.contains(&digest) {
                    continue;
                }
                let content = blob(self.core, &digest.to_string())?;
                self.builder.blob(content);
            }
            open.extend(rests_on.records);
        }
        Ok(())
    }

    /// Records of a gateway under the checkpoint that is anchored, with the anchor.
    fn gateway(&mut self, gateway: &Anchored, indices: &BTreeSet<u64>) -> Result<(), Refusal> {
        self.own(gateway.anchor)?;
        // How whoever knows its first key learns the one that signed it.
        let links = self.core.state().gateway_links(&gateway.origin);
        for (index, _link) in links {
            self.own(index)?;
        }
        self.builder.checkpoint(&gateway.checkpoint);
        for index in indices.iter().copied() {
            let reader = &gateway.reader;
            let record = reader.record(index).map_err(|error| failed(&error))?;
            let rests_on = grounds(&record).map_err(|error| failed(&error))?;
            if record.kind() == RecordType::SessionStart {
                self.tells(1, index, &record);
            }
            let proof = reader.inclusion(index, gateway.size);
            self.builder.receipt(&ledger::Receipt {
                record: record.into_bytes(),
                index,
                proof: proof.map_err(|error| failed(&error))?,
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

    /// Those that are kept of the newest issuances, as far as whoever trusts what this server says to trust takes them:
    /// none whose root has ended, and none that is not what its record says. Of an opening that was erased there is none.
    fn certificates(&self) -> Vec<Vec<u8>> {
        let core = self.core;
        let of_server = self.telling.iter().filter(|item| item.checkpoint == 0);
        let issuances = of_server.filter_map(|item| {
            let issuance: body::Issuance = item.record.expect_body().ok()?;
            let erased = core.is_erased(&HexDigest(issuance.commit.0.0));
            (issuance.kind == body::SvidKind::X509 && !erased).then_some((item.index, issuance))
        });
        let mut wanted: Vec<(u64, body::Issuance)> = issuances.collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        wanted.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        wanted.truncate(MOST_CERTIFICATES);
        let trust = Trust {
            trust_domain: core.trust_domain.to_string(),
            ledger_key: core.ledger_key.clone(),
            x509_authorities: core.authority.roots(),
            policy: None,
        };
        let chains = core.certificates.find(core.journal.reader(), &wanted);
        fitting(&chains, &self.telling, &trust)
    }

    fn own_tiles(&mut self) -> Result<(), Refusal> {
        let size = self.head.checkpoint.size;
        self.tiles(0, size, self.core.journal.reader())
    }

    /// Every tile and entry bundle of a ledger, if they are few enough: all or none.
    fn tiles(&mut self, number: u64, size: u64, reader: &Reader) -> Result<(), Refusal> {
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
            let Some(content) = reader.tile(&path).map_err(|error| failed(&error))? else {
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
