//! Who is it, and where was it recorded: SPIFFE IDs, SVIDs, notes and receipts. The good ones are the
//! published vectors.

use crate::seeds;
use ledger::{Checkpoint, LedgerKey, Note, ProofFile, Receipt, Record};
use spiffe_core::jwt::JwtSvid;
use spiffe_core::{Bundle, SpiffeId, TrustDomain, X509Svid, receipt};
use std::sync::LazyLock;

/// An ID has one spelling, and belongs to the trust domain that it begins with.
pub(crate) fn id(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let _refused = JwtSvid::parse(text);
    let Ok(id) = text.parse::<SpiffeId>() else {
        return;
    };
    assert_eq!(id.to_string(), text);
    assert!(text.len() <= 2048);
    let domain = TrustDomain::new(id.trust_domain_name()).expect("it was parsed");
    assert!(id.is_member_of(&domain));
    assert_eq!(format!("spiffe://{domain}{}", id.path()), text);
    let mut segments = id.path().split('/').skip(1);
    assert!(segments.all(|one| !matches!(one, "" | "." | "..")));
}

pub(crate) fn id_seeds() -> Vec<Vec<u8>> {
    [
        "spiffe://example.org/payments/api",
        "spiffe://example.org",
        "spiffe://example.org/a/../b",
        "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJzcGlmZmU6Ly9leGFtcGxlLm9yZy9hIiwiYXVkIjpbImIiXSwiZXhwIjoyfQ.AAAA",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// The published vectors of the receipt extension.
struct Vectors {
    bundle: Bundle,
    key: LedgerKey,
    now: facts::Timestamp,
    /// Chains, the good one first.
    chains: Vec<Vec<Vec<u8>>>,
}

static VECTORS: LazyLock<Vectors> = LazyLock::new(|| {
    let path = testkit::workspace().join("docs/vectors/svid/receipts.json");
    let text = std::fs::read(path).expect("the vectors are committed");
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let decoded = |value: &serde_json::Value| seeds::base64_of(value.as_str().unwrap()).unwrap();
    let mut bundle =
        Bundle::new(TrustDomain::new(value["trust_domain"].as_str().unwrap()).unwrap());
    bundle.add_x509_authority(&decoded(&value["root"])).unwrap();
    let cases = ["valid", "refused"]
        .iter()
        .flat_map(|kind| value[*kind].as_array().unwrap());
    let chains = cases.map(|case| {
        case["chain"]
            .as_array()
            .unwrap()
            .iter()
            .map(decoded)
            .collect()
    });
    Vectors {
        chains: chains.collect(),
        key: value["ledger_key"].as_str().unwrap().parse().unwrap(),
        now: seeds::at(value["now"].as_u64().unwrap()),
        bundle,
    }
});

/// An SVID is the bytes that were read, and none but the recorded one comes through with its receipt.
pub(crate) fn svid(bytes: &[u8]) {
    let vectors = &*VECTORS;
    let Ok(svid) = X509Svid::parse_concatenated(bytes) else {
        return;
    };
    let whole: Vec<u8> = svid.chain().flatten().copied().collect();
    assert_eq!(whole, bytes);
    let Ok(valid) = svid.validate(&vectors.bundle, vectors.now) else {
        return;
    };
    assert_eq!(
        valid.spiffe_id.trust_domain(),
        *vectors.bundle.trust_domain()
    );
    if receipt::check(&valid, &vectors.key).is_ok() {
        let leaf = svid.chain().next().expect("it has one");
        assert!(
            leaf == vectors.chains[0][0],
            "an SVID that was not recorded"
        );
    }
}

pub(crate) fn svid_seeds() -> Vec<Vec<u8>> {
    let chains = VECTORS.chains.iter();
    let mut all: Vec<Vec<u8>> = chains.map(|chain| chain.concat()).collect();
    all.push(VECTORS.chains[0][0].clone());
    all
}

static NOTES: LazyLock<(LedgerKey, Vec<String>)> = LazyLock::new(|| {
    let key = seeds::vectors("ledger/notes.json", &["key"])[0].parse();
    (
        key.expect("a published key"),
        seeds::vectors("ledger/notes.json", &["note"]),
    )
});

/// A note, proof file, key or record has one spelling, and a checkpoint opens only as the ledger signed it.
pub(crate) fn note(bytes: &[u8]) {
    if let Ok(record) = Record::parse(bytes) {
        assert_eq!(record.bytes(), bytes);
        let _refused = ledger::body::check(&record);
    }
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        if let Ok(checkpoint) = Checkpoint::parse(&note.text) {
            assert_eq!(checkpoint.text(), note.text);
        }
    }
    if let Ok(file) = text.parse::<ProofFile>() {
        assert_eq!(file.to_string(), text);
    }
    if let Ok(key) = text.parse::<LedgerKey>() {
        assert_eq!(key.to_string(), text);
    }
    let (key, notes) = &*NOTES;
    if let Ok(checkpoint) = Checkpoint::open(text, key) {
        let signed = checkpoint.text();
        assert!(
            notes.iter().any(|note| note.starts_with(&signed)),
            "nobody signed it"
        );
    }
}

pub(crate) fn note_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::vectors("ledger/notes.json", &["note", "key"]);
    all.extend(seeds::vectors("ledger/receipts.json", &["tlog_proof"]));
    all.extend(seeds::vectors("ledger/records.json", &["record"]));
    all.into_iter().map(String::into_bytes).collect()
}

static RECEIPTS: LazyLock<(LedgerKey, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let key = seeds::vectors("ledger/receipts.json", &["key"])[0].parse();
    let records = receipt_seeds()
        .into_iter()
        .filter_map(|bytes| Some(Receipt::decode(&bytes).ok()?.record));
    (key.expect("a published key"), records.collect())
});

/// A receipt has one spelling, and proves only what is in the ledger.
pub(crate) fn receipt(bytes: &[u8]) {
    let Ok(receipt) = Receipt::decode(bytes) else {
        return;
    };
    assert_eq!(receipt.encode().expect("it was decoded"), bytes);
    let _refused = receipt.size();
    let (key, records) = &*RECEIPTS;
    if let Ok(verified) = receipt.verify(key) {
        let known = records
            .iter()
            .any(|record| record == verified.record.bytes());
        assert!(known, "a record that is in no ledger");
    }
}

pub(crate) fn receipt_seeds() -> Vec<Vec<u8>> {
    let texts = seeds::vectors("ledger/receipts.json", &["receipt"]);
    texts
        .iter()
        .filter_map(|text| seeds::base64_of(text))
        .collect()
}
