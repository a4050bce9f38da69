//! Signatures by pinned keys: cosign's over files and images, DSSE envelopes.

use crate::common::code;
use crate::forge::{ARTIFACT, key, pae, provenance};
use attest_code::{
    Artifact, CodeReferences, Signer, verify_blob, verify_envelope, verify_simple_signing,
};
use crypto::{Algorithm, KeyPair, Signer as _, base64, sha256};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const RSA: &[u8] = include_bytes!("../../../crypto/tests/data/rsa2048.pkcs8.der");

fn trusting(keys: &[&KeyPair]) -> CodeReferences {
    let signers = keys
        .iter()
        .enumerate()
        .map(|(at, key)| Signer::key(&format!("key {at}"), key.public_key().clone()).unwrap())
        .collect();
    CodeReferences::new(BTreeMap::new(), Vec::new(), signers, Vec::new()).unwrap()
}

#[test]
fn a_blob_is_signed_by_a_key_of_any_kind() {
    let pairs = [
        key(Algorithm::EcdsaP256),
        key(Algorithm::EcdsaP384),
        key(Algorithm::Ed25519),
        KeyPair::from_pkcs8(RSA).unwrap(),
    ];
    for pair in &pairs {
        let kind = pair.public_key().algorithm();
        let signature = pair.sign(ARTIFACT).unwrap();
        let references = trusting(&[&key(Algorithm::EcdsaP256), pair]);
        let bytes = Artifact::of_bytes(ARTIFACT);
        let found = verify_blob(&signature, &bytes, &references).unwrap();
        assert_eq!(
            (found.label(), found.signed_at()),
            ("key 1", None),
            "{kind}"
        );
        let other = Artifact::of_bytes(b"other code");
        assert_eq!(
            code(&verify_blob(&signature, &other, &references)),
            "CODE-SIGNATURE"
        );
        let others = trusting(&[&key(Algorithm::EcdsaP256)]);
        assert_eq!(
            code(&verify_blob(&signature, &bytes, &others)),
            "CODE-SIGNATURE"
        );
        let mut broken = signature.clone();
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(
            code(&verify_blob(&broken, &bytes, &references)),
            "CODE-SIGNATURE"
        );
        // Where only the digest is known: Ed25519 signs no digests, P-384 another than SHA-256.
        let digest = Artifact::of_sha256(sha256(ARTIFACT));
        let by_digest = matches!(kind, Algorithm::EcdsaP256 | Algorithm::Rsa);
        let found = verify_blob(&signature, &digest, &references);
        assert_eq!(found.is_ok(), by_digest, "{kind}");
    }
    let nobody = trusting(&[]);
    assert_eq!(
        code(&verify_blob(b"x", &Artifact::of_bytes(b""), &nobody)),
        "CODE-SIGNER-NONE"
    );
}

#[test]
fn a_key_whose_signatures_have_to_be_logged_vouches_for_no_unlogged_one() {
    let deployment = crate::forge::Deployment::new();
    let pair = key(Algorithm::EcdsaP256);
    let signer = Signer::key("logged", pair.public_key().clone())
        .unwrap()
        .logged_by("forged");
    let references = crate::common::references(deployment.root(), vec![signer], Vec::new());
    let signature = pair.sign(ARTIFACT).unwrap();
    let found = verify_blob(&signature, &Artifact::of_bytes(ARTIFACT), &references);
    assert_eq!(code(&found), "CODE-SIGNER-NONE");
}

fn payload(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut payload = json!({
        "critical": {
            "identity": {"docker-reference": "registry.acme.test/payments"},
            "image": {"docker-manifest-digest": format!("sha256:{}", "07".repeat(32))},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    change(&mut payload);
    payload.to_string().into_bytes()
}

#[test]
fn an_image_is_signed_by_its_digest() {
    let pair = key(Algorithm::EcdsaP256);
    let references = trusting(&[&pair]);
    let check = |payload: &[u8], image: u8| {
        let signature = pair.sign(payload).unwrap();
        let found = verify_simple_signing(payload, &signature, &[image; 32], &references);
        code(&found).to_owned()
    };
    let good = payload(|_| {});
    assert_eq!(check(&good, 7), "good");
    assert_eq!(check(&good, 8), "IMAGE-PAYLOAD");
    for (what, bad) in [
        (
            "another kind of payload",
            payload(|p| p["critical"]["type"] = json!("release notes")),
        ),
        ("no digest", payload(|p| p["critical"]["image"] = json!({}))),
        (
            "no prefix",
            payload(|p| p["critical"]["image"]["docker-manifest-digest"] = json!("07".repeat(32))),
        ),
        ("no JSON", b"x".to_vec()),
        ("too much", vec![b' '; 65 * 1024]),
    ] {
        assert_eq!(check(&bad, 7), "IMAGE-PAYLOAD", "{what}");
    }
    let by_another = key(Algorithm::EcdsaP256).sign(&good).unwrap();
    let found = verify_simple_signing(&good, &by_another, &[7; 32], &references);
    assert_eq!(code(&found), "CODE-SIGNATURE");
}

#[test]
fn an_envelope_is_signed_over_its_type_and_payload() {
    let pair = key(Algorithm::Ed25519);
    let references = trusting(&[&pair]);
    let kind = "application/vnd.in-toto+json";
    let payload = provenance().to_string().into_bytes();
    let envelope = |signed: &str, said: &str, signers: &[&KeyPair]| {
        let signatures: Vec<Value> = signers
            .iter()
            .map(|pair| {
                let signature = pair.sign(&pae(signed, &payload)).unwrap();
                json!({"sig": base64::encode(&signature), "keyid": "anything"})
            })
            .collect();
        let envelope = json!({
            "payloadType": said,
            "payload": base64::encode(&payload),
            "signatures": signatures,
        });
        envelope.to_string().into_bytes()
    };
    let about = Artifact::of_bytes(ARTIFACT);
    let check = |bytes: &[u8]| code(&verify_envelope(bytes, &about, &references)).to_owned();
    assert_eq!(check(&envelope(kind, kind, &[&pair])), "good");
    let stranger = key(Algorithm::Ed25519);
    assert_eq!(check(&envelope(kind, kind, &[&stranger, &pair])), "good");
    assert_eq!(check(&envelope(kind, kind, &[&stranger])), "CODE-SIGNATURE");
    assert_eq!(check(&envelope(kind, kind, &[])), "CODE-SIGNATURE");
    assert_eq!(
        check(&envelope("text/plain", kind, &[&pair])),
        "CODE-SIGNATURE"
    );
    assert_eq!(
        check(&envelope("text/plain", "text/plain", &[&pair])),
        "STATEMENT-TYPE"
    );
    assert_eq!(check(b"{}"), "DSSE-STRUCTURE");
    let found = verify_envelope(
        &envelope(kind, kind, &[&pair]),
        &Artifact::of_bytes(b"x"),
        &references,
    );
    assert_eq!(code(&found), "STATEMENT-SUBJECT");
}
