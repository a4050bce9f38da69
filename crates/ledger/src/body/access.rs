//! Bodies about access through a gateway. Never a literal, an argument or a result.

use super::FactValue;
use crate::{Decimal, HexDigest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A connection was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionStart {
    pub session: String,
    pub spiffe_id: String,
    /// Serial of the SVID.
    pub serial: String,
    /// Index of the SVID's issuance in the server's ledger; `null` for a foreign domain.
    pub issuance: Option<Decimal>,
    /// What it reached: `postgres:shop`.
    pub resource: String,
    /// Upstream role.
    pub role: String,
    /// As the client named itself; unverified.
    pub application: String,
    /// On whose behalf, who began it first: SPIFFE IDs. Whoever made the request vouches for them; it was decided
    /// by what each of them may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_on_behalf_of: Vec<String>,
    /// On whose behalf, who began it first, as a delegation token proved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<OnBehalfOf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEnd {
    pub session: String,
    /// `closed`, `expired`, `revoked`, `delegation`, `estate`, `stale`, `error`, `shutdown`.
    pub reason: String,
    pub detail: String,
    /// Operations that the session made.
    pub operations: Decimal,
}

/// One action on some resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionOn {
    pub action: String,
    pub resources: Vec<String>,
    /// Resources that the record has no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<More>,
    /// Columns of these tables that it selects, inserts or updates: `Column::"shop/public/cards/number"`; every one of
    /// a table, or nobody can tell which, is `…/cards/*`, and what the record has no room for `Column::"*"`. A table that is
    /// touched and no column of it, as by `count(*)`, has none. Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// What a list leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct More {
    pub count: Decimal,
    /// SHA-256 over the whole list, what it shows included: each entry and a line feed.
    pub sha256: HexDigest,
}

/// How much of what an operation touches the gateway knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    Complete,
    ParsedOnly,
    Blind,
}

/// An access that is about to be forwarded. Durable before it is, unless proven read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    pub session: String,
    /// Fingerprint of the statement.
    pub statement: String,
    pub actions: Vec<ActionOn>,
    /// Its session and its number there, `2287d16317bdf6c1.5`. What a client is told, `pg-1:30`, is the
    /// ledger and the index of this record.
    pub decision: String,
    pub policies: Vec<String>,
    pub coverage: Coverage,
    /// Policies that the record has no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_policies: Option<More>,
    /// On whose behalf, who began it first: SPIFFE IDs. Whoever made the request vouches for them; it was decided
    /// by what each of them may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_on_behalf_of: Vec<String>,
    /// On whose behalf, who began it first, as a delegation token proved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<OnBehalfOf>,
}

/// What became of an intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// `seq` of the intent.
    pub intent: Decimal,
    /// `ok`, `error`, `undone` (it succeeded and a later error took it back), `unknown`, `cut`.
    pub result: String,
    pub sqlstate: Option<String>,
    pub rows: Option<Decimal>,
    /// Command tag of the database.
    pub tag: Option<String>,
    /// Of a write: the state of the transaction after it. `I`: none is open, so it lasts; `T`: it lasts if
    /// a commit follows; `E`: the transaction has failed; `pending`: not known yet, another outcome of
    /// the same intent follows. Absent of reads and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
}

/// An access that was denied, or answered without being forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub session: String,
    pub statement: String,
    pub actions: Vec<ActionOn>,
    pub decision: String,
    pub allow: bool,
    pub policies: Vec<String>,
    /// Evaluation errors and findings by code.
    pub findings: Vec<String>,
    pub coverage: Coverage,
    /// Policies that the record has no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_policies: Option<More>,
    /// Of an answer to somebody's question: whom it was about. The record's actor is who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// On whose behalf, who began it first: SPIFFE IDs. Whoever made the request vouches for them; it was decided
    /// by what each of them may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_on_behalf_of: Vec<String>,
    /// On whose behalf, who began it first, as a delegation token proved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<OnBehalfOf>,
}

/// Whom a question was about, and the facts that it was answered by.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// As it was asked about; whoever asked vouches for it unless `issuance` is there.
    pub spiffe_id: String,
    /// Index in the server's ledger of the SVID's issuance, where one was shown: its facts were used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuance: Option<Decimal>,
    /// Facts that whoever asked stated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stated: BTreeMap<String, FactValue>,
    /// On whose behalf it would act, who began it first: SPIFFE IDs. Whoever asked vouches for it; it was decided by
    /// what each of them may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_on_behalf_of: Vec<String>,
    /// On whose behalf it acted, who began it first, as a delegation token proved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<OnBehalfOf>,
}

/// One who let another act, and by which delegation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnBehalfOf {
    /// Who delegated.
    pub spiffe_id: String,
    /// `jti` of the delegation, as its record `delegation` has it.
    pub jti: String,
    /// Index in the server's ledger of the issuance by whose facts it was decided what this one may do. Absent of a
    /// person, who was asked about by the facts of the session, and of one of whom none are known: then what is
    /// allowed whatever they are was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuance: Option<Decimal>,
}
