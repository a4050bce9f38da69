//! Verifying a pack: from the trusted key down to each record, blob and certificate. The first
//! thing that fails is named.

use super::complete::{Dated, Doubt, Erased, Extent, Verified};
use super::container::{Section, read};
use super::{Question, Trust};
use crate::body::{self, Anchor, Begin, KeyRotation, Misbehaviour, SignedHead};
use crate::lineage::{self, Link};
use crate::merkle::{MAX_PROOF, verify_consistency};
use crate::misbehaviour;
use crate::tile::{self, Kind, TilePath};
use crate::{
    Checkpoint, Code, HexDigest, LedgerKey, Note, Quorum, Receipt, Record, RecordType,
    bundle::split_entry, decode_bundle,
};
use crypto::PublicKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The first thing of a pack that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable, listed in `docs/reference/findings.md`.
    pub code: &'static str,
    /// The section or part of the pack.
    pub section: String,
    /// The record's place in its ledger, where one is concerned.
    pub record: Option<u64>,
    pub message: String,
}

impl Failure {
    pub(crate) fn new(code: &'static str, section: &str, message: &str) -> Self {
        Self {
            code,
            section: section.to_owned(),
            record: None,
            message: message.to_owned(),
        }
    }

    /// Names the record, if `section` holds one.
    pub(crate) fn of(mut self, section: &Section) -> Self {
        self.record = match section {
            Section::Record { index, .. } => Some(*index),
            Section::Tile { path, .. } => Some(path.first_record()),
            _ => None,
        };
        self
    }

    pub(super) fn at(section: &Section, code: &'static str, message: impl fmt::Display) -> Self {
        Self::new(code, &section.to_string(), &message.to_string()).of(section)
    }

    pub(super) fn because<E: Code + std::error::Error>(section: &Section, error: &E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::at(section, error.code(), message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.section)?;
        if let Some(record) = self.record {
            write!(f, " (record {record})")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Failure {}

/// What a pack has shown. Everything but `question` follows from the trusted key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// As asked; nothing vouches for it, so that it has to be shown.
    pub question: Question,
    /// The trusted key with what the pack's links say of those before and after it.
    pub ledger_key: LedgerKey,
    /// The server's first.
    pub checkpoints: Vec<Checkpoint>,
    pub records: Vec<PackRecord>,
    /// Content by digest; a record names each.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// SVIDs by digest, with the index of the issuance that commits to each. Those of authorities above them are not
    /// named.
    pub certificates: BTreeMap<String, u64>,
    /// Numbers of the checkpoints of which the pack has every tile.
    pub whole: Vec<u64>,
    /// What is shown of each ledger, in the order of `checkpoints`.
    pub extents: Vec<Extent>,
    /// What the trust file's witnesses say about the server's checkpoint, and with it about all others; `None`
    /// if the trust file has no policy.
    pub quorum: Option<Quorum>,
    /// Why the pack is not shown to hold all that answers the question, in the one ledger that everybody sees;
    /// empty if it is.
    pub doubts: Vec<Doubt>,
    /// What is gone, as the ledger says itself: no reason for doubt, and nothing of it can be made again.
    pub erased: Vec<Erased>,
    /// What each of the server's entries is, in order, where they are in the pack; but for those that are no records.
    pub dated: Vec<Dated>,
}

impl Report {
    /// True if the pack holds everything that answers its question, up to its checkpoints, and all that
    /// those records rest on, and if the trust file's quorum has cosigned the server's checkpoint.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.doubts.is_empty()
    }
}

/// A record, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRecord {
    /// Number of its checkpoint in [`Report::checkpoints`].
    pub checkpoint: u64,
    pub index: u64,
    pub record: Record,
    /// True if it answers the question; else an answer rests on it.
    pub answers: bool,
}

/// Judges certificates, which this crate cannot read.
pub trait CertificateCheck {
    /// Of each of `certificates`, DER: the index of the issuance among `records` that commits to it. `None` for those
    /// of authorities, by which such a one leads to a root of `trust`.
    ///
    /// # Errors
    /// Which of them does not belong, and why.
    fn check(
        &self,
        certificates: &[&[u8]],
        records: &[PackRecord],
        trust: &Trust,
    ) -> Result<Vec<Option<u64>>, (usize, String)>;
}

