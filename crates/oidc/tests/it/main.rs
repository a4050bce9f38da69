//! ID tokens from outside: what each check refuses, and that two readers of one token see one token.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

use crypto::jws::es256_from_der;
use crypto::{Algorithm, KeyPair, Signer as _, base64};
use facts::Timestamp;
use oidc::{Expected, KeySet, MAX_TOKEN, verify};

const NOW: u64 = 1_800_000_000;
const CLAIMS: &str = r#"{"iss":"https://a.example","sub":"ada-1","aud":"trilith","nonce":"n","iat":1800000000,"exp":1800000600}"#;

struct Keys {
    p256: KeyPair,
    ed: KeyPair,
}

impl Keys {
    fn new() -> Self {
        Self {
            p256: KeyPair::generate(Algorithm::EcdsaP256).unwrap(),
            ed: KeyPair::generate(Algorithm::Ed25519).unwrap(),
        }
    }

    fn set(&self) -> KeySet {
        let (x, y) = self.p256.public_key().xy().unwrap();
        let text = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"p","x":"{}","y":"{}"}},{{"kty":"OKP","crv":"Ed25519","kid":"e","alg":"EdDSA","x":"{}"}},{{"kty":"oct","kid":"s","k":"AAAA"}}]}}"#,
            base64::encode_url(x),
            base64::encode_url(y),
            base64::encode_url(self.ed.public_key().raw()),
        );
        KeySet::parse(text.as_bytes()).unwrap()
    }

    fn token(&self, header: &str, claims: &str) -> String {
        let input = format!(
            "{}.{}",
            base64::encode_url(header.as_bytes()),
            base64::encode_url(claims.as_bytes())
        );
        let signature = if header.contains("EdDSA") {
            self.ed.sign(input.as_bytes()).unwrap()
        } else {
            es256_from_der(&self.p256.sign(input.as_bytes()).unwrap())
                .unwrap()
                .to_vec()
        };
        format!("{input}.{}", base64::encode_url(&signature))
    }
}

const P256: &str = r#"{"alg":"ES256","kid":"p"}"#;

fn judged(keys: &Keys, token: &str, age: Option<u64>, audience: Option<&str>, now: u64) -> String {
    let algorithms = ["ES256".to_owned(), "EdDSA".to_owned()];
    let expected = Expected {
        issuer: "https://a.example",
        client_id: "trilith",
        audience,
        algorithms: &algorithms,
        nonce: "n",
        asked_at: Timestamp::from_secs(NOW),
        skew_s: 5,
        max_age_s: age,
    };
    match verify(token, &keys.set(), &expected, Timestamp::from_secs(now)) {
        Ok(subject) => format!("{} at {}", subject.subject(), subject.issuer()),
        Err(finding) => finding.code.into_owned(),
    }
}

fn of(keys: &Keys, header: &str, claims: &str) -> String {
    judged(keys, &keys.token(header, claims), None, None, NOW + 1)
}

const GOOD: &str = "ada-1 at https://a.example";

#[test]
fn a_good_token_names_its_subject() {
    let keys = Keys::new();
    for header in [
        P256,
        r#"{"alg":"EdDSA","kid":"e","typ":"JWT"}"#,
        r#"{"typ":"jwt","kid":"p","alg":"ES256","x5t":"ignored"}"#,
    ] {
        assert_eq!(of(&keys, header, CLAIMS), GOOD, "{header}");
    }
    let listed = CLAIMS.replace("\"trilith\"", "[\"trilith\"]");
    assert_eq!(of(&keys, P256, &listed), GOOD);
    let party = CLAIMS.replace("\"sub\"", "\"azp\":\"trilith\",\"sub\"");
    assert_eq!(of(&keys, P256, &party), GOOD);
}

