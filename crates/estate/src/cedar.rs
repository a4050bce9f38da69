//! The Cedar side of an estate, for `estate-prove` alone. Other crates do not call this: they would
//! have to name Cedar.

use crate::decision::PolicyRef;
use crate::estate::Estate;
use crate::invariant::Invariant;
use crate::policy::{conjuncts, may_err};
use cedar_policy::{ActionConstraint, Entities, EntityUid, Policy, PolicyId, PolicySet, Schema};
use std::sync::Arc;

#[must_use]
pub const fn schema(estate: &Estate) -> &Schema {
    &estate.vocabulary.schema
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

/// The policies that may err on some request, as far as their text shows.
pub fn fragile(estate: &Estate) -> impl Iterator<Item = &Policy> {
    estate.policies.list.iter().filter_map(|info| {
        let may = conjuncts(&info.body)
            .iter()
            .any(|conjunct| may_err(conjunct));
        may.then_some(&info.policy)
    })
}

/// Whether evaluating the invariant's own condition may err.
#[must_use]
pub fn is_fragile(invariant: &Invariant) -> bool {
    invariant.policy.to_pst().map_or(true, |policy| {
        conjuncts(policy.body())
            .iter()
            .any(|conjunct| may_err(conjunct))
    })
}

/// Whether a policy can concern `action`, by its scope, which may name a group of actions.
#[must_use]
pub fn concerns(estate: &Estate, policy: &Policy, action: &EntityUid) -> bool {
    let name = action.id().unescaped();
    let means = |uid: &EntityUid| {
        let meant = estate.vocabulary.meant_by(uid.id().unescaped());
        meant.iter().any(|one| one.as_str() == name)
    };
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid == *action,
        ActionConstraint::In(uids) => uids.iter().any(means),
    }
}
