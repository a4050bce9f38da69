//! Who may state what: a verifier's warrant, and the facts that came of one.
//!
//! Certificates, records of issuance and attestation results take [`Affirmed`], and nothing makes one but a
//! [`Warrant`]. No crate can keep another from naming a type: `cargo xtask tidy` lists the files that may name
//! this one outside of tests, and `docs/decisions/0019-claims-only-from-verifiers.md` says why.

use crate::{Fact, FactSet, Source};
use serde::Serialize;
use std::ops::Deref;

/// What one verifier may state: facts whose names begin so, with this source at most. It is a private constant
/// of the verifier, and neither read from anywhere nor handed on.
///
/// ```
/// use facts::{FactSet, Source, Timestamp, Verdict, Warrant};
/// const PLACE: Warrant = Warrant::of(Source::Verified, &["machine.pool"]);
/// let mut facts = FactSet::new();
/// facts.state("machine.pool", "web", Source::Verified, Timestamp::EPOCH);
/// assert!(Verdict::affirmed(&PLACE, facts, Vec::new()).claims().is_some());
/// ```
///
/// There is no other way to what is issued on:
/// ```compile_fail,E0423
/// let claims = facts::Affirmed(facts::FactSet::new());
/// ```
/// ```compile_fail,E0277
/// let claims: facts::Affirmed = facts::FactSet::new().into();
/// ```
/// ```compile_fail,E0277
/// let verdict: facts::Verdict = serde_json::from_str("{}").unwrap();
/// ```
/// ```compile_fail,E0277
/// let claims: facts::Affirmed = serde_json::from_str("{}").unwrap();
/// ```
/// ```compile_fail,E0423
/// let verdict = facts::Verdict(facts::Stated::default());
/// ```
/// ```compile_fail,E0596
/// use facts::{Source, Timestamp, Verdict};
/// let mut verdict = Verdict::default();
/// verdict.facts.state("machine.pool", "web", Source::Verified, Timestamp::EPOCH);
/// ```
#[derive(Debug)]
pub struct Warrant {
    most: Source,
    about: &'static [&'static str],
}

impl Warrant {
    /// `about`: how the names begin; `&[""]` for all.
    #[must_use]
    pub const fn of(most: Source, about: &'static [&'static str]) -> Self {
        Self { most, about }
    }

    /// INVARIANT: what a verifier is not about it does not state, and nothing with a stronger source than its
    /// own. A fact that is missing allows nothing.
    pub(crate) fn within(&self, mut facts: FactSet) -> FactSet {
        facts.retain(|fact| {
            fact.source = fact.source.min(self.most);
            self.about.iter().any(|head| fact.name.starts_with(head))
        });
        facts
    }
}

/// Facts that verifiers stated. They read as a [`FactSet`]; there is no way from one to them, and no way to
/// change them but to leave some out or to add what another verifier stated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Affirmed(FactSet);

impl Affirmed {
    /// Of `facts`, those that `warrant` covers.
    #[must_use]
    pub fn by(warrant: &Warrant, facts: FactSet) -> Self {
        Self(warrant.within(facts))
    }

    /// Of a verdict that is affirmed.
    pub(crate) fn of_verdict(facts: &FactSet) -> Self {
        Self(facts.clone())
    }

    /// The facts that `keep` holds of.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Fact) -> bool) -> Self {
        Self(self.iter().filter(|fact| keep(fact)).cloned().collect())
    }

    /// With what another verifier stated of the same: by [`FactSet::insert`], so a stronger source stays and of
    /// equals the later.
    #[must_use]
    pub fn and(mut self, more: &Self) -> Self {
        self.0.extend(more.iter().cloned());
        self
    }
}

impl Deref for Affirmed {
    type Target = FactSet;

    fn deref(&self) -> &FactSet {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    const WORD: Warrant = Warrant::of(Source::Asserted, &["workload.", "code.sha256"]);

    fn all() -> FactSet {
        let mut facts = FactSet::new();
        let at = Timestamp::EPOCH;
        facts.state("machine.pool", "prod", Source::Verified, at);
        facts.state("workload.uid", 0_u32, Source::Hardware, at);
        facts.state("code.sha256", "00", Source::Asserted, at);
        facts.state("code.reference", "a", Source::Asserted, at);
        facts
    }

    #[test]
    fn a_verifier_states_nothing_that_it_is_not_about() {
        let stated = Affirmed::by(&WORD, all());
        let names: Vec<_> = stated.iter().map(|fact| fact.name.as_str()).collect();
        assert_eq!(names, ["code.sha256", "workload.uid"]);
    }

    #[test]
    fn a_verifier_states_nothing_with_a_stronger_source_than_its_own() {
        let stated = Affirmed::by(&WORD, all());
        assert!(stated.iter().all(|fact| fact.source == Source::Asserted));
    }

    #[test]
    fn what_is_added_never_displaces_a_stronger_source() {
        let every = Warrant::of(Source::Hardware, &[""]);
        let strong = Affirmed::by(&every, all());
        let mut other = FactSet::new();
        other.state("workload.uid", 7_u32, Source::Asserted, Timestamp::EPOCH);
        other.state("workload.gid", 7_u32, Source::Asserted, Timestamp::EPOCH);
        let both = strong.clone().and(&Affirmed::by(&WORD, other));
        assert_eq!(both.value("workload.uid"), strong.value("workload.uid"));
        assert_eq!(both.len(), strong.len() + 1);
    }
}
