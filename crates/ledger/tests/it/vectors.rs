//! Test vectors for other implementers, `docs/vectors/ledger/*.json`. The test compares; with
//! `BLESS=1` it writes. `check_vectors.py` recomputes them with Python's standard library.

use crate::completeness::without;
use crate::judges::verify;
use crate::packs::{API, accesses, world};
use crate::support::{Memory, SERVER, fixed_key, issuance_record, signer};
use ledger::body::{BlobRef, Body, Recovery, Retention, Snapshot, Stop};
use ledger::merkle::{Node, consistency_proof, empty_root, inclusion_proof, leaf_hash, root};
use ledger::tile::{Kind, TilePath, WIDTH};
use ledger::{Checkpoint, Code, Commitment, HexDigest, NodeReader, Record, Salt, encode_bundle};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn b64(bytes: &[u8]) -> String {
    crypto::base64::encode(bytes)
}

fn records() -> Value {
    let stop = |reason: &str| Stop {
        reason: reason.to_owned(),
    };
    let origin = signer(SERVER, 1).key().origin().clone();
    let samples = [
        ("issuance", issuance_record()),
        ("with connection", issuance_record().connection("c-17", 4)),
        ("smallest", stop("").record()),
        (
            "every escape",
            stop("\"\\\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}/é\u{1f600}").record(),
        ),
    ];
    let valid: Vec<Value> = samples
        .into_iter()
        .zip(0..)
        .map(|((name, builder), seq)| {
            let record = builder.seal(&origin, seq, crate::support::STAMP).unwrap();
            json!({
                "name": name,
                "record": std::str::from_utf8(record.bytes()).unwrap(),
                "leaf_hash": b64(&record.leaf_hash()),
            })
        })
        .collect();
    let sample = valid[2]["record"].as_str().unwrap();
    let changes = [
        ("unknown version", "\"v\":1", "\"v\":2"),
        ("whitespace", "{\"v\"", "{ \"v\""),
        (
            "fields out of order",
            "\"actor\":\"\",\"auth\":\"\"",
            "\"auth\":\"\",\"actor\":\"\"",
        ),
        ("unknown type", "\"stop\"", "\"stopp\""),
        ("sequence as a number", "\"seq\":\"2\"", "\"seq\":2"),
        ("leading zero", "\"seq\":\"2\"", "\"seq\":\"02\""),
        (
            "duplicate key",
            "{\"reason\":\"\"}",
            "{\"reason\":\"\",\"reason\":\"\"}",
        ),
        (
            "duplicate key within",
            "{\"reason\":\"\"}",
            "{\"reason\":{\"a\":1,\"a\":1}}",
        ),
        ("float", "{\"reason\":\"\"}", "{\"reason\":1.0}"),
        (
            "integer beyond 2^53",
            "{\"reason\":\"\"}",
            "{\"reason\":9007199254740992}",
        ),
        (
            "longer escape",
            "{\"reason\":\"\"}",
            "{\"reason\":\"\\u000a\"}",
        ),
        (
            "escaped letter",
            "{\"reason\":\"\"}",
            "{\"reason\":\"\\u0061\"}",
        ),
        (
            "noncharacter",
            "{\"reason\":\"\"}",
            "{\"reason\":\"\u{ffff}\"}",
        ),
        ("trailing newline", "\"\"}}", "\"\"}}\n"),
    ];
    let refused: Vec<Value> = changes
        .into_iter()
        .map(|(name, from, to)| {
            let record = sample.replacen(from, to, 1);
            assert_ne!(record, sample, "{name}");
            let error = Record::parse(record.as_bytes()).unwrap_err();
            json!({"name": name, "record": record, "code": error.code()})
        })
        .collect();
    json!({"valid": valid, "refused": refused})
}

