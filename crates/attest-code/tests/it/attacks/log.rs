//! Entries of the transparency log that lie.

use super::*;

#[test]
fn log_entries_that_lie_are_refused() {
    let deployment = Deployment::new();
    let cases: Vec<(&str, EntryScript, &[&str])> = vec![
        // A stranger's entry is no proof, and its promise gives no time.
        (
            "of a stranger's log",
            EntryScript {
                log: Which::Stranger,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-UNKNOWN", "SIGSTORE-TIME-MISSING"],
        ),
        (
            "promised only",
            EntryScript {
                has_proof: false,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-PROOF"],
        ),
        (
            "without a checkpoint",
            EntryScript {
                checkpoint: Checkpoint::Absent,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-CHECKPOINT"],
        ),
        (
            "with a stranger's checkpoint",
            EntryScript {
                checkpoint: Checkpoint::ByStranger,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-CHECKPOINT"],
        ),
        (
            "with the checkpoint of a larger tree",
            EntryScript {
                checkpoint: Checkpoint::OfAnotherSize,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-CHECKPOINT"],
        ),
        (
            "with the checkpoint of another tree",
            EntryScript {
                checkpoint: Checkpoint::OfAnotherRoot,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-CHECKPOINT"],
        ),
        (
            "with garbage for a checkpoint",
            EntryScript {
                checkpoint: Checkpoint::Garbage,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-CHECKPOINT"],
        ),
        (
            "promised by a stranger",
            EntryScript {
                promise: Promise::ByStranger,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-PROMISE", "SIGSTORE-TIME-MISSING"],
        ),
        (
            "promised for another time",
            EntryScript {
                promise: Promise::OfAnotherTime,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-PROMISE", "SIGSTORE-TIME-MISSING"],
        ),
        (
            "promised elsewhere",
            EntryScript {
                promise: Promise::OfAnotherIndex,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-PROMISE", "SIGSTORE-TIME-MISSING"],
        ),
        (
            "without a time",
            EntryScript {
                promise: Promise::Absent,
                ..EntryScript::default()
            },
            &["SIGSTORE-TIME-MISSING"],
        ),
        (
            "of no time either",
            EntryScript::second("hashedrekord"),
            &["SIGSTORE-TIME-MISSING"],
        ),
        (
            "long after the certificate",
            EntryScript {
                integrated: THEN.plus_secs(3600),
                ..EntryScript::default()
            },
            &["SIGSTORE-CERT-VALIDITY"],
        ),
        (
            "before the log counted",
            EntryScript {
                integrated: facts::Timestamp::from_secs(1_730_000_000),
                ..EntryScript::default()
            },
            &[
                "SIGSTORE-LOG-TIME",
                "SIGSTORE-CERT-CHAIN",
                "SIGSTORE-CERT-VALIDITY",
            ],
        ),
        // CVE-2022-36056: a true entry of the log, of something else.
        (
            "of other code",
            EntryScript {
                body: |body| body["spec"]["data"]["hash"]["value"] = json!("00".repeat(32)),
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-BODY"],
        ),
        (
            "of another signature",
            EntryScript {
                body: |body| body["spec"]["signature"]["content"] = json!("AAAA"),
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-BODY"],
        ),
        (
            "of another signer",
            EntryScript {
                body: |body| body["spec"]["signature"]["publicKey"]["content"] = json!("AAAA"),
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-BODY"],
        ),
        (
            "of another kind than it says",
            EntryScript {
                body: |body| body["kind"] = json!("dsse"),
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-BODY"],
        ),
        (
            "of an unknown kind",
            EntryScript {
                kind: "rekord",
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-BODY"],
        ),
        (
            "with nothing in it",
            EntryScript {
                body: |body| body["spec"] = Value::Null,
                ..EntryScript::default()
            },
            &["SIGSTORE-LOG-BODY"],
        ),
    ];
    for (what, script, expected) in cases {
        let found = verify(&deployment, &entry(script));
        assert_eq!(codes(&found), expected, "{what}: {found:?}");
    }
    // The second log has one tree: another place is another entry.
    let mut moved = forge(
        &deployment,
        &Script {
            entries: vec![EntryScript::second("hashedrekord")],
            stamps: vec![StampScript::default()],
            ..Script::default()
        },
    );
    assert_eq!(codes(&verify_json(&deployment, &moved)), ["good"]);
    moved["verificationMaterial"]["tlogEntries"][0]["logIndex"] = json!("2");
    assert_eq!(
        codes(&verify_json(&deployment, &moved)),
        ["SIGSTORE-LOG-PROOF"]
    );
    let none = Script {
        entries: Vec::new(),
        ..Script::default()
    };
    let expected = ["SIGSTORE-LOG-MISSING", "SIGSTORE-TIME-MISSING"];
    assert_eq!(codes(&verify(&deployment, &none)), expected);
    // A timestamp does not stand in for the log.
    let stamped = Script {
        entries: Vec::new(),
        ..stamped(Lie::None)
    };
    assert_eq!(
        codes(&verify(&deployment, &stamped)),
        ["SIGSTORE-LOG-MISSING"]
    );
    // One good entry does not carry a bad one.
    let mixed = Script {
        entries: vec![
            EntryScript::default(),
            EntryScript {
                checkpoint: Checkpoint::ByStranger,
                ..EntryScript::default()
            },
        ],
        ..Script::default()
    };
    assert_eq!(
        codes(&verify(&deployment, &mixed)),
        ["SIGSTORE-LOG-CHECKPOINT"]
    );
}

/// Every kind of entry is bound to digest, signature and signer.
#[test]
fn entries_of_every_kind_are_bound_to_their_bundle() {
    let deployment = Deployment::new();
    type Change = fn(&mut Value);
    let kinds: [(&'static str, &'static str, bool, [Change; 3]); 6] = [
        (
            "hashedrekord",
            "0.0.1",
            false,
            [
                |b| b["spec"]["data"]["hash"] = json!({"algorithm": "sha256", "value": ""}),
                |b| b["spec"]["signature"]["content"] = json!(""),
                |b| b["spec"]["signature"]["publicKey"] = json!({}),
            ],
        ),
        (
            "hashedrekord",
            "0.0.2",
            false,
            [
                |b| b["spec"]["hashedRekordV002"]["data"]["digest"] = json!(""),
                |b| b["spec"]["hashedRekordV002"]["signature"]["content"] = json!(""),
                |b| b["spec"]["hashedRekordV002"]["signature"]["verifier"] = json!({}),
            ],
        ),
        (
            "hashedrekord",
            "0.0.2",
            true,
            [
                |b| b["spec"] = json!({}),
                |b| b["spec"]["hashedRekordV002"]["signature"]["content"] = json!("AAAA"),
                |b| {
                    b["spec"]["hashedRekordV002"]["signature"]["verifier"]["x509Certificate"]["rawBytes"] =
                        json!("AAAA")
                },
            ],
        ),
        (
            "dsse",
            "0.0.1",
            true,
            [
                |b| b["spec"]["payloadHash"]["value"] = json!("00".repeat(32)),
                |b| b["spec"]["signatures"][0]["signature"] = json!("AAAA"),
                |b| b["spec"]["signatures"][0]["verifier"] = json!("AAAA"),
            ],
        ),
        (
            "dsse",
            "0.0.2",
            true,
            [
                |b| b["spec"]["dsseV002"]["payloadHash"]["algorithm"] = json!("SHA2_512"),
                |b| b["spec"]["dsseV002"]["signatures"] = json!([]),
                |b| {
                    b["spec"]["dsseV002"]["signatures"][0]["verifier"] =
                        json!({"publicKey": {"rawBytes": ""}})
                },
            ],
        ),
        (
            "intoto",
            "0.0.2",
            true,
            [
                |b| b["spec"]["content"]["payloadHash"]["value"] = json!("00".repeat(32)),
                |b| b["spec"]["content"]["envelope"]["signatures"][0]["sig"] = json!("AAAA"),
                |b| b["spec"]["content"]["envelope"]["signatures"][0]["publicKey"] = json!("AAAA"),
            ],
        ),
    ];
    for (kind, version, in_envelope, changes) in kinds {
        for (at, body) in changes.into_iter().enumerate() {
            let second = version == "0.0.2" && kind != "intoto";
            let script = Script {
                statement: in_envelope.then(provenance),
                entries: vec![EntryScript {
                    kind,
                    version,
                    body,
                    ..if second {
                        EntryScript::second(kind)
                    } else {
                        EntryScript::default()
                    }
                }],
                stamps: if second {
                    vec![StampScript::default()]
                } else {
                    Vec::new()
                },
                ..Script::default()
            };
            let found = verify(&deployment, &script);
            assert_eq!(
                codes(&found),
                ["SIGSTORE-LOG-BODY"],
                "{kind} {version} {at}: {found:?}"
            );
        }
    }
}
