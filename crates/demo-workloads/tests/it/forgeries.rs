//! An authority and its ledger in memory, robbed.

use crate::mint::{Forged, Genuine, Thief};
use crypto::{Algorithm, Custody as _, KeyPair, Signer as _};
use custody::FileCustody;
use facts::Timestamp;
use gateway::{Chain, Place};
use identity::{Authority, Lifetimes};
use ledger::body::{Body as _, Issuance, SvidKind};
use ledger::{Checkpoint, Commitment, LedgerSigner, Receipt, Salt, Stamp};
use spiffe_core::{Serial, TrustDomain, VerifiedIssuance, receipt};
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

struct Robbed {
    thief: Thief,
    authority: Authority,
    /// What a gateway has followed.
    chain: Chain,
    _directory: tempfile::TempDir,
}

impl Robbed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ca, log) = (directory.path().join("ca"), directory.path().join("ledger"));
        let custody = FileCustody::open(&ca).unwrap();
        let trust_domain = TrustDomain::new("example.org").unwrap();
        let lifetimes = Lifetimes::default();
        let document = Authority::create(&trust_domain, &lifetimes, &custody, NOW).unwrap();
        let authority = Authority::open(document, lifetimes, &custody).unwrap();
        let key = FileCustody::open(&log).unwrap();
        let key = key.load_or_generate("ledger", Algorithm::Ed25519).unwrap();
        let ledger = LedgerSigner::new("example.org/server", key).unwrap();

        let (svid, note) = issue(&authority, &ledger);
        let mut chain = Chain::new(ledger.key().clone());
        chain.extend(&note, 0, &[]).unwrap();
        let genuine = Genuine::seen(&svid, authority.bundle(), NOW).unwrap();
        Self {
            thief: Thief::with_keys(&ca, &log, &trust_domain, genuine).unwrap(),
            authority,
            chain,
            _directory: directory,
        }
    }

    /// What the receipt check says of a forgery that is otherwise a valid SVID.
    fn checked(&self, forged: &Forged) -> Result<VerifiedIssuance, String> {
        let svid = forged.validated(self.authority.bundle(), NOW).unwrap();
        assert_eq!(svid.spiffe_id.as_str(), "spiffe://example.org/reporting");
        assert_eq!(&svid.public_key, forged.key.public_key());
        receipt::check(&svid, self.thief.ledger_key()).map_err(|finding| finding.code.to_string())
    }
}

/// A genuine SVID, and the checkpoint of the ledger whose one record it is.
fn issue(authority: &Authority, ledger: &LedgerSigner) -> (Vec<Vec<u8>>, String) {
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let id = authority.trust_domain().identity("reporting").unwrap();
    let serial = Serial::from_random(crypto::random());
    let prepared = authority
        .prepare_x509(
            id.clone(),
            key.public_key().clone(),
            Vec::new(),
            serial,
            NOW,
        )
        .unwrap();
    let issuance = Issuance {
        kind: SvidKind::X509,
        spiffe_id: id.to_string(),
        serial: serial.to_string(),
        tbs: prepared.digest().into(),
        issuer: prepared.issuer().into(),
        key: key.public_key().spki_sha256().into(),
        not_before: prepared.not_before().as_secs(),
        not_after: prepared.not_after().as_secs(),
        node: "m1".to_owned(),
        verdict: 0.into(),
        evidence_time: NOW.as_millis(),
        policies: Vec::new(),
        commit: Commitment::new(&Salt([7; 16]), "facts", b"{}"),
        facts: BTreeMap::new(),
        replaces: None,
        ar4si: None,
    };
    let origin = ledger.key().origin();
    let stamp = Stamp { wall: 1, mono: 1 };
    let record = issuance.record().actor("server", "self");
    let record = record.seal(origin, 0, stamp).unwrap();
    let checkpoint = Checkpoint {
        origin: origin.clone(),
        size: 1,
        root: record.leaf_hash(),
    };
    let note = ledger.sign(&checkpoint).unwrap();
    let receipt = Receipt {
        record: record.into_bytes(),
        index: 0,
        proof: Vec::new(),
        checkpoint: note.clone(),
    };
    (prepared.finish(&receipt).unwrap(), note)
}

#[test]
fn without_a_record_there_is_no_receipt() {
    let robbed = Robbed::new();
    let forged = robbed.thief.unrecorded(NOW).unwrap();
    assert_eq!(robbed.checked(&forged).unwrap_err(), "SVID-RECEIPT-MISSING");
}

#[test]
fn noise_is_no_receipt() {
    let robbed = Robbed::new();
    let forged = robbed.thief.with_noise(NOW).unwrap();
    let code = robbed.checked(&forged).unwrap_err();
    assert!(code.starts_with("SVID-RECEIPT-"), "{code}");
}

#[test]
fn a_receipt_does_not_move_to_another_key() {
    let robbed = Robbed::new();
    let forged = robbed.thief.transplanted().unwrap();
    assert_eq!(robbed.checked(&forged).unwrap_err(), "SVID-RECEIPT-KEY");
}

#[test]
fn a_fork_has_a_flawless_receipt_and_no_place_on_the_chain() {
    let robbed = Robbed::new();
    for (size, place) in [(1, Place::Forked), (2, Place::Ahead), (1000, Place::Ahead)] {
        let forged = robbed.thief.forked(size, NOW).unwrap();
        let verified = robbed.checked(&forged).unwrap();
        let checkpoint = verified.receipt.checkpoint;
        assert_eq!(checkpoint.size, size);
        assert_eq!(robbed.chain.place(&checkpoint), place);
    }
}

#[test]
fn an_empty_fork_holds_no_receipt() {
    assert!(Robbed::new().thief.forked(0, NOW).is_err());
}
