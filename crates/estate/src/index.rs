//! The scope index: which policies a request can meet, so that Cedar evaluates only those.
//!
//! Each policy is filed once, under the scope entity with the fewest descendants, else under a guard
//! (`principal.kind == "ai-agent"`), else under nothing; and by action. A request meets what is filed
//! under its principal's and resource's lineages, under the guards that its attributes satisfy, and
//! under nothing. What it does not meet cannot match and cannot err: its scope, evaluated first, is
//! false (cedar-spec, Lean: `isAuthorized_eq_for_scope_based_policy_slice`), or its guard is, before
//! anything that can err. Tests hold it equal to plain Cedar over all policies.

use crate::action::Action;
use crate::entities::{Graph, NodeId};
use crate::policy::{Guard, Policies, PolicyInfo, Side, guard};
use cedar_policy::{EntityUid, PolicySet, PolicySetError};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Policies filed under one key: those of one action, and those of any.
#[derive(Debug, Default)]
struct Bucket {
    any: Option<PolicySet>,
    by_action: Vec<(Action, PolicySet)>,
}

impl Bucket {
    fn add(&mut self, info: &PolicyInfo) -> Result<(), Box<PolicySetError>> {
        let Some(actions) = &info.actions else {
            self.any.get_or_insert_default().add(info.policy.clone())?;
            return Ok(());
        };
        for action in actions.iter().collect::<BTreeSet<_>>() {
            let position = self.by_action.iter().position(|(key, _)| key == action);
            match position.and_then(|position| self.by_action.get_mut(position)) {
                Some((_, set)) => set.add(info.policy.clone())?,
                None => {
                    let mut set = PolicySet::new();
                    set.add(info.policy.clone())?;
                    self.by_action.push((*action, set));
                }
            }
        }
        Ok(())
    }

    fn sets(&self, action: Action) -> impl Iterator<Item = &PolicySet> {
        let of_action = self.by_action.iter().find(|(key, _)| *key == action);
        self.any.iter().chain(of_action.map(|(_, set)| set))
    }
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
        for info in &policies.list {
            index.bucket(info, graph).add(info)?;
        }
        Ok(index)
    }

    fn bucket(&mut self, info: &PolicyInfo, graph: &Graph) -> &mut Bucket {
        let node = |uid| {
            let id = graph.find(uid)?;
            Some((graph.node(id)?.descendants, id))
        };
        let principal = info.principal.uid().and_then(node);
        let resource = info.resource.uid().and_then(node);
        match (principal, resource) {
            (Some((_, id)), None) => self.principal.entry(id).or_default(),
            (None, Some((_, id))) => self.resource.entry(id).or_default(),
            (Some((many, id)), Some((few, _))) if many <= few => {
                self.principal.entry(id).or_default()
            }
            (Some(_), Some((_, id))) => self.resource.entry(id).or_default(),
            (None, None) => match info.principal.uid().or(info.resource.uid()) {
                Some(uid) => self.strangers.entry(uid.clone()).or_default(),
                None => self.unscoped(info),
            },
        }
    }

    fn unscoped(&mut self, info: &PolicyInfo) -> &mut Bucket {
        match guard(&info.body) {
            Some(Guard { side, name, value }) => self
                .guarded
                .entry((side, name))
                .or_default()
                .entry(value)
                .or_default(),
            None => &mut self.rest,
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
            .flat_map(move |bucket| bucket.sets(action))
    }
}
