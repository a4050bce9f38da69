//! The Cedar side of an estate, for `estate-prove` alone. Other crates do not call this: they would
//! have to name Cedar.

use crate::decision::PolicyRef;
use crate::estate::Estate;
use crate::invariant::Invariant;
use cedar_policy::{Entities, Policy, PolicyId, PolicySet, Schema};
use std::sync::Arc;

#[must_use]
pub const fn schema(estate: &Estate) -> &Schema {
    &estate.schema
}

#[must_use]
pub const fn policies(estate: &Estate) -> &PolicySet {
    &estate.policies.set
}

/// Every declared entity, closed.
#[must_use]
pub const fn entities(estate: &Estate) -> &Entities {
    &estate.graph.entities
}

/// The requests that an invariant speaks of, as a permit.
#[must_use]
pub const fn matching(invariant: &Invariant) -> &Policy {
    &invariant.policy
}

#[must_use]
pub fn reference<'a>(estate: &'a Estate, id: &PolicyId) -> Option<&'a Arc<PolicyRef>> {
    Some(&estate.policies.find(id)?.reference)
}
