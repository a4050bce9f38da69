//! The facts that an issuance record shows: what a gateway decides by, and whoever decides again.

use facts::{FactSet, Source, Timestamp, Value};
use ledger::body::{FactValue, Issuance};
use std::collections::BTreeMap;

/// The record shows values; what stands behind each is fixed by its name: of machines a verifier said it,
/// of workloads and code the node agent did.
#[must_use]
pub fn facts(issuance: &Issuance) -> FactSet {
    let observed = Timestamp::from_millis(issuance.evidence_time);
    facts_of(&issuance.facts, observed)
}

/// The facts of values that an issuance's record shows, wherever else they are repeated.
#[must_use]
pub fn facts_of(shown: &BTreeMap<String, FactValue>, observed: Timestamp) -> FactSet {
    let mut facts = FactSet::new();
    for (name, shown) in shown {
        let source = if name.starts_with("machine.") {
            Source::Verified
        } else {
            Source::Asserted
        };
        facts.state(name, value(shown), source, observed);
    }
    facts
}

/// A recorded value as facts have it.
#[must_use]
pub fn value(shown: &FactValue) -> Value {
    match shown {
        FactValue::Bool(value) => Value::Bool(*value),
        FactValue::Integer(value) => Value::Integer(*value),
        FactValue::Text(value) => Value::Text(value.clone()),
        FactValue::List(values) => Value::List(values.clone()),
    }
}
