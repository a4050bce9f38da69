//! On whose behalf somebody could act: along the delegations that the estate grants, as far as they go.
//!
//! A token in somebody's hand is only good along such grants of the version in force, so this has every token that
//! is out, and those that may still be made.

use crate::chain::{DelegationRef, MOST_PRINCIPALS};
use crate::estate::Estate;
use crate::model::{Delegation, Party};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One who could act, for whom, and by which grants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ActsFor {
    /// Path of the one who acts.
    pub identity: String,
    /// `Identity::"people/ada"`, or all of `Group::"staff"`.
    pub on_behalf_of: String,
    /// From the one who acts back to the first who delegates: the shortest way.
    pub grants: Vec<DelegationRef>,
}

/// Who is meant by the ends of each grant, by the grant's number. Too many rather than too few: an instance is also
/// what its template is.
struct Ends<'a> {
    from: Vec<BTreeSet<&'a str>>,
    by_to: BTreeMap<&'a str, Vec<usize>>,
}

impl Estate {
    pub(super) fn acts_for(&self, reached: &BTreeSet<&str>) -> Vec<ActsFor> {
        let grants = self.delegations();
        if grants.is_empty() {
            return Vec::new();
        }
        let ends = self.ends(grants);
        let mut found = Vec::new();
        for identity in reached {
            found.extend(acts_for(identity, grants, &ends));
        }
        found.sort();
        found
    }

    fn ends<'a>(&'a self, grants: &'a [Delegation]) -> Ends<'a> {
        let mut in_group: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for identity in self.identities() {
            for party in self.parties(&identity.path) {
                if let Party::Group(name) = party
                    && let Some((name, _)) = self.model.groups.get_key_value(&name)
                {
                    in_group.entry(name).or_default().insert(&identity.path);
                }
            }
        }
        let members = |party: &'a Party| -> BTreeSet<&'a str> {
            match party {
                Party::Identity(path) => {
                    let declared = self.identity(path).map(|identity| identity.path.as_str());
                    declared.into_iter().chain([path.as_str()]).collect()
                }
                Party::Group(name) => in_group.get(name.as_str()).cloned().unwrap_or_default(),
            }
        };
        let mut by_to: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, grant) in grants.iter().enumerate() {
            for member in members(&grant.to) {
                // Only who holds an SVID acts for others.
                let identity = self.identity(member);
                if !identity.is_some_and(crate::Identity::is_person) {
                    by_to.entry(member).or_default().push(number);
                }
            }
        }
        Ends {
            from: grants.iter().map(|grant| members(&grant.from)).collect(),
            by_to,
        }
    }
}

/// The grants by which `identity` acts, those by which their givers act, and so on. Each on the shortest way: it is
/// the one that the most grants allow.
fn acts_for(identity: &str, grants: &[Delegation], ends: &Ends<'_>) -> Vec<ActsFor> {
    let mut ways: BTreeMap<&Party, Vec<usize>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let to = |who: &str| ends.by_to.get(who).into_iter().flatten().copied();
    let mut front: Vec<Vec<usize>> = to(identity).map(|number| vec![number]).collect();
    for hops in 1..MOST_PRINCIPALS {
        let mut next: Vec<Vec<usize>> = Vec::new();
        for way in front {
            let last = way.last().copied();
            let Some((number, grant)) = last.and_then(|last| Some((last, grants.get(last)?)))
            else {
                continue;
            };
            if hops > grant.max_hops || !seen.insert(number) {
                continue;
            }
            let before = ends.from.get(number).into_iter().flatten();
            let further = before.flat_map(|who| to(who));
            next.extend(further.map(|one| way.iter().copied().chain([one]).collect()));
            ways.entry(&grant.from).or_insert(way);
        }
        front = next;
    }
    let reference = |number: &usize| grants.get(*number).map(DelegationRef::from);
    let found = ways.into_iter().map(|(party, way)| ActsFor {
        identity: identity.to_owned(),
        on_behalf_of: party.to_string(),
        grants: way.iter().filter_map(reference).collect(),
    });
    found.collect()
}
