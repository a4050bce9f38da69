//! A provider's keys, as its JWK set has them (RFC 7517; RFC 7518, section 6; RFC 8037, section 2).

use crate::Algorithm;
use crate::json;
use crypto::base64;
use crypto::jws::{Curve, VerificationKey};
use facts::Finding;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Keys taken of one provider.
const MOST_KEYS: usize = 64;
const LONGEST_ID: usize = 256;

/// Keys for signatures, by their ids. A key without one is left out: a token has to name its key.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: BTreeMap<String, Key>,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// What the provider says that it is for.
    only: Option<String>,
    public: Public,
}

#[derive(Debug, Clone)]
enum Public {
    Jws(VerificationKey),
    Ed25519(crypto::PublicKey),
}

impl KeySet {
    /// Reads a JWK set. Keys of unknown kinds, or for other uses, are passed over (RFC 7517, section 5).
    ///
    /// # Errors
    /// `OIDC-KEYS`: no set, too many keys, an id that stands twice, or no key that can be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let refused = |what: &str| {
            Finding::new("OIDC-KEYS", "the provider's keys cannot be used")
                .expected("a JWK set in which each key for signatures has an id of its own")
                .observed(what)
                .next("look at what `jwks_uri` of the provider serves")
        };
        let set = json::object(bytes).map_err(|error| refused(&error))?;
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err(refused("no `keys`"));
        };
        if list.len() > MOST_KEYS {
            return Err(refused("more than 64 keys"));
        }
        let mut keys = BTreeMap::new();
        for entry in list {
            let Some((id, key)) = entry.as_object().and_then(key) else {
                continue;
            };
            // Which of the two a token means would be the attacker's choice.
            if keys.insert(id, key).is_some() {
                return Err(refused("two keys of one id"));
            }
        }
        if keys.is_empty() {
            return Err(refused("no key that can be used"));
        }
        Ok(Self { keys })
    }

    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.keys.contains_key(id)
    }

    pub(crate) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }
}

fn key(jwk: &Map<String, Value>) -> Option<(String, Key)> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let id = text("kid").filter(|id| !id.is_empty() && id.len() <= LONGEST_ID)?;
    // RFC 7517, sections 4.2 and 4.3: what it may be used for, where it says so.
    if text("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    if let Some(operations) = jwk.get("key_ops") {
        let verifies = |list: &Vec<Value>| list.iter().any(|one| one == "verify");
        if !operations.as_array().is_some_and(verifies) {
            return None;
        }
    }
    let number = |name: &str| base64::decode_url(text(name)?).ok();
    let public = match (text("kty")?, text("crv")) {
        ("EC", Some(curve)) => {
            let curve = Curve::from_name(curve)?;
            let (x, y) = (number("x")?, number("y")?);
            if x.len() != curve.field() || y.len() != curve.field() {
                return None;
            }
            Public::Jws(VerificationKey::Ec { curve, x, y })
        }
        ("RSA", _) => {
            let (modulus, exponent) = (number("n")?, number("e")?);
            // 2048 to 8192 bits.
            if !(256..=1024).contains(&modulus.len()) || !(1..=8).contains(&exponent.len()) {
                return None;
            }
            Public::Jws(VerificationKey::Rsa { modulus, exponent })
        }
        ("OKP", Some("Ed25519")) => {
            let raw: [u8; 32] = number("x")?.try_into().ok()?;
            Public::Ed25519(crypto::PublicKey::from_ed25519_raw(raw).ok()?)
        }
        _ => return None,
    };
    let key = Key {
        only: text("alg").map(str::to_owned),
        public,
    };
    Some((id.to_owned(), key))
}

impl Key {
    /// Whether this key made the signature by the algorithm called `name`.
    pub(crate) fn verifies(
        &self,
        (name, algorithm): (&str, Algorithm),
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        // RFC 7517, section 4.4. A key for one algorithm is none for another.
        if self.only.as_deref().is_some_and(|only| only != name) {
            return false;
        }
        match (&self.public, algorithm) {
            (Public::Jws(key), Algorithm::Jws(algorithm)) => {
                key.verify(algorithm, message, signature).is_ok()
            }
            (Public::Ed25519(key), Algorithm::EdDsa) => key.verify(message, signature).is_ok(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn set(keys: &str) -> Result<KeySet, Finding> {
        KeySet::parse(format!("{{\"keys\":[{keys}]}}").as_bytes())
    }

    fn ec(more: &str) -> String {
        format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{X}\",\"y\":\"{Y}\"{more}}}")
    }

    #[test]
    fn a_key_for_something_else_is_none() {
        assert!(set(&ec(",\"kid\":\"a\",\"use\":\"sig\"")).unwrap().has("a"));
        assert!(set(&ec(",\"kid\":\"a\",\"key_ops\":[\"verify\"]")).is_ok());
        for more in [
            "",
            ",\"kid\":\"\"",
            ",\"kid\":\"a\",\"use\":\"enc\"",
            ",\"kid\":\"a\",\"key_ops\":[\"encrypt\"]",
            ",\"kid\":\"a\",\"key_ops\":\"verify\"",
        ] {
            assert_eq!(set(&ec(more)).unwrap_err().code, "OIDC-KEYS", "{more}");
        }
        let symmetric = "{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"AAAA\"}";
        assert_eq!(set(symmetric).unwrap_err().code, "OIDC-KEYS");
    }

    #[test]
    fn two_keys_of_one_id_are_refused() {
        let one = ec(",\"kid\":\"a\"");
        assert_eq!(set(&format!("{one},{one}")).unwrap_err().code, "OIDC-KEYS");
    }
}