struct NoCertificates;

impl CertificateCheck for NoCertificates {
    fn check(
        &self,
        _certificates: &[&[u8]],
        _records: &[PackRecord],
        _trust: &Trust,
    ) -> Result<Vec<Option<u64>>, (usize, String)> {
        Err((0, "certificates cannot be checked here".to_owned()))
    }
}

/// Verifies a pack without certificates; one with certificates is refused.
pub fn verify(pack: &[u8], trust: &Trust) -> Result<Report, Failure> {
    verify_with(pack, trust, &NoCertificates)
}

/// Verifies a pack.
pub fn verify_with(
    pack: &[u8],
    trust: &Trust,
    certificates: &impl CertificateCheck,
) -> Result<Report, Failure> {
    let sections = Sections::read(pack)?;
    let question = sections.question()?;
    let trust = &sections.lineage(trust)?;
    let (server, quorum) = sections.server(trust)?;
    sections.goes_on(&trust.ledger_key, &server)?;
    let mut records = sections.records(0, &server)?;
    for item in &records {
        if let Ok(begin) = item.record.expect_body() {
            begins_as_trusted(item.index, &begin, trust)?;
        }
    }
    let mut anchors = Anchors::read(&records)?;
    let mut checkpoints = vec![server];
    for (number, note) in sections.gateways()? {
        let checkpoint = anchors.open(number, note)?;
        records.extend(sections.records(number, &checkpoint)?);
        checkpoints.push(checkpoint);
    }
    sections.all_under(checkpoints.len())?;
    let (whole, entries) = sections.tiles(&checkpoints)?;
    let verified = Verified {
        question: &question,
        trust,
        sections: &sections,
        checkpoints: &checkpoints,
        records: &records,
        anchors: &anchors,
        entries: &entries,
    };
    let mut shown = verified.check()?;
    if let Some(quorum) = quorum.as_ref().filter(|quorum| !quorum.reached) {
        let (origin, cosigned) = (trust.ledger_key.origin(), quorum.cosignatures.len());
        let origin = origin.to_string();
        let doubt = Doubt::NotWitnessed { origin, cosigned };
        shown.doubts.insert(0, doubt);
    }
    for item in &mut records {
        item.answers = shown.answers.contains(&(item.checkpoint, item.index));
    }
    let blobs = sections.blobs(&records)?;
    let certificates = sections.certificates(&records, trust, certificates)?;
    misbehaviours(&records, &blobs)?;
    Ok(Report {
        question,
        ledger_key: trust.ledger_key.clone(),
        checkpoints,
        records,
        blobs,
        certificates,
        whole,
        extents: shown.extents,
        quorum,
        doubts: shown.doubts,
        erased: shown.erased,
        dated: shown.dated,
    })
}

pub(super) struct Sections<'a>(BTreeMap<Section, &'a [u8]>);

