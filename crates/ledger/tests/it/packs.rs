//! Packs: a real one verifies; no byte of it can change; a forger who mends the digests fails too.

use crate::support::{Memory, SERVER, STAMP, issuance, issuance_record};
use ledger::body::{
    Anchor, Begin, BlobRef, Body, EstateVersion, Issuance, Outcome, Verdict, VerdictOutcome,
};
use ledger::pack::{CertificateCheck, PackBuilder, Trust, verify, verify_with};
use ledger::tile::{Kind, TilePath};
use ledger::{Base64, Decimal, Digest, HexDigest, RecordType, encode_bundle};
use serde_json::json;

const GATEWAY: &str = "example.org/gateway/db1";
const ESTATE: &[u8] = b"{\"estate.toml\":\"...\"}";

pub(crate) struct World {
    pub(crate) server: Memory,
    pub(crate) gateway: Memory,
    pub(crate) trust: Trust,
}

pub(crate) fn world() -> World {
    let mut server = Memory::new(SERVER, 1);
    let mut gateway = Memory::new(GATEWAY, 2);
    let trust = Trust {
        trust_domain: "example.org".to_owned(),
        ledger_key: server.key().clone(),
        x509_authorities: Vec::new(),
    };
    let begin = Begin {
        trust_domain: "example.org".to_owned(),
        ledger_key: Base64(server.key().public_key().spki_der().to_vec()),
        format: "v1".to_owned(),
    };
    server.append(begin.record());
    let estate = EstateVersion {
        version: HexDigest::of(ESTATE),
        blob: BlobRef::of(ESTATE),
        parent: None,
        author: "uid:0".to_owned(),
        message: "first".to_owned(),
        proof_index: None,
        floor: Decimal(1),
    };
    server.append(estate.record());
    server.append(verdict().record());
    server.append(issuance_record());
    for intent in 0..5 {
        gateway.append(outcome(intent).record());
    }
    let checkpoint = gateway.checkpoint();
    let anchor = Anchor {
        gateway: "spiffe://example.org/gateway/db1".to_owned(),
        origin: GATEWAY.to_owned(),
        ledger_key: Base64(gateway.key().public_key().spki_der().to_vec()),
        size: Decimal(checkpoint.size),
        root: Digest(checkpoint.root),
        checkpoint: gateway.note(),
    };
    server.append(anchor.record());
    World {
        server,
        gateway,
        trust,
    }
}

fn verdict() -> Verdict {
    Verdict {
        node: "spiffe://example.org/node/m1".to_owned(),
        outcome: VerdictOutcome::Affirmed,
        facts_blob: Some(BlobRef::of(b"facts")),
        evidence: Vec::new(),
        facts: Vec::new(),
        findings: Vec::new(),
    }
}

fn outcome(intent: u64) -> Outcome {
    Outcome {
        intent: Decimal(intent),
        result: "ok".to_owned(),
        sqlstate: None,
        rows: Some(Decimal(1)),
        tag: Some("SELECT 1".to_owned()),
        transaction: None,
    }
}

pub(crate) fn builder(world: &World) -> PackBuilder {
    // Keys in their order, so that the bytes do not depend on what else is built with serde_json.
    let question = json!({"access": {"index": 3, "ledger": GATEWAY}});
    let mut pack = PackBuilder::new(&question, &world.server.note()).unwrap();
    for index in 0..world.server.records.len() {
        pack.receipt(&world.server.receipt(index as u64));
    }
    pack.receipt(&world.gateway.receipt(3));
    pack.blob(ESTATE.to_vec());
    pack.blob(b"facts".to_vec());
    pack
}

pub(crate) fn with_tiles(world: &World, number: u64, ledger: &Memory, pack: &mut PackBuilder) {
    let size = ledger.records.len() as u64;
    let leaves: Vec<u8> = (0..size)
        .flat_map(|index| ledger::merkle::leaf_hash(&ledger.records[index as usize]))
        .collect();
    let path = TilePath::at(Kind::Hashes(0), 0, size).unwrap();
    pack.tile(number, path, leaves);
    let bundle = encode_bundle(ledger.records.iter().map(Vec::as_slice)).unwrap();
    let path = TilePath::at(Kind::Entries, 0, size).unwrap();
    pack.tile(number, path, bundle);
    assert_eq!(world.server.origin().as_str(), SERVER);
}

#[test]
fn a_pack_verifies_with_nothing_but_the_trust_file() {
    let world = world();
    let mut pack = builder(&world);
    with_tiles(&world, 0, &world.server, &mut pack);
    let report = verify(&pack.build(), &world.trust).unwrap();
    assert_eq!(report.records.len(), 6);
    assert_eq!(report.checkpoints.len(), 2);
    assert_eq!(report.blobs.len(), 2);
    assert_eq!(report.whole, [0]);
    let last = report.records.last().unwrap();
    assert_eq!((last.checkpoint, last.index), (1, 3));
    assert_eq!(last.record.kind(), RecordType::Outcome);
    assert_eq!(pack.build(), pack.build());
}

