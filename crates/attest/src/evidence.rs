//! Raw evidence and its name by content. The bytes are kept by whoever records the verdict.

use facts::EvidenceDigest;
use std::borrow::Cow;

/// One blob that a machine presented, and what it claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<'a> {
    /// `tpm-quote`, `tpm-event-log`, `ek-certificate`, …
    pub kind: &'static str,
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> Evidence<'a> {
    #[must_use]
    pub fn new(kind: &'static str, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            kind,
            bytes: bytes.into(),
        }
    }

    /// What a verdict says of it: kind, SHA-256 and length.
    #[must_use]
    pub fn digest(&self) -> EvidenceDigest {
        EvidenceDigest {
            kind: self.kind.to_owned(),
            sha256: crypto::hex::encode(&crypto::sha256(&self.bytes)),
            length: u64::try_from(self.bytes.len()).unwrap_or(u64::MAX),
        }
    }
}