impl<'a> Sections<'a> {
    fn read(pack: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self(read(pack)?.into_iter().collect()))
    }

    fn question(&self) -> Result<Question, Failure> {
        let section = Section::Question;
        let question = self.0.get(&section).copied().unwrap_or_default();
        Question::parse(question).ok_or_else(|| {
            let message = "it is missing, or no question that a pack answers in its one spelling";
            Failure::at(&section, "PACK-QUESTION", message)
        })
    }

    fn note(&self, number: u64) -> Result<&'a str, Failure> {
        let section = Section::Checkpoint(number);
        let bytes = self.0.get(&section).copied();
        bytes
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .ok_or_else(|| Failure::at(&section, "PACK-CHECKPOINT", "it is missing or not text"))
    }

    /// The trust file with what the pack's records say of the server ledger's keys. Nothing vouches for these records
    /// yet, and nothing has to: a link counts by its signatures.
    fn lineage(&self, trust: &Trust) -> Result<Trust, Failure> {
        let mut trust = trust.clone();
        let mut rotations = Vec::new();
        for (section, content) in &self.0 {
            let Section::Record { checkpoint: 0, .. } = section else {
                continue;
            };
            let record = split_entry(content).and_then(|(bytes, _)| Record::parse(bytes).ok());
            let rotation = record.and_then(|record| record.expect_body::<KeyRotation>().ok());
            let Some(rotation) = rotation.filter(lineage::is_link) else {
                continue;
            };
            Link::open(&rotation).map_err(|error| Failure::because(section, &error))?;
            rotations.push(rotation);
        }
        trust.ledger_key = lineage::follow(&trust.ledger_key, &rotations)
            .map_err(|error| Failure::because(&Section::Checkpoint(0), &error))?;
        Ok(trust)
    }

    /// The server's checkpoint, and what the witnesses of the trust file say about it.
    fn server(&self, trust: &Trust) -> Result<(Checkpoint, Option<Quorum>), Failure> {
        let section = Section::Checkpoint(0);
        let note = self.note(0)?;
        // INVARIANT 6: what a former key signed counts only as the tree that its link names. Whoever has that key could
        // have made anything below, and a pack has nothing that shows the difference.
        let checkpoint = Checkpoint::open_shown(note, &trust.ledger_key)
            .map_err(|error| Failure::because(&section, &error))?;
        let parsed = Note::parse(note).map_err(|error| Failure::because(&section, &error))?;
        let policy = trust.policy.as_ref();
        let quorum = policy
            .map(|policy| policy.judge(&parsed))
            .transpose()
            .map_err(|error| Failure::because(&section, &error))?;
        // INVARIANT: each line is the ledger's or a witness's, verified, and no key has two. Nobody vouches for
        // the line of another key. A gateway's checkpoint is bound to the byte by the anchor that states it.
        let cosigned = quorum
            .as_ref()
            .map_or(0, |quorum| quorum.cosignatures.len());
        if parsed.signatures.len() != 1 + cosigned {
            let message = "it has a signature line of a key that the trust file does not name";
            return Err(Failure::at(&section, "PACK-CHECKPOINT", message));
        }
        Ok((checkpoint, quorum))
    }

    /// The server's checkpoint holds each tree that a link of its ledger names.
    fn goes_on(&self, key: &LedgerKey, under: &Checkpoint) -> Result<(), Failure> {
        let mut asked = BTreeSet::new();
        // INVARIANT 6: a link says what both logs share, signed before the new log had a record. Whoever has the newest key
        // could begin it with other records, and its witnesses have seen nothing of the log before.
        for (size, root) in key.goes_on_from(under.origin.as_str()) {
            let section = Section::Extends {
                checkpoint: 0,
                size,
            };
            let proof = self.0.get(&section).copied().unwrap_or_default();
            let (proof, rest) = proof.as_chunks::<32>();
            if !rest.is_empty() || proof.len() > MAX_PROOF {
                let message = "its proof is not a list of hashes";
                return Err(Failure::at(&section, "PACK-FORMAT", message));
            }
            if verify_consistency(size, &root, under.size, &under.root, proof).is_err() {
                let message = format!(
                    "the checkpoint is not shown to go on from the {size} records that both keys have signed for"
                );
                return Err(Failure::at(&section, "PACK-LINEAGE", message));
            }
            if size > 0 && size < under.size {
                asked.insert(section);
            }
        }
        let mut extends = self
            .0
            .keys()
            .filter(|section| matches!(section, Section::Extends { .. }));
        extends
            .find(|section| !asked.contains(*section))
            .map_or(Ok(()), |section| {
                let message = "no link of the ledger asks for it";
                Err(Failure::at(section, "PACK-LINEAGE", message))
            })
    }

    /// The other checkpoints, whose numbers follow one another.
    fn gateways(&self) -> Result<Vec<(u64, &'a str)>, Failure> {
        let numbers = self.0.keys().filter_map(|section| match section {
            Section::Checkpoint(number) if *number > 0 => Some(*number),
            _ => None,
        });
        (1..)
            .zip(numbers)
            .map(|(expected, _number)| Ok((expected, self.note(expected)?)))
            .collect()
    }

    /// No record or tile may stand under a checkpoint that is not there.
    fn all_under(&self, checkpoints: usize) -> Result<(), Failure> {
        let stray = self.0.keys().find(|section| match section {
            Section::Record { checkpoint, .. } | Section::Tile { checkpoint, .. } => {
                *checkpoint >= checkpoints as u64
            }
            _ => false,
        });
        stray.map_or(Ok(()), |section| {
            let message = "the pack has no such checkpoint";
            Err(Failure::at(section, "PACK-CHECKPOINT", message))
        })
    }

    fn records(&self, number: u64, under: &Checkpoint) -> Result<Vec<PackRecord>, Failure> {
        let first = Section::Record {
            checkpoint: number,
            index: 0,
        };
        let last = Section::Record {
            checkpoint: number,
            index: u64::MAX,
        };
        let sections = self.0.range(first..=last);
        sections
            .map(|(section, content)| {
                let Section::Record { index, .. } = *section else {
                    return Err(Failure::at(section, "PACK-FORMAT", "it is not a record"));
                };
                let record = record(section, content, index, under)?;
                Ok(PackRecord {
                    checkpoint: number,
                    index,
                    record,
                    answers: false,
                })
            })
            .collect()
    }

    /// Where there is one tile of a ledger there must be all of them, and no other. The ledgers with tiles,
    /// and those with entries.
    fn tiles(&self, checkpoints: &[Checkpoint]) -> Result<(Vec<u64>, BTreeSet<u64>), Failure> {
        let (mut whole, mut entries) = (Vec::new(), BTreeSet::new());
        for (number, under) in (0..).zip(checkpoints) {
            let tiles: BTreeSet<TilePath> = self
                .0
                .keys()
                .filter_map(|section| match section {
                    Section::Tile { checkpoint, path } if *checkpoint == number => Some(*path),
                    _ => None,
                })
                .collect();
            if tiles.is_empty() {
                continue;
            }
            let with_entries = tiles.iter().any(|path| path.kind == Kind::Entries);
            let mut unused = tiles;
            let fetch = |path: &TilePath| {
                unused.remove(path);
                let (checkpoint, path) = (number, *path);
                let content = self.0.get(&Section::Tile { checkpoint, path })?;
                Some(content.to_vec())
            };
            tile::check::check(under, with_entries, fetch)
                .map_err(|fault| of_tile(number, &fault))?;
            if let Some(path) = unused.first().copied() {
                let checkpoint = number;
                let section = Section::Tile { checkpoint, path };
                let message = "the checkpoint's ledger has no such tile";
                return Err(Failure::at(&section, "PACK-TILE", message));
            }
            whole.push(number);
            if with_entries {
                entries.insert(number);
            }
        }
        Ok((whole, entries))
    }

    /// All records of a ledger whose entries were checked, in order.
    pub(super) fn entries(
        &self,
        number: u64,
        under: &Checkpoint,
    ) -> impl Iterator<Item = (u64, &'a [u8])> {
        TilePath::all(Kind::Entries, under.size).flat_map(move |path| {
            let checkpoint = number;
            let bundle = self.0.get(&Section::Tile { checkpoint, path });
            let bundle = bundle.copied().unwrap_or_default();
            let entries = decode_bundle(bundle, usize::from(path.width())).unwrap_or_default();
            (path.first_record()..).zip(entries)
        })
    }

    pub(super) fn has_blob(&self, digest: HexDigest) -> bool {
        self.0.contains_key(&Section::Blob(digest))
    }

    fn blobs(&self, records: &[PackRecord]) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
        let mut blobs = BTreeMap::new();
        for (section, content) in &self.0 {
            let Section::Blob(digest) = section else {
                continue;
            };
            if HexDigest::of(content) != *digest {
                let message = "its content does not have the digest that is its name";
                return Err(Failure::at(section, "PACK-BLOB", message));
            }
            let name = digest.to_string();
            // An issuance names the opening of its commitment in base64.
            let quoted = format!("\"{name}\"");
            let opening = format!("\"commit\":\"{}\"", crypto::base64::encode(&digest.0));
            let named = |record: &PackRecord| {
                let body = record.record.body();
                let issues = record.record.kind() == RecordType::Issuance;
                body.contains(&quoted) || issues && body.contains(&opening)
            };
            if !records.iter().any(named) {
                let message = "no record of the pack names it";
                return Err(Failure::at(section, "PACK-BLOB", message));
            }
            blobs.insert(name, content.to_vec());
        }
        Ok(blobs)
    }

    /// SVIDs by their digests, with the issuance that commits to each.
    fn certificates(
        &self,
        records: &[PackRecord],
        trust: &Trust,
        check: &impl CertificateCheck,
    ) -> Result<BTreeMap<String, u64>, Failure> {
        let of_certificate = |(section, der): (&Section, &&'a [u8])| match section {
            Section::Certificate(digest) => Some((*digest, *der)),
            _ => None,
        };
        let found: Vec<(HexDigest, &[u8])> = self.0.iter().filter_map(of_certificate).collect();
        let wrong = |digest, message: &str| {
            Failure::at(&Section::Certificate(digest), "PACK-CERTIFICATE", message)
        };
        if let Some((digest, _)) = found.iter().find(|(name, der)| HexDigest::of(der) != *name) {
            let message = "its content does not have the digest that is its name";
            return Err(wrong(*digest, message));
        }
        let Some((first, _)) = found.first() else {
            return Ok(BTreeMap::new());
        };
        let ders: Vec<&[u8]> = found.iter().map(|(_, der)| *der).collect();
        let issuances = check
            .check(&ders, records, trust)
            .map_err(|(at, message)| {
                wrong(
                    found.get(at).map_or(*first, |(digest, _)| *digest),
                    &message,
                )
            })?;
        let found = found.iter().zip(issuances);
        Ok(found
            .filter_map(|((digest, _), index)| Some((digest.to_string(), index?)))
            .collect())
    }
}

