//! What comes with a person who logs in: ID tokens, key sets and descriptions of providers, redirects.

use crypto::jws::es256_from_der;
use crypto::{Algorithm, KeyPair, Signer as _, base64};
use facts::Timestamp;
use oidc::{Expected, KeySet, Metadata, redirect, verify};
use std::sync::LazyLock;

const ISSUER: &str = "https://a.example";
const NOW: u64 = 1_800_000_000;
const CLAIMS: &str = r#"{"iss":"https://a.example","sub":"ada-1","aud":["trilith"],"azp":"trilith","nonce":"n","iat":1800000000,"exp":1800000600}"#;

struct Provider {
    keys: KeySet,
    key_set: String,
    token: String,
}

static PROVIDER: LazyLock<Provider> = LazyLock::new(|| {
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let (x, y) = key.public_key().xy().unwrap();
    let key_set = format!(
        r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","use":"sig","x":"{}","y":"{}"}}]}}"#,
        base64::encode_url(x),
        base64::encode_url(y)
    );
    let header = base64::encode_url(br#"{"alg":"ES256","kid":"k"}"#);
    let input = format!("{header}.{}", base64::encode_url(CLAIMS.as_bytes()));
    let signature = es256_from_der(&key.sign(input.as_bytes()).unwrap()).unwrap();
    Provider {
        keys: KeySet::parse(key_set.as_bytes()).unwrap(),
        key_set,
        token: format!("{input}.{}", base64::encode_url(&signature)),
    }
});

/// Whoever is let in is let in by what the provider signed.
pub(crate) fn token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let algorithms = oidc::DEFAULT_ALGORITHMS.map(str::to_owned);
    let expected = Expected {
        issuer: ISSUER,
        client_id: "trilith",
        audience: None,
        algorithms: &algorithms,
        nonce: "n",
        asked_at: Timestamp::from_secs(NOW),
        skew_s: 5,
        max_age_s: None,
    };
    let claimed = oidc::claimed_key(text, &algorithms);
    if let Ok(subject) = verify(text, &PROVIDER.keys, &expected, Timestamp::from_secs(NOW)) {
        assert!(claimed.is_ok(), "its key was read another time otherwise");
        assert_eq!(subject.subject(), "ada-1");
        // Of a signature by ECDSA there is a second spelling; of what it signs there is none.
        let signed = |token: &str| token.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        assert_eq!(signed(text), signed(&PROVIDER.token));
    }
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    let token = PROVIDER.token.clone().into_bytes();
    let unsigned = br#"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."#.to_vec();
    vec![token, unsigned]
}

/// What is taken of a provider is of that provider, and an answer is one to the request.
pub(crate) fn provider(bytes: &[u8]) {
    if let Ok(keys) = KeySet::parse(bytes) {
        // A key without a name is none.
        assert!(!keys.has(""));
    }
    if let Ok(metadata) = Metadata::parse(bytes, ISSUER) {
        assert_eq!(metadata.issuer, ISSUER);
        for address in [
            &metadata.authorization_endpoint,
            &metadata.token_endpoint,
            &metadata.jwks_uri,
        ] {
            assert!(address.starts_with("https://") || address.starts_with("http://"));
        }
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(code) = redirect::code(text, "state-1", ISSUER, false)
    {
        assert!(!code.is_empty());
        let again = format!("state=state-1&code={}", redirect::escaped(&code));
        let read = redirect::code(&again, "state-1", ISSUER, false);
        assert_eq!(read.ok(), Some(code));
    }
}

pub(crate) fn provider_seeds() -> Vec<Vec<u8>> {
    [
        PROVIDER.key_set.as_str(),
        r#"{"issuer":"https://a.example","authorization_endpoint":"https://a.example/auth","token_endpoint":"https://a.example/token","jwks_uri":"https://a.example/jwks"}"#,
        "code=a%2Bb&state=state-1&iss=https%3A%2F%2Fa.example",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