fn commitments() -> Value {
    let samples = [
        ([0; 16], "", ""),
        ([7; 16], "facts", "{}"),
        ([255; 16], "a", "b"),
    ];
    let commitments = samples.map(|(salt, field, value)| {
        let commitment = Commitment::new(&Salt(salt), field, value.as_bytes());
        let salt = crypto::hex::encode(&salt);
        json!({"salt": salt, "field": field, "value": value, "commitment": commitment})
    });
    json!({"context": "trilith-commitment-v1", "commitments": commitments})
}

/// A ledger whose records are the texts `record 0`, `record 1`, …
fn texts(size: usize) -> Memory {
    let mut ledger = Memory::new(SERVER, 1);
    for n in 0..size {
        ledger.append_bytes(format!("record {n}").into_bytes());
    }
    ledger
}

fn tree() -> Value {
    let ledger = texts(70);
    let roots = (0..=70_u64).map(|size| {
        let Ok(root) = root(size, &ledger);
        b64(&root)
    });
    let of = |proof: Option<Vec<[u8; 32]>>| -> Vec<String> {
        proof.unwrap().iter().map(|hash| b64(hash)).collect()
    };
    let inclusion = [
        (0, 1),
        (0, 2),
        (4, 5),
        (6, 13),
        (0, 64),
        (63, 70),
        (69, 70),
        (31, 63),
    ];
    let inclusion = inclusion.map(|(index, size)| {
        let Ok(proof) = inclusion_proof(index, size, &ledger);
        json!({"index": index, "size": size, "proof": of(proof)})
    });
    let consistency = [
        (0, 0),
        (0, 5),
        (1, 2),
        (3, 7),
        (4, 7),
        (6, 8),
        (7, 7),
        (33, 70),
        (64, 70),
    ];
    let consistency = consistency.map(|(old, new)| {
        let Ok(proof) = consistency_proof(old, new, &ledger);
        json!({"old": old, "new": new, "proof": of(proof)})
    });
    json!({
        "records": "the ASCII texts `record 0`, `record 1`, ...",
        "empty_root": b64(&empty_root()),
        "roots": roots.collect::<Vec<_>>(),
        "inclusion": inclusion,
        "consistency": consistency,
    })
}

fn tiles() -> Value {
    let size = 66_000;
    let ledger = texts(size);
    let size = size as u64;
    let mut tiles = Vec::new();
    for kind in [
        Kind::Hashes(0),
        Kind::Hashes(1),
        Kind::Hashes(2),
        Kind::Entries,
    ] {
        for path in TilePath::all(kind, size) {
            let interesting = path.index < 2 || !path.is_full();
            if interesting {
                let content = tile(&ledger, &path);
                let sha256 = HexDigest::of(&content);
                let path = path.to_string();
                tiles.push(json!({"path": path, "bytes": content.len(), "sha256": sha256}));
            }
        }
    }
    let paths = [0, 999, 1000, 1_234_067, 999_999_999].map(|index| {
        let path = TilePath::full(Kind::Hashes(5), index).to_string();
        json!({"level": 5, "index": index, "path": path})
    });
    json!({"size": size, "root": b64(&ledger.checkpoint().root), "tiles": tiles, "paths": paths})
}

fn tile(ledger: &Memory, path: &TilePath) -> Vec<u8> {
    let first = path.index * WIDTH;
    let range = first..first + u64::from(path.width());
    match path.kind {
        Kind::Entries => {
            let records = range.map(|index| ledger.records[index as usize].as_slice());
            encode_bundle(records).unwrap()
        }
        Kind::Hashes(level) => range
            .flat_map(|index| {
                let level = level * 8;
                let Ok(hash) = ledger.node(Node { level, index });
                hash
            })
            .collect(),
    }
}

