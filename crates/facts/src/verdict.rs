//! The outcome of verifying evidence: facts, or findings.

use crate::{FactSet, Finding};
use serde::{Deserialize, Serialize};

/// Names one blob of evidence by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceDigest {
    /// `tpm-quote`, `tpm-event-log`, `ek-certificate`, …
    pub kind: String,
    /// SHA-256 of the raw bytes, lower-case hex.
    pub sha256: String,
    /// Length of the raw bytes.
    pub length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Affirmed,
    Refused,
}

/// What a verifier concluded. With a finding it is refused, and then it states no facts that a
/// policy may rest on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    pub facts: FactSet,
    pub findings: Vec<Finding>,
    pub evidence: Vec<EvidenceDigest>,
}

impl Verdict {
    #[must_use]
    pub fn affirmed(facts: FactSet, evidence: Vec<EvidenceDigest>) -> Self {
        Self {
            facts,
            findings: Vec::new(),
            evidence,
        }
    }

    #[must_use]
    pub fn refused(findings: Vec<Finding>, evidence: Vec<EvidenceDigest>) -> Self {
        Self {
            facts: FactSet::new(),
            findings,
            evidence,
        }
    }

    /// INVARIANT: affirmed only without findings and with at least one fact: an empty verdict
    /// affirms nothing.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.findings.is_empty() && !self.facts.is_empty() {
            Outcome::Affirmed
        } else {
            Outcome::Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_verdict_affirms_nothing() {
        assert_eq!(Verdict::default().outcome(), Outcome::Refused);
    }
}
