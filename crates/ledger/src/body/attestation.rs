//! Bodies about machines: evidence, verdicts, joining, and being locked out.

use super::BlobRef;
use crate::{Commitment, Decimal, HexDigest};
use serde::{Deserialize, Serialize};

/// What a verifier concluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// SPIFFE ID of the node.
    pub node: String,
    pub outcome: VerdictOutcome,
    /// The whole fact set, which policies read; erasable.
    pub facts_blob: Option<BlobRef>,
    pub evidence: Vec<Evidence>,
    /// The facts that the estate marks as visible.
    pub facts: Vec<FactItem>,
    pub findings: Vec<Finding>,
    /// What it comes to, as AR4SI numbers it: `hw2 ex3 cf2 id2`. Hardware, executables, configuration,
    /// file system, instance identity, runtime opaque; what nothing is claimed of is left out. Absent in
    /// records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ar4si: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictOutcome {
    Affirmed,
    Refused,
}

/// One blob of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// `tpm-quote`, `tpm-event-log`, `ek-certificate`, …
    pub kind: String,
    pub sha256: HexDigest,
    pub length: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactItem {
    pub name: String,
    pub value: FactValue,
    /// `hardware`, `verified`, `asserted`.
    pub source: String,
}

/// As `facts::Value`; integers beyond 2^53 do not fit a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FactValue {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<String>),
}

/// As `facts::Finding`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Good answers of one machine, rolled up: it went on proving itself from the first to the last of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    pub node: String,
    /// When the first and the last of them came; Unix milliseconds.
    pub from: u64,
    pub to: u64,
    /// How many there were.
    pub answers: Decimal,
    /// The boot that the last of them was given in, as the TPM counts.
    pub resets: u32,
    pub restarts: u32,
    /// SHA-256 over the values of the PCRs that the last of them quoted, in ascending order.
    pub pcrs: HexDigest,
    /// How many entries of the IMA list were verified with the last of them; `null` if none.
    pub entries: Option<Decimal>,
    /// What the list was judged by: the estate's version.
    pub estate: HexDigest,
    /// What the chip counted in the last of them. Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// What a TPM counts for itself and signs with a quote: a later quote of the same chip counts no less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// SHA-256 of the key that the chip is known by: of its endorsement key, or of its attestation key where
    /// it has no other.
    pub chip: HexDigest,
    pub resets: u32,
    pub restarts: u32,
    /// Milliseconds, as the chip's clock shows them.
    pub clock: Decimal,
    /// Version of its firmware, as its maker numbers them.
    pub firmware: Decimal,
}

/// Refused joins, aggregated: they must not fill a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRefused {
    /// `tpm`, `enclave`, `token`.
    pub method: String,
    /// Commitment to the caller's address.
    pub peer: Option<Commitment>,
    pub findings: Vec<Finding>,
    /// Refusals alike that this record stands for.
    pub count: Decimal,
}

/// A one-time join token was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCreated {
    /// SHA-256 of the token, whose own entropy is 128 bits or more.
    pub token: HexDigest,
    pub node: String,
    pub pool: String,
    /// Unix milliseconds.
    pub expires: u64,
}

/// A join token was used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpent {
    pub token: HexDigest,
    pub node: String,
    /// SHA-256 of the SPKI that joined with it.
    pub key: HexDigest,
}

/// A node's renewal chain moved on: what tells a copied state directory from the original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    pub node: String,
    /// `joined`, `renewed`, `left`; `evicted` right before the revocation that it goes with.
    pub state: String,
    pub generation: Decimal,
    /// SHA-256 of the renewal's id: a repeated request is known by it.
    pub renewal: HexDigest,
    /// SHA-256 of the node's SPKI.
    pub key: HexDigest,
    /// Index of the verdict that it rests on.
    pub verdict: Option<Decimal>,
    /// What the chip counted in the quote of that verdict. Absent for machines that show no TPM, and in records
    /// of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// A node is locked out until it is readmitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    pub node: String,
    pub finding: Finding,
    pub generation: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readmit {
    pub node: String,
    pub reason: String,
    pub by: String,
    pub generation: Decimal,
}
