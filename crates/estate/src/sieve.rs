//! What a policy asks of its principal and of its resource before anything else: the one rule by which enumerations,
//! comparisons and questions leave out what it cannot concern.
//!
//! A sieve lets through whatever can meet a policy: by its scope, and by what its condition asks of texts before
//! anything that can err. What it holds back, the policy neither matches nor errs on.

use crate::entities::{Graph, NodeId};
use crate::policy::{Guard, PolicyInfo, Scope, Side};
use cedar_policy::EntityUid;
use std::collections::BTreeMap;

/// What stands on one side of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) uid: &'a EntityUid,
    /// Its entity type.
    pub(crate) kind: &'a str,
    /// Itself, if it is declared, and everything above it.
    pub(crate) lineage: &'a [NodeId],
    pub(crate) declared: bool,
    pub(crate) texts: &'a BTreeMap<String, String>,
}

/// What a policy asks of one of its sides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sieve {
    under: Under,
    kind: Option<String>,
    /// Name and value, each to be among the texts.
    texts: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Under {
    Anything,
    Is(NodeId),
    In(NodeId),
    /// Declared in no file.
    Stranger(EntityUid),
}

impl Sieve {
    pub(crate) fn new(scope: &Scope, guards: &[Guard], side: Side, graph: &Graph) -> Self {
        let under = match (scope, scope.uid().map(|uid| (uid, graph.find(uid)))) {
            (Scope::Eq(_), Some((_, Some(id)))) => Under::Is(id),
            (_, Some((_, Some(id)))) => Under::In(id),
            (_, Some((uid, None))) => Under::Stranger(uid.clone()),
            (_, None) => Under::Anything,
        };
        let kind = match scope {
            Scope::Is(kind) | Scope::In(Some(kind), _) => Some(kind.clone()),
            _ => None,
        };
        let guards = guards.iter().filter(|guard| guard.side == side);
        Self {
            under,
            kind,
            texts: guards
                .map(|guard| (guard.name.clone(), guard.value.clone()))
                .collect(),
        }
    }

    /// Which node it lets through, with or without what lies in it; of `None` it may be any, or what no file declares.
    pub(crate) const fn node(&self) -> Option<NodeId> {
        match self.under {
            Under::Is(id) | Under::In(id) => Some(id),
            Under::Anything | Under::Stranger(_) => None,
        }
    }

    /// Names and values that all have to be among the texts.
    pub(crate) fn texts(&self) -> &[(String, String)] {
        &self.texts
    }

    pub(crate) fn lets(&self, seen: Seen<'_>) -> bool {
        let under = match &self.under {
            Under::Anything => true,
            Under::Is(id) => seen.declared && seen.lineage.first() == Some(id),
            Under::In(id) => seen.lineage.contains(id),
            Under::Stranger(uid) => seen.uid == uid,
        };
        let says = |(name, value): &(String, String)| seen.texts.get(name) == Some(value);
        under
            && self.kind.as_ref().is_none_or(|kind| kind == seen.kind)
            && self.texts.iter().all(says)
    }
}

/// What a policy asks of both of its sides.
#[derive(Debug, Clone)]
pub(crate) struct Sides {
    pub(crate) principal: Sieve,
    pub(crate) resource: Sieve,
}

impl Sides {
    pub(crate) fn of(info: &PolicyInfo, graph: &Graph) -> Self {
        let sieve = |scope, side| Sieve::new(scope, &info.guards, side, graph);
        Self {
            principal: sieve(&info.principal, Side::Principal),
            resource: sieve(&info.resource, Side::Resource),
        }
    }
}
