//! Which accesses a change can touch at all. An access depends on the policies that can concern it, on its principal
//! and its resource with everything above them, on what those policies name, and on the schema and the settings:
//! where none of these differs between two versions, neither does the access.

use super::Accesses;
use crate::action::Action;
use crate::ask::Access;
use crate::authorize::Prepared;
use crate::candidates::{Concerned, Ends, Target, Targets, concerned_by, concerns};
use crate::entities::{NodeId, resource_uid, uid};
use crate::estate::Estate;
use crate::model::{Identity, Resource};
use crate::policy::PolicyInfo;
use crate::resource::{ResourceKind, ResourceRef};
use crate::sieve::Sides;
use cedar_policy::EntityUid;
use facts::FactSet;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// An action, and the resource as answers show it.
type Key = (Action, ResourceRef);

/// One version, as seen from the other.
pub(super) struct Side<'e> {
    estate: &'e Estate,
    identities: Ends<'e>,
    places: HashMap<&'e str, usize>,
    actions: Vec<Reaches<'e>>,
    /// What differs from the other version.
    changed: HashSet<NodeId>,
    prepared: Prepared,
    /// Whether every access is to be compared.
    pub(super) everything: bool,
}

/// What can be reached by one action.
struct Reaches<'e> {
    action: Action,
    /// Of everything, by whatever policy allows.
    whole: Concerned<'e>,
    /// Of what differs, by whatever policy allows.
    changed: Concerned<'e>,
    /// Of everything, by policies that differ.
    by_changed: Concerned<'e>,
}

impl<'e> Side<'e> {
    pub(super) fn new(estate: &'e Estate, other: &Estate) -> Self {
        let uids = changed(estate, other);
        let changed: HashSet<NodeId> = uids
            .iter()
            .filter_map(|uid| estate.graph.find(uid))
            .collect();
        let policies = changed_policies(estate, other, &uids);
        let identities = estate.identity_ends();
        let paths = estate.identities().enumerate();
        // Most actions are done to the same things.
        let mut by_kinds: BTreeMap<Vec<ResourceKind>, Rc<Targets<'e>>> = BTreeMap::new();
        let mut actions = Vec::new();
        for action in estate.vocabulary.uses() {
            let kinds = estate.vocabulary.kinds_of(action).to_vec();
            let targets = by_kinds
                .entry(kinds)
                .or_insert_with(|| estate.targets(action).into());
            let differing = targets.ends.under_any(&changed);
            let concerning = policies.iter().filter(|(info, _)| concerns(info, action));
            let concerning = concerning.map(|(_, sides)| *sides);
            actions.push(Reaches {
                action,
                whole: estate.concerned_by_permits(action, targets, None),
                changed: estate.concerned_by_permits(action, targets, Some(&differing)),
                by_changed: concerned_by(concerning, targets, None),
            });
        }
        Self {
            estate,
            identities,
            places: paths
                .map(|(place, identity)| (identity.path.as_str(), place))
                .collect(),
            actions,
            changed,
            prepared: estate.prepare(&FactSet::new()),
            everything: false,
        }
    }

