//! The signature algorithms that an ID token may have. There is no way to name `none` or an HMAC.

use crypto::jws::JwsAlgorithm;

/// RFC 7518, section 3.1, and RFC 8037, section 3.1: public keys alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Jws(JwsAlgorithm),
    EdDsa,
}

/// What providers sign with. Others have to be named.
pub const DEFAULT_ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

impl Algorithm {
    /// By its `alg` value, case-sensitive.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "EdDSA" => Some(Self::EdDsa),
            name => JwsAlgorithm::from_name(name).map(Self::Jws),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_public_key_has_no_name() {
        for name in [
            "none", "None", "HS256", "HS384", "HS512", "rs256", "", "A128KW",
        ] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
        for name in DEFAULT_ALGORITHMS {
            assert!(Algorithm::from_name(name).is_some());
        }
    }
}
