//! Packs: a real one verifies; no byte of it can change; a forger who mends the digests fails too.

use crate::judges::verify;
use crate::support::{Memory, SERVER, STAMP, issuance};
use ledger::body::{
    ActionOn, Anchor, Begin, BlobRef, Body, Coverage, Decision, ErasedItem, Erasure, EstateVersion,
    Intent, Issuance, Outcome, Proof, SessionEnd, SessionStart, Verdict, VerdictOutcome,
};
use ledger::merkle::{Node, NodeReader as _};
use ledger::pack::{
    Answers, CertificateCheck, Doubt, PackBuilder, PackRecord, Question, Trust, grounds,
    verify_with, with_certificates,
};
use ledger::tile::{Kind, TilePath};
use ledger::{
    Base64, Commitment, Decimal, Digest, EstateRef, HexDigest, Record, RecordBuilder, RecordType,
    Salt, Stamp, encode_bundle,
};
use serde_json::json;
use std::collections::BTreeSet;

pub(crate) const DOMAIN: &str = "example.org";
pub(crate) const GATEWAY: &str = "example.org/gateway/db1";
pub(crate) const IDLE: &str = "example.org/gateway/db2";
pub(crate) const API: &str = "spiffe://example.org/payments/api";
pub(crate) const HELPER: &str = "spiffe://example.org/agents/helper";
pub(crate) const ESTATE: &[u8] = b"{\"estate.toml\":\"...\"}";
const FACTS: &[u8] = b"facts";
const PROOF: &[u8] = b"proof";
/// The estate after [`ESTATE`].
pub(crate) const NEWER: &[u8] = b"{\"estate.toml\":\"newer\"}";

/// A server and the gateways that it anchored.
pub(crate) struct World {
    pub(crate) server: Memory,
    pub(crate) gateway: Memory,
    pub(crate) idle: Memory,
    pub(crate) trust: Trust,
    /// When what is appended happens.
    pub(crate) now: Stamp,
}

