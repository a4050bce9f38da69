//! Bodies about identities: issued, refused, revoked.

use super::{BlobRef, FactValue, Finding};
use crate::{Commitment, Decimal, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An SVID that the authority is about to sign. Durable before the signature is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuance {
    pub kind: SvidKind,
    pub spiffe_id: String,
    /// Lower-case hex, or the `jti` of a JWT.
    pub serial: String,
    /// SHA-256 of the TBS without the receipt extension, or of the signing input without the
    /// receipt claim.
    pub tbs: Digest,
    /// SHA-256 of the issuer's SPKI.
    pub issuer: Digest,
    /// SHA-256 of the subject's SPKI; for a JWT that of the caller's.
    pub key: Digest,
    /// Unix seconds.
    pub not_before: u64,
    pub not_after: u64,
    /// Name of the node.
    pub node: String,
    /// Index of the verdict.
    pub verdict: Decimal,
    /// When the evidence was taken, Unix milliseconds.
    pub evidence_time: u64,
    /// The policies that allowed it.
    pub policies: Vec<String>,
    /// To the fact set that was decided on; the salt is not in the ledger.
    pub commit: Commitment,
    /// The facts that the estate marks as visible.
    pub facts: BTreeMap<String, FactValue>,
    /// Serial of the SVID that this one renews.
    pub replaces: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SvidKind {
    X509,
    Jwt,
}

/// A workload asked and was not given an identity; alike refusals are aggregated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssumeRefused {
    /// `null` where the facts matched no identity at all.
    pub spiffe_id: Option<String>,
    pub node: String,
    pub verdict: Option<Decimal>,
    pub findings: Vec<Finding>,
    pub policies: Vec<String>,
    pub facts_blob: Option<BlobRef>,
    pub count: Decimal,
}

/// Cuts an identity, an SVID or a whole machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    pub target: Target,
    pub reason: String,
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub kind: TargetKind,
    pub value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    Identity,
    Serial,
    Machine,
}
