//! One side of a question stands, the other is varied: which policies concern each candidate, and what they
//! come to.
//!
//! Of all policies those are kept that can concern the side that stands; by their scopes on the other side
//! they lead to the candidates, so that what no permit could concern is not looked at. Candidates that the
//! same policies concern, and in which these see the same, are evaluated once. Tests hold this equal to
//! asking of every pair.

use super::Partial;
use crate::action::Action;
use crate::authorize::Prepared;
use crate::decision::Effect;
use crate::entities::{Graph, NodeId};
use crate::estate::Estate;
use crate::index::Met;
use crate::policy::{Policies, PolicyInfo, Reads, Scope, Side};
use crate::resource::{ResourceKind, ResourceRef};
use cedar_policy::{EntityUid, PolicySet};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Answers kept for candidates that are alike; beyond, all are forgotten.
const MOST_KEPT: usize = 16_384;

/// Evaluations after which it pays to make all entities ready for partial evaluation, if these are few enough.
const MANY_EVALUATIONS: usize = 256;
const FEW_ENTITIES: usize = 50_000;

/// The nodes that lie in what permits name in their scopes, by what is named.
#[derive(Debug)]
pub(crate) struct Below(HashMap<NodeId, Vec<NodeId>>);

impl Below {
    pub(crate) fn build(policies: &Policies, graph: &Graph) -> Self {
        let permits = policies
            .list
            .iter()
            .filter(|info| info.reference.effect == Effect::Permit);
        let mut below: HashMap<NodeId, Vec<NodeId>> = permits
            .flat_map(|info| [&info.principal, &info.resource])
            .filter_map(|scope| Some((graph.find(scope.uid()?)?, Vec::new())))
            .collect();
        for node in graph.nodes() {
            let Some(itself) = node.lineage.first() else {
                continue;
            };
            for above in &*node.lineage {
                if let Some(members) = below.get_mut(above) {
                    members.push(*itself);
                }
            }
        }
        Self(below)
    }

    fn of(&self, id: NodeId) -> &[NodeId] {
        self.0.get(&id).map_or(&[], Vec::as_slice)
    }
}

/// What may stand on the varied side.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) kind: ResourceKind,
    pub(super) uid: &'a EntityUid,
    /// As [`Met`] has it: without itself if no file declares it.
    pub(super) lineage: &'a [NodeId],
    pub(super) declared: bool,
    pub(super) texts: &'a BTreeMap<String, String>,
}

impl Candidate<'_> {
    fn above(&self) -> &[NodeId] {
        let skipped = usize::from(self.declared);
        self.lineage.get(skipped..).unwrap_or_default()
    }
}

/// A policy that can concern the side that stands.
struct Concerned<'a> {
    info: &'a PolicyInfo,
    reads: Reads,
    reach: Reach<'a>,
}

/// The scope on the varied side.
enum Reach<'a> {
    Any,
    Is(&'a str),
    One(NodeId),
    /// Below the node that it is filed under.
    Within(Option<&'a str>),
    /// What no file declares.
    Stranger(Option<&'a str>, &'a EntityUid),
}

/// Candidates of one key come to the same.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    kind: ResourceKind,
    policies: Vec<usize>,
    texts: Option<BTreeMap<String, String>>,
    above: Option<Vec<NodeId>>,
}

pub(super) struct Sweep<'a> {
    estate: &'a Estate,
    action: Action,
    varied: Side,
    concerned: Vec<Concerned<'a>>,
    /// By the node that the scope on the varied side names.
    filed: HashMap<NodeId, Vec<usize>>,
    /// The scopes of these name no node.
    everywhere: Vec<usize>,
    /// In ascending order; `None`: everything is one.
    candidates: Option<Vec<NodeId>>,
    kept: HashMap<Alike, Arc<Partial>>,
    /// Requests that were put to Cedar.
    pub(super) evaluations: usize,
}