#[test]
fn no_byte_of_a_pack_can_change() {
    let world = world();
    let mut pack = builder(&world);
    with_tiles(&world, 1, &world.gateway, &mut pack);
    let bytes = pack.build();
    verify(&bytes, &world.trust).unwrap();
    let mut named = std::collections::BTreeSet::new();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let failure = verify(&changed, &world.trust).expect_err("a change went unnoticed");
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
        "tiles/1/tile/0/000.p/5",
        "tiles/1/tile/entries/000.p/5",
    ] {
        assert!(named.contains(section), "{section}");
    }
    for cut in 0..bytes.len() {
        assert!(verify(&bytes[..cut], &world.trust).is_err());
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
    check("LEDGER-PROOF-ROOT record/0/3", &|world| {
        let mut pack = builder(world);
        let mut receipt = world.server.receipt(3);
        let text = String::from_utf8(receipt.record).unwrap();
        receipt.record = text.replace("payments/api", "payments/apj").into_bytes();
        pack.receipt(&receipt);
        pack
    });
    check("LEDGER-PROOF-ROOT record/0/2", &|world| {
        let mut pack = builder(world);
        let mut receipt = world.server.receipt(3);
        receipt.index = 2;
        pack.receipt(&receipt);
        pack
    });
    check("LEDGER-NOTE-SIGNATURE checkpoint/0", &|world| {
        let note = world.server.note();
        let note = note.replace("\n5\n", "\n6\n");
        PackBuilder::new(&json!({}), &note).unwrap()
    });
    check("LEDGER-NOTE-UNSIGNED checkpoint/0", &|_world| {
        let mut forged = Memory::new(SERVER, 3);
        forged.append(issuance_record());
        PackBuilder::new(&json!({}), &forged.note()).unwrap()
    });
    check("PACK-ANCHOR checkpoint/1", &|world| {
        let mut pack = builder_without_gateway(world);
        world.gateway.append(outcome(9).record());
        pack.receipt(&world.gateway.receipt(5));
        pack
    });
    check("PACK-ANCHOR record/0/5", &|world| {
        let mut forged = Memory::new(GATEWAY, 3);
        forged.append(outcome(1).record());
        let checkpoint = forged.checkpoint();
        let anchor = Anchor {
            gateway: "spiffe://example.org/gateway/db1".to_owned(),
            origin: GATEWAY.to_owned(),
            ledger_key: Base64(forged.key().public_key().spki_der().to_vec()),
            size: Decimal(checkpoint.size),
            root: Digest(checkpoint.root),
            checkpoint: forged.note(),
        };
        world.server.append(anchor.record());
        builder(world)
    });
    check(
        "PACK-BLOB blob/5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
        &|world| {
            let mut pack = builder(world);
            pack.blob(b"0".to_vec());
            pack
        },
    );
    check(
        "LEDGER-BUNDLE-CORRUPT tiles/1/tile/entries/000.p/5",
        &|world| {
            let mut pack = builder(world);
            let honest = world.gateway.records.clone();
            world.gateway.records[2][40] ^= 1;
            with_tiles(world, 1, &world.gateway, &mut pack);
            world.gateway.records = honest;
            let leaves = world.gateway.records.iter();
            let leaves = leaves.flat_map(|record| ledger::merkle::leaf_hash(record));
            let path = TilePath::at(Kind::Hashes(0), 0, 5).unwrap();
            pack.tile(1, path, leaves.collect());
            pack
        },
    );
    check("PACK-TRUST record/0/0", &|world| {
        world.trust.trust_domain = "example.com".to_owned();
        builder(world)
    });
    check("LEDGER-RECORD-SHAPE record/0/5", &|world| {
        let body = json!({"reason": "x", "extra": 1});
        world
            .server
            .append(ledger::Record::builder(RecordType::Stop, body).at(STAMP));
        builder(world)
    });
}

fn builder_without_gateway(world: &World) -> PackBuilder {
    let mut pack = PackBuilder::new(&json!({}), &world.server.note()).unwrap();
    for index in 0..world.server.records.len() {
        pack.receipt(&world.server.receipt(index as u64));
    }
    pack
}

struct Pretend;

impl CertificateCheck for Pretend {
    fn check(&self, der: &[u8], issuances: &[(u64, Issuance)], _: &Trust) -> Result<u64, String> {
        let committed = issuances
            .iter()
            .find(|(_, issuance)| issuance.tbs == Digest::of(der));
        let (index, _) = committed.ok_or("no issuance commits to it")?;
        Ok(*index)
    }
}

#[test]
fn certificates_are_judged_by_who_can_read_them() {
    let world = world();
    let mut pack = builder(&world);
    pack.certificate(b"tbs".to_vec());
    let failure = verify(&pack.build(), &world.trust).unwrap_err();
    assert_eq!(failure.code, "PACK-CERTIFICATE");
    let report = verify_with(&pack.build(), &world.trust, &Pretend).unwrap();
    assert_eq!(report.certificates.values().collect::<Vec<_>>(), [&3]);
    assert_eq!(issuance().tbs, Digest::of(b"tbs"));
    pack.certificate(b"stolen".to_vec());
    let failure = verify_with(&pack.build(), &world.trust, &Pretend).unwrap_err();
    assert_eq!(failure.message, "no issuance commits to it");
}

#[test]
fn a_trust_file_reads_back() {
    let trust = world().trust;
    let text = serde_json::to_string(&trust).unwrap();
    assert_eq!(Trust::from_json(&text).unwrap(), trust);
    assert!(Trust::from_json(&text.replace("example.org+", "x+")).is_err() || text.contains('+'));
    assert!(Trust::from_json(&text.replacen('{', "{\"more\":1,", 1)).is_err());
}
