//! Packs from a copy: the folder of a server's data, or of its ledger, that somebody keeps. They are made without a
//! server, and of records that the server has pruned.
//!
//! Nothing in the folder is believed. INVARIANT: before anything is made of it, every record of the server's ledger is
//! read and leads to a head that the key of the trust file signed; and every record of a gateway's ledger that is looked
//! at, to what that ledger anchors.

use super::{Gateway, Keeper, Under, Unmade, make};
use crate::certificates::{self, FOLDER};
use crate::follow::each_record;
use crate::replay::estate_files;
use crate::site::{Site, Source, WITNESSED};
use crate::verify::is_root;
use crate::Error;
use estate::Estate;
use facts::Finding;
use ledger::body::{Anchor, Erasure, EstateVersion, Issuance, KeyRotation};
use ledger::lineage::{self, Link};
use ledger::pack::{Question, Trust, contents};
use ledger::{Checkpoint, Code as _, HexDigest, LedgerKey, Note, Record, RecordType};
use ledger_store::{Head, Reader};
use spiffe_core::TrustDomain;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A copy of a server's ledger, which was read as a whole, with what is beside it.
pub struct Copied {
    site: Site,
    reader: Reader,
    /// What packs are made under: the newest checkpoint that witnesses have cosigned, as the copy has it, for whoever asks
    /// for witnesses, else the ledger's head.
    head: Arc<Head>,
    domain: TrustDomain,
    /// The trust file's, with what the copy's links add.
    key: LedgerKey,
    roots: Vec<Vec<u8>>,
    certificates: Vec<PathBuf>,
    read: Read,
}

/// What the records of the server's ledger say that packs need.
#[derive(Default)]
struct Read {
    links: Vec<u64>,
    rotations: Vec<KeyRotation>,
    /// By the first log of the gateway's ledger, as is what is anchored of it.
    gateway_links: BTreeMap<String, Vec<u64>>,
    gateways: BTreeMap<String, Gateway>,
    erased: BTreeMap<HexDigest, u64>,
    /// The content of the estate in force.
    estate: Option<HexDigest>,
}

impl Copied {
    /// What is in `folders`: the `data_dir` of a server or a copy of it, or the folder of its ledger alone; those of
    /// gateways beside it. Nothing is written there.
    ///
    /// # Errors
    /// `PACK-COPY-SHORT` where the ledger ends before a checkpoint that lies beside it, `PACK-COPY-FOREIGN` where its head
    /// is none of the ledger that `trust` names, `RECORDS-LEDGER-ROOT` where its records are not those of that head, and
    /// `RECORDS-PRUNED` where some are gone.
    pub fn open(folders: &[PathBuf], trust: &Trust) -> Result<Self, Error> {
        let domain = TrustDomain::new(&trust.trust_domain).map_err(|error| foreign(trust, &error))?;
        let site = opened(folders)?;
        let server = site.needs_server("what a pack rests on")?;
        let cosigned = server.witnessed().filter(|witnessed| {
            trust.policy.is_some()
                && witnessed.checkpoint.origin == server.head().checkpoint.origin
        });
        let head = Arc::new(cosigned.unwrap_or_else(|| server.head()).clone());
        let mut read = Read::default();
        let root = each_record(server.reader(), server.size(), |index, bytes| {
            if let Ok(record) = Record::parse(bytes) {
                read.take(index, &record, head.checkpoint.size);
            }
            Ok(())
        })?;
        is_root(server, &root)?;
        let key = lineage::follow(&trust.ledger_key, &read.rotations)
            .map_err(|error| foreign(trust, &error))?;
        Checkpoint::open_shown(&server.head().note, &key)
            .map_err(|error| foreign(trust, &error))?;
        let beside = folders.iter().map(|folder| folder.join(FOLDER));
        Ok(Self {
            reader: server.reader().clone(),
            head,
            domain,
            key,
            roots: trust.x509_authorities.clone(),
            certificates: beside.filter(|folder| folder.is_dir()).collect(),
            read,
            site,
        })
    }

