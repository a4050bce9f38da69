//! What a person's client signs, so that a login and a session are worth nothing without its key and on
//! no connection but its own. All lengths are 32-bit big-endian numbers before their bytes.

/// Names what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The key is shown when a login is finished; `about` is the ID token.
    Login,
    /// A connection is entered with a session.
    Enter,
    /// A session is ended.
    Logout,
}

impl Purpose {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Login => b"trilith-person-login-v1",
            Self::Enter => b"trilith-person-enter-v1",
            Self::Logout => b"trilith-person-logout-v1",
        }
    }
}

/// The digest to be signed: purpose, trust domain, the connection's exporter, SHA-256 of the key's SPKI and of
/// `about`.
#[must_use]
pub fn transcript(
    purpose: Purpose,
    trust_domain: &str,
    exporter: &[u8; 32],
    key: &[u8; 32],
    about: &[u8],
) -> [u8; 32] {
    let about = crypto::sha256(about);
    crypto::sha256(&framed(&[
        purpose.context(),
        trust_domain.as_bytes(),
        exporter,
        key,
        &about,
    ]))
}

/// The nonce that a client asks the provider for: of what the server gave it and of its own key. So a server that
/// hands on another server's nonce has asked for a token that the other takes from this client's key alone.
#[must_use]
pub fn nonce(trust_domain: &str, key: &[u8; 32], given: &str) -> String {
    let bytes = framed(&[
        b"trilith-person-nonce-v1",
        trust_domain.as_bytes(),
        key,
        given.as_bytes(),
    ]);
    crypto::base64::encode_url(&crypto::sha256(&bytes))
}

fn framed(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_of_one_domain_one_key_and_one_login() {
        let all = [
            nonce("a", &[1; 32], "x"),
            nonce("b", &[1; 32], "x"),
            nonce("a", &[2; 32], "x"),
            nonce("a", &[1; 32], "y"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn every_part_counts() {
        let all = [
            transcript(Purpose::Login, "a", &[1; 32], &[2; 32], b"x"),
            transcript(Purpose::Enter, "a", &[1; 32], &[2; 32], b"x"),
            transcript(Purpose::Logout, "a", &[1; 32], &[2; 32], b"x"),
            transcript(Purpose::Login, "b", &[1; 32], &[2; 32], b"x"),
            transcript(Purpose::Login, "a", &[3; 32], &[2; 32], b"x"),
            transcript(Purpose::Login, "a", &[1; 32], &[3; 32], b"x"),
            transcript(Purpose::Login, "a", &[1; 32], &[2; 32], b"y"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
