//! Delegation tokens: who may act for whom, as a stranger writes it.

use crypto::{Algorithm, KeyPair, Signer as _};
use facts::Timestamp;
use spiffe_core::delegation::{DelegationTbs, DelegationToken, Link, Narrowed, Terms};
use spiffe_core::jwt::JwtSvid;
use spiffe_core::{Bundle, Serial, SpiffeId, TrustDomain};
use std::sync::LazyLock;

const NOW: u64 = 1_800_000_000;

struct Signed {
    bundle: Bundle,
    tokens: Vec<String>,
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let key = KeyPair::generate(Algorithm::EcdsaP256).expect("a key");
    let mut bundle = Bundle::new(TrustDomain::new("example.org").unwrap());
    bundle.add_jwt_authority("jwt-1", key.public_key()).unwrap();
    let first = Terms::new(id("people/ada"), vec![link("agents/helper", 1, 600)]).unwrap();
    let second = first.then(7, link("agents/summary", 2, 60)).unwrap();
    let token = |terms: &Terms| {
        let tbs = DelegationTbs::new(terms, "jwt-1").unwrap();
        tbs.with_receipt(b"receipt").sign(&key).unwrap()
    };
    Signed {
        tokens: vec![token(&first), token(&second)],
        bundle,
    }
});

fn id(path: &str) -> SpiffeId {
    format!("spiffe://example.org/{path}").parse().unwrap()
}

fn link(to: &str, number: u8, seconds: u64) -> Link {
    Link {
        to: id(to),
        jti: Serial::from_random([number; 16]),
        issued_at: Timestamp::from_secs(NOW),
        expires_at: Timestamp::from_secs(NOW + seconds),
        scope: Narrowed {
            actions: Some(vec!["insert".to_owned(), "select".to_owned()]),
            resources: Some(vec!["Table::\"shop/public/cards\"".to_owned()]),
        },
        record: None,
        by: None,
    }
}

/// What is read has one spelling and is no JWT-SVID; nothing lasts longer than what it rests on; and nothing but
/// what was signed is believed, of nobody but its delegate.
pub(crate) fn token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let Ok(token) = DelegationToken::parse(text) else {
        return;
    };
    assert!(JwtSvid::parse(text).is_err(), "two tokens in one");
    let terms = token.claimed().clone();
    let again = DelegationTbs::new(&terms, "jwt-1").expect("it was read");
    let _digest = again.sha256();
    assert!((1..=7).contains(&terms.links().len()));
    for pair in terms.links().windows(2) {
        assert!(pair[1].expires_at <= pair[0].expires_at);
    }
    let delegate = terms.last().expect("it has one").to.clone();
    let now = Timestamp::from_secs(NOW + 1);
    if token.verify(&SIGNED.bundle, &delegate, now).is_ok() {
        // ECDSA signatures have two spellings; what was signed has one.
        let (input, _) = text.rsplit_once('.').expect("three parts");
        let known = SIGNED.tokens.iter().any(|one| one.starts_with(input));
        assert!(known, "nobody signed it");
    }
    if let Ok(token) = DelegationToken::parse(text) {
        assert!(
            token
                .verify(&SIGNED.bundle, &id("agents/thief"), now)
                .is_err()
                || delegate == id("agents/thief")
        );
    }
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    let tokens = SIGNED.tokens.iter();
    tokens.map(|token| token.as_bytes().to_vec()).collect()
}