impl<'a> Sweep<'a> {
    /// `stands` is the side that is not `varied`.
    pub(super) fn new(
        estate: &'a Estate,
        action: Action,
        varied: Side,
        stands: &EntityUid,
        met: Met<'_>,
    ) -> Self {
        let mut sweep = Self {
            estate,
            action,
            varied,
            concerned: Vec::new(),
            filed: HashMap::new(),
            everywhere: Vec::new(),
            candidates: None,
            kept: HashMap::new(),
            evaluations: 0,
        };
        let concerns = |info: &&PolicyInfo| {
            let own = match varied {
                Side::Principal => &info.resource,
                _ => &info.principal,
            };
            info.actions
                .as_ref()
                .is_none_or(|actions| actions.contains(&action))
                && estate.in_scope(own, stands, met.lineage)
                && info
                    .guards
                    .iter()
                    .filter(|guard| guard.side != varied && guard.side != Side::Facts)
                    .all(|guard| met.texts.get(&guard.name) == Some(&guard.value))
        };
        for info in estate.policies.list.iter().filter(concerns) {
            sweep.file(info);
        }
        sweep.candidates = sweep.reached();
        sweep
    }

    fn file(&mut self, info: &'a PolicyInfo) {
        let (scope, reads) = match self.varied {
            Side::Principal => (&info.principal, info.looks.principal),
            _ => (&info.resource, info.looks.resource),
        };
        let graph = &self.estate.graph;
        let (reach, node) = match scope {
            Scope::Any => (Reach::Any, None),
            Scope::Is(name) => (Reach::Is(name), None),
            Scope::Eq(uid) => match graph.find(uid) {
                Some(id) => (Reach::One(id), Some(id)),
                None => (Reach::Stranger(None, uid), None),
            },
            Scope::In(name, uid) => match graph.find(uid) {
                Some(id) => (Reach::Within(name.as_deref()), Some(id)),
                None => (Reach::Stranger(name.as_deref(), uid), None),
            },
        };
        let number = self.concerned.len();
        match node {
            Some(id) => self.filed.entry(id).or_default().push(number),
            None => self.everywhere.push(number),
        }
        self.concerned.push(Concerned { info, reads, reach });
    }

    fn is_permit(&self, number: usize) -> bool {
        let effect = |concerned: &Concerned<'_>| concerned.info.reference.effect;
        self.concerned.get(number).map(effect) == Some(Effect::Permit)
    }

    /// Whatever a permit's scope takes in.
    fn reached(&self) -> Option<Vec<NodeId>> {
        if self.everywhere.iter().any(|number| self.is_permit(*number)) {
            return None;
        }
        let below = self.estate.below();
        let permitted = self
            .filed
            .iter()
            .filter(|(_, numbers)| numbers.iter().any(|number| self.is_permit(*number)));
        let mut reached: Vec<_> = permitted
            .flat_map(|(id, _)| below.of(*id))
            .copied()
            .collect();
        reached.sort_unstable();
        reached.dedup();
        Some(reached)
    }

    /// Whether a permit could concern what is not declared and lies in nothing that is.
    pub(super) fn reaches_elsewhere(&self) -> bool {
        self.candidates.is_none()
    }

    /// Of `all`, which is in ascending order, the first place from `from` on where a candidate stands.
    pub(super) fn next_of(&self, all: &[NodeId], from: usize) -> usize {
        let Some(candidates) = &self.candidates else {
            return from;
        };
        let Some(wanted) = all.get(from) else {
            return from;
        };
        let next = candidates.partition_point(|id| id < wanted);
        match candidates.get(next) {
            None => all.len(),
            Some(id) => {
                from + all
                    .get(from..)
                    .unwrap_or_default()
                    .partition_point(|one| one < id)
            }
        }
    }