fn record(
    section: &Section,
    content: &[u8],
    index: u64,
    under: &Checkpoint,
) -> Result<Record, Failure> {
    let format = |message| Failure::at(section, "PACK-FORMAT", message);
    let (bytes, proof) = split_entry(content).ok_or_else(|| format("it ends within the record"))?;
    let (proof, rest) = proof.as_chunks::<32>();
    if !rest.is_empty() || proof.len() > MAX_PROOF {
        return Err(format("its proof is not a list of hashes"));
    }
    let receipt = Receipt {
        record: bytes.to_vec(),
        index,
        proof: proof.to_vec(),
        checkpoint: String::new(),
    };
    let record = receipt
        .under(under)
        .map_err(|error| Failure::because(section, &error))?;
    body::check(&record).map_err(|error| Failure::because(section, &error))?;
    Ok(record)
}

/// What a record says of two notes is what they show. Where one of them is not in the pack, that is a doubt.
fn misbehaviours(records: &[PackRecord], blobs: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
    for item in records {
        let Ok(body) = item.record.expect_body::<Misbehaviour>() else {
            continue;
        };
        let note = |head: &SignedHead| blobs.get(&head.note.sha256.to_string());
        let (Some(first), Some(second)) = (note(&body.first), note(&body.second)) else {
            continue;
        };
        if shown(&body, first, second) != Some((body.kind.as_str(), body.proved)) {
            let section = Section::Record {
                checkpoint: item.checkpoint,
                index: item.index,
            };
            let message = "the two notes do not show what the record says";
            return Err(Failure::at(&section, "PACK-MISBEHAVIOUR", message));
        }
    }
    Ok(())
}