fn notes() -> Value {
    let ledger = texts(5);
    let note = ledger.note();
    let other = signer("example.org/gateway/db1", 2);
    let cosigned = format!("{note}— witness.example/w1 AAAAAQQ=\n");
    let refused = [
        ("changed size", note.replace("\n5\n", "\n6\n")),
        ("no final newline", note.trim_end().to_owned()),
        (
            "extension line",
            note.replacen("\n\n", "\nextension\n\n", 1),
        ),
        (
            "signature twice",
            format!("{note}{}\n", note.lines().last().unwrap()),
        ),
        ("another ledger", other.sign(&ledger.checkpoint()).unwrap()),
    ];
    let refused = refused.map(|(name, note)| {
        let error = Checkpoint::open(&note, ledger.key()).unwrap_err();
        json!({"name": name, "note": note, "code": error.code()})
    });
    json!({
        "seed": crypto::hex::encode(&[1; 32]),
        "public_key": b64(fixed_key(1).public_key().spki_der()),
        "key": ledger.key().to_string(),
        "valid": [note, cosigned],
        "refused": refused,
    })
}

fn receipts() -> Value {
    let mut ledger = Memory::new(SERVER, 1);
    for _ in 0..13 {
        ledger.append(issuance_record());
    }
    let valid = [0_u64, 6, 12].map(|index| {
        let receipt = ledger.receipt(index);
        receipt.verify(ledger.key()).unwrap();
        json!({
            "index": index,
            "record": std::str::from_utf8(&receipt.record).unwrap(),
            "leaf_hash": b64(&leaf_hash(&receipt.record)),
            "receipt": b64(&receipt.encode().unwrap()),
            "tlog_proof": receipt.to_proof_file().to_string(),
        })
    });
    json!({"key": ledger.key().to_string(), "valid": valid})
}

/// Records about the running of a ledger: what stands in for records that are gone, and what a restored
/// ledger says of the history that it gives up.
fn upkeep() -> Value {
    let mut ledger = Memory::new(SERVER, 1);
    for _ in 0..5 {
        ledger.append(issuance_record());
    }
    let stays = ledger.checkpoint();
    for _ in 0..2 {
        ledger.append(issuance_record());
    }
    let given_up = ledger.checkpoint();
    let state = b"{\"state\":\"after 5 records\"}";
    let snapshot = Snapshot {
        size: stays.size.into(),
        root: stays.root.into(),
        state: BlobRef::of(state),
        format: "trilith-state/1".to_owned(),
    };
    let retention = Retention {
        minimum_index: 5.into(),
        snapshot: Some(7.into()),
        policy: "90d".to_owned(),
        by: "uid:0".to_owned(),
    };
    let recovery = Recovery {
        old_size: given_up.size.into(),
        old_root: given_up.root.into(),
        old_checkpoint: Some(ledger.note()),
        new_size: stays.size.into(),
        new_root: stays.root.into(),
        reason: "the disk was lost".to_owned(),
        by: "uid:0".to_owned(),
        obeyed: None,
    };
    let obeyed = Recovery {
        obeyed: Some(5.into()),
        ..recovery.clone()
    };
    let origin = signer(SERVER, 1).key().origin().clone();
    let samples = [
        ("snapshot", snapshot.record()),
        ("retention", retention.record()),
        ("recovery", recovery.record()),
        (
            "recovery, as a follower records that it obeyed it",
            obeyed.record(),
        ),
    ];
    let valid: Vec<Value> = samples
        .into_iter()
        .zip(7..)
        .map(|((name, builder), seq)| {
            let record = builder.seal(&origin, seq, crate::support::STAMP).unwrap();
            ledger::body::check(&record).unwrap();
            json!({
                "name": name,
                "record": std::str::from_utf8(record.bytes()).unwrap(),
                "leaf_hash": b64(&record.leaf_hash()),
            })
        })
        .collect();
    let leaves = ledger.records.iter().map(|record| b64(&leaf_hash(record)));
    json!({
        "key": ledger.key().to_string(),
        "leaves": leaves.collect::<Vec<_>>(),
        "snapshot_blob": b64(state),
        "valid": valid,
    })
}

