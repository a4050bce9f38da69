//! One side of a question stands, the other is varied: which policies concern each candidate, and what they
//! come to.
//!
//! Of all policies those are kept that can concern the side that stands; by their scopes on the other side
//! they lead to the candidates, so that what no permit could concern is not looked at. Candidates that the
//! same policies concern, and in which these see the same, are evaluated once. Tests hold this equal to
//! asking of every pair.

use super::{Partial, unlisted_in};
use crate::action::Action;
use crate::authorize::Prepared;
use crate::candidates::concerns;
use crate::decision::Effect;
use crate::entities::{NodeId, shown};
use crate::estate::Estate;
use crate::policy::{PolicyInfo, Reads, Side};
use crate::resource::{ResourceKind, ResourceRef};
use crate::sieve::{Seen, Sieve};
use cedar_policy::{EntityUid, PolicySet};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Answers kept for candidates that are alike; beyond, all are forgotten.
const MOST_KEPT: usize = 16_384;

/// Evaluations after which it pays to make all entities ready for partial evaluation, if these are few enough.
const MANY_EVALUATIONS: usize = 256;
const FEW_ENTITIES: usize = 50_000;

/// Where permits lead: to the nodes that lie in what they name in their scopes, by what is named; and, of those that
/// name nothing there, to the nodes that say what they ask for first.
#[derive(Debug, Default)]
pub(crate) struct Below {
    nodes: HashMap<NodeId, Vec<NodeId>>,
    /// By name and value. What no file lists is found by what it lies in.
    saying: HashMap<String, HashMap<String, Vec<NodeId>>>,
}

impl Below {
    pub(crate) fn build(estate: &Estate) -> Self {
        let mut below = Self::default();
        for (info, sides) in estate.policies.list.iter().zip(estate.sides()) {
            if info.reference.effect != Effect::Permit {
                continue;
            }
            for sieve in [&sides.principal, &sides.resource] {
                if let Some(id) = sieve.node() {
                    below.nodes.entry(id).or_default();
                } else if let Some((name, value)) = sieve.texts().first() {
                    let values = below.saying.entry(name.clone()).or_default();
                    values.entry(value.clone()).or_default();
                }
            }
        }
        for node in estate.graph.nodes() {
            let Some(itself) = node.lineage.first() else {
                continue;
            };
            for above in &*node.lineage {
                if let Some(members) = below.nodes.get_mut(above) {
                    members.push(*itself);
                }
            }
            below.hear(*itself, &node.texts);
        }
        if !below.saying.is_empty() {
            below.hear_unlisted(estate);
        }
        below
    }

    fn hear(&mut self, id: NodeId, texts: &BTreeMap<String, String>) {
        for (name, values) in &mut self.saying {
            let nodes = texts.get(name).and_then(|value| values.get_mut(value));
            if let Some(nodes) = nodes {
                nodes.push(id);
            }
        }
    }

    /// What lies in a container and no file lists says what it inherits.
    fn hear_unlisted(&mut self, estate: &Estate) {
        let mut kinds: Vec<ResourceKind> = estate
            .vocabulary
            .uses()
            .flat_map(|action| estate.vocabulary.kinds_of(action))
            .copied()
            .collect();
        kinds.sort();
        kinds.dedup();
        for kind in estate.graph.kinds().filter(|kind| kind.is_classified()) {
            if unlisted_in(&kinds, &ResourceRef::new(kind, "-")).is_empty() {
                continue;
            }
            for id in estate.graph.of_kind(kind) {
                let Some(node) = estate.graph.node(*id) else {
                    continue;
                };
                for unlisted in unlisted_in(&kinds, &ResourceRef::new(kind, node.path())) {
                    let info = estate.model.undeclared(&unlisted);
                    self.hear(*id, &shown(&info, None, &estate.vocabulary).texts());
                }
            }
        }
    }

    fn of(&self, id: NodeId) -> &[NodeId] {
        self.nodes.get(&id).map_or(&[], Vec::as_slice)
    }

    fn saying(&self, (name, value): &(String, String)) -> &[NodeId] {
        let nodes = self.saying.get(name).and_then(|values| values.get(value));
        nodes.map_or(&[], Vec::as_slice)
    }
}

/// What may stand on the varied side.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) kind: ResourceKind,
    pub(super) uid: &'a EntityUid,
    /// As [`Seen`] has it.
    pub(super) lineage: &'a [NodeId],
    pub(super) declared: bool,
    pub(super) texts: &'a BTreeMap<String, String>,
}

impl Candidate<'_> {
    fn above(&self) -> &[NodeId] {
        let skipped = usize::from(self.declared);
        self.lineage.get(skipped..).unwrap_or_default()
    }

    fn seen(&self) -> Seen<'_> {
        Seen {
            uid: self.uid,
            kind: self.kind.type_name(),
            lineage: self.lineage,
            declared: self.declared,
            texts: self.texts,
        }
    }
}

/// A policy that can concern the side that stands.
struct Concerned<'a> {
    info: &'a PolicyInfo,
    reads: Reads,
    /// What it asks of the varied side.
    sieve: &'a Sieve,
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
    pub(super) fn new(estate: &'a Estate, action: Action, varied: Side, stands: Seen<'_>) -> Self {
        let mut sweep = Self {
            estate,
            action,
            concerned: Vec::new(),
            filed: HashMap::new(),
            everywhere: Vec::new(),
            candidates: None,
            kept: HashMap::new(),
            evaluations: 0,
        };
        for (info, sides) in estate.policies.list.iter().zip(estate.sides()) {
            let (own, sieve, reads) = match varied {
                Side::Principal => (&sides.resource, &sides.principal, info.looks.principal),
                _ => (&sides.principal, &sides.resource, info.looks.resource),
            };
            if concerns(info, action) && own.lets(stands) {
                let number = sweep.concerned.len();
                match sieve.node() {
                    Some(id) => sweep.filed.entry(id).or_default().push(number),
                    None => sweep.everywhere.push(number),
                }
                sweep.concerned.push(Concerned { info, reads, sieve });
            }
        }
        sweep.candidates = sweep.reached();
        sweep
    }

    fn is_permit(&self, number: usize) -> bool {
        let effect = |concerned: &Concerned<'_>| concerned.info.reference.effect;
        self.concerned.get(number).map(effect) == Some(Effect::Permit)
    }

    /// Whatever a permit's scope takes in, if it names something, or what says what the permit asks for first.
    fn reached(&self) -> Option<Vec<NodeId>> {
        let unnamed = || {
            let permits = self
                .everywhere
                .iter()
                .filter(|number| self.is_permit(**number));
            permits.filter_map(|number| Some(self.concerned.get(*number)?.sieve.texts().first()))
        };
        if unnamed().any(|text| text.is_none()) {
            return None;
        }
        let below = self.estate.below();
        let permitted = self
            .filed
            .iter()
            .filter(|(_, numbers)| numbers.iter().any(|number| self.is_permit(*number)));
        let named = permitted.flat_map(|(id, _)| below.of(*id));
        let saying = unnamed().flatten().flat_map(|text| below.saying(text));
        let mut reached: Vec<_> = named.chain(saying).copied().collect();
        reached.sort_unstable();
        reached.dedup();
        Some(reached)
    }

    /// Whether a permit could concern what is not declared and lies in nothing that is.
    pub(super) fn reaches_elsewhere(&self) -> bool {
        self.everywhere.iter().any(|number| self.is_permit(*number))
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
                concerned.is_some_and(|concerned| concerned.sieve.lets(candidate.seen()))
            })
            .collect();
        numbers.sort_unstable();
        numbers
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
