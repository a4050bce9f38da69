//! Who and what an enumeration of both sides is over, and which of them a policy can concern, so that it asks of those
//! alone. Where one side stands, `ask/sweep.rs` goes through the other; both leave out by the same sieves.

use crate::action::Action;
use crate::ask::{elsewhere, unlisted_in};
use crate::authorize::{OwnedMet, Unanswerable};
use crate::decision::Effect;
use crate::entities::{NodeId, admin_uid, resource_of};
use crate::estate::Estate;
use crate::policy::PolicyInfo;
use crate::resource::ResourceRef;
use crate::sieve::{Seen, Sides, Sieve};
use cedar_policy::EntityUid;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// One principal or one resource.
pub(crate) struct End<'e> {
    uid: EntityUid,
    kind: String,
    side: OwnedMet<'e>,
}

impl End<'_> {
    fn seen(&self) -> Seen<'_> {
        Seen {
            uid: &self.uid,
            kind: &self.kind,
            lineage: &self.side.lineage,
            declared: self.side.stranger.is_none(),
            texts: &self.side.texts,
        }
    }

    /// Whether it lies in one of these, or is one.
    pub(crate) fn is_under_any(&self, nodes: &HashSet<NodeId>) -> bool {
        self.side.lineage.iter().any(|id| nodes.contains(id))
    }
}

/// All principals, or all resources, of an enumeration, found by what is above them and by what they say.
pub(crate) struct Ends<'e> {
    ends: Vec<End<'e>>,
    under: HashMap<NodeId, Vec<usize>>,
    saying: BTreeMap<String, HashMap<String, Vec<usize>>>,
}

impl<'e> Ends<'e> {
    fn new(ends: Vec<End<'e>>) -> Self {
        let mut under: HashMap<NodeId, Vec<usize>> = HashMap::new();
        let mut saying: BTreeMap<String, HashMap<String, Vec<usize>>> = BTreeMap::new();
        for (place, end) in ends.iter().enumerate() {
            for id in end.side.lineage.iter() {
                under.entry(*id).or_default().push(place);
            }
            for (name, value) in end.side.texts.iter() {
                let values = match saying.get_mut(name) {
                    Some(values) => values,
                    None => saying.entry(name.clone()).or_default(),
                };
                match values.get_mut(value) {
                    Some(places) => places.push(place),
                    None => drop(values.insert(value.clone(), vec![place])),
                }
            }
        }
        Self {
            ends,
            under,
            saying,
        }
    }

    /// Places of what the sieve lets through, in order.
    pub(crate) fn through(&self, sieve: &Sieve) -> Vec<usize> {
        let by_node = sieve.node().map(|id| self.under.get(&id));
        let texts = sieve.texts().iter();
        let by_text = texts.map(|(name, value)| self.saying.get(name)?.get(value));
        // Where one of them has nobody, nobody gets through.
        let shortest = by_text
            .chain(by_node)
            .min_by_key(|places| places.map_or(0, Vec::len));
        let lets = |place: &usize| {
            self.ends
                .get(*place)
                .is_some_and(|end| sieve.lets(end.seen()))
        };
        match shortest {
            Some(places) => {
                let places = places.into_iter().flatten().copied();
                places.filter(lets).collect()
            }
            None => (0..self.ends.len()).filter(lets).collect(),
        }
    }

    /// Places of what lies in one of these, or is one.
    pub(crate) fn under_any(&self, nodes: &HashSet<NodeId>) -> Vec<usize> {
        let places = nodes.iter().filter_map(|id| self.under.get(id));
        let places: BTreeSet<usize> = places.flatten().copied().collect();
        places.into_iter().collect()
    }

    pub(crate) fn get(&self, place: usize) -> Option<&End<'e>> {
        self.ends.get(place)
    }
}

/// A resource as it is asked about, and as answers show it: what no file lists is shown as what it lies in.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) resource: ResourceRef,
    pub(crate) shown: ResourceRef,
}

/// Everything that an action can be done to.
pub(crate) struct Targets<'e> {
    pub(crate) list: Vec<Target>,
    pub(crate) ends: Ends<'e>,
    /// What could not be asked about.
    pub(crate) errors: Vec<String>,
}

/// What some policies can concern of an action, asked of one principal after another.
pub(crate) struct Concerned<'e> {
    policies: Vec<&'e Sides>,
    targets: Rc<Targets<'e>>,
    /// By place, whether it is asked about; without it, everything is.
    within: Option<Vec<bool>>,
    /// Policies that ask the same of resources share what they find.
    found: HashMap<Sieve, Rc<[usize]>>,
}

