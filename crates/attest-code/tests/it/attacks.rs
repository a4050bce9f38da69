//! One lie a line, told by a deployment whose keys we hold, so that everything else about the bundle is true.
//! Each is refused for that lie and for nothing else.

mod log;

use crate::common::{codes, keyless, references, release, verify, verify_json};
use crate::forge::certificate::{LeafScript, Name, SctScript};
use crate::forge::log::{Checkpoint, EntryScript, Promise, Which};
use crate::forge::stamp::{Lie, StampScript};
use crate::forge::{
    ARTIFACT, Deployment, GITHUB, NOW, Script, THEN, WORKFLOW, forge, key, provenance, root_of,
};
use attest_code::{Artifact, Vouched, verify_bundle};
use crypto::{Algorithm, base64};
use facts::Finding;
use serde_json::{Value, json};

fn leaf(leaf: LeafScript) -> Script {
    Script {
        leaf,
        ..Script::default()
    }
}

fn entry(entry: EntryScript) -> Script {
    Script {
        entries: vec![entry],
        ..Script::default()
    }
}

fn stamped(lie: Lie) -> Script {
    Script {
        stamps: vec![StampScript::lying(lie)],
        ..Script::default()
    }
}

/// Every form of a true bundle.
#[test]
fn the_truth_is_affirmed() {
    let deployment = Deployment::new();
    let statement = || Some(provenance());
    let in_log = |kind, version| EntryScript {
        kind,
        version,
        ..EntryScript::default()
    };
    let second = |kind| Script {
        entries: vec![EntryScript::second(kind)],
        stamps: vec![StampScript::default()],
        ..Script::default()
    };
    let scripts = [
        Script::default(),
        Script::of_provenance(),
        Script {
            statement: statement(),
            entries: vec![in_log("intoto", "0.0.2")],
            ..Script::default()
        },
        Script {
            statement: statement(),
            entries: vec![in_log("hashedrekord", "0.0.1")],
            ..Script::default()
        },
        second("hashedrekord"),
        Script {
            statement: statement(),
            ..second("hashedrekord")
        },
        Script {
            statement: statement(),
            ..second("dsse")
        },
        stamped(Lie::None),
        Script {
            entries: vec![EntryScript::default(), EntryScript::second("hashedrekord")],
            ..Script::default()
        },
        leaf(LeafScript {
            raw_issuer: None,
            ..LeafScript::default()
        }),
        leaf(LeafScript {
            issuer: None,
            ..LeafScript::default()
        }),
        leaf(LeafScript {
            algorithm: Algorithm::EcdsaP384,
            ..LeafScript::default()
        }),
        leaf(LeafScript {
            algorithm: Algorithm::Ed25519,
            ..LeafScript::default()
        }),
    ];
    for (at, script) in scripts.iter().enumerate() {
        // A P-384 key signs messages with SHA-384; the forge writes SHA-256 for all.
        if script.leaf.algorithm == Algorithm::EcdsaP384 {
            assert_eq!(codes(&verify(&deployment, script)), ["SIGSTORE-SIGNATURE"]);
            continue;
        }
        let found = verify(&deployment, script);
        assert_eq!(codes(&found), ["good"], "script {at}: {found:?}");
        let found = found.unwrap();
        assert_eq!(found.label(), "release");
        assert!(found.signed_at() >= Some(THEN), "{at}");
    }
}

#[test]
fn other_names_of_signers_are_read() {
    let deployment = Deployment::new();
    let references = references(
        deployment.root(),
        vec![
            keyless("mail", "alice@acme.test", GITHUB),
            keyless("user", "alice!acme.test", GITHUB),
        ],
        Vec::new(),
    );
    for (name, label) in [
        (Name::Email("alice@acme.test"), "mail"),
        (Name::Other("alice!acme.test"), "user"),
    ] {
        let script = leaf(LeafScript {
            names: vec![name],
            ..LeafScript::default()
        });
        let bundle = forge(&deployment, &script).to_string();
        let artifact = Artifact::of_bytes(ARTIFACT);
        let found = verify_bundle(bundle.as_bytes(), &artifact, &references, NOW);
        assert_eq!(found.unwrap().label(), label);
    }
}

