//! Packs from a copy: the folder of a server's data, or of its ledger, that somebody keeps. They are made without a
//! server, and of records that the server has pruned.
//!
//! Nothing in the folder is believed. INVARIANT: before anything is made of it, every record of the server's ledger is
//! read and leads to a head that the key of the trust file signed; and every record of a gateway's ledger that is looked
//! at, to what that ledger anchors.

use super::log::{note, unverified};
use super::{Gateway, Keeper, Log, Tiles, Under, Unmade, make};
use crate::Error;
use crate::certificates::{self, FOLDER};
use crate::site::{Site, Source, WITNESSED};
use crate::verify::is_root_of;
use estate::{Estate, EstateFiles};
use facts::Finding;
use ledger::body::{Anchor, Erasure, EstateVersion, Issuance, KeyRotation};
use ledger::lineage::{self, Link};
use ledger::pack::{Question, Trust, contents};
use ledger::{
    Checkpoint, Code as _, HexDigest, LedgerKey, NewestAnchors, Note, Record, RecordType,
};
use ledger_store::{Head, Pruned, StoreError};
use spiffe_core::TrustDomain;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A copy of a server's ledger, which was read as a whole, with what is beside it.
pub struct Copied {
    folders: Folders,
    /// The server's.
    log: Log,
    /// What packs are made under: the newest checkpoint that witnesses have cosigned, as the copy has it, for whoever asks
    /// for witnesses, else the ledger's head. It has no lines that the trust file does not know.
    head: Arc<Head>,
    domain: TrustDomain,
    /// The trust file's, with what the copy's links add.
    key: LedgerKey,
    roots: Vec<Vec<u8>>,
    certificates: Vec<PathBuf>,
    read: Read,
    notes: Vec<String>,
}

/// A log of the server's ledger, its head, and what of it witnesses have cosigned.
type Server = (Log, Head, Option<Head>);

/// What was named.
struct Folders {
    /// Data directories and folders of ledgers.
    site: Option<Site>,
    /// The server's ledger in each of these, in order.
    servers: Vec<Server>,
    tiles: Vec<Arc<Tiles>>,
}

/// What the records of the server's ledger say that packs need.
#[derive(Default)]
struct Read {
    links: Vec<u64>,
    rotations: Vec<KeyRotation>,
    /// By the first log of the gateway's ledger.
    gateway_links: BTreeMap<String, Vec<u64>>,
    gateways: NewestAnchors<Gateway>,
    erased: BTreeMap<HexDigest, u64>,
    /// The content of the estate in force.
    estate: Option<HexDigest>,
}

impl Copied {
    /// What is in `folders`: the `data_dir` of a server or a copy of it, the folder of its ledger alone, or one of its
    /// tiles; those of gateways beside it. Nothing is written there.
    ///
    /// # Errors
    /// `PACK-COPY-OLD` where it ends before records that are gone from another of the folders,
    /// `PACK-COPY-SHORT` where the ledger ends before a checkpoint that lies beside it, `PACK-COPY-FOREIGN` where its head
    /// is none of the ledger that `trust` names, `RECORDS-LEDGER-ROOT` where its records are not those of that head, and
    /// `RECORDS-PRUNED` where some are gone.
    pub fn open(folders: &[PathBuf], trust: &Trust) -> Result<Self, Error> {
        let domain =
            TrustDomain::new(&trust.trust_domain).map_err(|error| foreign(trust, &error))?;
        let beside = folders.iter().map(|folder| folder.join(FOLDER));
        let certificates = beside.filter(|folder| folder.is_dir()).collect();
        let mut folders = Folders::open(folders)?;
        let ((log, newest, witnessed), others) = folders.server()?;
        let cosigned = witnessed.filter(|witnessed| {
            trust.policy.is_some() && witnessed.checkpoint.origin == newest.checkpoint.origin
        });
        let head = cosigned.unwrap_or_else(|| newest.clone());
        log.pruned().map_or(Ok(()), |pruned| Err(gone(pruned)))?;
        let mut read = Read::default();
        let root = log.each(newest.checkpoint.size, |index, bytes| {
            if let Ok(record) = Record::parse(bytes) {
                read.take(index, &record, head.checkpoint.size);
            }
            Ok(())
        })?;
        is_root_of(&newest.checkpoint, &root)?;
        let size = newest.checkpoint.size;
        let site = folders.site.as_mut();
        let mut notes = site.map_or_else(Vec::new, |site| std::mem::take(&mut site.notes));
        for (longer, head, _) in others
            .iter()
            .filter(|(_, head, _)| head.checkpoint.size > size)
        {
            read.gone_since(longer, size..head.checkpoint.size)?;
            notes.push(format!(
                "the server's ledger is here whole up to {size} records, and packs are made of those; another of the \
                 folders has {}, and what these say to be erased since is in no pack",
                head.checkpoint.size
            ));
        }
        let key = lineage::follow(&trust.ledger_key, &read.rotations)
            .map_err(|error| foreign(trust, &error))?;
        Checkpoint::open_shown(&newest.note, &key).map_err(|error| foreign(trust, &error))?;
        Ok(Self {
            folders,
            log,
            head: Arc::new(Head {
                note: read_by(trust, &key, &head.note).into(),
                checkpoint: head.checkpoint,
            }),
            domain,
            key,
            roots: trust.x509_authorities.clone(),
            certificates,
            read,
            notes,
        })
    }