    /// The pack that answers `question`, with the certificates that the copy has if `certificates` is true. It is for its
    /// reader to verify.
    pub fn pack(&self, question: Question, certificates: bool) -> Result<Vec<u8>, Error> {
        let gateways = self.read.gateways.values().cloned().collect();
        let under = Under {
            head: Arc::clone(&self.head),
            certificates,
        };
        make(self, question, gateways, under)
    }

    /// What is not as it may be expected, for people.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.site.notes
    }
}

/// The ledgers of all folders, none of which ends before the checkpoint that lies beside it.
fn opened(folders: &[PathBuf]) -> Result<Site, Error> {
    let mut site: Option<Site> = None;
    for folder in folders {
        // First the checkpoint: a server that runs goes on meanwhile.
        let beside = checkpoint(&folder.join(WITNESSED));
        let one = Site::unindexed(folder)?;
        if let (Some(beside), Some(server)) = (beside, one.server()) {
            reaches(server, &beside)?;
        }
        match &mut site {
            None => site = Some(one),
            Some(site) => site.join(one)?,
        }
    }
    site.ok_or_else(|| Error::NoLedger(PathBuf::new()))
}

/// What a file says that has a checkpoint; nobody has vouched for it.
fn checkpoint(path: &Path) -> Option<Checkpoint> {
    unverified(&std::fs::read_to_string(path).ok()?)
}

fn unverified(note: &str) -> Option<Checkpoint> {
    Checkpoint::parse(&Note::parse(note).ok()?.text).ok()
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
                if let Ok(anchor) = record.expect_body::<Anchor>() {
                    let line = ledger::line(&anchor.origin).to_owned();
                    self.gateways.insert(line, Gateway::of(index, anchor));
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

    fn reader(&self) -> &Reader {
        &self.reader
    }

    fn named(&self, name: &str) -> Result<String, Error> {
        let own = self.key.origin().as_str();
        if name.is_empty() || name == "server" || name == own {
            return Ok(own.to_owned());
        }
        let mut anchored = self.read.gateways.values();
        let called = anchored.find(|gateway| ledger::is_called(&gateway.origin, name));
        called.map(|gateway| gateway.origin.clone()).ok_or_else(|| {
            let known = self.read.gateways.values().map(|known| known.origin.as_str());
            let known: Vec<&str> = std::iter::once("server").chain(known).collect();
            Finding::new("LEDGER-UNKNOWN", "the copy's server anchors no ledger of that name")
                .expected(known.join(", "))
                .observed(name.to_owned())
                .next("name one of these")
                .into()
        })
    }

    fn mirror(&self, gateway: &Gateway) -> Result<Reader, Error> {
        let line = ledger::line(&gateway.origin);
        let of_it = |source: &&Source| ledger::line(source.head().checkpoint.origin.as_str()) == line;
        let source = self.site.sources().iter().find(of_it);
        let held = source.map_or(0, Source::size);
        let Some(source) = source.filter(|source| source.size() >= gateway.size) else {
            return Err(Finding::new(
                "LEDGER-MIRROR",
                "a gateway's ledger is not in the copy up to its anchor",
            )
            .expected(format!("{} records of {}", gateway.size, gateway.origin))
            .observed(format!("{held} records"))
            .next("name a folder that has it too: --folder COPY,GATEWAY; or ask what the server's ledger answers alone")
            .into());
        };
        let root = each_record(source.reader(), gateway.size, |_, _| Ok(()))?;
        let anchored = unverified(&gateway.checkpoint);
        if anchored.is_some_and(|anchored| anchored.root == root) {
            return Ok(source.reader().clone());
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
            .observed(format!("others, with the root {}", crypto::hex::encode(&root)))
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
        self.site.blob(sha256)
    }

    fn needed(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Error> {
        self.site.blob(sha256)
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
        let files = estate_files(&self.site, &sha256)?;
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
            .flat_map(|folder| certificates::find(folder, &self.reader, wanted))
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