#[test]
fn each_header_that_could_mean_two_things_is_refused() {
    let keys = Keys::new();
    for (header, refusal) in [
        (r#"{"alg":"none","kid":"p"}"#, "OIDC-TOKEN-ALGORITHM"),
        (r#"{"alg":"HS256","kid":"p"}"#, "OIDC-TOKEN-ALGORITHM"),
        (r#"{"alg":"HS256","kid":"s"}"#, "OIDC-TOKEN-ALGORITHM"),
        (r#"{"alg":"RS256","kid":"p"}"#, "OIDC-TOKEN-ALGORITHM"),
        (r#"{"alg":"ES384","kid":"p"}"#, "OIDC-TOKEN-ALGORITHM"),
        (r#"{"kid":"p"}"#, "OIDC-TOKEN-ALGORITHM"),
        (r#"{"alg":["ES256"],"kid":"p"}"#, "OIDC-TOKEN-ALGORITHM"),
        (r#"{"alg":"EdDSA","kid":"p"}"#, "OIDC-TOKEN-SIGNATURE"),
        (r#"{"alg":"ES256","kid":"e"}"#, "OIDC-TOKEN-SIGNATURE"),
        (r#"{"alg":"ES256","kid":"s"}"#, "OIDC-TOKEN-KEY"),
        (r#"{"alg":"ES256"}"#, "OIDC-TOKEN-KEY"),
        (r#"{"alg":"ES256","kid":""}"#, "OIDC-TOKEN-KEY"),
        (r#"{"alg":"ES256","kid":1}"#, "OIDC-TOKEN-KEY"),
        (
            r#"{"alg":"none","alg":"ES256","kid":"p"}"#,
            "OIDC-TOKEN-FORM",
        ),
        (r#"{"alg":"ES256","kid":"p","kid":"e"}"#, "OIDC-TOKEN-FORM"),
        (r#"{"alg":"ES256","kid":"p","crit":[]}"#, "OIDC-TOKEN-FORM"),
        (
            r#"{"alg":"ES256","kid":"p","typ":"trilith-delegation+jwt"}"#,
            "OIDC-TOKEN-FORM",
        ),
        (r#"{"alg":"ES256","kid":"p","typ":1}"#, "OIDC-TOKEN-FORM"),
        ("[]", "OIDC-TOKEN-FORM"),
    ] {
        assert_eq!(of(&keys, header, CLAIMS), refusal, "{header}");
    }
}

#[test]
fn a_claim_that_stands_twice_is_refused_wherever_it_stands() {
    let keys = Keys::new();
    for more in [
        r#"{"sub":"eve","#,
        r#"{"s\u0075b":"eve","#,
        r#"{"x":{"a":1,"a":2},"#,
        r#"{"aud":"other","#,
    ] {
        let claims = CLAIMS.replacen('{', more, 1);
        assert_eq!(of(&keys, P256, &claims), "OIDC-TOKEN-FORM", "{claims}");
    }
    let claims = format!("{CLAIMS}{{}}");
    assert_eq!(of(&keys, P256, &claims), "OIDC-TOKEN-FORM");
}

#[test]
fn audiences_are_the_client_and_what_is_configured_beside_it() {
    let keys = Keys::new();
    let with = |aud: &str, audience| {
        let claims = CLAIMS.replace("\"aud\":\"trilith\"", aud);
        judged(&keys, &keys.token(P256, &claims), None, audience, NOW + 1)
    };
    let both = r#""aud":["trilith","api"],"azp":"trilith""#;
    assert_eq!(with(both, Some("api")), GOOD);
    for (aud, audience) in [
        (both, None),
        (r#""aud":["trilith","api"]"#, Some("api")),
        (r#""aud":["trilith","api"],"azp":"api""#, Some("api")),
        (r#""aud":"api""#, Some("api")),
        (r#""aud":"trilith""#, Some("api")),
        (r#""aud":["trilith",1]"#, None),
        (r#""aud":[]"#, None),
        (r#""aud":{}"#, None),
        (r#""aud":"Trilith""#, None),
        (r#""aud":"trilith","azp":null"#, None),
    ] {
        assert_eq!(with(aud, audience), "OIDC-TOKEN-AUDIENCE", "{aud}");
    }
}

#[test]
fn a_token_counts_in_its_time_alone() {
    let keys = Keys::new();
    let token = keys.token(P256, CLAIMS);
    let at = |now| judged(&keys, &token, None, None, now);
    for (now, outcome) in [
        (NOW - 6, "OIDC-TOKEN-TIME"),
        (NOW - 5, GOOD),
        (NOW + 604, GOOD),
        (NOW + 605, "OIDC-TOKEN-EXPIRED"),
    ] {
        assert_eq!(at(now), outcome, "{now}");
    }
    for (from, to, refusal) in [
        ("1800000600", "1800000000.5", GOOD),
        ("1800000600", "-1", "OIDC-TOKEN-FORM"),
        ("1800000600", "1e300", "OIDC-TOKEN-FORM"),
        ("1800000600", "18446744073709551615", "OIDC-TOKEN-FORM"),
        ("1800000600", "\"1800000600\"", "OIDC-TOKEN-FORM"),
        (",\"exp\":1800000600", "", "OIDC-TOKEN-FORM"),
        ("\"iat\":1800000000,", "", "OIDC-TOKEN-FORM"),
        (
            "\"iat\":1800000000",
            "\"iat\":1799999994",
            "OIDC-TOKEN-TIME",
        ),
        ("\"iat\":1800000000", "\"iat\":1799999995", GOOD),
        (
            "\"iat\":1800000000",
            "\"iat\":1800000000,\"nbf\":1800000100",
            "OIDC-TOKEN-TIME",
        ),
    ] {
        assert_eq!(of(&keys, P256, &CLAIMS.replace(from, to)), refusal, "{to}");
    }
    let aged = |auth_time: &str| {
        let claims = CLAIMS.replacen('{', &format!("{{{auth_time}"), 1);
        judged(&keys, &keys.token(P256, &claims), Some(60), None, NOW + 1)
    };
    assert_eq!(aged("\"auth_time\":1799999950,"), GOOD);
    assert_eq!(aged("\"auth_time\":1799999900,"), "OIDC-TOKEN-AGE");
    assert_eq!(aged(""), "OIDC-TOKEN-AGE");
}

#[test]
fn what_is_no_token_is_refused_and_nothing_panics() {
    let keys = Keys::new();
    let token = keys.token(P256, CLAIMS);
    for bad in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.é.é",
        &token[1..],
        &format!("{token}="),
    ] {
        let outcome = judged(&keys, bad, None, None, NOW);
        assert!(outcome.starts_with("OIDC-TOKEN-"), "{bad}: {outcome}");
    }
    let long = format!("{token}{}", "A".repeat(MAX_TOKEN));
    assert_eq!(judged(&keys, &long, None, None, NOW), "OIDC-TOKEN-FORM");
    for subject in ["", "a\\nb", "é", &"a".repeat(256)] {
        let claims = CLAIMS.replace("ada-1", subject);
        assert_eq!(of(&keys, P256, &claims), "OIDC-TOKEN-SUBJECT", "{subject}");
    }
}

/// Every byte of a token counts.
#[test]
fn a_token_with_any_byte_changed_is_refused() {
    let keys = Keys::new();
    let token = keys.token(P256, CLAIMS);
    for place in 0..token.len() {
        for other in ["A", "z", "_", "."] {
            if &token[place..=place] == other {
                continue;
            }
            let changed = format!("{}{other}{}", &token[..place], &token[place + 1..]);
            let outcome = judged(&keys, &changed, None, None, NOW + 1);
            assert_ne!(outcome, GOOD, "byte {place}");
        }
    }
}
