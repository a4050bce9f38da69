//! Bodies about the authority itself: its ledger, its keys, its trust bundle.

use super::BlobRef;
use crate::{Base64, Decimal, HexDigest};
use serde::{Deserialize, Serialize};

/// The first record of every ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    pub trust_domain: String,
    /// SPKI of the key that signs this ledger's checkpoints.
    pub ledger_key: Base64,
    /// `v1`.
    pub format: String,
}

/// The trust bundle as of this record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    pub sequence: Decimal,
    /// Certificates, DER.
    pub x509_authorities: Vec<Base64>,
    pub jwt_authorities: Vec<JwtAuthority>,
    /// The SPIFFE bundle document.
    pub blob: Option<BlobRef>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtAuthority {
    pub kid: String,
    pub spki: Base64,
}

/// A key gives way to another. For the ledger's own key both sign (DESIGN, section 9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotation {
    /// `ledger`, `x509-root`, `x509-issuing`, `jwt`, `seal`; `gateway-ledger` where the server tells of a gateway's.
    pub what: String,
    /// SPKI; `null` for the first key of its kind.
    pub old: Option<Base64>,
    /// SPKI; `null` when the old one is only withdrawn.
    pub new: Option<Base64>,
    /// Over `statement`; where there is none, over `trilith-key-rotation-v1 ‖ what ‖ old ‖ new`, each with its u32
    /// length before it.
    pub old_signature: Option<Base64>,
    pub new_signature: Option<Base64>,
    pub reason: String,
    /// Of the keys `ledger` and `gateway-ledger`: the log that ends, the log that goes on, and the tree that both share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
}

/// The authority approves a boot: machines of a ring may open in it what their TPMs have sealed for the epoch.
/// Durable before it is handed out. What it says is public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealApproval {
    /// The machines' pool; empty for those in none.
    pub ring: String,
    pub epoch: Decimal,
    /// Artefacts and the generations that predict them.
    pub label: String,
    /// Of the SHA-256 bank, ascending.
    pub pcrs: Vec<PcrItem>,
    /// Digest of `TPM2_PolicyPCR` over them.
    pub policy: HexDigest,
    /// What binds the signature to trust domain, ring and epoch.
    pub policy_ref: HexDigest,
    /// SPKI of the key `seal`.
    pub key: Base64,
    /// ECDSA over policy and reference, ASN.1 DER.
    pub signature: Base64,
}

/// One PCR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcrItem {
    pub index: u32,
    pub sha256: HexDigest,
}
