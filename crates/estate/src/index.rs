//! The scope index: which policies a request can meet, so that Cedar evaluates only those.
//!
//! Each policy is filed once, under the scope entity with the fewest descendants, else under a guard
//! (`principal.kind == "ai-agent"`), else under nothing; never under a guard over facts
//! (`context.machine.join == "tpm"`), which it has to meet all the same where facts are known. A request looks under its principal's and
//! resource's lineages, under the guards that its attributes satisfy, and under nothing, and meets
//! what it finds there if action, the other side's scope and all further guards fit. What it does not
//! meet cannot match and cannot err: its scope, evaluated first, is
//! false (cedar-spec, Lean: `isAuthorized_eq_for_scope_based_policy_slice`), or its guard is, before
//! anything that can err. Tests hold it equal to plain Cedar over all policies.

mod assume;

pub(crate) use assume::AssumeIndex;

use crate::entities::{Graph, NodeId};
use crate::policy::{Guard, Policies, PolicyInfo, Side};
use crate::vocabulary::Vocabulary;
use cedar_policy::{EntityUid, PolicySet, PolicySetError};
use std::collections::{BTreeMap, HashMap};

/// What a request must have, beside what the bucket stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// One bit for each action.
    actions: u128,
    principal: Option<NodeId>,
    resource: Option<NodeId>,
    guards: Vec<Guard>,
}

impl Key {
    fn is_met(
        &self,
        action: u128,
        principal: Met<'_>,
        resource: Met<'_>,
        facts: Facts<'_>,
    ) -> bool {
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
                    Side::Facts => match facts {
                        Some(texts) => texts,
                        None => return true,
                    },
                };
                texts.get(&guard.name) == Some(&guard.value)
            })
    }
}

/// What stands in one place, by key: policies that only the same requests can meet are evaluated together
/// or not at all. Keys lie close together: most of them are looked at and not met.
#[derive(Debug, Default)]
struct Bucket {
    keys: Vec<Key>,
    policies: Vec<PolicySet>,
}

impl Bucket {
    fn met<'a>(
        &'a self,
        action: u128,
        principal: Met<'a>,
        resource: Met<'a>,
        facts: Facts<'a>,
    ) -> impl Iterator<Item = &'a PolicySet> {
        self.keys
            .iter()
            .zip(&self.policies)
            .filter(move |(key, _)| key.is_met(action, principal, resource, facts))
            .map(|(_, policies)| policies)
    }
}

/// Buckets of declared entities, by the number of the node: most nodes have none, or none for the action.
#[derive(Debug)]
struct ByNode {
    slots: Vec<Slot>,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Whatever actions the bucket's policies are about, one bit each.
    actions: u128,
    /// In [`ByNode::buckets`]; says nothing if `actions` is 0.
    bucket: u32,
}

impl ByNode {
    fn new(graph: &Graph) -> Self {
        let none = Slot {
            actions: 0,
            bucket: 0,
        };
        Self {
            slots: vec![none; graph.nodes().len()],
            buckets: Vec::new(),
        }
    }

    /// The node's own bucket, which is about `actions` as well from now on.
    fn bucket(&mut self, id: NodeId, actions: u128) -> Option<&mut Bucket> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.actions == 0 {
            slot.bucket = u32::try_from(self.buckets.len()).ok()?;
            self.buckets.push(Bucket::default());
        }
        slot.actions |= actions;
        self.buckets.get_mut(slot.bucket as usize)
    }

    fn get(&self, id: NodeId, action: u128) -> Option<&Bucket> {
        let slot = self.slots.get(id.index())?;
        (slot.actions & action != 0)
            .then(|| self.buckets.get(slot.bucket as usize))
            .flatten()
    }
}

#[derive(Debug)]
pub(crate) struct ScopeIndex {
    principal: ByNode,
    resource: ByNode,
    /// Scopes that name what no file declares: administrators and machines, on either side.
    strangers: HashMap<EntityUid, Bucket>,
    /// Attribute name to value to bucket, for each side.
    guarded: BTreeMap<(Side, String), HashMap<String, Bucket>>,
    rest: Bucket,
}

/// The session's facts that are texts, by name; `None` where they are not known, and every guard over
/// them is met.
pub(crate) type Facts<'a> = Option<&'a BTreeMap<String, String>>;