    /// What the policies come to for the candidate, who or which is `principal` or `resource`; `None` if no
    /// permit concerns it.
    pub(super) fn partial(
        &mut self,
        candidate: &Candidate<'_>,
        principal: &str,
        resource: impl FnOnce() -> ResourceRef,
        prepared: &Prepared,
    ) -> Result<Option<Arc<Partial>>, String> {
        let policies = self.concerning(candidate);
        if !policies.iter().any(|number| self.is_permit(*number)) {
            return Ok(None);
        }
        let alike = self.alike(candidate, &policies);
        if let Some(known) = alike.as_ref().and_then(|alike| self.kept.get(alike)) {
            return Ok(Some(Arc::clone(known)));
        }
        let partial = self.evaluate(&policies, principal, &resource(), prepared)?;
        let partial = Arc::new(partial);
        if let Some(alike) = alike {
            if self.kept.len() >= MOST_KEPT {
                self.kept.clear();
            }
            self.kept.insert(alike, Arc::clone(&partial));
        }
        Ok(Some(partial))
    }

    fn concerning(&self, candidate: &Candidate<'_>) -> Vec<usize> {
        let filed = candidate
            .lineage
            .iter()
            .filter_map(|id| self.filed.get(id))
            .flatten();
        let mut numbers: Vec<usize> = filed
            .chain(&self.everywhere)
            .copied()
            .filter(|number| {
                let concerned = self.concerned.get(*number);
                concerned.is_some_and(|concerned| self.fits(concerned, candidate))
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }

    fn fits(&self, concerned: &Concerned<'_>, candidate: &Candidate<'_>) -> bool {
        let is = |name: &str| candidate.kind.type_name() == name;
        let in_scope = match concerned.reach {
            Reach::Any => true,
            Reach::Is(name) => is(name),
            Reach::One(id) => candidate.declared && candidate.lineage.first() == Some(&id),
            // Filed under a node of its lineage.
            Reach::Within(name) => name.is_none_or(is),
            Reach::Stranger(name, uid) => {
                !candidate.declared && candidate.uid == uid && name.is_none_or(is)
            }
        };
        let guards = &concerned.info.guards;
        in_scope
            && guards
                .iter()
                .filter(|guard| guard.side == self.varied)
                .all(|guard| candidate.texts.get(&guard.name) == Some(&guard.value))
    }

    /// `None`: no other candidate is like it.
    fn alike(&self, candidate: &Candidate<'_>, policies: &[usize]) -> Option<Alike> {
        let concerned = || {
            policies
                .iter()
                .filter_map(|number| self.concerned.get(*number))
        };
        let reads = concerned().fold(Reads::default(), |all, one| all.and(one.reads));
        // What is named is unlike everything else that lies in the same.
        let named =
            reads.lineage && concerned().any(|one| one.info.looks.named.contains(candidate.uid));
        if reads.whole || named {
            return None;
        }
        Some(Alike {
            kind: candidate.kind,
            policies: policies.to_vec(),
            texts: reads.texts.then(|| candidate.texts.clone()),
            above: reads.lineage.then(|| candidate.above().to_vec()),
        })
    }

    fn evaluate(
        &mut self,
        policies: &[usize],
        principal: &str,
        resource: &ResourceRef,
        prepared: &Prepared,
    ) -> Result<Partial, String> {
        self.evaluations += 1;
        let mut set = PolicySet::new();
        let mut named = HashSet::new();
        for concerned in policies
            .iter()
            .filter_map(|number| self.concerned.get(*number))
        {
            let info = concerned.info;
            set.add(info.policy.clone())
                .map_err(|error| error.to_string())?;
            named.extend(&info.looks.named);
        }
        let estate = self.estate;
        let case = estate
            .use_case(principal, self.action, resource, prepared)
            .map_err(|unanswerable| unanswerable.message)?;
        let few = estate.graph.nodes().len() <= FEW_ENTITIES;
        if few && self.evaluations > MANY_EVALUATIONS {
            return estate.evaluate_partially(&case, &set);
        }
        estate.evaluate_partially_among(&case, &set, named)
    }
}
