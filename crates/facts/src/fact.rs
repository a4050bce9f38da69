//! A fact: a typed statement that a verifier derived, with its source and its age.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Who stands behind a fact. Ordered from weakest to strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The node agent says so; it counts only on machines that a policy names.
    Asserted,
    /// A verifier checked it against something other than hardware: a token, a signature.
    Verified,
    /// It follows from evidence that a hardware root signed.
    Hardware,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asserted => "asserted",
            Self::Verified => "verified",
            Self::Hardware => "hardware",
        })
    }
}

/// What a fact says. JSON and Cedar both represent each variant as it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::List(values) => write!(f, "[{}]", values.join(", ")),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(i64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<String>> for Value {
    fn from(value: Vec<String>) -> Self {
        Self::List(value)
    }
}

/// One statement about a machine, a workload or code. `name` is dotted: `machine.tpm.kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    pub name: String,
    pub value: Value,
    pub source: Source,
    pub observed_at: Timestamp,
}

/// The facts that hold of one principal, one value a name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FactSet(BTreeMap<String, Fact>);

impl FactSet {
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// States `name` unless a stronger source already has: an assertion never displaces what a
    /// verifier found.
    pub fn state(
        &mut self,
        name: &str,
        value: impl Into<Value>,
        source: Source,
        observed_at: Timestamp,
    ) {
        self.insert(Fact {
            name: name.to_owned(),
            value: value.into(),
            source,
            observed_at,
        });
    }

    /// As [`FactSet::state`], for a whole fact.
    pub fn insert(&mut self, fact: Fact) {
        if self
            .0
            .get(&fact.name)
            .is_none_or(|held| held.source <= fact.source)
        {
            self.0.insert(fact.name.clone(), fact);
        }
    }

    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&Fact> {
        self.0.get(name)
    }

    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).map(|fact| &fact.value)
    }

    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// In order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Fact> {
        self.0.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the facts whose name starts with `prefix`.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Self {
        self.iter()
            .filter(|fact| fact.name.starts_with(prefix))
            .cloned()
            .collect()
    }
}

impl FromIterator<Fact> for FactSet {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Self {
        let mut set = Self::new();
        set.extend(facts);
        set
    }
}

impl Extend<Fact> for FactSet {
    fn extend<I: IntoIterator<Item = Fact>>(&mut self, facts: I) {
        for fact in facts {
            self.insert(fact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_never_displaces_what_a_verifier_found() {
        let mut facts = FactSet::new();
        facts.state("machine.name", "m1", Source::Verified, Timestamp::EPOCH);
        facts.state(
            "machine.name",
            "m2",
            Source::Asserted,
            Timestamp::from_secs(9),
        );
        assert_eq!(facts.text("machine.name"), Some("m1"));
    }
}
