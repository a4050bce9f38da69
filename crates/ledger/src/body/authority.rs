//! Bodies about the authority itself: its ledger, its keys, its trust bundle.

use super::BlobRef;
use crate::{Base64, Decimal};
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
    /// `ledger`, `x509-root`, `x509-issuing`, `jwt`.
    pub what: String,
    /// SPKI; `null` for the first key of its kind.
    pub old: Option<Base64>,
    /// SPKI; `null` when the old one is only withdrawn.
    pub new: Option<Base64>,
    /// Over `trilith-key-rotation-v1 ‖ what ‖ old ‖ new`, each with its u32 length before it.
    pub old_signature: Option<Base64>,
    pub new_signature: Option<Base64>,
    pub reason: String,
}
