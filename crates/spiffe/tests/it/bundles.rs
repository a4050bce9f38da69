//! SPIFFE_Trust_Domain_and_Bundle.md, section 4, and the bundle sections of both SVID standards.

use crate::kit::{Domain, key};
use crypto::{Algorithm, base64};
use proptest::prelude::*;
use serde_json::{Value, json};
use spiffe::bundle::BundleError;
use spiffe::{Bundle, TrustDomain};

fn read(value: &Value) -> Result<Bundle, BundleError> {
    Bundle::from_jwks(
        TrustDomain::new("example.org").unwrap(),
        value.to_string().as_bytes(),
    )
}

#[test]
fn a_bundle_survives_its_standard_form() {
    for algorithm in [
        Algorithm::EcdsaP256,
        Algorithm::EcdsaP384,
        Algorithm::Ed25519,
    ] {
        let domain = Domain::with("example.org", algorithm);
        let bundle = domain
            .bundle()
            .with_sequence(u64::MAX)
            .with_refresh_hint(60);
        let jwks = bundle.to_jwks();
        let again = Bundle::from_jwks(domain.trust_domain.clone(), &jwks).unwrap();
        assert_eq!(again, bundle);
        assert_eq!(again.to_jwks(), jwks);
    }
}

#[test]
fn the_form_is_that_of_the_standard() {
    let domain = Domain::new("example.org");
    let jwks: Value = serde_json::from_slice(&domain.bundle().with_sequence(7).to_jwks()).unwrap();
    assert_eq!(jwks["spiffe_sequence"], 7);
    let x509 = &jwks["keys"][0];
    assert_eq!(
        (&x509["use"], &x509["kty"], &x509["crv"], &x509["kid"]),
        (
            &json!("x509-svid"),
            &json!("EC"),
            &json!("P-256"),
            &Value::Null
        )
    );
    assert_eq!(
        x509["x5c"],
        json!([base64::encode(domain.root.certificate())])
    );
    let jwt = &jwks["keys"][1];
    assert_eq!(
        (&jwt["use"], &jwt["kid"]),
        (&json!("jwt-svid"), &json!("jwt-1"))
    );
    let jwt_only: Value = serde_json::from_slice(&domain.bundle().to_jwt_jwks()).unwrap();
    assert_eq!(jwt_only["keys"], json!([jwt]));
}

#[test]
fn what_is_unknown_is_ignored() {
    let domain = Domain::new("example.org");
    let mut jwks: Value = serde_json::from_slice(&domain.bundle().to_jwks()).unwrap();
    let (x509, jwt) = (jwks["keys"][0].clone(), jwks["keys"][1].clone());
    let with = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    let without = |jwk: &Value, name: &str| {
        let mut jwk = jwk.clone();
        jwk.as_object_mut().unwrap().remove(name);
        jwk
    };
    jwks["unknown"] = json!({"a": 1});
    for ignored in [
        with(&jwt, "kty", json!("PQ")),
        with(&jwt, "use", json!("wit-svid")),
        with(&jwt, "use", json!("JWT-SVID")),
        without(&jwt, "use"),
        without(&jwt, "kid"),
        without(&jwt, "kty"),
        with(&jwt, "x", json!("AA")),
        with(&jwt, "crv", json!("secp256k1")),
        without(&x509, "x5c"),
        with(&x509, "x5c", json!([])),
        with(&x509, "x5c", json!(["AAAA"])),
        with(&x509, "x5c", json!(7)),
        json!("not even an object"),
        json!(null),
    ] {
        jwks["keys"].as_array_mut().unwrap().push(ignored);
    }
    assert_eq!(read(&jwks).unwrap(), domain.bundle());
}

#[test]
fn only_the_first_certificate_of_an_entry_counts() {
    let (domain, other) = (Domain::new("example.org"), Domain::new("example.org"));
    let mut jwks: Value = serde_json::from_slice(&domain.bundle().to_jwks()).unwrap();
    let more = json!(base64::encode(other.root.certificate()));
    jwks["keys"][0]["x5c"].as_array_mut().unwrap().push(more);
    assert_eq!(read(&jwks).unwrap(), domain.bundle());
}

#[test]
fn leaves_are_no_roots() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let leaf = &domain.chain(&domain.leaf_params("a", workload.as_ref()))[0];
    let mut bundle = Bundle::new(domain.trust_domain.clone());
    assert!(matches!(
        bundle.add_x509_authority(leaf),
        Err(BundleError::Certificate("not a CA"))
    ));
}

#[test]
fn what_is_no_bundle_is_refused() {
    assert!(matches!(read(&json!({})), Err(BundleError::Json(_))));
    assert!(matches!(
        read(&json!({"keys": 7})),
        Err(BundleError::Json(_))
    ));
    assert!(matches!(read(&json!([])), Err(BundleError::Json(_))));
    let empty = read(&json!({"keys": []})).unwrap();
    assert!(empty.x509_authorities().is_empty() && empty.jwt_authorities().is_empty());
    let many = json!({"keys": vec![json!({}); 300]});
    assert!(matches!(read(&many), Err(BundleError::TooLarge)));
    let domain = Domain::new("example.org");
    let mut jwks: Value = serde_json::from_slice(&domain.bundle().to_jwks()).unwrap();
    let twin = jwks["keys"][1].clone();
    jwks["keys"].as_array_mut().unwrap().push(twin);
    assert!(matches!(read(&jwks), Err(BundleError::DuplicateKeyId(id)) if id == "jwt-1"));
    let twice = br#"{"keys":[],"keys":[]}"#;
    let domain = TrustDomain::new("example.org").unwrap();
    assert!(Bundle::from_jwks(domain, twice).is_err());
}

proptest! {
    #[test]
    fn reading_never_panics(bytes: Vec<u8>, text in "\\{\"keys\":\\[\\{[ -~]{0,80}\\}\\]\\}") {
        let domain = TrustDomain::new("example.org").unwrap();
        drop(Bundle::from_jwks(domain.clone(), &bytes));
        drop(Bundle::from_jwks(domain, text.as_bytes()));
    }
}
