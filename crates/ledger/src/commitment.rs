//! Salted commitments: what may be personal or reveal topology stands in a record only as one.

use crate::Digest;
use serde::{Deserialize, Serialize};

/// 128 bits of randomness, kept beside the value, never in the record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

/// SHA-256 over context, salt, field name and value, each with its length before it (u32,
/// big-endian). In JSON standard base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Commitment(pub Digest);

impl Commitment {
    const CONTEXT: &'static [u8] = b"trilith-commitment-v1";

    /// Commits to `value` as the value of `field`. Values have fewer than 2^32 bytes.
    #[must_use]
    pub fn new(salt: &Salt, field: &str, value: &[u8]) -> Self {
        let mut hash = crypto::Sha256::new();
        for part in [Self::CONTEXT, &salt.0, field.as_bytes(), value] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            hash.update(&length.to_be_bytes());
            hash.update(part);
        }
        Self(Digest(hash.finish()))
    }

    /// True if the commitment is to `value` under `salt`.
    #[must_use]
    pub fn opens(&self, salt: &Salt, field: &str, value: &[u8]) -> bool {
        crypto::constant_time_eq(&self.0.0, &Self::new(salt, field, value).0.0)
    }
}