/// Kind, and whether the notes prove it.
fn shown(body: &Misbehaviour, first: &[u8], second: &[u8]) -> Option<(&'static str, bool)> {
    let key = PublicKey::from_spki_der(&body.ledger_key.0).ok()?;
    let key = LedgerKey::new(&body.origin, key).ok()?;
    let (first, second) = (
        std::str::from_utf8(first).ok()?,
        std::str::from_utf8(second).ok()?,
    );
    let (kind, heads) = misbehaviour::judge(&key, first, second, &[]).ok()?;
    let stated = [&body.first, &body.second];
    let same = stated
        .iter()
        .zip(&heads)
        .all(|(stated, head)| stated.size.0 == head.size && stated.root.0 == head.root);
    same.then_some((kind.as_str(), kind.proves_itself()))
}

/// The server's first record, wherever the pack has it, must be of the trusted domain and key. A trusted key that is
/// not known to lead back to a first log says nothing of who began that.
pub(super) fn begins_as_trusted(index: u64, begin: &Begin, trust: &Trust) -> Result<(), Failure> {
    let first = trust.ledger_key.first();
    let same = begin.ledger_key.0 == first.public_key().spki_der() || first.origin().place().1 > 1;
    if begin.trust_domain == trust.trust_domain && same {
        return Ok(());
    }
    let section = Section::Record {
        checkpoint: 0,
        index,
    };
    let message = "the ledger began for another trust domain or key than the trust file's";
    Err(Failure::at(&section, "PACK-TRUST", message))
}

