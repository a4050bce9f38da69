//! `sigstore-verify`, written by Sigstore's own people, judges the same bundles: what we affirm it affirms.
//! Where we refuse and it does not, the reason is listed here.
//!
//! It reads the machine's clock, so it cannot be asked about bundles of the future.

use crate::common::{codes, folder};
use crate::evidence::{Of, RECORDED, artifact, file, root_json, trusting};
use crate::forge::certificate::{LeafScript, Name, SctScript};
use crate::forge::log::{Checkpoint, EntryScript, Promise, Which};
use crate::forge::stamp::{Lie, StampScript};
use crate::forge::{ARTIFACT, Deployment, GITHUB, Script, THEN, WORKFLOW, forge};
use attest_code::{Artifact, verify_bundle};
use crypto::{base64, hex};
use expect_test::expect;
use facts::Timestamp;
use serde_json::{Value, json};
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::{self, Bundle, DigestBytes, HashAlgorithm};
use sigstore_verify::{VerificationPolicy, Verifier};
use std::collections::BTreeSet;

/// Whether the peer affirms.
fn peer(
    bundle: &str,
    of: &types::Artifact<'_>,
    root: &str,
    identity: &str,
    issuer: &str,
) -> Result<(), String> {
    let root = TrustedRoot::from_json(root).map_err(|error| error.to_string())?;
    let bundle = Bundle::from_json(bundle).map_err(|error| error.to_string())?;
    let mut policy = VerificationPolicy::any_identity().require_issuer(issuer);
    // It has no patterns; those that the tests use end in a version.
    if !identity.ends_with('*') {
        policy = policy.require_identity(identity);
    }
    if root.ctlogs.is_empty() {
        policy = policy.skip_sct();
    }
    let verifier = Verifier::new(&root).map_err(|error| error.to_string())?;
    verifier
        .verify(of.clone(), &bundle, &policy)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn peers_artifact<'a>(of: Of, bundle: &[u8], file: &'a [u8]) -> types::Artifact<'a> {
    let digest = |algorithm, bytes: Vec<u8>| {
        types::ArtifactDigest::new(algorithm, DigestBytes::new(bytes))
            .unwrap()
            .into()
    };
    match of {
        Of::File(_) => file.into(),
        Of::Sha256(text) => digest(HashAlgorithm::Sha2256, hex::decode(text).unwrap()),
        Of::Sha512(text) => digest(HashAlgorithm::Sha2512, hex::decode(text).unwrap()),
        Of::Itself => {
            let bundle: Value = serde_json::from_slice(bundle).unwrap();
            let text = bundle["messageSignature"]["messageDigest"]["digest"]
                .as_str()
                .unwrap();
            digest(HashAlgorithm::Sha2256, base64::decode(text).unwrap())
        }
    }
}

#[test]
fn recorded_bundles_are_judged_alike() {
    let Some(evidence) = folder("attest_code::sigstore_peers", "sigstore") else {
        return;
    };
    let mut stricter = BTreeSet::new();
    for one in RECORDED
        .iter()
        .filter(|one| !matches!(one.of, Of::Sha256("00")))
    {
        let bundle = std::fs::read(evidence.join(one.file)).unwrap();
        let file = file(&evidence, one.of);
        let root = root_json(&evidence, one.root);
        let text = String::from_utf8(bundle.clone()).unwrap();
        let of = peers_artifact(one.of, &bundle, &file);
        let theirs = peer(&text, &of, &root, one.identity, one.issuer);
        let ours = one.expected == ["good"];
        if ours {
            assert_eq!(theirs, Ok(()), "{} under {}", one.file, one.root);
        } else if theirs.is_ok() {
            stricter.insert(format!("{}: {}", one.file, one.expected.join(" ")));
        }
    }
    let stricter: Vec<String> = stricter.into_iter().collect();
    // The recorded bundle has the log's promise and no proof.
    expect!["dsse.sigstore.json: SIGSTORE-LOG-PROOF"].assert_eq(&stricter.join("\n"));
}

/// Every value of a bundle, by its path.
fn leaves(value: &Value, path: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(value, &format!("{path}/{key}"), into);
            }
        }
        Value::Array(list) => {
            for (at, value) in list.iter().enumerate() {
                leaves(value, &format!("{path}/{at}"), into);
            }
        }
        _ => into.push(path.to_owned()),
    }
}

/// A value that is wrong, in several ways.
fn wrong(value: &Value) -> Vec<Value> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => {
            return vec![
                json!("x"),
                json!(other.as_u64().unwrap_or(7) + 1),
                Value::Null,
            ];
        }
    };
    let mut values = vec![json!(""), json!(format!("{text}A")), Value::Null];
    if let Ok(number) = text.parse::<u64>() {
        values.extend([json!((number + 1).to_string()), json!("0")]);
    } else if let Ok(bytes) = base64::decode(&text) {
        for at in [
            0,
            bytes.len() / 3,
            bytes.len() / 2,
            bytes.len().saturating_sub(1),
        ] {
            let mut changed = bytes.clone();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 4;
            }
            values.push(json!(base64::encode(&changed)));
        }
    }
    values
}