    /// The pack that answers `question`, with the certificates that the copy has if `certificates` is true. It is for its
    /// reader to verify.
    pub fn pack(&self, question: Question, certificates: bool) -> Result<Vec<u8>, Error> {
        let gateways = self.read.gateways.iter();
        let gateways = gateways.map(|(_line, gateway)| gateway.clone()).collect();
        let under = Under {
            head: Arc::clone(&self.head),
            certificates,
        };
        make(self, question, gateways, under)
    }

    /// What is not as it may be expected, for people.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Folders {
    /// All that were named, in which no ledger ends before a checkpoint of it that lies beside it.
    fn open(folders: &[PathBuf]) -> Result<Self, Error> {
        let (mut site, mut servers, mut tiles): (Option<Site>, _, _) =
            (None, Vec::new(), Vec::new());
        for folder in folders {
            // First the checkpoint: a server that runs goes on meanwhile.
            let beside = checkpoint(&folder.join(WITNESSED));
            let one = match Site::unindexed(folder) {
                Ok(one) => one,
                Err(Error::NoLedger(_)) => {
                    tiles.push(Tiles::open(folder)?.ok_or_else(|| none_in(folder))?);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(server) = one.server() {
                beside.map_or(Ok(()), |beside| reaches(server, &beside))?;
                let log = Log::from(server.reader());
                servers.push((log, server.head().clone(), server.witnessed().cloned()));
            }
            match &mut site {
                None => site = Some(one),
                Some(site) => site.join(one)?,
            }
        }
        Ok(Self {
            site,
            servers,
            tiles,
        })
    }

    /// The server's ledger: the log of which nothing was pruned, and else the longest; and the others.
    fn server(&self) -> Result<(Server, Vec<Server>), Error> {
        let is_server = |tiles: &&Arc<Tiles>| {
            let origin = &tiles.head().checkpoint.origin;
            origin.kind() == ledger::LedgerKind::Server
        };
        let of_tiles = self.tiles.iter().filter(is_server).map(|tiles| {
            let log = Log::Tiles(Arc::clone(tiles));
            // A mirror's checkpoint has the lines of its witnesses.
            (log, tiles.head().clone(), Some(tiles.head().clone()))
        });
        // Of those alike the last one is taken: what was named first, and tiles.
        let named = self.servers.iter().rev().cloned();
        let mut found: Vec<Server> = named.chain(of_tiles).collect();
        one_history(&found)?;
        let best = found
            .iter()
            .enumerate()
            .max_by_key(|(_, (log, head, _))| (log.pruned().is_none(), head.checkpoint.size));
        let best = best.map(|(at, _)| at).ok_or_else(|| {
            Finding::new(
                "RECORDS-NEEDS-SERVER",
                "a pack rests on the server's ledger",
            )
            .expected("the server's data_dir, its ledger or the tiles of it among the folders")
            .next("name it as well: --folder SERVER,GATEWAY")
        })?;
        let server = found.swap_remove(best);
        Ok((server, found))
    }

    /// The ledgers of this line, as they are here.
    fn called(&self, line: &str) -> Vec<Log> {
        let of_line = |origin: &ledger::Origin| ledger::line(origin.as_str()) == line;
        let sources = self.site.iter().flat_map(Site::sources);
        let sources = sources.filter(|source| of_line(&source.head().checkpoint.origin));
        let tiles = self.tiles.iter();
        let tiles = tiles.filter(|tiles| of_line(&tiles.head().checkpoint.origin));
        sources
            .map(|source| Log::from(source.reader()))
            .chain(tiles.map(|tiles| Log::Tiles(Arc::clone(tiles))))
            .collect()
    }

    fn content(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Error> {
        self.site
            .as_ref()
            .map_or(Ok(None), |site| site.blob(sha256))
    }
}

/// Why a folder has nothing that packs are made of.
fn none_in(folder: &Path) -> Error {
    if !folder.join("tile").is_dir() {
        return Error::NoLedger(folder.to_owned());
    }
    Error::refused(
        Finding::new(
            "PACK-COPY-CHECKPOINT",
            "the folder has tiles, and no checkpoint that says of what and how many",
        )
        .expected("the file `checkpoint` beside `tile`, or a mirror's `state`")
        .observed(folder.display().to_string())
        .next("put it there: whoever serves the tiles serves `checkpoint` beside them"),
    )
}

/// Records are gone from the best of what was named.
fn gone(pruned: Pruned) -> Error {
    Error::refused(
        Finding::new(
            "RECORDS-PRUNED",
            "this needs records of the server's ledger that are gone from every folder that was named",
        )
        .observed(format!(
            "records 1 to {} were pruned by record {}",
            pruned.minimum.saturating_sub(1),
            pruned.record
        ))
        .next(
            "name a copy of before the pruning, or the tiles of a mirror, as well: --folder SERVER,COPY; the `retention` \
             record says in `policy` who has one (trilith ledger search --type retention)",
        ),
    )
}

/// Refuses two histories of the server's ledger.
fn one_history(found: &[Server]) -> Result<(), Error> {
    let Some(((first, head, _), others)) = found.split_first() else {
        return Ok(());
    };
    for (other, theirs, _) in others {
        let shared = head.checkpoint.size.min(theirs.checkpoint.size);
        if first.root(shared)? != other.root(shared)? {
            return Err(Error::refused(
                Finding::new("RECORDS-TWO", "two of the folders have the server's ledger, and not of one history")
                    .observed(format!("others among the first {shared} records"))
                    .next("ask them one by one; if they should be one, keep both: one of them proves that the other is false"),
            ));
        }
    }
    Ok(())
}

/// The note with the lines alone that whoever has `trust` reads: the ledger's, and those of his witnesses.
fn read_by(trust: &Trust, key: &LedgerKey, note: &str) -> String {
    let Ok(mut note) = Note::parse(note) else {
        return note.to_owned();
    };
    let text = note.text.clone();
    note.signatures.retain(|line| {
        let own = line.name == key.origin().as_str() && line.id == key.id();
        let alone = Note {
            text: text.clone(),
            signatures: vec![line.clone()],
        };
        let policy = trust.policy.as_ref();
        let of_witness = policy.and_then(|policy| policy.judge(&alone).ok());
        own || of_witness.is_some_and(|quorum| !quorum.cosignatures.is_empty())
    });
    note.to_string()
}

/// What a file says that has a checkpoint; nobody has vouched for it.
fn checkpoint(path: &Path) -> Option<Checkpoint> {
    unverified(&note(path)?)
}

fn reaches(server: &Source, beside: &Checkpoint) -> Result<(), Error> {
    let (theirs, ours) = (&beside.origin, &server.head().checkpoint.origin);
    let same = ledger::line(theirs.as_str()) == ledger::line(ours.as_str());
    if !same || beside.size <= server.size() {
        return Ok(());
    }
    Err(Error::Lied(Box::new(
        Finding::new(
            "PACK-COPY-SHORT",
            "the copy ends before a checkpoint of its ledger that lies beside it",
        )
        .expected(format!("{} records, as the file {WITNESSED} has them", beside.size))
        .observed(format!("{} records", server.size()))
        .next("take another copy, and keep this one: its end was lost, or taken away. A copy is made while the server stands"),
    )))
}

fn old(size: u64, minimum: u64) -> Error {
    Error::refused(
        Finding::new(
            "PACK-COPY-OLD",
            "the copy ends before records that are gone from another of the folders: what those erased nobody can tell",
        )
        .expected(format!("{minimum} records: those before are gone there"))
        .observed(format!("{size} records"))
        .next("name a newer copy beside it, such as the one that was pruned with; or this one alone"),
    )
}

fn foreign(trust: &Trust, error: &dyn std::error::Error) -> Error {
    Error::Lied(Box::new(
        Finding::new(
            "PACK-COPY-FOREIGN",
            "the copy's head is none of the ledger that the trust file names",
        )
        .expected(format!("a head that {} signed", trust.ledger_key))
        .observed(facts::with_causes(error))
        .next("name a copy of that ledger, or the trust file of the server whose copy this is; for a copy from before a new log, the trust file of its time"),
    ))
}

impl Read {
    /// `head`: the size under which packs are made. What was erased later is gone all the same.
    fn take(&mut self, index: u64, record: &Record, head: u64) {
        match record.kind() {
            RecordType::KeyRotation => self.rotation(index, record),
            RecordType::Anchor if index < head => {
                if let Ok(Some(anchor)) = Anchor::of(record) {
                    let origin = anchor.origin.clone();
                    self.gateways.put(&origin, Gateway::of(index, anchor));
                }
            }
            RecordType::EstateVersion if index < head => {
                let version = record.expect_body::<EstateVersion>().ok();
                self.estate = version.map(|version| version.blob.sha256).or(self.estate);
            }
            RecordType::Erasure => {
                if let Ok(erasure) = record.expect_body::<Erasure>() {
                    let gone = erasure.erased.iter().map(|item| (item.sha256, index));
                    self.erased.extend(gone);
                }
            }
            // What these name was kept anew for them.
            RecordType::Bundle
            | RecordType::Verdict
            | RecordType::Proof
            | RecordType::InvariantApproval
            | RecordType::Misbehaviour
            | RecordType::Snapshot
                if !self.erased.is_empty() =>
            {
                for sha256 in contents(record).unwrap_or_default() {
                    self.erased.remove(&sha256);
                }
            }
            _ => {}
        }
    }

    /// What records of `range` say to be gone, of a log that goes on where this one ends. INVARIANT: nothing but that is
    /// taken from them, since nobody compares them with a head: whoever made them up has something left out, and the
    /// reader of the pack is told that it lacks.
    fn gone_since(&mut self, log: &Log, range: Range<u64>) -> Result<(), Error> {
        let pruned = log.pruned().map(|pruned| pruned.minimum);
        if let Some(minimum) = pruned.filter(|minimum| *minimum > range.start) {
            return Err(old(range.start, minimum));
        }
        let (mut later, mut index) = (Self::default(), range.start);
        while index < range.end {
            let records = log.read(index..range.end)?;
            if records.is_empty() {
                return Err(StoreError::NoRecord {
                    index,
                    size: range.end,
                }
                .into());
            }
            for bytes in records {
                if let Ok(record) = Record::from_vec(bytes) {
                    later.take(index, &record, 0);
                }
                index += 1;
            }
        }
        for (sha256, erasure) in later.erased {
            self.erased.entry(sha256).or_insert(erasure);
        }
        Ok(())
    }

    fn rotation(&mut self, index: u64, record: &Record) {
        let Ok(rotation) = record.expect_body::<KeyRotation>() else {
            return;
        };
        if rotation.new.is_some() && lineage::is_link(&rotation) {
            self.links.push(index);
            self.rotations.push(rotation);
            return;
        }
        let link = lineage::of_gateway(rotation).and_then(|link| Link::open(&link).ok());
        if let Some(link) = link {
            let line = ledger::line(link.to.origin().as_str()).to_owned();
            self.gateway_links.entry(line).or_default().push(index);
        }
    }
}

impl Keeper for Copied {
    type Refusal = Error;

    fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    fn ledger_key(&self) -> &LedgerKey {
        &self.key
    }

    fn reader(&self) -> Log {
        self.log.clone()
    }

    fn named(&self, name: &str) -> Result<String, Error> {
        let own = self.key.origin().as_str();
        if name.is_empty() || name == "server" || name == own {
            return Ok(own.to_owned());
        }
        let anchored = || {
            let gateways = self.read.gateways.iter();
            gateways.map(|(_line, gateway)| gateway.origin.as_str())
        };
        let called = anchored().find(|origin| ledger::is_called(origin, name));
        called.map(str::to_owned).ok_or_else(|| {
            let known: Vec<&str> = std::iter::once("server").chain(anchored()).collect();
            Finding::new(
                "LEDGER-UNKNOWN",
                "the copy's server anchors no ledger of that name",
            )
            .expected(known.join(", "))
            .observed(name.to_owned())
            .next("name one of these")
            .into()
        })
    }

    fn mirror(&self, gateway: &Gateway) -> Result<Log, Error> {
        let mut found = self.folders.called(ledger::line(&gateway.origin));
        let held = found.iter().map(Log::size).max().unwrap_or_default();
        found.retain(|log| log.size() >= gateway.size);
        let whole = found.iter().find(|log| log.pruned().is_none());
        let Some(log) = whole.or_else(|| found.first()).cloned() else {
            return Err(Finding::new(
                "LEDGER-MIRROR",
                "a gateway's ledger is not in the copy up to its anchor",
            )
            .expected(format!("{} records of {}", gateway.size, gateway.origin))
            .observed(format!("{held} records"))
            .next("name a folder that has it too: --folder COPY,GATEWAY; or ask what the server's ledger answers alone")
            .into());
        };
        let root = log.each(gateway.size, |_, _| Ok(()))?;
        let anchored = unverified(&gateway.checkpoint);
        if anchored.is_some_and(|anchored| anchored.root == root) {
            return Ok(log);
        }
        Err(Error::Lied(Box::new(
            Finding::new(
                "LEDGER-MIRROR-OTHER",
                "a gateway's ledger is in the copy as another than was anchored",
            )
            .expected(format!(
                "the {} records of {} that server:{} anchors",
                gateway.size, gateway.origin, gateway.anchor
            ))
            .observed(format!(
                "others, with the root {}",
                crypto::hex::encode(&root)
            ))
            .next("take another copy, and keep this one as evidence: its records were changed"),
        )))
    }

    fn links(&self) -> Vec<u64> {
        self.read.links.clone()
    }

    fn gateway_links(&self, origin: &str) -> Vec<u64> {
        let links = self.read.gateway_links.get(ledger::line(origin));
        links.cloned().unwrap_or_default()
    }

    fn erased(&self, sha256: &HexDigest) -> Option<u64> {
        self.read.erased.get(sha256).copied()
    }

    fn is_erased(&self, sha256: &HexDigest) -> bool {
        self.read.erased.contains_key(sha256)
    }

    fn content(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Error> {
        self.folders.content(sha256)
    }

    fn needed(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Error> {
        self.folders.content(sha256)
    }

    /// Its record is sought.
    fn svid(&self, _serial: &str) -> Option<u64> {
        None
    }

    /// Who was issued something once is found in the records.
    fn lives(&self, _id: &str) -> bool {
        false
    }

    fn declared(&self) -> Result<Vec<(String, bool)>, Error> {
        let Some(sha256) = self.read.estate else {
            return Ok(Vec::new());
        };
        let blob = self.folders.content(&sha256)?;
        let files = blob.and_then(|blob| EstateFiles::from_blob(&blob).ok());
        let estate = files.and_then(|files| Estate::compile_recorded(&files).ok());
        let identities = estate.iter().flat_map(Estate::identities);
        let declared = identities.map(|one| (one.path.clone(), !one.is_template()));
        Ok(declared.collect())
    }

    fn roots(&self) -> Vec<Vec<u8>> {
        self.roots.clone()
    }

    fn certificates(&self, wanted: &[(u64, Issuance)]) -> Vec<[Vec<u8>; 2]> {
        let folders = self.certificates.iter();
        folders
            .flat_map(|folder| certificates::find(folder, &self.log, wanted))
            .collect()
    }
}

impl From<Unmade> for Error {
    fn from(unmade: Unmade) -> Self {
        match unmade {
            Unmade::Unknown(finding)
            | Unmade::Invalid(finding)
            | Unmade::Precondition(finding)
            | Unmade::Unavailable(finding) => Self::Refused(finding),
            Unmade::Ledger(error) => Self::Ledger(error),
            Unmade::Record(error) => {
                let code = error.code();
                let told = Finding::new(code, facts::with_causes(&error));
                told.next("make the pack with a version of trilith that is as new as the server's")
                    .into()
            }
        }
    }
}