#[test]
fn certificates_that_lie_are_refused() {
    let deployment = Deployment::new();
    let cases: Vec<(&str, LeafScript, &[&str])> = vec![
        (
            "another authority's",
            LeafScript {
                by_stranger: true,
                sct: SctScript::Absent,
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-CHAIN"],
        ),
        (
            "an authority's own",
            LeafScript {
                ca: true,
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-USAGE"],
        ),
        (
            "for signing certificates",
            LeafScript {
                key_usage: 0x04,
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-USAGE"],
        ),
        (
            "for servers",
            LeafScript {
                purposes: vec!["server"],
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-USAGE"],
        ),
        (
            "for time stamping",
            LeafScript {
                purposes: vec!["time"],
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-USAGE"],
        ),
        (
            "with something critical",
            LeafScript {
                critical_stranger: true,
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-CRITICAL"],
        ),
        (
            "with two issuers",
            LeafScript {
                repeated_extension: true,
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-STRUCTURE"],
        ),
        (
            "of nobody",
            LeafScript {
                names: vec![],
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-NAME"],
        ),
        (
            "of two",
            LeafScript {
                names: vec![Name::Uri(WORKFLOW), Name::Email("x@evil.test")],
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-NAME"],
        ),
        (
            "without an issuer",
            LeafScript {
                issuer: None,
                raw_issuer: None,
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-ISSUER"],
        ),
        (
            "with issuers that disagree",
            LeafScript {
                raw_issuer: Some("https://evil.test"),
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-ISSUER"],
        ),
        (
            "of somebody else",
            LeafScript {
                names: vec![Name::Email("mallory@evil.test")],
                ..LeafScript::default()
            },
            &["SIGSTORE-IDENTITY"],
        ),
        (
            "of another workflow",
            LeafScript {
                names: vec![Name::Uri(
                    "https://github.com/acme/payments/.github/workflows/test.yml@refs/tags/v1",
                )],
                ..LeafScript::default()
            },
            &["SIGSTORE-IDENTITY"],
        ),
        (
            "of a branch",
            LeafScript {
                names: vec![Name::Uri(
                    "https://github.com/acme/payments/.github/workflows/release.yml@refs/heads/main",
                )],
                ..LeafScript::default()
            },
            &["SIGSTORE-IDENTITY"],
        ),
        (
            "identified by somebody else",
            LeafScript {
                issuer: Some("https://evil.test"),
                raw_issuer: None,
                ..LeafScript::default()
            },
            &["SIGSTORE-ISSUER"],
        ),
        (
            "of yesterday",
            LeafScript {
                not_before: THEN.minus_secs(86_400),
                not_after: THEN.minus_secs(85_800),
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-VALIDITY"],
        ),
        (
            "of tomorrow",
            LeafScript {
                not_before: THEN.plus_secs(86_400),
                not_after: THEN.plus_secs(87_000),
                ..LeafScript::default()
            },
            &["SIGSTORE-CERT-VALIDITY"],
        ),
        (
            "that no log saw",
            LeafScript {
                sct: SctScript::Absent,
                ..LeafScript::default()
            },
            &["SIGSTORE-SCT"],
        ),
        (
            "that a stranger's log saw",
            LeafScript {
                sct: SctScript::ByStranger,
                ..LeafScript::default()
            },
            &["SIGSTORE-SCT"],
        ),
        (
            "with a forged timestamp",
            LeafScript {
                sct: SctScript::Forged,
                ..LeafScript::default()
            },
            &["SIGSTORE-SCT"],
        ),
        (
            "with another's timestamp",
            LeafScript {
                sct: SctScript::OfAnother,
                ..LeafScript::default()
            },
            &["SIGSTORE-SCT"],
        ),
        (
            "with a timestamp for another authority",
            LeafScript {
                sct: SctScript::OfAnotherIssuer,
                ..LeafScript::default()
            },
            &["SIGSTORE-SCT"],
        ),
        (
            "with an early timestamp",
            LeafScript {
                sct: SctScript::Early,
                ..LeafScript::default()
            },
            &["SIGSTORE-SCT"],
        ),
        (
            "with an unreadable timestamp",
            LeafScript {
                sct: SctScript::Garbage,
                ..LeafScript::default()
            },
            &["SIGSTORE-SCT"],
        ),
    ];
    for (what, script, expected) in cases {
        let found = verify(&deployment, &leaf(script));
        assert_eq!(codes(&found), expected, "{what}: {found:?}");
    }
}

#[test]
fn identity_and_issuer_are_pinned_together() {
    let deployment = Deployment::new();
    // Each of the two is somebody's, but not of the same signer.
    let references = references(
        deployment.root(),
        vec![
            keyless("a", WORKFLOW, "https://another.test"),
            keyless(
                "b",
                "https://github.com/acme/other/.github/workflows/x.yml@refs/tags/*",
                GITHUB,
            ),
        ],
        Vec::new(),
    );
    let bundle = forge(&deployment, &Script::default()).to_string();
    let artifact = Artifact::of_bytes(ARTIFACT);
    let found = verify_bundle(bundle.as_bytes(), &artifact, &references, NOW);
    assert_eq!(codes(&found), ["SIGSTORE-IDENTITY"]);
}

#[test]
fn nobody_is_believed_when_nobody_is_named() {
    let deployment = Deployment::new();
    let references = references(deployment.root(), Vec::new(), Vec::new());
    let bundle = forge(&deployment, &Script::default()).to_string();
    let artifact = Artifact::of_bytes(ARTIFACT);
    let found = verify_bundle(bundle.as_bytes(), &artifact, &references, NOW);
    assert_eq!(codes(&found), ["CODE-SIGNER-NONE"]);
}

#[test]
fn signatures_that_lie_are_refused() {
    let deployment = Deployment::new();
    let message = Script {
        signed_by_another: true,
        ..Script::default()
    };
    assert_eq!(
        codes(&verify(&deployment, &message)),
        ["SIGSTORE-SIGNATURE"]
    );
    let envelope = Script {
        signed_by_another: true,
        ..Script::of_provenance()
    };
    assert_eq!(
        codes(&verify(&deployment, &envelope)),
        ["SIGSTORE-SIGNATURE"]
    );
    let other_code = Script {
        artifact: b"other code".to_vec(),
        ..Script::default()
    };
    assert_eq!(
        codes(&verify(&deployment, &other_code)),
        ["SIGSTORE-ARTIFACT"]
    );
}

#[test]
fn timestamps_that_lie_are_refused() {
    let deployment = Deployment::new();
    let cases = [
        (Lie::Garbage, "SIGSTORE-STAMP"),
        (Lie::Refused, "SIGSTORE-STAMP"),
        (Lie::TwoSigners, "SIGSTORE-STAMP"),
        (Lie::Extension, "SIGSTORE-STAMP"),
        (Lie::Imprint, "SIGSTORE-STAMP-IMPRINT"),
        (Lie::Stranger, "SIGSTORE-STAMP-SIGNER"),
        (Lie::Purposes, "SIGSTORE-STAMP-SIGNER"),
        (Lie::NotCritical, "SIGSTORE-STAMP-SIGNER"),
        (Lie::CodeSigner, "SIGSTORE-STAMP-SIGNER"),
        (Lie::SigningCertificate, "SIGSTORE-STAMP-SIGNER"),
        (Lie::NoSigningCertificate, "SIGSTORE-STAMP-SIGNER"),
        (Lie::Signature, "SIGSTORE-STAMP-SIGNATURE"),
        (Lie::Digest, "SIGSTORE-STAMP-SIGNATURE"),
        (Lie::ContentType, "SIGSTORE-STAMP-SIGNATURE"),
        (Lie::Expired, "SIGSTORE-STAMP-TIME"),
    ];
    for (lie, expected) in cases {
        // Beside a log that promised a time: a stamp that is there has to be good.
        let found = verify(&deployment, &stamped(lie));
        assert_eq!(codes(&found), [expected], "{lie:?}: {found:?}");
        // As the only time there is.
        let script = Script {
            entries: vec![EntryScript::second("hashedrekord")],
            ..stamped(lie)
        };
        let found = verify(&deployment, &script);
        assert_eq!(
            codes(&found),
            [expected, "SIGSTORE-TIME-MISSING"],
            "{lie:?}: {found:?}"
        );
    }
}

#[test]
fn every_time_has_to_fit_and_none_lies_ahead() {
    let deployment = Deployment::new();
    let stamp_at = |at| Script {
        stamps: vec![StampScript {
            at,
            ..StampScript::default()
        }],
        ..Script::default()
    };
    // The log's time fits; the authority's does not.
    let late = verify(&deployment, &stamp_at(THEN.plus_secs(700)));
    assert_eq!(codes(&late), ["SIGSTORE-CERT-VALIDITY"]);
    let early = verify(&deployment, &stamp_at(THEN.minus_secs(700)));
    assert_eq!(codes(&early), ["SIGSTORE-CERT-VALIDITY"]);

    let good = forge(&deployment, &Script::default()).to_string();
    let stamped = forge(
        &deployment,
        &Script {
            entries: vec![EntryScript::second("hashedrekord")],
            stamps: vec![StampScript::default()],
            ..Script::default()
        },
    )
    .to_string();
    let references = references(deployment.root(), vec![release()], Vec::new());
    let at = |bundle: &str, now| -> Result<Vouched, Vec<Finding>> {
        verify_bundle(
            bundle.as_bytes(),
            &Artifact::of_bytes(ARTIFACT),
            &references,
            now,
        )
    };
    for bundle in [&good, &stamped] {
        assert_eq!(codes(&at(bundle, THEN)), ["good"]);
        assert_eq!(
            codes(&at(bundle, THEN.minus_secs(30))),
            ["good"],
            "clocks differ a little"
        );
        assert_eq!(
            codes(&at(bundle, THEN.minus_secs(90))),
            ["SIGSTORE-TIME-FUTURE"]
        );
    }
}

#[test]
fn nothing_counts_outside_its_window() {
    let deployment = Deployment::new();
    let bundle = forge(
        &deployment,
        &Script {
            stamps: vec![StampScript::default()],
            ..Script::default()
        },
    );
    let with = |change: &dyn Fn(&mut Value)| {
        let mut json = deployment.root_json();
        change(&mut json);
        let references = references(root_of(&json), vec![release()], Vec::new());
        let bundle = bundle.to_string();
        let found = verify_bundle(
            bundle.as_bytes(),
            &Artifact::of_bytes(ARTIFACT),
            &references,
            NOW,
        );
        codes(&found)
    };
    let ended = json!({"start": "2025-01-01T00:00:00Z", "end": "2025-06-01T00:00:00Z"});
    let later = json!({"start": "2026-01-01T00:00:00Z"});
    for period in [&ended, &later] {
        assert_eq!(
            with(&|json| json["certificateAuthorities"][0]["validFor"] = period.clone()),
            ["SIGSTORE-CERT-CHAIN"]
        );
        assert_eq!(
            with(&|json| json["timestampAuthorities"][0]["validFor"] = period.clone()),
            ["SIGSTORE-STAMP-TIME"]
        );
        assert_eq!(
            with(&|json| json["ctlogs"][0]["publicKey"]["validFor"] = period.clone()),
            ["SIGSTORE-SCT"]
        );
        let codes = with(&|json| json["tlogs"][0]["publicKey"]["validFor"] = period.clone());
        assert!(
            codes.iter().all(|code| code == "SIGSTORE-LOG-TIME"),
            "{codes:?}"
        );
    }
    // The root lacks what the bundle rests on.
    assert_eq!(
        with(&|json| json["certificateAuthorities"] = json!([])),
        ["SIGSTORE-CERT-CHAIN"]
    );
    assert_eq!(
        with(&|json| json["timestampAuthorities"] = json!([])),
        ["SIGSTORE-STAMP-SIGNER"]
    );
    assert_eq!(
        with(&|json| json["tlogs"] = json!([])),
        ["SIGSTORE-LOG-UNKNOWN"]
    );
    // A deployment without certificate logs asks for no timestamps of theirs.
    assert_eq!(with(&|json| json["ctlogs"] = json!([])), ["good"]);
}

/// Each field of a good bundle, changed by somebody on the way.
#[test]
fn no_field_of_a_bundle_can_change() {
    let deployment = Deployment::new();
    let script = Script {
        stamps: vec![StampScript::default()],
        ..Script::of_provenance()
    };
    let good = forge(&deployment, &script);
    assert_eq!(codes(&verify_json(&deployment, &good)), ["good"]);
    let flipped = |value: &Value| {
        let mut bytes = base64::decode(value.as_str().unwrap()).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        json!(base64::encode(&bytes))
    };
    let entry = "/verificationMaterial/tlogEntries/0";
    let cases: [(&str, &[&str]); 14] = [
        ("/verificationMaterial/certificate/rawBytes", &[]),
        (
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
            &[],
        ),
        ("/dsseEnvelope/payload", &[]),
        ("/dsseEnvelope/signatures/0/sig", &[]),
        (
            "{entry}/logId/keyId",
            &["SIGSTORE-LOG-UNKNOWN", "SIGSTORE-LOG-BODY"],
        ),
        ("{entry}/canonicalizedBody", &[]),
        (
            "{entry}/inclusionPromise/signedEntryTimestamp",
            &["SIGSTORE-LOG-PROMISE"],
        ),
        (
            "{entry}/inclusionProof/rootHash",
            &["SIGSTORE-LOG-PROOF", "SIGSTORE-LOG-CHECKPOINT"],
        ),
        ("{entry}/inclusionProof/hashes/0", &["SIGSTORE-LOG-PROOF"]),
        ("{entry}/inclusionProof/hashes/1", &["SIGSTORE-LOG-PROOF"]),
        ("{entry}/inclusionProof/hashes/2", &["SIGSTORE-LOG-PROOF"]),
        (
            "{entry}/inclusionProof/treeSize",
            &["SIGSTORE-LOG-CHECKPOINT"],
        ),
        ("{entry}/inclusionProof/logIndex", &["SIGSTORE-LOG-PROOF"]),
        ("{entry}/integratedTime", &["SIGSTORE-LOG-PROMISE"]),
    ];
    for (pointer, expected) in cases {
        let pointer = pointer.replace("{entry}", entry);
        let mut bundle = good.clone();
        let field = bundle.pointer_mut(&pointer).unwrap();
        *field = match field.as_str().unwrap().parse::<u64>() {
            Ok(number) => json!((number + 1).to_string()),
            Err(_) => flipped(field),
        };
        let found = codes(&verify_json(&deployment, &bundle));
        assert_ne!(found, ["good"], "{pointer}");
        if pointer.ends_with("keyId") {
            assert_eq!(found, ["SIGSTORE-LOG-UNKNOWN"], "{pointer}");
        } else if !expected.is_empty() {
            assert!(
                expected
                    .iter()
                    .all(|code| found.iter().any(|one| one == code)),
                "{pointer}: {found:?}"
            );
        }
    }
    for (pointer, value, expected) in [
        (
            "/dsseEnvelope/payloadType",
            json!("text/plain"),
            "STATEMENT-TYPE",
        ),
        (
            "/verificationMaterial/tlogEntries",
            json!([]),
            "SIGSTORE-LOG-MISSING",
        ),
        (
            "/mediaType",
            json!("application/vnd.dev.sigstore.bundle.v0.4+json"),
            "SIGSTORE-BUNDLE-VERSION",
        ),
        (
            "/verificationMaterial/tlogEntries/0/kindVersion/version",
            json!("0.0.2"),
            "SIGSTORE-LOG-BODY",
        ),
        (
            "/verificationMaterial/tlogEntries/0/logIndex",
            json!("7"),
            "SIGSTORE-LOG-PROMISE",
        ),
    ] {
        let mut bundle = good.clone();
        *bundle.pointer_mut(pointer).unwrap() = value;
        let found = codes(&verify_json(&deployment, &bundle));
        assert!(
            found.iter().any(|code| code == expected),
            "{pointer}: {found:?}"
        );
    }
}

#[test]
fn a_bundle_says_one_thing() {
    let deployment = Deployment::new();
    let good = forge(&deployment, &Script::of_provenance());
    let message = forge(&deployment, &Script::default());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        codes(&verify_json(&deployment, &bundle))
    };
    let certificate = good["verificationMaterial"]["certificate"].clone();
    assert_eq!(
        with(&|b| b["messageSignature"] = message["messageSignature"].clone()),
        ["SIGSTORE-BUNDLE-STRUCTURE"]
    );
    assert_eq!(
        with(&|b| b["verificationMaterial"]["publicKey"] = json!({"hint": "x"})),
        ["SIGSTORE-BUNDLE-STRUCTURE"]
    );
    // Two signatures, though both are good.
    assert_eq!(
        with(&|b| {
            let one = b["dsseEnvelope"]["signatures"][0].clone();
            b["dsseEnvelope"]["signatures"] = json!([one.clone(), one]);
        }),
        ["SIGSTORE-BUNDLE-SIGNATURES"]
    );
    assert_eq!(
        with(&|b| b["dsseEnvelope"]["signatures"] = json!([])),
        ["SIGSTORE-BUNDLE-SIGNATURES"]
    );
    // A chain belongs to older versions.
    let chain = |version: &'static str| {
        let certificate = certificate.clone();
        move |b: &mut Value| {
            b["mediaType"] = json!(version);
            b["verificationMaterial"]["certificate"] = Value::Null;
            b["verificationMaterial"]["x509CertificateChain"] =
                json!({"certificates": [certificate.clone()]});
        }
    };
    assert_eq!(
        with(&chain("application/vnd.dev.sigstore.bundle.v0.3+json")),
        ["SIGSTORE-BUNDLE-STRUCTURE"]
    );
    for version in ["0.1", "0.2"] {
        let old = format!("application/vnd.dev.sigstore.bundle+json;version={version}");
        assert_eq!(with(&chain(old.leak())), ["good"]);
    }
    assert_eq!(
        with(&|b| b["verificationMaterial"]["certificate"] = Value::Null),
        ["SIGSTORE-BUNDLE-STRUCTURE"]
    );
}

#[test]
fn bundles_by_a_pinned_key_need_that_key_and_the_log_that_is_asked_for() {
    let deployment = Deployment::new();
    let ours = key(Algorithm::EcdsaP256);
    let public = crypto::Signer::public_key(&ours).clone();
    let script = Script {
        key: Some(ours),
        ..Script::default()
    };
    let bundle = forge(&deployment, &script);
    let unlogged = {
        let mut bundle = bundle.clone();
        bundle["verificationMaterial"]["tlogEntries"] = json!([]);
        bundle
    };
    let pinned = |key| attest_code::Signer::key("release key", key).unwrap();
    let check = |bundle: &Value, signer| {
        let references = references(deployment.root(), vec![signer], Vec::new());
        let artifact = Artifact::of_bytes(ARTIFACT);
        codes(&verify_bundle(
            bundle.to_string().as_bytes(),
            &artifact,
            &references,
            NOW,
        ))
    };
    assert_eq!(check(&bundle, pinned(public.clone())), ["good"]);
    assert_eq!(check(&unlogged, pinned(public.clone())), ["good"]);
    let logged = || pinned(public.clone()).logged_by("forged");
    assert_eq!(check(&bundle, logged()), ["good"]);
    assert_eq!(check(&unlogged, logged()), ["SIGSTORE-LOG-MISSING"]);
    let another = crypto::Signer::public_key(&key(Algorithm::EcdsaP256)).clone();
    assert_eq!(check(&bundle, pinned(another)), ["SIGSTORE-SIGNATURE"]);
    // A key does not stand in for a certificate, nor the other way round.
    assert_eq!(check(&bundle, release()), ["CODE-SIGNER-NONE"]);
    let keyless = forge(&deployment, &Script::default());
    assert_eq!(check(&keyless, pinned(public)), ["CODE-SIGNER-NONE"]);
}
