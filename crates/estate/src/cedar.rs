//! The Cedar side of an estate, for `estate-prove` alone. Other crates do not call this: they would
//! have to name Cedar.

mod spanning;

pub use spanning::{at_all, becoming, meaning, using};

use crate::decision::PolicyRef;
use crate::estate::Estate;
use crate::invariant::Invariant;
use crate::lint::shadow::{changes_nothing_beside, covers, shadowed};
use crate::lint::{Means, Remark};
use crate::policy::{PolicyInfo, Scope, conjuncts, is_placed, may_err, reads_asserted};
use cedar_policy::{Entities, Policy, PolicyId, PolicySet, Schema};
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

/// Whether no request can meet both: what the one asks of principal, resource or an attribute of them before
/// anything else, the other asks otherwise. By text alone, so whatever is declared.
#[must_use]
pub fn apart(invariant: &Invariant, single: Single<'_>) -> bool {
    let sides = [
        (&invariant.principal, &single.0.principal),
        (&invariant.resource, &single.0.resource),
    ];
    let named = |sides: (&Scope, &Scope)| match sides {
        (Scope::Eq(one), Scope::Eq(other)) => one != other,
        (Scope::Eq(one), Scope::Is(kind)) | (Scope::Is(kind), Scope::Eq(one)) => {
            one.type_name().to_string() != *kind
        }
        (Scope::Is(one), Scope::Is(other)) => one != other,
        _ => false,
    };
    if sides.into_iter().any(named) {
        return true;
    }
    invariant.guards.iter().any(|guard| {
        single.0.guards.iter().any(|other| {
            (guard.side, &guard.name) == (other.side, &other.name) && guard.value != other.value
        })
    })
}

/// Names a question: the same bytes, the same question, whoever asks it of whatever is declared. `parts` are
/// told apart.
#[must_use]
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    crypto::sha256(&bytes)
}

/// The schema as written: the base's, and the estate's own files.
pub fn schema_texts(estate: &Estate) -> impl Iterator<Item = &str> {
    let own = estate.files().0.iter();
    let own = own.filter(|(path, _)| path.starts_with("schema/"));
    std::iter::once(crate::vocabulary::BASE_SCHEMA).chain(own.map(|(_, text)| text.as_str()))
}

/// The invariant as Cedar has it.
#[must_use]
pub fn text(invariant: &Invariant) -> &str {
    &invariant.rewritten
}

/// A policy, for questions about one or two of them. Compares by its place in the estate.
#[derive(Debug, Clone, Copy)]
pub struct Single<'a>(&'a PolicyInfo);

impl<'a> Single<'a> {
    #[must_use]
    pub const fn policy(self) -> &'a Policy {
        &self.0.policy
    }

    /// Whether it can concern the action of this name, by its scope.
    #[must_use]
    pub fn concerns(self, action: &str) -> bool {
        let actions = self.0.actions.as_ref();
        actions.is_none_or(|actions| actions.iter().any(|one| one.as_str() == action))
    }

    /// Whether it names the machines whose agents it believes.
    #[must_use]
    pub fn is_placed(self) -> bool {
        is_placed(self.0)
    }

    /// Whether it rests on what node agents assert.
    #[must_use]
    pub fn reads_asserted(self) -> bool {
        reads_asserted(&self.0.body)
    }

    /// As written.
    #[must_use]
    pub fn text(self) -> &'a str {
        &self.0.text
    }

    #[must_use]
    pub const fn reference(self) -> &'a Arc<PolicyRef> {
        &self.0.reference
    }

    /// Whether it may err on some request, as far as its text shows.
    #[must_use]
    pub fn is_fragile(self) -> bool {
        conjuncts(&self.0.body)
            .iter()
            .any(|conjunct| may_err(conjunct))
    }

    /// Whether `wider` could make it needless: its effect would, and its scope takes in this one's whatever
    /// is declared. Conditions are not looked at.
    #[must_use]
    pub fn is_within(self, wider: Self, estate: &Estate) -> bool {
        changes_nothing_beside(self.0, wider.0)
            && covers(estate, wider.0, self.0) == Some(Means::Text)
    }

    /// What is said of it if `wider` matches whenever it does.
    #[must_use]
    pub fn shadowed_by(self, wider: Self) -> Remark {
        shadowed(self.0, wider.0, Means::Solver)
    }
}

/// Every policy, in order of file and line.
pub fn singles(estate: &Estate) -> impl Iterator<Item = Single<'_>> {
    estate.policies.list.iter().map(Single)
}
