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
    /// To the fact set that was decided on, of which the policies read a part. Its opening is a blob that
    /// the server keeps and puts into packs, for whoever decides again; its SHA-256 is this commitment.
    pub commit: Commitment,
    /// The facts that the estate marks as visible.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, FactValue>,
    /// Serial of the SVID that this one renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// What is known of the machine, as a verdict's `ar4si`. Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ar4si: Option<String>,
}

impl Issuance {
    /// `tbs` of a record that this process sealed, without reading the rest of it; `None` if it is of
    /// another type. What comes from outside goes through [`Record::parse`](crate::Record::parse).
    ///
    /// A record is in canonical form: fields in a fixed order, no space, and every quote within a text
    /// escaped, so that the marks below stand nowhere but where the fields are.
    #[must_use]
    pub fn committed_tbs(record: &[u8]) -> Option<Digest> {
        let text = std::str::from_utf8(record).ok()?;
        let envelope = text.strip_prefix("{\"v\":1,\"type\":\"issuance\",")?;
        let (_, body) = envelope.split_once(",\"body\":{\"kind\":\"")?;
        let (_, tbs) = body.split_once(",\"tbs\":\"")?;
        tbs.split_once('"')?.0.parse().ok()
    }
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
    /// Of a serial, which names nobody: whom it was issued to; of a delegation, its chain. Absent where the target names
    /// it, and where the server does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whose: Vec<String>,
    /// Of a serial: the machine that it was issued on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
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
