//! What is issued is valid to us and to OpenSSL, and only what was recorded is signed.

use crate::world::{NOW, World};
use crypto::{Algorithm, KeyPair};
use identity::IssueError;
use ledger::body::{Issuance, SvidKind};
use spiffe_core::{JwtSvid, Serial, X509Svid, receipt};
use std::process::Command;

fn pem(kind: &str, der: &[u8]) -> String {
    let text = crypto::base64::encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        lines.join("\n")
    )
}

#[test]
fn an_issued_svid_and_its_receipt_verify() {
    let world = World::new();
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let prepared = world.prepare("payments/api", &key, NOW);
    let chain = prepared
        .finish(&world.record("payments/api", &key, &prepared))
        .unwrap();

    let svid = X509Svid::parse(&chain).unwrap();
    let svid = svid.validate(world.authority.bundle(), NOW).unwrap();
    assert_eq!(svid.spiffe_id.as_str(), "spiffe://example.org/payments/api");
    let issuance = receipt::check(&svid, world.ledger.key()).unwrap();
    assert_eq!(issuance.issuance.serial, prepared.serial().to_string());
}

#[test]
fn openssl_verifies_an_issued_svid_strictly() {
    let world = World::new();
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let prepared = world.prepare("payments/api", &key, NOW);
    let chain = prepared
        .finish(&world.record("payments/api", &key, &prepared))
        .unwrap();
    let directory = world.directory.path();
    let root = world.authority.roots().next().unwrap();
    std::fs::write(directory.join("root.pem"), pem("CERTIFICATE", root)).unwrap();
    std::fs::write(directory.join("leaf.pem"), pem("CERTIFICATE", &chain[0])).unwrap();
    std::fs::write(directory.join("issuing.pem"), pem("CERTIFICATE", &chain[1])).unwrap();

    for purpose in ["sslclient", "sslserver"] {
        let output = Command::new("openssl")
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-attime",
                "1800000000",
            ])
            .args([
                "-CAfile",
                "root.pem",
                "-untrusted",
                "issuing.pem",
                "leaf.pem",
            ])
            .current_dir(directory)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "leaf.pem: OK\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn nothing_is_signed_with_the_receipt_of_another_issuance() {
    let world = World::new();
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let recorded = world.prepare("payments/api", &key, NOW);
    let receipt = world.record("payments/api", &key, &recorded);
    let unrecorded = world.prepare("payments/api", &key, NOW);
    assert!(matches!(
        unrecorded.finish(&receipt),
        Err(IssueError::OtherIssuance)
    ));
}

#[test]
fn nothing_is_signed_with_a_record_that_is_no_issuance() {
    let world = World::new();
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let prepared = world.prepare("payments/api", &key, NOW);
    let mut receipt = world.record("payments/api", &key, &prepared);
    let text = String::from_utf8(receipt.record).unwrap();
    receipt.record = text
        .replacen("\"type\":\"issuance\"", "\"type\":\"verdict\"", 1)
        .into_bytes();
    assert!(prepared.finish(&receipt).is_err());
}

#[test]
fn a_foreign_identity_is_refused() {
    let world = World::new();
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let refused = world.authority.prepare_x509(
        "spiffe://other.org/payments/api".parse().unwrap(),
        crypto::Signer::public_key(&key).clone(),
        Vec::new(),
        Serial::from_random(crypto::random()),
        NOW,
    );
    assert!(matches!(refused, Err(IssueError::ForeignId(_))));
}

#[test]
fn an_issued_token_and_its_receipt_verify() {
    let world = World::new();
    let prepared = world
        .authority
        .prepare_jwt(
            World::id("payments/api"),
            vec!["db".to_owned()],
            Serial::from_random(crypto::random()),
            NOW,
        )
        .unwrap();
    let receipt = world.seal(Issuance {
        kind: SvidKind::Jwt,
        spiffe_id: World::id("payments/api").to_string(),
        serial: prepared.id().to_string(),
        tbs: prepared.digest().into(),
        issuer: prepared.issuer().into(),
        key: [0; 32].into(),
        not_before: prepared.not_before().as_secs(),
        not_after: prepared.not_after().as_secs(),
        node: "m1".to_owned(),
        verdict: 1.into(),
        evidence_time: NOW.as_millis(),
        policies: Vec::new(),
        commit: ledger::Commitment::new(&ledger::Salt([7; 16]), "facts", b"{}"),
        facts: std::collections::BTreeMap::new(),
        replaces: None,
        ar4si: None,
    });
    for with_receipt in [true, false] {
        let token = prepared.finish(&receipt, with_receipt).unwrap();
        let svid = JwtSvid::parse(&token).unwrap();
        let svid = svid.validate(world.authority.bundle(), "db", NOW).unwrap();
        assert_eq!(svid.spiffe_id, World::id("payments/api"));
        assert_eq!(
            receipt::check_jwt(&svid, world.ledger.key()).is_ok(),
            with_receipt
        );
    }
}