impl Concerned<'_> {
    /// Targets that some policy concerns where this is the principal, in order, each once.
    pub(crate) fn by(&mut self, principal: &End<'_>) -> impl Iterator<Item = &Target> {
        let places = self.places(principal).into_iter();
        let list = &self.targets.list;
        places.filter_map(move |place| list.get(place))
    }

    /// As [`Concerned::by`], their places among all.
    pub(crate) fn places(&mut self, principal: &End<'_>) -> Vec<usize> {
        let mut places = Vec::new();
        for sides in &self.policies {
            if sides.principal.lets(principal.seen()) {
                let found = match self.found.get(&sides.resource) {
                    Some(found) => Rc::clone(found),
                    None => {
                        let mut found = self.targets.ends.through(&sides.resource);
                        if let Some(within) = &self.within {
                            found.retain(|place| within.get(*place) == Some(&true));
                        }
                        let found: Rc<[usize]> = found.into();
                        self.found.insert(sides.resource.clone(), Rc::clone(&found));
                        found
                    }
                };
                places.extend_from_slice(&found);
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

impl Estate {
    /// Every declared identity, in order of their paths.
    pub(crate) fn identity_ends(&self) -> Ends<'_> {
        let nodes = self.identities();
        let nodes = nodes.filter_map(|identity| self.graph.identity(&identity.path));
        Ends::new(
            nodes
                .map(|node| End {
                    uid: node.uid.clone(),
                    kind: "Identity".to_owned(),
                    side: OwnedMet::from(node),
                })
                .collect(),
        )
    }

    /// Every declared administrator, in order.
    pub(crate) fn administrator_ends(&self) -> Ends<'_> {
        let administrators = self.model.administrators.keys();
        let nodes = administrators.filter_map(|who| {
            let id = self.graph.find(&admin_uid(who))?;
            self.graph.node(id)
        });
        Ends::new(
            nodes
                .map(|node| End {
                    uid: node.uid.clone(),
                    kind: "Admin".to_owned(),
                    side: OwnedMet::from(node),
                })
                .collect(),
        )
    }

    /// Every declared resource of the action, and what no file lists: in each schema, in each database and
    /// elsewhere.
    pub(crate) fn targets(&self, action: Action) -> Targets<'_> {
        let kinds = self.vocabulary.kinds_of(action);
        let declared = self.graph.nodes().iter();
        let declared = declared.filter_map(|node| resource_of(&node.uid));
        let mut list = Vec::new();
        for resource in declared.chain(elsewhere()) {
            for unlisted in unlisted_in(kinds, &resource) {
                list.push(Target {
                    resource: unlisted,
                    shown: resource.clone(),
                });
            }
            if kinds.contains(&resource.kind) {
                list.push(Target {
                    shown: resource.clone(),
                    resource,
                });
            }
        }
        let mut errors = Vec::new();
        let mut ends = Vec::new();
        list.retain(|target| match self.target(action, &target.resource) {
            Ok((uid, side, _)) => {
                let kind = uid.type_name().to_string();
                ends.push(End { uid, kind, side });
                true
            }
            Err(Unanswerable { message, .. }) => {
                errors.push(message);
                false
            }
        });
        Targets {
            list,
            ends: Ends::new(ends),
            errors,
        }
    }

    /// What permits can concern of an action; if `places` are given, of the targets there.
    pub(crate) fn concerned_by_permits<'e>(
        &'e self,
        action: Action,
        targets: &Rc<Targets<'e>>,
        places: Option<&[usize]>,
    ) -> Concerned<'e> {
        let policies = self.policies.list.iter().zip(self.sides());
        let permits = policies.filter(|(info, _)| info.reference.effect == Effect::Permit);
        let concerned = permits.filter(|(info, _)| concerns(info, action));
        concerned_by(concerned.map(|(_, sides)| sides), targets, places)
    }

    /// What each policy asks of its sides, in their order. Made at the first question that goes by it.
    pub(crate) fn sides(&self) -> &[Sides] {
        self.sides.get_or_init(|| {
            let policies = self.policies.list.iter();
            policies.map(|info| Sides::of(info, &self.graph)).collect()
        })
    }
}

/// What policies can concern; if `places` are given, of the targets there.
pub(crate) fn concerned_by<'e>(
    policies: impl Iterator<Item = &'e Sides>,
    targets: &Rc<Targets<'e>>,
    places: Option<&[usize]>,
) -> Concerned<'e> {
    let within = places.map(|places| {
        let mut within = vec![false; targets.list.len()];
        for place in places {
            if let Some(is_within) = within.get_mut(*place) {
                *is_within = true;
            }
        }
        within
    });
    let policies = match places {
        Some([]) => Vec::new(),
        _ => policies.collect(),
    };
    Concerned {
        policies,
        targets: Rc::clone(targets),
        within,
        found: HashMap::new(),
    }
}

/// Whether a policy's scope takes the action in.
pub(crate) fn concerns(info: &PolicyInfo, action: Action) -> bool {
    let actions = info.actions.as_ref();
    actions.is_none_or(|actions| actions.contains(&action))
}
