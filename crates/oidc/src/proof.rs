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
    let mut bytes = Vec::new();
    for field in [
        purpose.context(),
        trust_domain.as_bytes(),
        exporter,
        key,
        &about,
    ] {
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend_from_slice(field);
    }
    crypto::sha256(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

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
