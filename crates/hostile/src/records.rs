//! What witnesses and packs are made of: cosignatures, policies, requests, answers, pack files, and what a tile
//! server hands out. The good ones are the published vectors, among them those of other people's programs.

use crate::seeds;
use ledger::label::LabelPath;
use ledger::mirror::{Answer as MirrorAnswer, INFO_TYPE, Incoming};
use ledger::pack::{Trust, verify};
use ledger::tile::TilePath;
use ledger::witness::{AddCheckpoint, Answer, SIZE_TYPE};
use ledger::{
    CosignerKey, ForeignCheckpoint, LogKey, Note, NoteSignature, Policy, ProofFile, decode_bundle,
    encode_bundle,
};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// The witnesses of the vectors, and every text that one of them has cosigned.
struct Witnesses {
    keys: Vec<CosignerKey>,
    texts: BTreeSet<String>,
}

static WITNESSES: LazyLock<Witnesses> = LazyLock::new(|| {
    let mut written = seeds::vectors("ledger/cosignatures.json", &["key"]);
    written.extend(seeds::vectors(
        "ledger/peers.json",
        &["witness_ml_dsa_44", "witness_ed25519", "torchwood_ed25519"],
    ));
    let keys: Vec<CosignerKey> = written.iter().map(|key| key.parse().unwrap()).collect();
    let notes = cosigned_notes();
    let notes = notes.iter().filter_map(|note| Note::parse(note).ok());
    let signed = notes.filter(|note| {
        keys.iter()
            .any(|key| matches!(key.verify(note), Ok(Some(_))))
    });
    Witnesses {
        texts: signed.map(|note| note.text).collect(),
        keys,
    }
});

fn cosigned_notes() -> Vec<String> {
    let mut notes = seeds::vectors("ledger/cosignatures.json", &["note"]);
    notes.extend(seeds::vectors(
        "ledger/peers.json",
        &["cosigned", "foreign_checkpoint", "ml_dsa_44_checkpoint"],
    ));
    // What the witness of the peers was asked to cosign, with what it answered.
    let asked = seeds::vectors("ledger/peers.json", &["request"]);
    let answered = seeds::vectors("ledger/peers.json", &["answer"]);
    let exchanges = asked.iter().zip(&answered);
    notes.extend(exchanges.filter_map(|(request, answer)| {
        let mut note = request.parse::<AddCheckpoint>().ok()?.note;
        note.merge(NoteSignature::parse_lines(answer).ok()?).ok()?;
        Some(note.to_string())
    }));
    notes
}

/// A cosigner's key has one spelling, a foreign checkpoint too, and nothing counts as cosigned that was not. An
/// ML-DSA-44 line is not over extension lines, so that those are not compared.
pub(crate) fn cosignature(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(key) = text.parse::<CosignerKey>() {
        assert_eq!(key.to_string(), text);
    }
    let Ok(note) = Note::parse(text) else {
        return;
    };
    if let Ok(checkpoint) = ForeignCheckpoint::parse(&note.text) {
        assert_eq!(checkpoint.text(), note.text);
    }
    let stated = |text: &str| text.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
    for key in &WITNESSES.keys {
        if let Ok(Some(found)) = key.verify(&note) {
            assert!(found.time <= i64::MAX.unsigned_abs());
            let said = stated(&note.text);
            let known = WITNESSES.texts.iter().any(|text| stated(text) == said);
            assert!(known, "nobody cosigned it");
        }
    }
}

pub(crate) fn cosignature_seeds() -> Vec<Vec<u8>> {
    let mut all = cosigned_notes();
    all.extend(WITNESSES.keys.iter().map(ToString::to_string));
    bytes(all)
}

static NOTES: LazyLock<Vec<Note>> = LazyLock::new(|| {
    let notes = seeds::vectors("ledger/policies.json", &["note"]);
    notes
        .iter()
        .map(|note| Note::parse(note).unwrap())
        .collect()
});