/// How gateways' ledgers went on as new logs, as the server's records tell, by the name of each one's first log.
fn gateway_links(records: &[PackRecord]) -> Result<BTreeMap<String, Vec<KeyRotation>>, Failure> {
    let mut links: BTreeMap<String, Vec<KeyRotation>> = BTreeMap::new();
    for item in records.iter().filter(|item| item.checkpoint == 0) {
        let rotation = item.record.expect_body::<KeyRotation>().ok();
        let Some(rotation) = rotation.and_then(lineage::of_gateway) else {
            continue;
        };
        let section = Section::Record {
            checkpoint: 0,
            index: item.index,
        };
        let link = Link::open(&rotation).map_err(|error| Failure::because(&section, &error))?;
        let line = crate::line(link.to.origin().as_str()).to_owned();
        links.entry(line).or_default().push(rotation);
    }
    Ok(links)
}

/// The key with what is known of the logs before its own. What came after that is another key's.
fn known_key(
    key: &LedgerKey,
    links: &BTreeMap<String, Vec<KeyRotation>>,
) -> Result<LedgerKey, lineage::LineageError> {
    let links = links.get(crate::line(key.origin().as_str()));
    lineage::follow(key, links.map_or(&[][..], Vec::as_slice))
}

/// What the server's ledger says of gateways' ledgers.
pub(super) struct Anchors {
    /// Index of the record that anchored a checkpoint, by its text.
    anchored: BTreeMap<String, u64>,
    keys: BTreeMap<String, LedgerKey>,
    /// How ledgers went on as new logs, by the name of the first one.
    links: BTreeMap<String, Vec<KeyRotation>>,
    /// Index of the anchor of checkpoint 1, 2, …
    used: Vec<u64>,
}

impl Anchors {
    fn read(records: &[PackRecord]) -> Result<Self, Failure> {
        let (mut anchored, mut keys) = (BTreeMap::new(), BTreeMap::new());
        let links = gateway_links(records)?;
        for item in records {
            if item.record.kind() != RecordType::Anchor {
                continue;
            }
            let section = Section::Record {
                checkpoint: 0,
                index: item.index,
            };
            let anchor: Anchor = item
                .record
                .expect_body()
                .map_err(|error| Failure::because(&section, &error))?;
            let key = PublicKey::from_spki_der(&anchor.ledger_key.0)
                .ok()
                .and_then(|key| LedgerKey::new(&anchor.origin, key).ok())
                .ok_or_else(|| {
                    Failure::at(&section, "PACK-ANCHOR", "its key is not a ledger key")
                })?;
            let known = keys.entry(anchor.origin.clone()).or_insert(key.clone());
            if *known != key {
                let message = "another anchor of this ledger states another key";
                return Err(Failure::at(&section, "PACK-ANCHOR", message));
            }
            // INVARIANT: nothing that a replaced key signed beyond the end of its log was anchored.
            let key =
                known_key(&key, &links).map_err(|error| Failure::because(&section, &error))?;
            let opened = Checkpoint::open(&anchor.checkpoint, &key)
                .map_err(|error| Failure::because(&section, &error))?;
            if opened.origin.as_str() != anchor.origin {
                let message = "its checkpoint is of another log";
                return Err(Failure::at(&section, "PACK-ANCHOR", message));
            }
            if (opened.size, opened.root) != (anchor.size.0, anchor.root.0) {
                let message = "its size and root are not those of its checkpoint";
                return Err(Failure::at(&section, "PACK-ANCHOR", message));
            }
            anchored.entry(anchor.checkpoint).or_insert(item.index);
        }
        let used = Vec::new();
        Ok(Self {
            anchored,
            keys,
            links,
            used,
        })
    }