    /// The accesses of the identity that may differ.
    pub(super) fn touched(&mut self, path: &str) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let place = self.places.get(path);
        let Some(end) = place.and_then(|place| self.identities.get(*place)) else {
            return keys;
        };
        let whole = self.everything || end.is_under_any(&self.changed);
        for reaches in &mut self.actions {
            let Reaches {
                action,
                whole: all,
                changed,
                by_changed,
            } = reaches;
            let reached = if whole {
                vec![all.by(end)]
            } else {
                vec![changed.by(end), by_changed.by(end)]
            };
            for targets in reached {
                keys.extend(targets.map(|target: &Target| (*action, target.shown.clone())));
            }
        }
        keys
    }

    /// What is allowed of `keys` here; what only the other version knows is not.
    pub(super) fn accesses(
        &self,
        path: &str,
        keys: &BTreeSet<Key>,
        errors: &mut Vec<String>,
    ) -> Accesses {
        if !self.places.contains_key(path) {
            return Accesses::new();
        }
        let answer = self.estate.what_of(path, keys, &self.prepared);
        errors.extend(answer.errors);
        let accesses = answer.accesses.into_iter();
        accesses
            .map(|access| ((access.action, access.resource.clone()), access))
            .collect()
    }

    /// What is allowed here of one resource by itself.
    pub(super) fn one(
        &self,
        path: &str,
        action: Action,
        resource: &ResourceRef,
        shown: &ResourceRef,
        errors: &mut Vec<String>,
    ) -> Option<Access> {
        if !self.places.contains_key(path) {
            return None;
        }
        let both = [resource, shown];
        let answer = self.estate.what_of_one(path, action, both, &self.prepared);
        errors.extend(answer.errors);
        answer.accesses.into_iter().next()
    }
}

/// The entities of `estate` that are not the same in `other`, which may have none of that name. What an entity is
/// made of is compared, and not the entities.
fn changed(estate: &Estate, other: &Estate) -> Vec<EntityUid> {
    let (here, there) = (&estate.model, &other.model);
    let identities = here.identities.iter().filter(|(path, identity)| {
        let other = there.identities.get(*path);
        !other.is_some_and(|other| means_the_same(identity, other))
    });
    let groups = here.groups.iter();
    let groups = groups.filter(|(name, parents)| there.groups.get(*name) != Some(*parents));
    let containers = here.containers.iter();
    let containers =
        containers.filter(|(name, container)| there.containers.get(*name) != Some(*container));
    let objects = here.objects.iter();
    let objects = objects.filter(|(name, object)| there.objects.get(*name) != Some(*object));
    let others = here.others.iter().filter(|(name, resource)| {
        let other = there.others.get(*name);
        !other.is_some_and(|other| is_the_same(resource, other))
    });
    identities
        .map(|(path, _)| uid("Identity", path))
        .chain(groups.map(|(name, _)| uid("Group", name)))
        .chain(containers.map(|(name, _)| resource_uid(name)))
        .chain(objects.map(|(_, object)| resource_uid(&object.resource)))
        .chain(others.map(|(_, other)| resource_uid(&other.resource)))
        .collect()
}

/// Wherever they are declared.
fn means_the_same(one: &Identity, other: &Identity) -> bool {
    (
        one.kind,
        &one.owner,
        &one.labels,
        &one.groups,
        &one.attributes,
    ) == (
        other.kind,
        &other.owner,
        &other.labels,
        &other.groups,
        &other.attributes,
    )
}

/// Wherever they are declared.
fn is_the_same(one: &Resource, other: &Resource) -> bool {
    (&one.parents, &one.classification, one.unclassified)
        == (&other.parents, &other.classification, other.unclassified)
        && (&one.owner, &one.labels, &one.groups, &one.attributes)
            == (
                &other.owner,
                &other.labels,
                &other.groups,
                &other.attributes,
            )
}

/// Policies that `other` does not have letter for letter, and those that name what differs.
fn changed_policies<'e>(
    estate: &'e Estate,
    other: &Estate,
    changed: &[EntityUid],
) -> Vec<(&'e PolicyInfo, &'e Sides)> {
    let texts: HashSet<&str> = other
        .policies
        .list
        .iter()
        .map(|info| info.text.as_str())
        .collect();
    let changed: HashSet<&EntityUid> = changed.iter().collect();
    let names = |info: &PolicyInfo| {
        let mut literals = info.policy.entity_literals().into_iter();
        !changed.is_empty() && literals.any(|literal| changed.contains(&literal))
    };
    let policies = estate.policies.list.iter().zip(estate.sides());
    policies
        .filter(|(info, _)| !texts.contains(info.text.as_str()) || names(info))
        .collect()
}
