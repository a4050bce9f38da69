//! Who may act for whom, resolved.

use crate::action::Action;
use crate::resource::ResourceRef;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a person is known to an `OpenID` provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Login {
    pub issuer: String,
    pub subject: String,
}

/// One end of a delegation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// By path; of a template, all its instances.
    Identity(String),
    /// With the groups that are in it.
    Group(String),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(path) => write!(f, "Identity::{path:?}"),
            Self::Group(name) => write!(f, "Group::{name:?}"),
        }
    }
}

/// What something is narrowed to. Both have to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Scope {
    /// `None`: any action. An empty set: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeSet<Action>>,
    /// These and what lies in them. `None`: any resource. An empty set: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<BTreeSet<ResourceRef>>,
}

/// A `[[delegation]]`: the explicit grant without which nobody acts for anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delegation {
    pub id: String,
    pub from: Party,
    pub to: Party,
    pub scope: Scope,
    /// How many delegations may follow from `from`, this one included.
    pub max_hops: usize,
    pub max_ttl: Duration,
    pub file: Arc<str>,
    pub line: u32,
}

/// Places of delegations in their list, by who gives and who takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Granted(BTreeMap<Party, BTreeMap<Party, Vec<usize>>>);

impl Granted {
    pub(crate) fn of(delegations: &[Delegation]) -> Self {
        let mut granted = Self::default();
        for (place, one) in delegations.iter().enumerate() {
            let by = granted.0.entry(one.from.clone()).or_default();
            by.entry(one.to.clone()).or_default().push(place);
        }
        granted
    }

    /// Of what any of `from` delegates to any of `to`, the places in order. Looks at what there is of the two, not
    /// at all that was ever granted.
    pub(crate) fn between(&self, from: &BTreeSet<Party>, to: &BTreeSet<Party>) -> Vec<usize> {
        let mut places = Vec::new();
        for by in from.iter().filter_map(|party| self.0.get(party)) {
            if by.len() < to.len() {
                let taken = by.iter().filter(|(party, _)| to.contains(party));
                places.extend(taken.flat_map(|(_, places)| places));
            } else {
                let taken = to.iter().filter_map(|party| by.get(party));
                places.extend(taken.flatten());
            }
        }
        places.sort_unstable();
        places
    }
}