/// A pack, the trust that it verifies under, packs to be refused, and packs that were cut.
fn packs() -> Value {
    let world = world();
    let builder = world.pack(&accesses(API), true);
    let pack = builder.build();
    let report = verify(&pack, &world.trust).unwrap();
    let records: Vec<Value> = report
        .records
        .iter()
        .map(|found| json!({"checkpoint": found.checkpoint, "index": found.index}))
        .collect();
    let after = |what: &[u8]| {
        let at = pack.windows(what.len()).position(|window| window == what);
        at.unwrap()
    };
    let changed = |at: usize| {
        let mut pack = pack.clone();
        pack[at] ^= 1;
        pack
    };
    let refused = [
        ("another version", changed(after(b"trilith-pack/1") + 13)),
        ("a changed table", changed(after(b"question.json"))),
        ("a changed record", changed(after(b"{\"v\":1") + 40)),
        ("cut off", pack[..pack.len() - 1].to_vec()),
        ("more than it says", [pack.as_slice(), b"x"].concat()),
    ];
    let refused = refused.map(|(name, pack)| {
        let failure = verify(&pack, &world.trust).unwrap_err();
        json!({"name": name, "pack": b64(&pack), "code": failure.code})
    });
    let cut = [
        ("an answer", vec!["record/1/6"]),
        ("what an answer rests on", vec!["record/0/3"]),
        (
            "a whole ledger",
            vec!["checkpoint/2", "tiles/2/", "record/0/8"],
        ),
    ];
    let cut = cut.map(|(name, sections)| {
        let pack = without(&builder, &sections);
        let failure = verify(&pack, &world.trust).unwrap_err();
        let record = failure.record.unwrap();
        json!({"name": name, "pack": b64(&pack), "code": failure.code, "record": record})
    });
    let unshown = without(&builder, &["record/1/6", "tiles/1/"]);
    let report_unshown = verify(&unshown, &world.trust).unwrap();
    assert!(report.is_complete() && !report_unshown.is_complete());
    let mut trust = world.trust.clone();
    trust.ledger_key = signer(SERVER, 3).key().clone();
    let untrusted = verify(&pack, &trust).unwrap_err();
    json!({
        "trust_domain": world.trust.trust_domain,
        "ledger_key": world.trust.ledger_key.to_string(),
        "valid": [
            {"pack": b64(&pack), "records": records, "whole": report.whole, "complete": true},
        ],
        "incomplete": {"pack": b64(&unshown)},
        "cut": cut,
        "refused": refused,
        "another_key": {"ledger_key": trust.ledger_key.to_string(), "code": untrusted.code},
    })
}

pub(crate) fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/ledger")
}

pub(crate) fn compare(name: &str, vectors: &Value) {
    let path = dir().join(name).with_extension("json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, format!("{vectors:#}\n")).unwrap();
        return;
    }
    // As values: the order of an object's keys depends on what else is built with this crate. The
    // bytes that are fixed are strings within.
    let held = std::fs::read(&path).unwrap();
    let held: Value = serde_json::from_slice(&held).unwrap();
    assert!(
        held == *vectors,
        "{} differs. These bytes are fixed; only new vectors may be added (BLESS=1)",
        path.display()
    );
}

#[test]
fn the_published_vectors_are_what_this_version_makes() {
    compare("records", &records());
    compare("commitments", &commitments());
    compare("tree", &tree());
    compare("tiles", &tiles());
    compare("notes", &notes());
    compare("receipts", &receipts());
    compare("upkeep", &upkeep());
    compare("packs", &packs());
}

#[test]
fn python_recomputes_the_vectors() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_vectors.py");
    let run = Command::new("python3").arg(script).arg(dir()).output();
    let Ok(output) = run else {
        testkit::skip(
            "ledger::python_recomputes_the_vectors",
            "there is no python3",
        );
        return;
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}{complained}");
    assert!(printed.contains("all vectors hold"), "{printed}");
}