/// A policy reads back, and more cosignatures never make it content with less: what all lines of a note do not
/// reach, none of them does.
pub(crate) fn policy(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(bytes) else {
        return;
    };
    assert!(bytes.len() <= 256 * 1024 && policy.witnesses().len() <= 32);
    if str::from_utf8(bytes).is_ok() {
        assert_eq!(policy.text().as_bytes(), bytes);
        assert_eq!(policy.text().parse::<Policy>().unwrap(), policy);
    }
    for note in NOTES.iter() {
        let Ok(whole) = policy.judge(note) else {
            continue;
        };
        let mut bare = note.clone();
        bare.signatures.truncate(1);
        let less = policy
            .judge(&bare)
            .expect("it has no line of a witness that does not verify");
        assert!(whole.reached || !less.reached);
        assert!(!less.reached || policy.asks_for_none() || !less.cosignatures.is_empty());
    }
}

pub(crate) fn policy_seeds() -> Vec<Vec<u8>> {
    bytes(seeds::vectors("ledger/policies.json", &["policy"]))
}

/// Requests and answers have one spelling, and a proof file proves only what its log has.
pub(crate) fn witness(bytes: &[u8]) {
    for (status, kind) in [(200, None), (409, Some(SIZE_TYPE)), (422, None)] {
        if let Ok(answer) = Answer::parse(status, kind, bytes) {
            assert_eq!(answer.status(), status);
            assert!(status == 422 || answer.body().as_bytes() == bytes);
        }
    }
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(request) = text.parse::<AddCheckpoint>() {
        assert_eq!(request.to_string(), text);
        assert!(request.proof.len() <= 63);
    }
    if let Ok(file) = text.parse::<ProofFile>() {
        let (trust, leaf) = &*PROVED;
        let logs = trust.logs();
        let logs: Vec<&LogKey> = logs.iter().collect();
        if let Ok(shown) = file.verify(leaf, &logs, trust.policy.as_ref()) {
            assert_eq!((shown.index, shown.checkpoint.size), (6, 13));
            assert!(shown.quorum.expect("there is a policy").reached);
        }
    }
}

/// The trust file of the vectors, and the leaf hash of the one record that is proved under it.
static PROVED: LazyLock<(Trust, [u8; 32])> = LazyLock::new(|| {
    let path = testkit::workspace().join("docs/vectors/ledger/witness.json");
    let text = std::fs::read(path).expect("the vectors are committed");
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let trust = Trust::from_json(&value["trust"].to_string()).expect("a trust file");
    let leaf = seeds::base64_of(value["tlog_proof"]["leaf_hash"].as_str().unwrap());
    (trust, leaf.unwrap().try_into().unwrap())
});

pub(crate) fn witness_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::vectors("ledger/witness.json", &["body", "proof"]);
    all.extend(seeds::vectors(
        "ledger/peers.json",
        &["request", "answer", "proof"],
    ));
    bytes(all)
}

/// However it is cut, a request comes apart into the same packages, and nothing in it is of a log that it is not of.
pub(crate) fn mirror(bytes: &[u8]) {
    let taken = |step: usize| {
        let (mut incoming, mut packages) = (Incoming::new(), Vec::new());
        for piece in bytes.chunks(step) {
            incoming.push(piece);
            while let Ok(Some(package)) = incoming.package() {
                packages.push(package);
            }
        }
        (incoming.upload().map(|upload| upload.cloned()), packages)
    };
    let (upload, packages) = taken(bytes.len().max(1));
    assert_eq!((&upload, &packages), (&taken(7).0, &taken(7).1));
    if let Ok(Some(upload)) = upload {
        let mut again = upload.bytes();
        for package in &packages {
            again.extend_from_slice(&package.bytes());
            assert!(package.span().end <= upload.end() && package.span().before() < 256);
            let before = vec![[0; 32]; package.span().before()];
            assert!(package.verify(&before, upload.end(), &[7; 32]).is_err());
        }
        assert!(bytes.starts_with(&again));
    }
    for (status, kind) in [(200, None), (202, Some(INFO_TYPE)), (409, Some(INFO_TYPE))] {
        if let Ok(answer) = MirrorAnswer::parse(status, kind, bytes) {
            assert_eq!(answer.status(), status);
            assert_eq!(answer.body().as_bytes(), bytes);
        }
    }
}

