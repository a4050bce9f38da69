//! Bodies about the estate and its proofs.

use crate::{Decimal, HexDigest};
use serde::{Deserialize, Serialize};

/// Names a blob by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    pub sha256: HexDigest,
    pub length: Decimal,
}

impl BlobRef {
    /// The name of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: HexDigest::of(bytes),
            length: Decimal(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
        }
    }
}

/// A version of the estate becomes current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstateVersion {
    /// SHA-256 of the blob.
    pub version: HexDigest,
    pub blob: BlobRef,
    /// The version that it replaces.
    pub parent: Option<HexDigest>,
    pub author: String,
    pub message: String,
    /// Index of the proof record.
    pub proof_index: Option<Decimal>,
    /// Index of the oldest estate version under which gateways still accept SVIDs.
    pub floor: Decimal,
}

/// What the solver said of one version's invariants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    pub version: HexDigest,
    /// `proved`, `refuted`, `unknown`.
    pub outcome: String,
    pub invariants: Vec<InvariantResult>,
    /// Queries, answers and counterexamples.
    pub blob: Option<BlobRef>,
    pub millis: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvariantResult {
    pub id: String,
    /// For any estate data that fits the schema: `proved`, `refuted`, `unknown`.
    pub any_data: String,
    /// For the data of this version: `holds`, `broken`, `unknown`.
    pub today: String,
}
