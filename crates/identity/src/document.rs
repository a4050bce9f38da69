//! What the authority is, without its secrets: the names of its keys, their certificates and their tenures.

use facts::Timestamp;
use serde::{Deserialize, Serialize};

/// When a key is announced, signs and is forgotten. Exactly one key of a kind signs at any time: the one
/// whose `signs_from` is the latest that is not in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenure {
    /// From then on it is in the bundle.
    pub announced: Timestamp,
    pub signs_from: Timestamp,
    /// It signs nothing that outlives this.
    pub not_after: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateAuthority {
    /// Name of the key in its custody.
    pub key: String,
    /// DER, base64.
    pub certificate: String,
    pub tenure: Tenure,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtAuthority {
    /// Name of the key in its custody.
    pub key: String,
    /// The key's id in bundle and tokens.
    pub kid: String,
    /// DER, base64.
    pub spki: String,
    pub tenure: Tenure,
}

/// Recorded whole at each change. Newest keys last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityDocument {
    pub trust_domain: String,
    /// Of the bundle; rises with every change.
    pub sequence: u64,
    /// Number of the next key; names are never used again.
    pub next_key: u64,
    pub roots: Vec<CertificateAuthority>,
    pub issuing: Vec<CertificateAuthority>,
    pub jwt: Vec<JwtAuthority>,
}

impl Tenure {
    /// Whether it may sign at `now`.
    pub(crate) fn signs_at(&self, now: Timestamp) -> bool {
        self.signs_from <= now && now < self.not_after
    }
}

impl AuthorityDocument {
    /// The key that signs at `now`: its position in `tenures`.
    pub(crate) fn signing(tenures: impl Iterator<Item = Tenure>, now: Timestamp) -> Option<usize> {
        tenures
            .enumerate()
            .filter(|(_, tenure)| tenure.signs_at(now))
            .max_by_key(|(_, tenure)| tenure.signs_from)
            .map(|(position, _)| position)
    }
}
