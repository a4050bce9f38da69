//! Bodies about the estate and its proofs.

use crate::{Base64, Decimal, HexDigest};
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
    /// The record of what two authors signed, if an invariant was weakened, removed or left unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_index: Option<Decimal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvariantResult {
    pub id: String,
    /// For any estate data that fits the schema: `proved`, `refuted`, `unknown`.
    pub any_data: String,
    /// For the data of this version: `holds`, `broken`, `unknown`.
    pub today: String,
    /// SHA-256 of the invariant's text: what was proved. Left out of a version with very many; the blob has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<HexDigest>,
}

/// Two authors take it upon themselves that an invariant is weakened, removed or not proved, in the version that
/// is about to become current. Durable before that version is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvariantApproval {
    pub version: HexDigest,
    /// The version that it replaces, and the record that made that current.
    pub base: Option<HexDigest>,
    pub base_index: Decimal,
    /// What was signed: version, base, and the list of changes.
    pub subject: BlobRef,
    /// How many changes there are.
    pub changes: u32,
    pub signatures: Vec<AuthorSignature>,
}

/// One author's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorSignature {
    pub author: String,
    /// SPKI, as the version that is replaced declares it.
    pub key: Base64,
    pub expires: u64,
    /// Ed25519 over the lines `trilith-invariant-approval-v1`, SHA-256 of the subject in hex, author, expiry.
    pub signature: Base64,
}