/// One side of a request, as the index needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Met<'a> {
    /// Set when the entity itself is not declared; its lineage then holds what is above it.
    pub(crate) stranger: Option<&'a EntityUid>,
    pub(crate) lineage: &'a [NodeId],
    pub(crate) texts: &'a BTreeMap<String, String>,
}

impl ScopeIndex {
    pub(crate) fn build(
        policies: &Policies,
        graph: &Graph,
        vocabulary: &Vocabulary,
    ) -> Result<Self, Box<PolicySetError>> {
        let mut index = Self {
            principal: ByNode::new(graph),
            resource: ByNode::new(graph),
            strangers: HashMap::new(),
            guarded: BTreeMap::new(),
            rest: Bucket::default(),
        };
        // By key, so that a large bucket is not searched for each of its policies.
        let mut filed: BTreeMap<(Place, Key), PolicySet> = BTreeMap::new();
        for info in &policies.list {
            filed
                .entry(place(info, graph, vocabulary))
                .or_default()
                .add(info.policy.clone())?;
        }
        for ((place, key), policies) in filed {
            let bucket = index.bucket(place, key.actions);
            bucket.keys.push(key);
            bucket.policies.push(policies);
        }
        Ok(index)
    }

    /// What names no node of the graph stands with the rest, where every request looks.
    fn bucket(&mut self, place: Place, actions: u128) -> &mut Bucket {
        let found = match place {
            Place::Principal(id) => self.principal.bucket(id, actions),
            Place::Resource(id) => self.resource.bucket(id, actions),
            Place::Stranger(uid) => Some(self.strangers.entry(uid).or_default()),
            Place::Guarded(Guard { side, name, value }) => Some(
                self.guarded
                    .entry((side, name))
                    .or_default()
                    .entry(value)
                    .or_default(),
            ),
            Place::Rest => None,
        };
        found.unwrap_or(&mut self.rest)
    }

    /// Every policy that the request can meet, each in exactly one of the sets. `action` is its bit.
    pub(crate) fn slice<'a>(
        &'a self,
        action: u128,
        principal: Met<'a>,
        resource: Met<'a>,
        facts: Facts<'a>,
    ) -> impl Iterator<Item = &'a PolicySet> {
        let of_principal = principal
            .lineage
            .iter()
            .filter_map(move |id| self.principal.get(*id, action));
        let of_resource = resource
            .lineage
            .iter()
            .filter_map(move |id| self.resource.get(*id, action));
        let guarded = self
            .guarded
            .iter()
            .filter_map(move |((side, name), values)| {
                let texts = match side {
                    Side::Principal => principal.texts,
                    Side::Resource => resource.texts,
                    Side::Facts => return None,
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
            .flat_map(move |bucket| bucket.met(action, principal, resource, facts))
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

fn place(info: &PolicyInfo, graph: &Graph, vocabulary: &Vocabulary) -> (Place, Key) {
    let node = |uid| {
        let id = graph.find(uid)?;
        Some((graph.node(id)?.descendants, id))
    };
    let principal = info.principal.uid().and_then(node);
    let resource = info.resource.uid().and_then(node);
    let mut key = Key {
        actions: info.actions.as_ref().map_or(u128::MAX, |actions| {
            let bits = actions.iter().map(|one| vocabulary.bit(*one));
            bits.fold(0, |all, bit| all | bit)
        }),
        principal: principal.map(|(_, id)| id),
        resource: resource.map(|(_, id)| id),
        guards: info.guards.clone(),
    };
    let place = match (principal, resource) {
        (Some((_, id)), None) => Place::Principal(id),
        (None, Some((_, id))) => Place::Resource(id),
        (Some((many, id)), Some((few, _))) if many <= few => Place::Principal(id),
        (Some(_), Some((_, id))) => Place::Resource(id),
        (None, None) => match info.principal.uid().or(info.resource.uid()) {
            Some(uid) => Place::Stranger(uid.clone()),
            // The most selective stands first. Facts are no place: where they are not known, all of them
            // have to be met.
            None => match key.guards.first() {
                Some(guard) if guard.side != Side::Facts => Place::Guarded(key.guards.remove(0)),
                _ => Place::Rest,
            },
        },
    };
    (place, key)
}
