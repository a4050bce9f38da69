//! Statements about machines for relying parties that know nothing of Trilith.

use crate::harness::{Fixture, finding};
use facts::Timestamp;
use proto::v1;
use serde_json::Value;
use tonic::Status;

pub(crate) async fn ear(fixture: &Fixture, node: &str, nonce: &[u8]) -> Result<Value, Status> {
    let request = v1::EarRequest {
        node: node.to_owned(),
        nonce: nonce.to_vec(),
    };
    let answer = fixture.admin().await.ear(request).await?;
    Ok(serde_json::from_str(&answer.into_inner().json).unwrap())
}

pub(crate) fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&crypto::base64::decode_url(part).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_checks_a_statement_by_the_published_keys_and_it_is_nobodys_identity() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let told = ear(&fixture, "m1", &[7; 16]).await.unwrap();
    let token = told["token"].as_str().unwrap();
    let (header, claims) = (part(token, 0), part(token, 1));
    assert_eq!(header["typ"], "eat+jwt");
    assert_eq!(claims["eat_nonce"], crypto::base64::encode_url(&[7; 16]));
    let now = Timestamp::now().as_secs();
    let ends = claims["exp"].as_u64().unwrap();
    assert!(ends > now && ends <= now + 300, "{ends}");
    let told_of = &claims["submods"]["spiffe://example.org/trilith/node/m1"];
    // By token nothing is proved of a machine, and nothing claimed.
    assert_eq!(told_of["ear_status"], "none");
    let facts = told_of["ear_verifier_claims"]["trilith.facts"]
        .as_object()
        .unwrap();
    let names: Vec<&str> = facts.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["machine.join", "machine.key"],
        "few, and none that names it"
    );
    // It was recorded before it was signed.
    let (index, act) = fixture.records(&["admin"]).await.pop().unwrap();
    assert_eq!(told["index"], index);
    assert!(
        act["body"]["detail"]
            .as_str()
            .unwrap()
            .starts_with("ear of m1")
    );

    // The same key signs JWT-SVIDs: this is none.
    let as_svid = spiffe_core::JwtSvid::parse(token).err().unwrap();
    assert_eq!(as_svid.code, "SVID-JWT-HEADER");

    let Some(python) = testkit::venv_python(&["jwt", "cryptography"]) else {
        return testkit::skip("server.ear-python", "no Python with PyJWT in target/venv");
    };
    let script = "\
import json, jwt, sys
token, jwks = sys.stdin.read().split('\\n', 1)
kid = jwt.get_unverified_header(token)['kid']
key = next(k for k in json.loads(jwks)['keys'] if k.get('kid') == kid)
claims = jwt.decode(token, jwt.PyJWK(key, algorithm='ES256').key, algorithms=['ES256'])
print(claims['ear_status'], claims['eat_profile'], *claims['submods'])
";
    let jwks = String::from_utf8(machine.joined.bundle.unwrap().jwks).unwrap();
    let judge = |token: &str| {
        use std::io::Write as _;
        let mut child = std::process::Command::new(&python)
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        write!(input, "{token}\n{jwks}").unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.success(),
            said + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (good, said) = judge(token);
    assert!(good, "{said}");
    assert_eq!(
        said.trim(),
        "none tag:ietf.org,2026:rats/ear#04 spiffe://example.org/trilith/node/m1"
    );
    let (message, _) = token.rsplit_once('.').unwrap();
    let other = ear(&fixture, "m1", &[8; 16]).await.unwrap();
    let (_, signature) = other["token"].as_str().unwrap().rsplit_once('.').unwrap();
    let (good, said) = judge(&format!("{message}.{signature}"));
    assert!(!good && said.contains("InvalidSignatureError"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_of_a_machine_that_does_not_stand() {
    let fixture = Fixture::start().await;
    fixture.join("m1").await;
    let code = |told: Result<Value, Status>| finding(&told.unwrap_err()).code.to_string();
    assert_eq!(code(ear(&fixture, "m2", &[]).await), "EAR-MACHINE");
    for nonce in [&[0; 7][..], &[0; 65]] {
        assert_eq!(code(ear(&fixture, "m1", nonce).await), "EAR-NONCE");
    }
    ear(&fixture, "m1", &[]).await.unwrap();
    for kind in ["eviction", "machine"] {
        let request = v1::RevokeRequest {
            kind: kind.to_owned(),
            value: "m1".to_owned(),
            reason: "for the test".to_owned(),
        };
        fixture.admin().await.revoke(request).await.unwrap();
        assert_eq!(
            code(ear(&fixture, "m1", &[]).await),
            "EAR-STANDING",
            "{kind}"
        );
    }
}
