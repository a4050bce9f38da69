//! Nonces of logins that are under way. None is kept until it is used: however many strangers ask for one, no
//! login of others is forgotten for it.

use crate::refusal::Refusal;
use crypto::PublicKey;
use facts::{Finding, Timestamp};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// A person finds a second factor in it.
const LIFETIME_S: u64 = 600;
const RANDOM: usize = 16;
const MAC: usize = 32;

pub(super) struct Nonces {
    /// Made at start: a nonce of before a restart is none.
    key: [u8; 32],
    /// Of tokens that have been taken, until each would have expired anyway: (when, nonce).
    used: Mutex<BTreeSet<(Timestamp, String)>>,
}

/// A nonce that is this server's, this login's and this key's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    pub(super) at: Timestamp,
    expires: Timestamp,
}

impl Default for Nonces {
    fn default() -> Self {
        Self {
            key: crypto::random(),
            used: Mutex::default(),
        }
    }
}

impl Nonces {
    /// A nonce for one ID token of `issuer`, and when it expires.
    pub(super) fn give(
        &self,
        issuer: &str,
        key: &PublicKey,
        now: Timestamp,
    ) -> (String, Timestamp) {
        let expires = Timestamp::from_secs(now.as_secs()).plus_secs(LIFETIME_S);
        let random: [u8; RANDOM] = crypto::random();
        let mac = self.mac(issuer, key, expires, &random);
        let nonce = [&expires.as_secs().to_be_bytes()[..], &random, &mac].concat();
        (crypto::base64::encode_url(&nonce), expires)
    }

    /// INVARIANT: a nonce that another server gave, or this one to another key or for another provider, is
    /// none: a token that was stolen elsewhere carries such a one.
    pub(super) fn given(
        &self,
        issuer: &str,
        key: &PublicKey,
        nonce: &str,
        now: Timestamp,
    ) -> Result<Given, Refusal> {
        let refused = |what: &str| {
            Refusal::Denied(
                Finding::new("LOGIN-NONCE", "this login was not begun here")
                    .expected(format!(
                        "a nonce that this server gave to this key within {LIFETIME_S} s"
                    ))
                    .observed(what)
                    .next("log in again: trilith login"),
            )
        };
        let foreign = || refused("a nonce of another login");
        let bytes = crypto::base64::decode_url(nonce).map_err(|_| foreign())?;
        let (seconds, rest) = bytes.split_first_chunk::<8>().ok_or_else(foreign)?;
        let (random, mac) = rest.split_first_chunk::<RANDOM>().ok_or_else(foreign)?;
        let seconds = u64::from_be_bytes(*seconds);
        let expires = Timestamp::from_secs(seconds.min(u64::MAX / 1_000));
        let expected = self.mac(issuer, key, expires, random);
        if mac.len() != MAC || !crypto::constant_time_eq(mac, &expected) {
            return Err(foreign());
        }
        if now >= expires {
            return Err(refused("one that has expired"));
        }
        Ok(Given {
            at: expires.minus_secs(LIFETIME_S),
            expires,
        })
    }

    /// INVARIANT: one nonce, one login: a token that is seen by somebody on its way is worth nothing after it.
    pub(super) fn used(&self, nonce: &str, given: Given, now: Timestamp) -> Result<(), Refusal> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while used.first().is_some_and(|(expires, _)| *expires < now) {
            used.pop_first();
        }
        if used.insert((given.expires, nonce.to_owned())) {
            return Ok(());
        }
        Err(Refusal::Denied(
            Finding::new("LOGIN-REPLAYED", "this ID token has been used to log in")
                .expected("a token for a login of its own")
                .next("log in again; if nobody else should have, end the session: trilith logout"),
        ))
    }

    fn mac(
        &self,
        issuer: &str,
        key: &PublicKey,
        expires: Timestamp,
        random: &[u8; RANDOM],
    ) -> [u8; MAC] {
        let message = [
            &crypto::sha256(issuer.as_bytes())[..],
            &key.spki_sha256(),
            &expires.as_secs().to_be_bytes(),
            random,
        ]
        .concat();
        crypto::hmac_sha256(&self.key, &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::{KeyPair, Signer as _};

    fn key() -> PublicKey {
        let pair = KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
        pair.public_key().clone()
    }

    #[test]
    fn a_nonce_is_one_logins_of_one_key_and_one_provider() {
        let (nonces, ada, eve) = (Nonces::default(), key(), key());
        let now = Timestamp::from_secs(1_000_000);
        let (nonce, expires) = nonces.give("https://a.example", &ada, now);
        let code = |issuer: &str, key: &PublicKey, nonce: &str, now| {
            let given = nonces.given(issuer, key, nonce, now);
            given
                .err()
                .map(|refusal| refusal.finding().code.to_string())
        };
        let refused = Some("LOGIN-NONCE".to_owned());
        assert_eq!(code("https://a.example", &ada, &nonce, now), None);
        assert_eq!(code("https://b.example", &ada, &nonce, now), refused);
        assert_eq!(code("https://a.example", &eve, &nonce, now), refused);
        assert_eq!(code("https://a.example", &ada, &nonce, expires), refused);
        let foreign = Nonces::default().give("https://a.example", &ada, now).0;
        for bad in [
            "",
            "x",
            "AAAA",
            &foreign,
            &format!("{nonce}AA"),
            nonce.get(..40).unwrap(),
        ] {
            assert_eq!(code("https://a.example", &ada, bad, now), refused, "{bad}");
        }
        let given = nonces
            .given("https://a.example", &ada, &nonce, now)
            .unwrap();
        assert_eq!(given.at, now);
        nonces.used(&nonce, given, now).unwrap();
        let again = nonces.used(&nonce, given, now).unwrap_err();
        assert_eq!(again.finding().code, "LOGIN-REPLAYED");
    }

    #[test]
    fn what_is_used_is_forgotten_once_it_is_worth_nothing() {
        let (nonces, ada) = (Nonces::default(), key());
        for second in 0..2_000 {
            let now = Timestamp::from_secs(1_000_000 + second);
            let (nonce, _) = nonces.give("https://a.example", &ada, now);
            let given = nonces
                .given("https://a.example", &ada, &nonce, now)
                .unwrap();
            nonces.used(&nonce, given, now).unwrap();
        }
        assert!(nonces.used.lock().unwrap().len() < 700);
    }
}