pub(crate) fn mirror_seeds() -> Vec<Vec<u8>> {
    let [header, package] = ["header", "package"].map(|name| {
        let found = seeds::vectors("ledger/mirror.json", &[name]);
        let read = found.iter().filter_map(|text| seeds::base64_of(text));
        read.collect::<Vec<_>>()
    });
    let request = [header.concat(), package.concat()].concat();
    let mut all = bytes(seeds::vectors("ledger/mirror.json", &["info"]));
    all.push(request);
    all
}

static PACKS: LazyLock<(Trust, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let path = testkit::workspace().join("docs/vectors/ledger/packs.json");
    let text = std::fs::read(path).expect("the vectors are committed");
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let of = |key: &str| value[key].as_str().expect("a text").to_owned();
    let trust = Trust {
        trust_domain: of("trust_domain"),
        ledger_key: of("ledger_key").parse().expect("a published key"),
        x509_authorities: Vec::new(),
        policy: None,
    };
    let known = pack_seeds();
    let known = known
        .into_iter()
        .filter(|pack| verify(pack, &trust).is_ok());
    let known = known.collect();
    (trust, known)
});

/// A pack that verifies is one of those that were made; what is said about another names its place.
pub(crate) fn pack(bytes: &[u8]) {
    let (trust, known) = &*PACKS;
    match verify(bytes, trust) {
        Ok(report) => {
            assert!(
                known.iter().any(|pack| pack == bytes),
                "a pack that nobody made"
            );
            assert!(report.quorum.is_none());
        }
        Err(failure) => assert!(!failure.code.is_empty() && !failure.section.is_empty()),
    }
}

pub(crate) fn pack_seeds() -> Vec<Vec<u8>> {
    let texts = seeds::vectors("ledger/packs.json", &["pack"]);
    texts
        .iter()
        .filter_map(|text| seeds::base64_of(text))
        .collect()
}

/// A tile's path has one spelling, a width that a tile can have, and names records that are numbered so.
pub(crate) fn tile_path(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(path) = text.parse::<LabelPath>() {
        assert_eq!(path.to_string(), text);
        let records = path.records();
        assert!(records.end - records.start <= u64::from(path.width()));
    }
    let Ok(path) = text.parse::<TilePath>() else {
        return;
    };
    assert_eq!(path.to_string(), text);
    assert!((1..=256).contains(&path.width()));
    let _within = path.first_record();
}

pub(crate) fn tile_path_seeds() -> Vec<Vec<u8>> {
    let tiles = seeds::vectors("ledger/tiles.json", &["path"]);
    let labels = tiles
        .iter()
        .map(|path| path.replace("tile/entries/", "labels/"));
    bytes(tiles.iter().cloned().chain(labels).collect())
}

/// An entry bundle has one spelling, and no more entries than its tile.
pub(crate) fn bundle(bytes: &[u8]) {
    for entries in [0, 1, 2, 3, 256] {
        let Ok(found) = decode_bundle(bytes, entries) else {
            continue;
        };
        assert_eq!(found.len(), entries);
        assert_eq!(
            encode_bundle(found.iter().copied()).expect("it was decoded"),
            bytes
        );
    }
}

pub(crate) fn bundle_seeds() -> Vec<Vec<u8>> {
    let records = seeds::vectors("ledger/records.json", &["record"]);
    let of = |count: usize| encode_bundle(records.iter().take(count).map(String::as_bytes));
    [1, 2, 3]
        .into_iter()
        .filter_map(|count| of(count).ok())
        .collect()
}

fn bytes(texts: Vec<String>) -> Vec<Vec<u8>> {
    texts.into_iter().map(String::into_bytes).collect()
}
