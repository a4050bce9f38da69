//! The body of a delegation: who lets whom act, for whom it began, and to which end.

use crate::Digest;
use serde::{Deserialize, Serialize};

/// A delegation token that the authority is about to sign. Durable before the signature is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// Of the token, and of the delegation that is new in it.
    pub jti: String,
    /// SHA-256 of the signing input without the receipt claim.
    pub tbs: Digest,
    /// SHA-256 of the issuer's SPKI.
    pub issuer: Digest,
    /// Unix seconds.
    pub not_before: u64,
    pub not_after: u64,
    /// SPIFFE IDs, who began it first. The last but one delegates to the last.
    pub chain: Vec<String>,
    /// `jti` of each delegation that this one rests on, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rests_on: Vec<String>,
    /// What this delegation was narrowed to; `null`: any action.
    pub actions: Option<Vec<String>>,
    /// `null`: any resource.
    pub resources: Option<Vec<String>>,
    /// Name of the machine of the SVID by which it was asked for; empty where a person logged in.
    pub node: String,
}

impl Delegation {
    /// `tbs` of a record that this process sealed, as [`Issuance::committed_tbs`](super::Issuance::committed_tbs)
    /// has it.
    #[must_use]
    pub fn committed_tbs(record: &[u8]) -> Option<Digest> {
        let text = std::str::from_utf8(record).ok()?;
        let envelope = text.strip_prefix("{\"v\":1,\"type\":\"delegation\",")?;
        let (_, body) = envelope.split_once(",\"body\":{\"jti\":\"")?;
        let (_, tbs) = body.split_once(",\"tbs\":\"")?;
        tbs.split_once('"')?.0.parse().ok()
    }
}
