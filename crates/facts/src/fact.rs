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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<String>),
}

/// By the kind of JSON value that stands there; nothing is tried and given up.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> serde::de::Visitor<'de> for AnyValue {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a 64-bit integer, a text or a list of texts")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Integer(value))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
                let value = i64::try_from(value);
                value.map(Value::Integer).map_err(serde::de::Error::custom)
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Text(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Value, E> {
                Ok(Value::Text(value))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut items: A,
            ) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Value::List(list))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
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
#[serde(try_from = "BTreeMap<String, Fact>")]
pub struct FactSet(BTreeMap<String, Fact>);

/// A fact stands under a name that is not its own.
#[derive(Debug)]
pub struct Misnamed(String);

impl fmt::Display for Misnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is the name of another fact", self.0)
    }
}

impl TryFrom<BTreeMap<String, Fact>> for FactSet {
    type Error = Misnamed;

    fn try_from(facts: BTreeMap<String, Fact>) -> Result<Self, Misnamed> {
        match facts.iter().find(|(name, fact)| **name != fact.name) {
            None => Ok(Self(facts)),
            Some((name, _)) => Err(Misnamed(name.clone())),
        }
    }
}

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

    /// Keeps what `keep` holds of, as it leaves it.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Fact) -> bool) {
        self.0.retain(|_, fact| keep(fact));
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

    #[test]
    fn every_kind_of_value_is_read_as_it_was_written_and_nothing_else_is() {
        let mut facts = FactSet::new();
        let at = Timestamp::from_secs(1);
        facts.state("a", true, Source::Verified, at);
        facts.state("b", -7_i64, Source::Asserted, at);
        facts.state("c", "text", Source::Hardware, at);
        facts.state("d", vec!["x".to_owned()], Source::Asserted, at);
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<FactSet>(&text).unwrap(), facts);
        for not in ["1.5", "null", "{}", "[1]", "9223372036854775808"] {
            assert!(serde_json::from_str::<Value>(not).is_err(), "{not}");
        }
    }

    #[test]
    fn a_fact_under_the_name_of_another_is_refused() {
        let mut facts = FactSet::new();
        facts.state("workload.uid", 0_u32, Source::Asserted, Timestamp::EPOCH);
        let text = serde_json::to_string(&facts).unwrap();
        let text = text.replacen("workload.uid", "machine.pool", 1);
        assert!(serde_json::from_str::<FactSet>(&text).is_err());
    }
}