/// The server's: 0 begin, 1 proof, 2 estate, 3 verdict, 4 issuance for the API, 5 one for the helper,
/// 6 an early anchor of db1, 7 its newest, 8 that of db2.
/// db1's: 0 to 2 the API's session, an intent on cards and its outcome; 3 to 5 the same of the helper, on
/// orders; 6 a denial for the API and 7 its session's end.
pub(crate) fn world() -> World {
    let mut world = bare();
    world.append(0, begin(&world.server).record());
    let proof = Proof {
        version: HexDigest::of(ESTATE),
        outcome: "proved".to_owned(),
        invariants: Vec::new(),
        blob: Some(BlobRef::of(PROOF)),
        millis: 7,
        approval_index: None,
    };
    world.append(0, proof.record());
    let estate = EstateVersion {
        version: HexDigest::of(ESTATE),
        blob: BlobRef::of(ESTATE),
        parent: None,
        author: "uid:0".to_owned(),
        message: "first".to_owned(),
        proof_index: Some(Decimal(1)),
        floor: Decimal(2),
    };
    world.append(0, estate.record());
    world.append(0, verdict().record());
    for (serial, id) in [("a1", API), ("b2", HELPER)] {
        let issuance = Issuance {
            spiffe_id: id.to_owned(),
            serial: serial.to_owned(),
            verdict: Decimal(3),
            ..issuance()
        };
        world.append(0, issuance.record());
    }
    for (at, (id, issuance, table)) in [(API, 4, "cards"), (HELPER, 5, "orders")]
        .iter()
        .enumerate()
    {
        let session = format!("s{at}");
        world.append(1, start(id, &session, *issuance).record().actor(id, "x509"));
        world.append(1, intent(&session, table).record().actor(id, "x509"));
        let seq = world.gateway.records.len() as u64 - 1;
        world.append(1, outcome(seq).record().actor(id, "x509"));
        if at == 0 {
            world.anchor(1);
        }
    }
    let denial = Decision {
        session: "s0".to_owned(),
        statement: "f".to_owned(),
        actions: intent("s0", "cards").actions,
        decision: "s0.2".to_owned(),
        allow: false,
        policies: Vec::new(),
        findings: Vec::new(),
        coverage: Coverage::Complete,
        more_policies: None,
        about: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    world.append(1, denial.record().actor(API, "x509"));
    let end = SessionEnd {
        session: "s0".to_owned(),
        reason: "closed".to_owned(),
        detail: String::new(),
        operations: Decimal(2),
    };
    world.append(1, end.record().actor(API, "x509"));
    world.anchor(1);
    let idle = ledger::body::Stop {
        reason: "idle".to_owned(),
    };
    world.append(2, idle.record());
    world.anchor(2);
    world
}

/// Ledgers without a record.
pub(crate) fn bare() -> World {
    let server = Memory::new(SERVER, 1);
    let trust = Trust {
        trust_domain: DOMAIN.to_owned(),
        ledger_key: server.key().clone(),
        x509_authorities: Vec::new(),
        policy: None,
    };
    World {
        server,
        gateway: Memory::new(GATEWAY, 2),
        idle: Memory::new(IDLE, 4),
        trust,
        now: STAMP,
    }
}

impl World {
    pub(crate) fn ledgers(&self) -> [&Memory; 3] {
        [&self.server, &self.gateway, &self.idle]
    }

    /// Appends to ledger `number`, under the estate that stands at 2.
    pub(crate) fn append(&mut self, number: usize, record: RecordBuilder) {
        let version = HexDigest::of(ESTATE);
        let estate = EstateRef { version, index: 2 };
        let record = record.at(self.now).estate(estate);
        let ledger = [&mut self.server, &mut self.gateway, &mut self.idle];
        ledger.into_iter().nth(number).unwrap().append(record);
    }

    pub(crate) fn anchor(&mut self, number: usize) {
        let record = anchor(self.ledgers()[number]).record();
        self.append(0, record);
    }

    /// As the server makes a pack.
    pub(crate) fn pack(&self, question: &Question, with_tiles: bool) -> PackBuilder {
        let mut pack = PackBuilder::new(question, &self.server.note());
        let mut open: Vec<u64> = Vec::new();
        for (at, ledger) in self.ledgers().into_iter().enumerate() {
            let (origin, server) = (ledger.origin().as_str(), at == 0);
            if !server && !question.is_about(origin, false) {
                continue;
            }
            let mut answers = Answers::new(question, DOMAIN, origin, server);
            for (index, record) in records(ledger) {
                answers.see(index, &record);
            }
            let number = pack.checkpoint(&ledger.note());
            if with_tiles {
                tiles(number, ledger, &mut pack);
            }
            if server {
                open.extend(answers.indices());
                continue;
            }
            open.extend(records(&self.server).filter_map(|(index, record)| {
                let anchor: Anchor = record.expect_body().ok()?;
                (anchor.checkpoint == ledger.note()).then_some(index)
            }));
            for index in answers.indices() {
                let receipt = ledger.receipt(index);
                open.extend(
                    grounds(&Record::parse(&receipt.record).unwrap())
                        .unwrap()
                        .records,
                );
                pack.receipt(&receipt);
            }
        }
        let mut done = BTreeSet::new();
        while let Some(index) = open.pop() {
            if index < self.server.records.len() as u64 && done.insert(index) {
                let receipt = self.server.receipt(index);
                let grounds = grounds(&Record::parse(&receipt.record).unwrap()).unwrap();
                open.extend(grounds.records);
                for blob in [ESTATE, FACTS, PROOF, NEWER] {
                    if grounds.blobs.contains(&HexDigest::of(blob)) {
                        pack.blob(blob.to_vec());
                    }
                }
                pack.receipt(&receipt);
            }
        }
        pack
    }
}

pub(crate) fn records(ledger: &Memory) -> impl Iterator<Item = (u64, Record)> {
    (0..).zip(
        ledger
            .records
            .iter()
            .map(|bytes| Record::parse(bytes).unwrap()),
    )
}

pub(crate) fn begin(server: &Memory) -> Begin {
    Begin {
        trust_domain: DOMAIN.to_owned(),
        ledger_key: Base64(server.key().public_key().spki_der().to_vec()),
        format: "v1".to_owned(),
    }
}

pub(crate) fn anchor(gateway: &Memory) -> Anchor {
    let checkpoint = gateway.checkpoint();
    Anchor {
        gateway: "spiffe://example.org/gateway/db1".to_owned(),
        origin: gateway.origin().to_string(),
        ledger_key: Base64(gateway.key().public_key().spki_der().to_vec()),
        size: Decimal(checkpoint.size),
        root: Digest(checkpoint.root),
        checkpoint: gateway.note(),
    }
}

pub(crate) fn verdict() -> Verdict {
    Verdict {
        node: "spiffe://example.org/node/m1".to_owned(),
        outcome: VerdictOutcome::Affirmed,
        facts_blob: Some(BlobRef::of(FACTS)),
        evidence: Vec::new(),
        facts: Vec::new(),
        findings: Vec::new(),
        ar4si: None,
    }
}

pub(crate) fn start(id: &str, session: &str, issuance: u64) -> SessionStart {
    SessionStart {
        session: session.to_owned(),
        spiffe_id: id.to_owned(),
        serial: "a1".to_owned(),
        issuance: Some(Decimal(issuance)),
        resource: "postgres:shop".to_owned(),
        role: "r".to_owned(),
        application: "psql".to_owned(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    }
}

pub(crate) fn intent(session: &str, table: &str) -> Intent {
    Intent {
        session: session.to_owned(),
        statement: "f".to_owned(),
        actions: vec![ActionOn {
            action: "select".to_owned(),
            resources: vec![format!("shop/public/{table}")],
            more: None,
            columns: Vec::new(),
        }],
        decision: "s.1".to_owned(),
        policies: vec!["p".to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    }
}

pub(crate) fn outcome(intent: u64) -> Outcome {
    Outcome {
        intent: Decimal(intent),
        result: "ok".to_owned(),
        sqlstate: None,
        rows: Some(Decimal(1)),
        tag: Some("SELECT 1".to_owned()),
        transaction: None,
    }
}

/// What an identity did, anywhere and to anything.
pub(crate) fn accesses(identity: &str) -> Question {
    Question::Access {
        identity: identity.to_owned(),
        resource: None,
        newest: None,
    }
}

pub(crate) fn tiles(number: u64, ledger: &Memory, pack: &mut PackBuilder) {
    let size = ledger.records.len() as u64;
    for level in 0..2 {
        for path in TilePath::all(Kind::Hashes(level), size) {
            let first = path.index * 256;
            let nodes = (first..first + u64::from(path.width())).map(|index| Node {
                level: 8 * level,
                index,
            });
            let hashes = nodes.flat_map(|node| {
                let Ok(hash) = ledger.node(node);
                hash
            });
            pack.tile(number, path, hashes.collect());
        }
    }
    for path in TilePath::all(Kind::Entries, size) {
        let first = path.first_record() as usize;
        let records = ledger.records.iter().skip(first);
        let records = records.take(usize::from(path.width())).map(Vec::as_slice);
        pack.tile(number, path, encode_bundle(records).unwrap());
    }
}

#[test]
fn a_pack_verifies_with_nothing_but_the_trust_file() {
    let world = world();
    let pack = world.pack(&accesses(API), true);
    let report = verify(&pack.build(), &world.trust).unwrap();
    assert!(report.is_complete());
    assert_eq!(report.records.len(), 11);
    assert_eq!(report.checkpoints.len(), 3);
    assert_eq!(report.blobs.len(), 3);
    assert_eq!(report.whole, [0, 1, 2]);
    let last = report.records.last().unwrap();
    assert_eq!((last.checkpoint, last.index), (1, 7));
    assert_eq!(last.record.kind(), RecordType::SessionEnd);
    assert_eq!(pack.build(), pack.build());
}

#[test]
fn no_byte_of_a_pack_can_change() {
    let world = world();
    let mut pack = world.pack(&accesses(HELPER), false);
    tiles(1, &world.gateway, &mut pack);
    let bytes = pack.build();
    verify(&bytes, &world.trust).unwrap();
    let mut named = std::collections::BTreeSet::new();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        // One judge looks at each, the other at some.
        let verdict = match at % 9 {
            0 => verify(&changed, &world.trust),
            _ => ledger::pack::verify(&changed, &world.trust),
        };
        let failure = verdict.expect_err("a change went unnoticed");
        assert!(!failure.section.is_empty());
        if failure.section.starts_with("record/") {
            assert!(failure.record.is_some(), "{failure}");
        }
        named.insert(failure.section);
    }
    for section in [
        "the header",
        "the table of sections",
        "question.json",
        "checkpoint/0",
        "checkpoint/1",
        "record/0/3",
        "record/1/3",
        "tiles/1/tile/0/000.p/8",
        "tiles/1/tile/entries/000.p/8",
    ] {
        assert!(named.contains(section), "{section}");
    }
    for cut in 0..bytes.len() {
        assert!(ledger::pack::verify(&bytes[..cut], &world.trust).is_err());
        if cut % 97 == 0 {
            drop(verify(&bytes[..cut], &world.trust));
        }
    }
    assert!(verify(&[bytes.as_slice(), b"\n"].concat(), &world.trust).is_err());
}

/// What the forger changes, and what is said about it.
#[test]
fn mended_digests_do_not_help_a_forger() {
    let check = |expected: &str, forge: &dyn Fn(&mut World) -> PackBuilder| {
        let mut world = world();
        let pack = forge(&mut world);
        let failure = verify(&pack.build(), &world.trust).unwrap_err();
        assert_eq!(
            format!("{} {}", failure.code, failure.section),
            expected,
            "{failure}"
        );
    };
    let whole = |world: &World| world.pack(&accesses(API), true);
    check("LEDGER-PROOF-ROOT record/0/4", &|world| {
        let mut pack = whole(world);
        let mut receipt = world.server.receipt(4);
        let text = String::from_utf8(receipt.record).unwrap();
        receipt.record = text.replace("payments/api", "payments/apj").into_bytes();
        pack.receipt(&receipt);
        pack
    });
    check("LEDGER-PROOF-ROOT record/0/2", &|world| {
        let mut pack = whole(world);
        let mut receipt = world.server.receipt(3);
        receipt.index = 2;
        pack.receipt(&receipt);
        pack
    });
    check("LEDGER-NOTE-SIGNATURE checkpoint/0", &|world| {
        let note = world.server.note();
        let note = note.replace("\n9\n", "\n8\n");
        PackBuilder::new(&accesses(API), &note)
    });
    check("LEDGER-NOTE-UNSIGNED checkpoint/0", &|_world| {
        let mut forged = Memory::new(SERVER, 3);
        forged.append(verdict().record());
        PackBuilder::new(&accesses(API), &forged.note())
    });
    check("PACK-ANCHOR checkpoint/3", &|world| {
        let mut pack = whole(world);
        world.append(1, outcome(9).record());
        pack.receipt(&world.gateway.receipt(8));
        pack
    });
    check("PACK-ANCHOR record/0/9", &|world| {
        let mut forged = Memory::new(GATEWAY, 3);
        forged.append(outcome(1).record());
        world.append(0, anchor(&forged).record());
        let mut pack = whole(world);
        pack.receipt(&world.server.receipt(9));
        pack
    });
    check(
        "PACK-BLOB blob/5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
        &|world| {
            let mut pack = whole(world);
            pack.blob(b"0".to_vec());
            pack
        },
    );
    check(
        "LEDGER-BUNDLE-CORRUPT tiles/1/tile/entries/000.p/8",
        &|world| {
            let mut pack = world.pack(&accesses(API), false);
            let honest = world.gateway.records.clone();
            world.gateway.records[2][40] ^= 1;
            tiles(1, &world.gateway, &mut pack);
            world.gateway.records = honest;
            let leaves = world.gateway.records.iter();
            let leaves = leaves.flat_map(|record| ledger::merkle::leaf_hash(record));
            let path = TilePath::at(Kind::Hashes(0), 0, 8).unwrap();
            pack.tile(1, path, leaves.collect());
            pack
        },
    );
    let first = Question::Record {
        ledger: SERVER.to_owned(),
        index: 0,
    };
    check("PACK-TRUST record/0/0", &|world| {
        world.trust.trust_domain = "example.com".to_owned();
        world.pack(&first, false)
    });
    check("PACK-TRUST record/0/0", &|world| {
        world.trust.trust_domain = "example.com".to_owned();
        whole(world)
    });
    check("LEDGER-RECORD-SHAPE record/0/9", &|world| {
        let body = json!({"reason": "x", "extra": 1});
        world.append(0, Record::builder(RecordType::Stop, body));
        let mut pack = whole(world);
        pack.receipt(&world.server.receipt(9));
        pack
    });
}

struct Pretend;

impl CertificateCheck for Pretend {
    fn check(
        &self,
        certificates: &[&[u8]],
        records: &[PackRecord],
        _: &Trust,
    ) -> Result<Vec<Option<u64>>, (usize, String)> {
        let commits = |item: &&PackRecord, der: &[u8]| {
            let issuance = item.record.expect_body::<Issuance>();
            issuance.is_ok_and(|issuance| issuance.tbs == Digest::of(der))
        };
        let found = certificates.iter().enumerate().map(|(at, der)| {
            let item = records.iter().find(|item| commits(item, der));
            item.map(|item| Some(item.index))
                .ok_or_else(|| (at, "no issuance commits to it".to_owned()))
        });
        found.collect()
    }
}

#[test]
fn certificates_are_judged_by_who_can_read_them() {
    let world = world();
    let serial = "a1".to_owned();
    let mut pack = world.pack(&Question::Issuance { serial }, false);
    pack.certificate(b"tbs".to_vec());
    let failure = verify(&pack.build(), &world.trust).unwrap_err();
    assert_eq!(failure.code, "PACK-CERTIFICATE");
    let report = verify_with(&pack.build(), &world.trust, &Pretend).unwrap();
    assert_eq!(report.certificates.values().collect::<Vec<_>>(), [&4]);
    let alone = world.pack(&report.question, false).build();
    let added = with_certificates(&alone, &[b"tbs".to_vec()]).unwrap();
    assert_eq!(added, pack.build());
    assert_eq!(issuance().tbs, Digest::of(b"tbs"));
    pack.certificate(b"stolen".to_vec());
    let failure = verify_with(&pack.build(), &world.trust, &Pretend).unwrap_err();
    assert_eq!(failure.message, "no issuance commits to it");
    let named = format!("certificate/{}", HexDigest::of(b"stolen"));
    assert_eq!(failure.section, named);
}

/// Whoever decides an issuance again needs the facts that it was decided on; no record rests on them.
#[test]
fn the_opening_of_a_commitment_may_stand_beside_its_issuance() {
    let world = world();
    let serial = "a1".to_owned();
    let mut pack = world.pack(&Question::Issuance { serial }, false);
    let before = verify(&pack.build(), &world.trust).unwrap();
    let opening = Commitment::opening(&Salt([7; 16]), "facts", b"{}");
    let blob = pack.blob(opening.clone());
    let report = verify(&pack.build(), &world.trust).unwrap();
    assert_eq!(report.doubts, before.doubts);
    assert_eq!(report.blobs.get(&blob.sha256.to_string()), Some(&opening));
    pack.blob(Commitment::opening(&Salt([8; 16]), "facts", b"{}"));
    let failure = verify(&pack.build(), &world.trust).unwrap_err();
    assert_eq!(failure.code, "PACK-BLOB");
}

/// What is gone is gone by a record of the server's ledger, which is in the pack for it and is later.
#[test]
fn what_was_erased_is_told_by_the_record_that_erased_it() {
    let serial = "a1".to_owned();
    let question = Question::Issuance { serial };
    let erasure = |digests: &[HexDigest]| Erasure {
        reason: "case 7".to_owned(),
        by: "uid:0".to_owned(),
        erased: digests
            .iter()
            .map(|sha256| ErasedItem {
                kind: "facts".to_owned(),
                sha256: *sha256,
                record: Decimal(3),
            })
            .collect(),
        subject: None,
        signatures: Vec::new(),
    };
    let gone = [
        HexDigest::of(FACTS),
        HexDigest(issuance().commit.0.0),
        HexDigest::of(ESTATE),
    ];
    let mut world = world();
    world.append(0, erasure(&gone).record());
    let at = world.server.records.len() as u64 - 1;
    let pack = |world: &World, blobs: &[&[u8]], more: &[u64]| {
        let mut pack = PackBuilder::new(&question, &world.server.note());
        for index in [1, 2, 3, 4].iter().chain(more) {
            pack.receipt(&world.server.receipt(*index));
        }
        for blob in blobs {
            pack.blob(blob.to_vec());
        }
        verify(&pack.build(), &world.trust)
    };
    let report = pack(&world, &[PROOF], &[at]).unwrap();
    let mut erased: Vec<_> = report
        .erased
        .iter()
        .map(|one| (one.index, one.sha256))
        .collect();
    erased.sort_unstable();
    assert_eq!(erased, [(2, gone[2]), (3, gone[0]), (4, gone[1])]);
    let same = |one: &ledger::pack::Erased| {
        (one.by_record, one.at, one.reason.as_str()) == (at, STAMP.wall, "case 7")
    };
    assert!(report.erased.iter().all(same));
    let of_blobs = |report: &ledger::pack::Report| {
        let doubts = report.doubts.iter();
        doubts
            .filter(|doubt| matches!(doubt, Doubt::NoBlob { .. }))
            .count()
    };
    assert_eq!(of_blobs(&report), 0);
    // Left out by somebody, and not erased: that is a doubt.
    let report = pack(&world, &[], &[at]).unwrap();
    assert_eq!((of_blobs(&report), report.erased.len()), (1, 3));
    let report = pack(&world, &[PROOF], &[]).unwrap();
    assert_eq!((of_blobs(&report), report.erased.len()), (2, 0));
    // An erasure of what is there, or of something else, is no part of the answer.
    let opening = Commitment::opening(&Salt([7; 16]), "facts", b"{}");
    let failure = pack(&world, &[PROOF, FACTS, ESTATE, &opening], &[at]).unwrap_err();
    assert_eq!(failure.code, "PACK-RECORD-STRAY");
    // An erasure of before the record that names it has not erased it.
    let mut early = bare();
    early.append(0, erasure(&gone).record());
    early.append(0, verdict().record());
    let question = Question::Verdict { index: 1 };
    let mut pack = PackBuilder::new(&question, &early.server.note());
    pack.receipt(&early.server.receipt(1));
    let report = verify(&pack.build(), &early.trust).unwrap();
    assert_eq!((of_blobs(&report), report.erased.len()), (1, 0));
    pack.receipt(&early.server.receipt(0));
    let failure = verify(&pack.build(), &early.trust).unwrap_err();
    assert_eq!(failure.code, "PACK-RECORD-STRAY");
}

#[test]
fn a_trust_file_reads_back() {
    let trust = world().trust;
    let text = serde_json::to_string(&trust).unwrap();
    assert_eq!(Trust::from_json(&text).unwrap(), trust);
    assert!(Trust::from_json(&text.replace("example.org+", "x+")).is_err() || text.contains('+'));
    assert!(Trust::from_json(&text.replacen('{', "{\"more\":1,", 1)).is_err());
}
