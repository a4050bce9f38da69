//! The body about a ledger that is not the one that it was: the two notes stand as blobs, and what they show is
//! judged from them ([`crate::misbehaviour`]), not from what is said here.

use super::BlobRef;
use crate::{Base64, Decimal, Digest};
use serde::{Deserialize, Serialize};

/// One key signed two heads that do not belong together. The actor, or its machine, is revoked in the same commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misbehaviour {
    /// Of the ledger.
    pub origin: String,
    /// SPKI of the key that signed both notes.
    pub ledger_key: Base64,
    /// SPIFFE ID that presented the second one.
    pub by: String,
    /// `fork`, `rollback`, `unproven`, `ended`, `succession`.
    pub kind: String,
    /// True if the notes prove it by themselves; else it is as this ledger's actor claims.
    pub proved: bool,
    /// Signed first, and kept.
    pub first: SignedHead,
    /// Presented as what follows.
    pub second: SignedHead,
    pub detail: String,
}

/// A head, and the note that signs it; or the end of the ledger, and the link that signs it, a `key-rotation` body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    pub size: Decimal,
    pub root: Digest,
    /// The note, with the line of the ledger's own key.
    pub note: BlobRef,
}
