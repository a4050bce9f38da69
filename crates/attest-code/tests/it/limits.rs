//! What is bounded however good it is, and subjects that say two things.

use crate::common::{code, codes, codes_of, references, release, rule, verify_json};
use crate::forge::stamp::StampScript;
use crate::forge::{ARTIFACT, Deployment, NOW, Script, forge, key, pae, provenance};
use attest_code::{
    Artifact, CodeDigest, CodeEvidence, CodeReferences, Form, Running, Signer, judge,
    verify_bundle, verify_envelope,
};
use crypto::{Algorithm, Signer as _, base64, sha256};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[test]
fn bundles_and_what_is_in_them_are_bounded() {
    let deployment = Deployment::new();
    let script = Script {
        stamps: vec![StampScript::default()],
        ..Script::default()
    };
    let good = forge(&deployment, &script);
    assert_eq!(codes(&verify_json(&deployment, &good)), ["good"]);
    let material = "/verificationMaterial";
    let entries = format!("{material}/tlogEntries");
    let stamps = format!("{material}/timestampVerificationData/rfc3161Timestamps");
    let hashes = format!("{entries}/0/inclusionProof/hashes");
    for (pointer, most) in [(entries, 8), (stamps, 8), (hashes, 64)] {
        let mut bundle = good.clone();
        let list = bundle.pointer_mut(&pointer).unwrap();
        let one = list[0].clone();
        *list = json!(vec![one; most + 1]);
        let refused = codes(&verify_json(&deployment, &bundle));
        assert_eq!(refused, ["SIGSTORE-BUNDLE-STRUCTURE"], "{pointer}");
    }
    // White space means nothing, and is read all the same.
    let trusted = references(deployment.root(), vec![release()], Vec::new());
    let artifact = Artifact::of_bytes(ARTIFACT);
    let padded = |length: usize| {
        let mut bundle = good.to_string().into_bytes();
        bundle.resize(length, b' ');
        codes(&verify_bundle(&bundle, &artifact, &trusted, NOW))
    };
    assert_eq!(padded(4 << 20), ["good"]);
    assert_eq!(padded((4 << 20) + 1), ["SIGSTORE-BUNDLE-STRUCTURE"]);
}

/// A subject names one thing: a digest of this code beside a digest of another is none of it.
#[test]
fn a_subject_whose_digests_disagree_is_no_subject() {
    let pair = key(Algorithm::Ed25519);
    let signer = Signer::key("key", pair.public_key().clone()).unwrap();
    let trusted =
        CodeReferences::new(BTreeMap::new(), Vec::new(), vec![signer], Vec::new()).unwrap();
    let check = |change: &dyn Fn(&mut Value)| {
        let mut statement = provenance();
        change(&mut statement);
        let payload = statement.to_string().into_bytes();
        let kind = "application/vnd.in-toto+json";
        let signature = pair.sign(&pae(kind, &payload)).unwrap();
        let envelope = json!({
            "payloadType": kind,
            "payload": base64::encode(&payload),
            "signatures": [{"sig": base64::encode(&signature)}],
        });
        let envelope = envelope.to_string().into_bytes();
        code(&verify_envelope(
            &envelope,
            &Artifact::of_bytes(ARTIFACT),
            &trusted,
        ))
        .to_owned()
    };
    assert_eq!(check(&|_| {}), "good");
    let wrong = "00".repeat(64);
    let disagreeing = |statement: &mut Value| {
        statement["subject"][0]["digest"]["sha512"] = json!(wrong);
    };
    assert_eq!(check(&disagreeing), "STATEMENT-SUBJECT");
    let many = |statement: &mut Value| {
        let one = statement["subject"][0].clone();
        statement["subject"] = json!(vec![one; 16_385]);
    };
    assert_eq!(check(&many), "STATEMENT-STRUCTURE");
}

/// The good piece stands behind as many as are looked at.
#[test]
fn evidence_without_an_end_is_not_looked_at() {
    let deployment = Deployment::new();
    let trusted = references(deployment.root(), vec![release()], vec![rule()]);
    let about = CodeDigest::Sha256(sha256(ARTIFACT));
    let running = Running {
        digests: vec![about],
    };
    let piece = |bytes: Vec<u8>| CodeEvidence {
        about,
        form: Form::Bundle(bytes),
    };
    let good = forge(&deployment, &Script::of_provenance()).to_string();
    for (before, affirmed) in [(63, true), (64, false)] {
        let mut evidence = vec![piece(b"{}".to_vec()); before];
        evidence.push(piece(good.clone().into_bytes()));
        let verdict = judge(&running, &evidence, &trusted, NOW);
        let unknown = codes_of(&verdict.findings).contains(&"CODE-UNKNOWN");
        assert_eq!(unknown, !affirmed, "{before}");
    }
}
