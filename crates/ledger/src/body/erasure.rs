//! The body about what was erased beside the ledger. It names what is gone by digest, and says nothing of what it was.

use super::{AuthorSignature, BlobRef};
use crate::{Decimal, HexDigest};
use serde::{Deserialize, Serialize};

/// What the records say stays; what they name by commitment or digest is gone. Durable before anything is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// Why, or at whose request, in words that stay: a number of a case, not a name.
    pub reason: String,
    /// Who did it.
    pub by: String,
    pub erased: Vec<ErasedItem>,
    /// What two authors signed, where the estate has two: its version, and what was to be erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<BlobRef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<AuthorSignature>,
}

/// One content that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedItem {
    /// `opening`, `facts`, `evidence`, `estate` or `proof`.
    pub kind: String,
    pub sha256: HexDigest,
    /// Index of the record, in this ledger, that names it.
    pub record: Decimal,
}
