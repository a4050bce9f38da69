//! What is judged: code, by its bytes or by what is known of their digests.

use crypto::chain::Hash;

/// Bytes of code, or digests of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Artifact<'a> {
    bytes: Option<&'a [u8]>,
    sha256: Option<[u8; 32]>,
    sha384: Option<[u8; 48]>,
    sha512: Option<[u8; 64]>,
}

impl<'a> Artifact<'a> {
    /// All digests are computed when they are asked for.
    #[must_use]
    pub const fn of_bytes(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Some(bytes),
            sha256: None,
            sha384: None,
            sha512: None,
        }
    }

    /// Bytes of which only this is known. Ed25519 signatures over bytes cannot be checked then.
    #[must_use]
    pub const fn of_sha256(sha256: [u8; 32]) -> Self {
        Self {
            bytes: None,
            sha256: Some(sha256),
            sha384: None,
            sha512: None,
        }
    }

    /// As [`Artifact::of_sha256`], by SHA-512.
    #[must_use]
    pub const fn of_sha512(sha512: [u8; 64]) -> Self {
        Self {
            bytes: None,
            sha256: None,
            sha384: None,
            sha512: Some(sha512),
        }
    }

    /// A further digest of the same bytes: npm's provenance names packages by SHA-512 alone.
    #[must_use]
    pub const fn and_sha512(mut self, sha512: [u8; 64]) -> Self {
        self.sha512 = Some(sha512);
        self
    }

    /// A further digest of the same bytes.
    #[must_use]
    pub const fn and_sha384(mut self, sha384: [u8; 48]) -> Self {
        self.sha384 = Some(sha384);
        self
    }

    pub(crate) const fn bytes(&self) -> Option<&'a [u8]> {
        self.bytes
    }

    /// The digest by that hash, if it is known.
    pub(crate) fn digest(&self, hash: Hash) -> Option<Vec<u8>> {
        if let Some(bytes) = self.bytes {
            return Some(hash.digest(bytes));
        }
        match hash {
            Hash::Sha256 => self.sha256.map(|digest| digest.to_vec()),
            Hash::Sha384 => self.sha384.map(|digest| digest.to_vec()),
            Hash::Sha512 => self.sha512.map(|digest| digest.to_vec()),
        }
    }
}

/// For findings: the digest that people know code by.
impl std::fmt::Display for Artifact<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = [
            ("sha256", Hash::Sha256),
            ("sha512", Hash::Sha512),
            ("sha384", Hash::Sha384),
        ];
        let known = named
            .into_iter()
            .find_map(|(name, hash)| Some((name, self.digest(hash)?)));
        match known {
            Some((name, digest)) => write!(f, "{name}:{}", crypto::hex::encode(&digest)),
            None => f.write_str("code of which no digest is known"),
        }
    }
}
