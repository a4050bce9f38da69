//! The scope index: which policies a request can meet, so that Cedar evaluates only those.
//!
//! Each policy is filed once, under the scope entity with the fewest descendants, else under a guard
//! (`principal.kind == "ai-agent"`), else under nothing. A request looks under its principal's and
//! resource's lineages, under the guards that its attributes satisfy, and under nothing, and meets
//! what it finds there if action, the other side's scope and all further guards fit. What it does not
//! meet cannot match and cannot err: its scope, evaluated first, is
//! false (cedar-spec, Lean: `isAuthorized_eq_for_scope_based_policy_slice`), or its guard is, before
//! anything that can err. Tests hold it equal to plain Cedar over all policies.

use crate::action::Action;
use crate::entities::{Graph, NodeId};
use crate::policy::{Guard, Policies, PolicyInfo, Side, guards};
use cedar_policy::{EntityUid, PolicySet, PolicySetError};
use std::collections::{BTreeMap, HashMap};

/// Policies that only the same requests can meet: they are evaluated together or not at all.
#[derive(Debug)]
struct Filed {
    key: Key,
    policies: PolicySet,
}

/// What a request must have, beside what the bucket stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// One bit for each action.
    actions: u32,
    principal: Option<NodeId>,
    resource: Option<NodeId>,
    guards: Vec<Guard>,
}

impl Key {
    fn is_met(&self, action: u32, principal: Met<'_>, resource: Met<'_>) -> bool {
        self.actions & action != 0
            && self
                .principal
                .is_none_or(|id| principal.lineage.contains(&id))
            && self
                .resource
                .is_none_or(|id| resource.lineage.contains(&id))
            && self.guards.iter().all(|guard| {
                let texts = match guard.side {
                    Side::Principal => principal.texts,
                    Side::Resource => resource.texts,
                };
                texts.get(&guard.name) == Some(&guard.value)
            })
    }
}

type Bucket = Vec<Filed>;

const fn bit(action: Action) -> u32 {
    1 << (action as u32)
}

#[derive(Debug, Default)]
pub(crate) struct ScopeIndex {
    principal: HashMap<NodeId, Bucket>,
    resource: HashMap<NodeId, Bucket>,
    /// Scopes that name what no file declares: administrators and machines, on either side.
    strangers: HashMap<EntityUid, Bucket>,
    /// Attribute name to value to bucket, for each side.
    guarded: BTreeMap<(Side, String), HashMap<String, Bucket>>,
    rest: Bucket,
}

/// One side of a request, as the index needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Met<'a> {
    /// Set when the entity itself is not declared; its lineage then holds what is above it.
    pub(crate) stranger: Option<&'a EntityUid>,
    pub(crate) lineage: &'a [NodeId],
    pub(crate) texts: &'a BTreeMap<String, String>,
}

impl ScopeIndex {
    pub(crate) fn build(policies: &Policies, graph: &Graph) -> Result<Self, Box<PolicySetError>> {
        let mut index = Self::default();
        // By key, so that a large bucket is not searched for each of its policies.
        let mut filed: BTreeMap<(Place, Key), PolicySet> = BTreeMap::new();
        for info in &policies.list {
            filed
                .entry(place(info, graph))
                .or_default()
                .add(info.policy.clone())?;
        }
        for ((place, key), policies) in filed {
            index.bucket(place).push(Filed { key, policies });
        }
        Ok(index)
    }

    fn bucket(&mut self, place: Place) -> &mut Bucket {
        match place {
            Place::Principal(id) => self.principal.entry(id).or_default(),
            Place::Resource(id) => self.resource.entry(id).or_default(),
            Place::Stranger(uid) => self.strangers.entry(uid).or_default(),
            Place::Guarded(Guard { side, name, value }) => self
                .guarded
                .entry((side, name))
                .or_default()
                .entry(value)
                .or_default(),
            Place::Rest => &mut self.rest,
        }
    }

    /// Every policy that the request can meet, each in exactly one of the sets.
    pub(crate) fn slice<'a>(
        &'a self,
        action: Action,
        principal: Met<'a>,
        resource: Met<'a>,
    ) -> impl Iterator<Item = &'a PolicySet> {
        let of_principal = principal
            .lineage
            .iter()
            .filter_map(|id| self.principal.get(id));
        let of_resource = resource
            .lineage
            .iter()
            .filter_map(|id| self.resource.get(id));
        let guarded = self
            .guarded
            .iter()
            .filter_map(move |((side, name), values)| {
                let texts = match side {
                    Side::Principal => principal.texts,
                    Side::Resource => resource.texts,
                };
                values.get(texts.get(name)?)
            });
        let strangers = [principal.stranger, resource.stranger]
            .into_iter()
            .flatten()
            .filter_map(|uid| self.strangers.get(uid));
        of_principal
            .chain(of_resource)
            .chain(strangers)
            .chain(guarded)
            .chain(std::iter::once(&self.rest))
            .flatten()
            .filter(move |filed| filed.key.is_met(bit(action), principal, resource))
            .map(|filed| &filed.policies)
    }
}

/// What a policy is filed under.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Principal(NodeId),
    Resource(NodeId),
    Stranger(EntityUid),
    Guarded(Guard),
    Rest,
}

fn place(info: &PolicyInfo, graph: &Graph) -> (Place, Key) {
    let node = |uid| {
        let id = graph.find(uid)?;
        Some((graph.node(id)?.descendants, id))
    };
    let principal = info.principal.uid().and_then(node);
    let resource = info.resource.uid().and_then(node);
    let mut key = Key {
        actions: info.actions.as_ref().map_or(u32::MAX, |actions| {
            actions.iter().fold(0, |bits, one| bits | bit(*one))
        }),
        principal: principal.map(|(_, id)| id),
        resource: resource.map(|(_, id)| id),
        guards: guards(&info.body),
    };
    let place = match (principal, resource) {
        (Some((_, id)), None) => Place::Principal(id),
        (None, Some((_, id))) => Place::Resource(id),
        (Some((many, id)), Some((few, _))) if many <= few => Place::Principal(id),
        (Some(_), Some((_, id))) => Place::Resource(id),
        (None, None) => match info.principal.uid().or(info.resource.uid()) {
            Some(uid) => Place::Stranger(uid.clone()),
            None if key.guards.is_empty() => Place::Rest,
            // The most selective stands first.
            None => Place::Guarded(key.guards.remove(0)),
        },
    };
    (place, key)
}
