//! JWT-SVID.md, requirement by requirement, and `jsonwebtoken` as the other implementation.

use crate::kit::{Domain, NOW, key, serial};
use crypto::{Algorithm, base64, jws::es256_from_der};
use facts::{Finding, Timestamp};
use ledger::Digest;
use ledger::body::{Issuance, SvidKind};
use proptest::prelude::*;
use serde_json::{Value, json};
use spiffe::jwt::{JwtParams, JwtTbs};
use spiffe::{JwtSvid, LeafParams, ValidatedJwt, receipt};

const AUDIENCE: &str = "reports";

fn params(domain: &Domain) -> JwtParams {
    JwtParams {
        spiffe_id: domain.id("payments/api"),
        audience: vec![AUDIENCE.to_owned()],
        id: serial(),
        issued_at: NOW,
        expires_at: NOW.plus_secs(300),
    }
}

fn validate(domain: &Domain, token: &str, now: Timestamp) -> Result<ValidatedJwt, Finding> {
    JwtSvid::parse(token)?.validate(&domain.bundle(), AUDIENCE, now)
}

fn code(domain: &Domain, token: &str) -> String {
    validate(domain, token, NOW).unwrap_err().code.into_owned()
}

/// A token of any header and claims, signed by the domain's key.
fn sign(domain: &Domain, header: &str, claims: &str) -> String {
    let input = format!(
        "{}.{}",
        base64::encode_url(header.as_bytes()),
        base64::encode_url(claims.as_bytes())
    );
    let der = domain.jwt.sign(input.as_bytes()).unwrap();
    let signature = es256_from_der(&der).unwrap();
    format!("{input}.{}", base64::encode_url(&signature))
}

const HEADER: &str = r#"{"alg":"ES256","kid":"jwt-1","typ":"JWT"}"#;

fn claims(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({
        "sub": "spiffe://example.org/payments/api",
        "aud": [AUDIENCE],
        "exp": NOW.as_secs() + 300,
        "iat": NOW.as_secs(),
    });
    change(&mut claims);
    claims.to_string()
}

#[test]
fn what_is_minted_validates() {
    let domain = Domain::new("example.org");
    let params = params(&domain);
    let tbs = JwtTbs::new(&params, "jwt-1").unwrap();
    for receipt in [None, Some(&b"some receipt"[..])] {
        let input = receipt.map_or_else(|| tbs.without_receipt(), |bytes| tbs.with_receipt(bytes));
        let token = input.sign(domain.jwt.as_ref()).unwrap();
        let svid = validate(&domain, &token, NOW).unwrap();
        assert_eq!(svid.spiffe_id, params.spiffe_id);
        assert_eq!(svid.audience, [AUDIENCE]);
        assert_eq!(svid.expires_at.as_secs(), params.expires_at.as_secs());
        assert_eq!(svid.id, Some(params.id.to_string()));
        assert_eq!(svid.key_id, "jwt-1");
        assert_eq!(svid.receipt.as_deref(), receipt);
        assert_eq!(svid.input_without_receipt_sha256, tbs.sha256());
        assert_eq!(
            svid.issuer_spki_sha256,
            Some(domain.jwt.public_key().spki_sha256())
        );
    }
}

#[test]
fn jsonwebtoken_accepts_what_is_minted() {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    let domain = Domain::new("example.org");
    let mut params = params(&domain);
    params.issued_at = Timestamp::now();
    params.expires_at = Timestamp::now().plus_secs(300);
    let tbs = JwtTbs::new(&params, "jwt-1").unwrap();
    let token = tbs
        .with_receipt(b"receipt")
        .sign(domain.jwt.as_ref())
        .unwrap();
    let (x, y) = domain.jwt.public_key().xy().unwrap();
    let key =
        DecodingKey::from_ec_components(&base64::encode_url(x), &base64::encode_url(y)).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[AUDIENCE]);
    let decoded = decode::<Value>(&token, &key, &validation).unwrap();
    assert_eq!(decoded.claims["sub"], "spiffe://example.org/payments/api");
    assert_eq!(decoded.header.kid.as_deref(), Some("jwt-1"));
}

