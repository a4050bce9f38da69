//! The outcome of verifying evidence: facts, or findings.

use crate::{Affirmed, FactSet, Finding, Warrant};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

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
///
/// It reads as the [`Stated`] in it. Nothing makes an affirmed one but a verifier's [`Warrant`]: it is not
/// read back from bytes, and what it states is not changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Verdict(Stated);

/// What a verdict says, as data that anybody may hold: what a verdict on the wire is read as, and nothing that
/// anything is issued on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    pub facts: FactSet,
    pub findings: Vec<Finding>,
    pub evidence: Vec<EvidenceDigest>,
}

impl Verdict {
    /// Of `facts`, those that `warrant` covers.
    #[must_use]
    pub fn affirmed(warrant: &Warrant, facts: FactSet, evidence: Vec<EvidenceDigest>) -> Self {
        Self(Stated {
            facts: warrant.within(facts),
            findings: Vec::new(),
            evidence,
        })
    }

    /// Anybody may refuse.
    #[must_use]
    pub fn refused(findings: Vec<Finding>, evidence: Vec<EvidenceDigest>) -> Self {
        Self(Stated {
            facts: FactSet::new(),
            findings,
            evidence,
        })
    }

    /// The same, resting on this evidence: names of what was kept decide nothing.
    #[must_use]
    pub fn resting_on(self, evidence: Vec<EvidenceDigest>) -> Self {
        Self(Stated { evidence, ..self.0 })
    }

    /// With what another verifier made of the same evidence, by [`Affirmed::and`]. A refused one stays as it is.
    #[must_use]
    pub fn and(mut self, more: &Affirmed) -> Self {
        if self.outcome() == Outcome::Affirmed {
            self.0.facts.extend(more.iter().cloned());
        }
        self
    }

    /// What may be issued on it; `None` of a refused one.
    #[must_use]
    pub fn claims(&self) -> Option<Affirmed> {
        (self.outcome() == Outcome::Affirmed).then(|| Affirmed::of_verdict(&self.facts))
    }

    /// What it says, and is a verdict no more.
    #[must_use]
    pub fn into_stated(self) -> Stated {
        self.0
    }
}

impl Stated {
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

impl Deref for Verdict {
    type Target = Stated;

    fn deref(&self) -> &Stated {
        &self.0
    }
}

/// What verifiers stated before is a verdict as well, whose evidence stands elsewhere.
impl From<Affirmed> for Verdict {
    fn from(claims: Affirmed) -> Self {
        Self(Stated {
            facts: FactSet::clone(&claims),
            ..Stated::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, Timestamp};

    const TOKENS: Warrant = Warrant::of(Source::Verified, &["machine."]);

    fn facts() -> FactSet {
        let mut facts = FactSet::new();
        let at = Timestamp::EPOCH;
        facts.state("machine.name", "m1", Source::Verified, at);
        facts
    }

    #[test]
    fn an_empty_verdict_affirms_nothing() {
        assert_eq!(Verdict::default().outcome(), Outcome::Refused);
        assert!(Verdict::default().claims().is_none());
    }

    #[test]
    fn nothing_is_issued_on_a_refused_verdict_whatever_is_added() {
        let refused = Verdict::refused(vec![Finding::new("X-Y", "no")], Vec::new());
        let more = Affirmed::by(&TOKENS, facts());
        let refused = refused.and(&more);
        assert!(refused.claims().is_none() && refused.facts.is_empty());
    }

    #[test]
    fn a_verdict_that_is_outside_its_warrant_affirms_nothing() {
        let mut facts = FactSet::new();
        facts.state("workload.uid", 0_u32, Source::Verified, Timestamp::EPOCH);
        let verdict = Verdict::affirmed(&TOKENS, facts, Vec::new());
        assert!(verdict.claims().is_none());
    }

    #[test]
    fn what_is_written_reads_back_as_what_was_stated() {
        let verdict = Verdict::affirmed(&TOKENS, facts(), Vec::new());
        let text = serde_json::to_string(&verdict).unwrap();
        let stated: Stated = serde_json::from_str(&text).unwrap();
        assert_eq!(stated, verdict.into_stated());
    }
}