    /// Whether `rotation` is one by which a ledger of `checkpoints` went on as a new log.
    pub(super) fn leads(&self, rotation: &KeyRotation, checkpoints: &[Checkpoint]) -> bool {
        let link = lineage::of_gateway(rotation.clone()).and_then(|link| Link::open(&link).ok());
        link.is_some_and(|link| {
            let line = crate::line(link.to.origin().as_str());
            let mut gateways = checkpoints.iter().skip(1);
            gateways.any(|under| crate::line(under.origin.as_str()) == line)
        })
    }

    /// The anchors that state checkpoints of the pack.
    pub(super) fn used(&self) -> impl Iterator<Item = u64> {
        self.used.iter().copied()
    }

    /// When checkpoint `number` of a gateway was anchored.
    pub(super) fn time(&self, number: u64, records: &[PackRecord]) -> Option<u64> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        let index = *self.used.get(at)?;
        let is_it = |item: &&PackRecord| (item.checkpoint, item.index) == (0, index);
        Some(records.iter().find(is_it)?.record.stamp().wall)
    }

    /// Opens the gateways' checkpoints, in order.
    fn open(&mut self, number: u64, note: &str) -> Result<Checkpoint, Failure> {
        let section = Section::Checkpoint(number);
        let failed = |message| Failure::at(&section, "PACK-ANCHOR", message);
        let anchor = self.anchored.get(note).copied();
        let anchor =
            anchor.ok_or_else(|| failed("no anchor of the pack states this checkpoint"))?;
        let parsed = Note::parse(note).map_err(|error| Failure::because(&section, &error))?;
        let checkpoint =
            Checkpoint::parse(&parsed.text).map_err(|error| Failure::because(&section, &error))?;
        let key = self.keys.get(checkpoint.origin.as_str());
        let key = key.ok_or_else(|| failed("no anchor of the pack states its ledger's key"))?;
        let known =
            known_key(key, &self.links).map_err(|error| Failure::because(&section, &error))?;
        // INVARIANT: a log under a later name is that ledger's only if the key before it has signed so.
        if known.first().origin().place().1 > 1 {
            return Err(failed(
                "no records of the pack lead from its ledger's first key to the one that signed it",
            ));
        }
        let opened =
            Checkpoint::open(note, &known).map_err(|error| Failure::because(&section, &error))?;
        self.used.push(anchor);
        Ok(opened)
    }
}

fn of_tile(checkpoint: u64, fault: &tile::check::Fault) -> Failure {
    use tile::check::Fault;
    let (path, record) = match fault {
        Fault::Missing { path } | Fault::Length { path, .. } => (path, Some(path.first_record())),
        Fault::Bundle { path, record }
        | Fault::Record { path, record, .. }
        | Fault::Tile { path, record, .. } => (path, Some(*record)),
        Fault::Root { .. } => {
            let section = Section::Checkpoint(checkpoint);
            return Failure::because(&section, fault);
        }
    };
    let path = *path;
    let mut failure = Failure::because(&Section::Tile { checkpoint, path }, fault);
    failure.record = record;
    failure
}
