//! Trusted roots: what an owner could get wrong, and chains that are not what they should be.

use crate::common::{code, codes, references, release};
use crate::forge::certificate::IntermediateScript;
use crate::forge::{ARTIFACT, Deployment, NOW, Script, forge};
use attest_code::{Artifact, MAX_ROOT, TrustedRoot, verify_bundle};
use crypto::base64;
use facts::{Finding, Timestamp};
use serde_json::{Value, json};

fn load(json: &Value) -> Result<TrustedRoot, Finding> {
    TrustedRoot::parse(json.to_string().as_bytes())
}

#[test]
fn a_root_that_is_wrong_somewhere_is_no_root() {
    let deployment = Deployment::new();
    let good = deployment.root_json();
    load(&good).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>); 12] = [
        ("media type", &|root| {
            root["mediaType"] = json!("application/json")
        }),
        ("no media type", &|root| root["mediaType"] = Value::Null),
        ("a log twice", &|root| {
            let log = root["tlogs"][0].clone();
            root["tlogs"].as_array_mut().unwrap().push(log);
        }),
        ("another hash", &|root| {
            root["tlogs"][0]["hashAlgorithm"] = json!("SHA2_512")
        }),
        ("a broken key", &|root| {
            root["tlogs"][0]["publicKey"]["rawBytes"] = json!("AAAA")
        }),
        ("a short id", &|root| {
            root["tlogs"][0]["logId"]["keyId"] = json!("AAAA")
        }),
        ("a certificate log's id", &|root| {
            root["ctlogs"][0]["logId"] = root["tlogs"][0]["logId"].clone()
        }),
        ("no validity", &|root| {
            root["ctlogs"][0]["publicKey"]["validFor"] = json!({})
        }),
        ("a reversed validity", &|root| {
            root["ctlogs"][0]["publicKey"]["validFor"] =
                json!({"start": "2025-01-01T00:00:00Z", "end": "2024-01-01T00:00:00Z"});
        }),
        ("an empty chain", &|root| {
            root["certificateAuthorities"][0]["certChain"]["certificates"] = json!([]);
        }),
        ("a chain in the wrong order", &|root| {
            let chain = &mut root["certificateAuthorities"][0]["certChain"]["certificates"];
            chain.as_array_mut().unwrap().reverse();
        }),
        ("a stamper for an authority", &|root| {
            root["certificateAuthorities"][0]["certChain"] =
                root["timestampAuthorities"][0]["certChain"].clone();
        }),
    ];
    for (what, change) in cases {
        let mut root = good.clone();
        change(&mut root);
        assert_eq!(code(&load(&root)), "SIGSTORE-ROOT-STRUCTURE", "{what}");
    }
    let long = vec![b' '; MAX_ROOT + 1];
    assert_eq!(code(&TrustedRoot::parse(&long)), "SIGSTORE-ROOT-STRUCTURE");
    let many: Vec<Value> = vec![good["tlogs"][0].clone(); 65];
    let mut root = good;
    root["tlogs"] = json!(many);
    assert_eq!(code(&load(&root)), "SIGSTORE-ROOT-STRUCTURE");
}

#[test]
fn an_intermediate_has_to_be_an_authority_for_code() {
    let deployment = Deployment::new();
    let with = |script: IntermediateScript| {
        let mut root = deployment.root_json();
        let der = deployment.authority.intermediate(&script);
        root["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] =
            json!(base64::encode(&der));
        load(&root)
    };
    let good = IntermediateScript::default;
    assert_eq!(code(&with(good())), "good");
    for (what, script) in [
        (
            "no authority",
            IntermediateScript {
                ca: false,
                ..good()
            },
        ),
        (
            "a key for other things",
            IntermediateScript {
                key_usage: Some(0x80),
                ..good()
            },
        ),
        (
            "a key for anything",
            IntermediateScript {
                key_usage: None,
                ..good()
            },
        ),
        (
            "something that nobody knows",
            IntermediateScript {
                critical_stranger: true,
                ..good()
            },
        ),
        (
            "another purpose",
            IntermediateScript {
                purpose: Some("time"),
                ..good()
            },
        ),
        (
            "not by the root",
            IntermediateScript {
                signed_by_another: true,
                ..good()
            },
        ),
    ] {
        assert_eq!(code(&with(script)), "SIGSTORE-ROOT-STRUCTURE", "{what}");
    }
    // Times and path lengths are looked at when something is verified.
    let refused = |root| {
        let references = references(root, vec![release()], Vec::new());
        let bundle = forge(&deployment, &Script::default()).to_string();
        let artifact = Artifact::of_bytes(ARTIFACT);
        codes(&verify_bundle(
            bundle.as_bytes(),
            &artifact,
            &references,
            NOW,
        ))
    };
    let expired = IntermediateScript {
        not_after: Timestamp::from_secs(1_750_000_000),
        ..good()
    };
    assert_eq!(refused(with(expired).unwrap()), ["SIGSTORE-CERT-CHAIN"]);
    for (limit, expected) in [(0, "SIGSTORE-CERT-CHAIN"), (1, "good")] {
        let mut root = deployment.root_json();
        let der = deployment.authority.root(Some(limit));
        root["certificateAuthorities"][0]["certChain"]["certificates"][1]["rawBytes"] =
            json!(base64::encode(&der));
        assert_eq!(
            refused(load(&root).unwrap()),
            [expected],
            "at most {limit} below the root"
        );
    }
}