#[test]
fn tokens_that_are_no_svids_are_refused() {
    let domain = Domain::new("example.org");
    let good = || claims(|_| {});
    for (expected, header, claims) in [
        (
            "SVID-JWT-ALGORITHM",
            r#"{"alg":"none","kid":"jwt-1"}"#,
            good(),
        ),
        (
            "SVID-JWT-ALGORITHM",
            r#"{"alg":"HS256","kid":"jwt-1"}"#,
            good(),
        ),
        (
            "SVID-JWT-ALGORITHM",
            r#"{"alg":"EdDSA","kid":"jwt-1"}"#,
            good(),
        ),
        ("SVID-JWT-ALGORITHM", r#"{"kid":"jwt-1"}"#, good()),
        (
            "SVID-JWT-ALGORITHM",
            r#"{"alg":"none","alg":"ES256"}"#,
            good(),
        ),
        // The key is for P-256: it does not verify another curve's signatures.
        (
            "SVID-JWT-SIGNATURE",
            r#"{"alg":"ES384","kid":"jwt-1"}"#,
            good(),
        ),
        (
            "SVID-JWT-SIGNATURE",
            r#"{"alg":"RS256","kid":"jwt-1"}"#,
            good(),
        ),
        (
            "SVID-JWT-SIGNATURE",
            r#"{"alg":"ES256","kid":"jwt-2"}"#,
            good(),
        ),
        (
            "SVID-JWT-HEADER",
            r#"{"alg":"ES256","typ":"at+jwt"}"#,
            good(),
        ),
        (
            "SVID-JWT-HEADER",
            r#"{"alg":"ES256","crit":["b64"],"b64":false}"#,
            good(),
        ),
        (
            "SVID-JWT-HEADER",
            r#"{"alg":"ES256","jku":"https://x"}"#,
            good(),
        ),
        (
            "SVID-JWT-HEADER",
            r#"{"alg":"ES256","kid":"jwt-1","kid":"jwt-1"}"#,
            good(),
        ),
        (
            "SVID-JWT-AUDIENCE",
            HEADER,
            claims(|c| drop(c.as_object_mut().unwrap().remove("aud"))),
        ),
        (
            "SVID-JWT-AUDIENCE",
            HEADER,
            claims(|c| c["aud"] = json!([])),
        ),
        (
            "SVID-JWT-AUDIENCE",
            HEADER,
            claims(|c| c["aud"] = json!(["Reports", "other"])),
        ),
        (
            "SVID-JWT-EXPIRY",
            HEADER,
            claims(|c| drop(c.as_object_mut().unwrap().remove("exp"))),
        ),
        (
            "SVID-JWT-EXPIRY",
            HEADER,
            claims(|c| c["exp"] = json!(-5.5)),
        ),
        (
            "SVID-EXPIRED",
            HEADER,
            claims(|c| c["exp"] = json!(NOW.as_secs())),
        ),
        (
            "SVID-NOT-YET-VALID",
            HEADER,
            claims(|c| c["nbf"] = json!(NOW.as_secs() + 1)),
        ),
        (
            "SVID-JWT-PARSE",
            HEADER,
            claims(|c| c["exp"] = json!("tomorrow")),
        ),
        (
            "SVID-JWT-PARSE",
            HEADER,
            claims(|c| drop(c.as_object_mut().unwrap().remove("sub"))),
        ),
        ("SVID-ID", HEADER, claims(|c| c["sub"] = json!("payments"))),
        (
            "SVID-ID",
            HEADER,
            claims(|c| c["sub"] = json!("spiffe://example.org")),
        ),
        (
            "SVID-TRUST-DOMAIN",
            HEADER,
            claims(|c| c["sub"] = json!("spiffe://example.com/a")),
        ),
    ] {
        assert_eq!(
            code(&domain, &sign(&domain, header, &claims)),
            expected,
            "{header} {claims}"
        );
    }
    let twice = good().replacen('{', r#"{"sub":"spiffe://example.org/admin","#, 1);
    assert_eq!(
        code(&domain, &sign(&domain, HEADER, &twice)),
        "SVID-JWT-PARSE"
    );
}

#[test]
fn what_the_specification_allows_is_accepted() {
    let domain = Domain::new("example.org");
    for (header, claims) in [
        (r#"{"alg":"ES256"}"#, claims(|_| {})),
        (r#"{"alg":"ES256","typ":"JOSE"}"#, claims(|_| {})),
        (HEADER, claims(|c| c["aud"] = json!(AUDIENCE))),
        (HEADER, claims(|c| c["aud"] = json!(["other", AUDIENCE]))),
        (
            HEADER,
            claims(|c| c["exp"] = json!(NOW.as_secs() as f64 + 1.5)),
        ),
        (
            HEADER,
            claims(|c| c["https://example.org/role"] = json!({"a": [1]})),
        ),
    ] {
        let token = sign(&domain, header, &claims);
        assert!(validate(&domain, &token, NOW).is_ok(), "{header} {claims}");
    }
}

#[test]
fn only_the_compact_serialisation_is_read() {
    let domain = Domain::new("example.org");
    let token = sign(&domain, HEADER, &claims(|_| {}));
    for text in [
        String::new(),
        "a.b".to_owned(),
        format!("{token}."),
        format!("{token}="),
        format!(" {token}"),
        json!({"payload": "a", "signatures": []}).to_string(),
        "a".repeat(70_000),
    ] {
        assert!(JwtSvid::parse(&text).is_err());
    }
}

#[test]
fn keys_for_certificates_do_not_sign_tokens() {
    let domain = Domain::new("example.org");
    let other = Domain {
        jwt: domain.root.signer().clone(),
        ..Domain::new("example.org")
    };
    let token = sign(&other, r#"{"alg":"ES256"}"#, &claims(|_| {}));
    assert_eq!(code(&domain, &token), "SVID-JWT-SIGNATURE");
}

fn issuance(domain: &Domain, params: &JwtParams, tbs: &JwtTbs) -> Issuance {
    let caller = key(Algorithm::EcdsaP256);
    let template = LeafParams {
        spiffe_id: params.spiffe_id.clone(),
        ..domain.leaf_params("x", caller.as_ref())
    };
    Issuance {
        kind: SvidKind::Jwt,
        serial: params.id.to_string(),
        tbs: Digest(tbs.sha256()),
        issuer: Digest(domain.jwt.public_key().spki_sha256()),
        not_before: params.issued_at.as_secs(),
        not_after: params.expires_at.as_secs(),
        ..domain.issuance(&template)
    }
}

#[test]
fn a_receipt_is_for_one_token() {
    let domain = Domain::new("example.org");
    let params = params(&domain);
    let tbs = JwtTbs::new(&params, "jwt-1").unwrap();
    let receipt = domain.receipt(&issuance(&domain, &params, &tbs));
    let check = |tbs: &JwtTbs| {
        let token = tbs
            .with_receipt(&receipt)
            .sign(domain.jwt.as_ref())
            .unwrap();
        let svid = validate(&domain, &token, NOW).unwrap();
        receipt::check_jwt(&svid, domain.ledger_key()).map_err(|finding| finding.code.into_owned())
    };
    assert!(check(&tbs).is_ok());
    let changed = |change: &dyn Fn(&mut JwtParams)| {
        let mut params = params.clone();
        change(&mut params);
        check(&JwtTbs::new(&params, "jwt-1").unwrap()).unwrap_err()
    };
    assert_eq!(
        changed(&|p| p.spiffe_id = domain.id("b")),
        "SVID-RECEIPT-ID"
    );
    assert_eq!(changed(&|p| p.id = serial()), "SVID-RECEIPT-SERIAL");
    assert_eq!(
        changed(&|p| p.expires_at = NOW.plus_secs(3000)),
        "SVID-RECEIPT-VALIDITY"
    );
    assert_eq!(
        changed(&|p| p.audience.push("other".to_owned())),
        "SVID-RECEIPT-TBS"
    );
    let bare = tbs.without_receipt().sign(domain.jwt.as_ref()).unwrap();
    let svid = validate(&domain, &bare, NOW).unwrap();
    let refused = receipt::check_jwt(&svid, domain.ledger_key()).unwrap_err();
    assert_eq!(refused.code, "SVID-RECEIPT-MISSING");
}

#[test]
fn a_receipt_claim_that_is_not_last_is_refused() {
    let domain = Domain::new("example.org");
    for claims in [
        r#"{"sub":"spiffe://example.org/a","trilith_receipt":"AAAA","aud":"reports","exp":9999999999}"#,
        r#"{"sub":"spiffe://example.org/a","aud":"reports","exp":9999999999,"trilith_receipt":"AAAA" }"#,
        r#"{"sub":"spiffe://example.org/a","aud":"reports","exp":9999999999,"trilith_receipt":"!"}"#,
    ] {
        let token = sign(&domain, HEADER, claims);
        assert_eq!(code(&domain, &token), "SVID-RECEIPT-MALFORMED", "{claims}");
    }
}

#[test]
fn what_cannot_be_a_token_is_not_minted() {
    let domain = Domain::new("example.org");
    let good = params(&domain);
    for bad in [
        JwtParams {
            audience: vec![],
            ..good.clone()
        },
        JwtParams {
            audience: vec![String::new()],
            ..good.clone()
        },
        JwtParams {
            expires_at: good.issued_at,
            ..good.clone()
        },
        JwtParams {
            spiffe_id: domain.trust_domain.id(),
            ..good.clone()
        },
    ] {
        assert!(JwtTbs::new(&bad, "jwt-1").is_err());
    }
    let tbs = JwtTbs::new(&good, "jwt-1").unwrap();
    let wrong = key(Algorithm::Ed25519);
    assert!(tbs.without_receipt().sign(wrong.as_ref()).is_err());
}

proptest! {
    #[test]
    fn parsing_never_panics(text: String, header: Vec<u8>, claims: Vec<u8>) {
        drop(JwtSvid::parse(&text));
        let token = format!("{}.{}.AA", base64::encode_url(&header), base64::encode_url(&claims));
        drop(JwtSvid::parse(&token));
    }

    #[test]
    fn any_audience_survives(audience in "\\PC{1,60}") {
        let domain = Domain::new("example.org");
        let params = JwtParams { audience: vec![audience.clone()], ..params(&domain) };
        let tbs = JwtTbs::new(&params, "jwt-1").unwrap();
        let token = tbs.with_receipt(b"r").sign(domain.jwt.as_ref()).unwrap();
        let svid = JwtSvid::parse(&token).unwrap();
        let svid = svid.validate(&domain.bundle(), &audience, NOW).unwrap();
        prop_assert_eq!(svid.input_without_receipt_sha256, tbs.sha256());
    }
}