/// What we affirm of changed bundles, the peer affirms; and only fields that nobody believes may change.
#[test]
fn changed_bundles_are_never_affirmed_by_us_alone() {
    let Some(evidence) = folder("attest_code::sigstore_peers", "sigstore") else {
        return;
    };
    let (mut count, mut free, mut stricter) = (0, BTreeSet::new(), BTreeSet::new());
    for one in RECORDED.iter().filter(|one| one.expected == ["good"]) {
        let bytes = std::fs::read(evidence.join(one.file)).unwrap();
        let good: Value = serde_json::from_slice(&bytes).unwrap();
        let file = file(&evidence, one.of);
        let root = root_json(&evidence, one.root);
        let references = trusting(&root, one.identity, one.issuer);
        let of = peers_artifact(one.of, &bytes, &file);
        let ours_of = artifact(one.of, &bytes, &file);
        let mut paths = Vec::new();
        leaves(&good, "", &mut paths);
        for path in paths {
            for value in wrong(good.pointer(&path).unwrap()) {
                let mut changed = good.clone();
                *changed.pointer_mut(&path).unwrap() = value;
                let text = changed.to_string();
                let now = Timestamp::from_secs(one.at);
                let ours = verify_bundle(text.as_bytes(), &ours_of, &references, now);
                let theirs = peer(&text, &of, &root, one.identity, one.issuer);
                count += 1;
                if ours.is_ok() {
                    // It wants texts also where neither of us reads them.
                    if !path.ends_with("/keyid") {
                        assert_eq!(theirs, Ok(()), "{} {path}", one.file);
                    }
                    free.insert(path.clone());
                } else if theirs.is_ok() {
                    stricter.insert(format!("{path}: {}", codes(&ours).join(" ")));
                }
            }
        }
    }
    assert!(count > 500, "{count}");
    let show = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join("\n");
    expect![[r#"
        /dsseEnvelope/signatures/0/keyid
        /verificationMaterial/timestampVerificationData"#]]
    .assert_eq(&show(free));
    expect![[r#"
        /verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp: SIGSTORE-STAMP-SIGNER SIGSTORE-TIME-MISSING
        /verificationMaterial/tlogEntries/0/inclusionProof/logIndex: SIGSTORE-LOG-PROOF SIGSTORE-LOG-PROOF
        /verificationMaterial/tlogEntries/0/inclusionProof/rootHash: SIGSTORE-LOG-PROOF SIGSTORE-LOG-CHECKPOINT
        /verificationMaterial/tlogEntries/0/inclusionProof/treeSize: SIGSTORE-LOG-PROOF SIGSTORE-LOG-CHECKPOINT
        /verificationMaterial/tlogEntries/0/logId/keyId: SIGSTORE-BUNDLE-STRUCTURE
        /verificationMaterial/tlogEntries/0/logId/keyId: SIGSTORE-LOG-UNKNOWN"#]].assert_eq(&show(stricter));
}

/// The forge's deployment is one to the peer as well, so that lies told by it are lies.
#[test]
fn forged_bundles_are_judged_alike() {
    let deployment = Deployment::new();
    let root = deployment.root_json().to_string();
    let references = crate::common::references(
        deployment.root(),
        vec![crate::common::keyless("release", WORKFLOW, GITHUB)],
        Vec::new(),
    );
    let leaf = |leaf| Script {
        leaf,
        ..Script::default()
    };
    let entry = |entry| Script {
        entries: vec![entry],
        ..Script::default()
    };
    let stamp = |lie| Script {
        stamps: vec![StampScript::lying(lie)],
        ..Script::default()
    };
    let mut scripts: Vec<(String, Script)> = vec![
        ("the truth".into(), Script::default()),
        ("provenance".into(), Script::of_provenance()),
        (
            "second log".into(),
            Script {
                entries: vec![EntryScript::second("hashedrekord")],
                stamps: vec![StampScript::default()],
                ..Script::default()
            },
        ),
        (
            "by stranger".into(),
            leaf(LeafScript {
                by_stranger: true,
                ..LeafScript::default()
            }),
        ),
        (
            "an authority".into(),
            leaf(LeafScript {
                ca: true,
                ..LeafScript::default()
            }),
        ),
        (
            "usage".into(),
            leaf(LeafScript {
                key_usage: 0x04,
                ..LeafScript::default()
            }),
        ),
        (
            "purpose".into(),
            leaf(LeafScript {
                purposes: vec!["time"],
                ..LeafScript::default()
            }),
        ),
        (
            "critical".into(),
            leaf(LeafScript {
                critical_stranger: true,
                ..LeafScript::default()
            }),
        ),
        (
            "two names".into(),
            leaf(LeafScript {
                names: vec![Name::Uri(WORKFLOW), Name::Email("x@evil.test")],
                ..LeafScript::default()
            }),
        ),
        (
            "issuers disagree".into(),
            leaf(LeafScript {
                raw_issuer: Some("https://evil.test"),
                ..LeafScript::default()
            }),
        ),
        (
            "old".into(),
            leaf(LeafScript {
                not_before: THEN.minus_secs(9_000),
                not_after: THEN.minus_secs(8_000),
                ..LeafScript::default()
            }),
        ),
        (
            "no log".into(),
            Script {
                entries: Vec::new(),
                ..Script::default()
            },
        ),
        (
            "no proof".into(),
            entry(EntryScript {
                has_proof: false,
                ..EntryScript::default()
            }),
        ),
        (
            "strange log".into(),
            entry(EntryScript {
                log: Which::Stranger,
                ..EntryScript::default()
            }),
        ),
        (
            "other code".into(),
            entry(EntryScript {
                body: |body| body["spec"]["data"]["hash"]["value"] = json!("00".repeat(32)),
                ..EntryScript::default()
            }),
        ),
        (
            "other key".into(),
            Script {
                signed_by_another: true,
                ..Script::default()
            },
        ),
        (
            "late".into(),
            entry(EntryScript {
                integrated: THEN.plus_secs(3600),
                ..EntryScript::default()
            }),
        ),
    ];
    for sct in [
        SctScript::Absent,
        SctScript::ByStranger,
        SctScript::Forged,
        SctScript::OfAnother,
        SctScript::OfAnotherIssuer,
        SctScript::Early,
        SctScript::Garbage,
    ] {
        scripts.push((
            format!("sct {}", sct as u8),
            leaf(LeafScript {
                sct,
                ..LeafScript::default()
            }),
        ));
    }
    for checkpoint in [
        Checkpoint::Absent,
        Checkpoint::ByStranger,
        Checkpoint::OfAnotherSize,
        Checkpoint::OfAnotherRoot,
        Checkpoint::Garbage,
    ] {
        let script = entry(EntryScript {
            checkpoint,
            ..EntryScript::default()
        });
        scripts.push((format!("checkpoint {}", checkpoint as u8), script));
    }
    for promise in [
        Promise::Absent,
        Promise::ByStranger,
        Promise::OfAnotherTime,
        Promise::OfAnotherIndex,
    ] {
        let script = entry(EntryScript {
            promise,
            ..EntryScript::default()
        });
        scripts.push((format!("promise {}", promise as u8), script));
    }
    for lie in [
        Lie::None,
        Lie::Imprint,
        Lie::Signature,
        Lie::Digest,
        Lie::ContentType,
        Lie::SigningCertificate,
        Lie::NoSigningCertificate,
        Lie::Purposes,
        Lie::NotCritical,
        Lie::CodeSigner,
        Lie::Stranger,
        Lie::Expired,
        Lie::Refused,
        Lie::TwoSigners,
        Lie::Extension,
        Lie::Garbage,
    ] {
        scripts.push((format!("stamp {lie:?}"), stamp(lie)));
    }
    let mut stricter = Vec::new();
    for (what, script) in &scripts {
        let bundle = forge(&deployment, script).to_string();
        let artifact = Artifact::of_bytes(ARTIFACT);
        let now = crate::forge::NOW;
        let ours = verify_bundle(bundle.as_bytes(), &artifact, &references, now);
        let theirs = peer(&bundle, &ARTIFACT.into(), &root, WORKFLOW, GITHUB);
        if ours.is_ok() {
            assert_eq!(theirs, Ok(()), "{what}");
        } else if theirs.is_ok() {
            stricter.push(format!("{what}: {}", codes(&ours).join(" ")));
        }
    }
    expect![[r#"
        usage: SIGSTORE-CERT-USAGE
        two names: SIGSTORE-CERT-NAME
        issuers disagree: SIGSTORE-CERT-ISSUER
        checkpoint 3: SIGSTORE-LOG-CHECKPOINT
        stamp ContentType: SIGSTORE-STAMP-SIGNATURE
        stamp SigningCertificate: SIGSTORE-STAMP-SIGNER
        stamp NoSigningCertificate: SIGSTORE-STAMP-SIGNER
        stamp Purposes: SIGSTORE-STAMP-SIGNER
        stamp NotCritical: SIGSTORE-STAMP-SIGNER
        stamp CodeSigner: SIGSTORE-STAMP-SIGNER
        stamp Expired: SIGSTORE-STAMP-TIME
        stamp TwoSigners: SIGSTORE-STAMP
        stamp Extension: SIGSTORE-STAMP"#]]
    .assert_eq(&stricter.join("\n"));
}
