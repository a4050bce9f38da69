//! Policies that change nothing, because another without conditions says as much or forbids it all; and those
//! that may err. By scope alone: between conditions a solver compares.

use super::{Means, Remark, Severity};
use crate::action::Action;
use crate::decision::Effect;
use crate::estate::Estate;
use crate::policy::{PolicyInfo, Scope, conjuncts, may_err};
use cedar_policy::EntityUid;
use std::borrow::Cow;
use std::collections::HashMap;

pub(super) fn check(estate: &Estate, remarks: &mut Vec<Remark>) {
    let unconditional = Unconditional::of(estate);
    for (place, info) in estate.policies.list.iter().enumerate() {
        if let Some((wider, by)) = unconditional.shadow_of(place, info, estate) {
            remarks.push(shadowed(info, wider, by));
        }
        fragile(info, remarks);
    }
}

/// Policies without conditions, by the two entities that their scopes name.
struct Unconditional<'a> {
    by_scope: HashMap<[Option<&'a EntityUid>; 2], Vec<(usize, &'a PolicyInfo)>>,
}

impl<'a> Unconditional<'a> {
    fn of(estate: &'a Estate) -> Self {
        let mut by_scope: HashMap<_, Vec<_>> = HashMap::new();
        for (place, info) in estate.policies.list.iter().enumerate() {
            if info.body.clauses().is_empty() {
                let key = [info.principal.uid(), info.resource.uid()];
                by_scope.entry(key).or_default().push((place, info));
            }
        }
        Self { by_scope }
    }

    /// The first that makes the policy at `place` needless.
    fn shadow_of(
        &self,
        place: usize,
        info: &'a PolicyInfo,
        estate: &'a Estate,
    ) -> Option<(&'a PolicyInfo, Means)> {
        let mut found: Vec<(usize, &PolicyInfo, Means)> = Vec::new();
        for principal in above(estate, &info.principal) {
            for resource in above(estate, &info.resource) {
                let wider = self.by_scope.get(&[principal, resource]);
                found.extend(wider.into_iter().flatten().filter_map(|(other, wider)| {
                    let by = covers(estate, wider, info)?;
                    let beside = *other != place && changes_nothing_beside(info, wider);
                    // Of two that say the same, the second is one too many.
                    let same = info.reference.effect == wider.reference.effect
                        && info.body.clauses().is_empty()
                        && covers(estate, info, wider).is_some();
                    (beside && (!same || *other < place)).then_some((*other, *wider, by))
                }));
            }
        }
        found
            .into_iter()
            .min_by_key(|(other, ..)| *other)
            .map(|(_, wider, by)| (wider, by))
    }
}

/// What a scope that takes in this one can name: nothing, the same entity, or one that it is in.
fn above<'a>(estate: &'a Estate, scope: &'a Scope) -> Vec<Option<&'a EntityUid>> {
    let mut above = vec![None];
    if let Some(uid) = scope.uid() {
        above.push(Some(uid));
        let node = estate.graph.find(uid);
        let node = node.and_then(|id| estate.graph.nodes().get(id.index()));
        let lineage = node.map_or(&[][..], |node| &node.lineage);
        let named = lineage
            .iter()
            .filter_map(|id| Some(&estate.graph.nodes().get(id.index())?.uid));
        above.extend(named.filter(|one| *one != uid).map(Some));
    }
    above
}

/// Whether a policy that another one takes in has no effect of its own.
pub(crate) fn changes_nothing_beside(info: &PolicyInfo, wider: &PolicyInfo) -> bool {
    info.reference.effect == wider.reference.effect || wider.reference.effect == Effect::Forbid
}

/// What is said of a policy that never makes a difference beside `wider`.
pub(crate) fn shadowed(info: &PolicyInfo, wider: &PolicyInfo, by: Means) -> Remark {
    let (code, message) = if info.reference.effect == wider.reference.effect {
        let verb = match info.reference.effect {
            Effect::Permit => "permits",
            Effect::Forbid => "forbids",
        };
        (
            "LINT-SHADOWED",
            format!(
                "everything that it {verb}, {} {verb} as well",
                wider.reference
            ),
        )
    } else {
        (
            "LINT-FORBIDDEN",
            format!("everything that it permits, {} forbids", wider.reference),
        )
    };
    let next = "delete one of the two, or narrow the other";
    Remark::of_policy(Severity::Warning, by, code, &info.reference, message, next)
}

/// Whether every request in the scope of `narrower` is in that of `wider`: whatever is declared, or as things
/// are declared.
pub(crate) fn covers(estate: &Estate, wider: &PolicyInfo, narrower: &PolicyInfo) -> Option<Means> {
    let actions = match (&wider.actions, &narrower.actions) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wider), Some(narrower)) => narrower.iter().all(|action| wider.contains(action)),
    };
    if !actions {
        return None;
    }
    let principal = side(estate, &wider.principal, &principal_of(narrower))?;
    let resource = side(estate, &wider.resource, &narrower.resource)?;
    // Text goes before declarations.
    Some(principal.max(resource))
}

/// A group of identities and administrators is one of identities where only they can act.
fn principal_of(info: &PolicyInfo) -> Cow<'_, Scope> {
    let uses = info.actions.as_ref().is_some_and(|actions| {
        actions
            .iter()
            .all(|action| *action != Action::Assume && !action.is_administrative())
    });
    match &info.principal {
        Scope::In(None, uid) if uses && uid.type_name().to_string() == "Group" => {
            Cow::Owned(Scope::In(Some("Identity".to_owned()), uid.clone()))
        }
        scope => Cow::Borrowed(scope),
    }
}

fn side(estate: &Estate, wider: &Scope, narrower: &Scope) -> Option<Means> {
    let by = |holds: bool| holds.then_some(Means::Text);
    match (wider, narrower) {
        (Scope::Any, _) => Some(Means::Text),
        (Scope::Is(name), Scope::Is(other) | Scope::In(Some(other), _)) => by(name == other),
        (Scope::Is(name), Scope::Eq(uid)) => by(uid.type_name().to_string() == *name),
        (Scope::Eq(uid), Scope::Eq(other)) => by(uid == other),
        (Scope::In(kind, uid), Scope::In(other_kind, other)) => {
            let kinds = kind.is_none() || kind == other_kind;
            kinds.then(|| within(estate, other, uid)).flatten()
        }
        (Scope::In(kind, uid), Scope::Eq(other)) => {
            let is = |kind: &String| other.type_name().to_string() == *kind;
            kind.as_ref()
                .is_none_or(is)
                .then(|| within(estate, other, uid))
                .flatten()
        }
        _ => None,
    }
}

fn within(estate: &Estate, inner: &EntityUid, outer: &EntityUid) -> Option<Means> {
    if inner == outer {
        return Some(Means::Text);
    }
    let outer = estate.graph.find(outer)?;
    let inner = estate.graph.find(inner)?;
    let node = estate.graph.nodes().get(inner.index())?;
    node.lineage.contains(&outer).then_some(Means::Declarations)
}

fn fragile(info: &PolicyInfo, remarks: &mut Vec<Remark>) {
    if conjuncts(&info.body)
        .iter()
        .any(|conjunct| may_err(conjunct))
    {
        remarks.push(Remark::of_policy(
            Severity::Warning,
            Means::Text,
            "LINT-MAY-ERR",
            &info.reference,
            "it computes, and may overflow: an error of any policy of a request is a denial",
            "compare without `+`, `-` and `*`; with cvc5 installed, this is proved or shown",
        ));
    }
}
