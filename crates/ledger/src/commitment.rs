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
        Self(Digest(crypto::sha256(&Self::opening(salt, field, value))))
    }

    /// The bytes whose SHA-256 is the commitment: whoever has them can check it and read the value.
    #[must_use]
    pub fn opening(salt: &Salt, field: &str, value: &[u8]) -> Vec<u8> {
        let parts = [Self::CONTEXT, &salt.0, field.as_bytes(), value];
        let mut bytes = Vec::with_capacity(value.len() + field.len() + 64);
        for part in parts {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// The value in an opening, if it is one of `field`.
    #[must_use]
    pub fn opened<'a>(opening: &'a [u8], field: &str) -> Option<&'a [u8]> {
        let mut rest = opening;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (part, after) = after.split_at_checked(length)?;
            rest = after;
            Some(part)
        };
        let (context, salt, name, value) = (part()?, part()?, part()?, part()?);
        let good = context == Self::CONTEXT && salt.len() == 16 && name == field.as_bytes();
        (good && rest.is_empty()).then_some(value)
    }

    /// True if the commitment is to `value` under `salt`.
    #[must_use]
    pub fn opens(&self, salt: &Salt, field: &str, value: &[u8]) -> bool {
        crypto::constant_time_eq(&self.0.0, &Self::new(salt, field, value).0.0)
    }
}
