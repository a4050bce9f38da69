//! Whether an invariant holds of what is declared today, by enumeration. No solver, and no claim
//! about other data.

use crate::action::Action;
use crate::ask::{Access, Partial, elsewhere, unlisted_in};
use crate::authorize::{Case, Unanswerable};
use crate::entities::resource_of;
use crate::estate::Estate;
use crate::invariant::{Given, Invariant, InvariantKind};
use crate::resource::ResourceRef;
use cedar_policy::{Policy, PolicySet};
use facts::FactSet;
use serde::Serialize;

/// What enumeration found. Only `holds` is a yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Today {
    /// Every declared principal and resource was tried, for all facts.
    Holds {
        /// How many requests the invariant speaks of.
        requests: usize,
    },
    /// These break it, whatever the facts are.
    Broken { by: Vec<Breach> },
    /// Whether these break it depends on facts, or could not be told.
    Open {
        on: Vec<Breach>,
        because: Vec<String>,
    },
}

/// One principal, action and resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Breach {
    /// `Identity::"agents/helper"`
    pub principal: String,
    pub action: Action,
    pub resource: ResourceRef,
    /// What allows it, unless it is broken by a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

/// What is tried on everything that is declared.
struct Question<'a> {
    invariant: &'a Invariant,
    /// The requests that are looked at.
    policy: &'a Policy,
    wanted: Wanted,
}

/// What is to hold of each request that is looked at.
#[derive(Clone, Copy)]
enum Wanted {
    Denied,
    Allowed,
    /// There is to be none.
    NoRequest,
}

impl Wanted {
    const fn of(kind: InvariantKind) -> Self {
        match kind {
            InvariantKind::Never => Self::Denied,
            InvariantKind::Always => Self::Allowed,
        }
    }
}

#[derive(Default)]
struct Tally {
    requests: usize,
    broken: Vec<Breach>,
    open: Vec<Breach>,
    errors: Vec<String>,
}

impl Estate {
    /// Tries `invariant` on every declared principal and resource that its scope takes in.
    #[must_use]
    pub fn holds_today(&self, invariant: &Invariant) -> Today {
        self.enumerate(&Question {
            invariant,
            policy: &invariant.policy,
            wanted: Wanted::of(invariant.kind),
        })
    }

    /// Tries what the proof of `invariant` takes for granted on every declared principal and resource of which
    /// it speaks.
    #[must_use]
    pub fn given_today(&self, invariant: &Invariant, given: &Given) -> Today {
        self.enumerate(&Question {
            invariant,
            policy: &given.failing,
            wanted: Wanted::NoRequest,
        })
    }

    fn enumerate(&self, question: &Question<'_>) -> Today {
        let mut tally = Tally::default();
        let mut matching = PolicySet::new();
        if let Err(error) = matching.add(question.policy.clone()) {
            tally.errors.push(error.to_string());
        }
        let actions = self.actions_of(question.policy);
        if actions.contains(&Action::Assume) {
            tally
                .errors
                .push("workloads are known by their facts and cannot be listed".to_owned());
        }
        let prepared = self.prepare(&FactSet::new());
        for action in actions {
            for (resource, shown) in self.targets(action) {
                if action.is_administrative() {
                    for uid in self.model.administrators.keys() {
                        let case = self.admin_case(*uid, action, &resource);
                        let principal = format!("Admin::\"uid:{uid}\"");
                        self.try_case(question, &matching, case, &principal, &shown, &mut tally);
                    }
                } else {
                    for identity in self.identities() {
                        let case = self.use_case(&identity.path, action, &resource, &prepared);
                        let principal = format!("Identity::{:?}", identity.path);
                        self.try_case(question, &matching, case, &principal, &shown, &mut tally);
                    }
                }
            }
        }
        tally.errors.sort();
        tally.errors.dedup();
        if !tally.broken.is_empty() {
            Today::Broken { by: tally.broken }
        } else if tally.open.is_empty() && tally.errors.is_empty() {
            Today::Holds {
                requests: tally.requests,
            }
        } else {
            Today::Open {
                on: tally.open,
                because: tally.errors,
            }
        }
    }

    fn actions_of(&self, policy: &Policy) -> Vec<Action> {
        let mut actions: Vec<Action> = policy
            .get_valid_request_envs(&self.vocabulary.schema)
            .filter_map(|env| env.action().id().unescaped().parse().ok())
            .collect();
        actions.sort();
        actions.dedup();
        actions
    }

    /// Every declared resource of the action, and what no file lists: in each schema, in each database
    /// and elsewhere, with how each is shown.
    fn targets(&self, action: Action) -> Vec<(ResourceRef, ResourceRef)> {
        let kinds = self.vocabulary.kinds_of(action);
        let declared = self.graph.nodes().iter();
        let declared = declared.filter_map(|node| resource_of(&node.uid));
        let mut targets = Vec::new();
        for resource in declared.chain(elsewhere()) {
            for unlisted in unlisted_in(kinds, &resource) {
                targets.push((unlisted, resource.clone()));
            }
            if kinds.contains(&resource.kind) {
                targets.push((resource.clone(), resource));
            }
        }
        targets
    }

    fn try_case(
        &self,
        question: &Question<'_>,
        matching: &PolicySet,
        case: Result<Case<'_>, Unanswerable>,
        principal: &str,
        shown: &ResourceRef,
        tally: &mut Tally,
    ) {
        let case = match case {
            Ok(case) => case,
            Err(unanswerable) => return tally.errors.push(unanswerable.message),
        };
        if !self.in_invariant_scope(question.invariant, &case) {
            return;
        }
        let outcome = self
            .evaluate_partially(&case, matching)
            .and_then(|matched| Ok((matched, self.partially(&case)?.unwrap_or_default())));
        let (matched, allowed) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return tally.errors.push(error),
        };
        if !matched.errors.is_empty() || !matched.fragile.is_empty() {
            tally.errors.push("the invariant itself can err".to_owned());
        }
        if !matched.possible() {
            return;
        }
        tally.requests += 1;
        let (broken, possible) = match question.wanted {
            Wanted::Denied => (matched.certain() && allowed.certain(), allowed.possible()),
            Wanted::Allowed => (matched.certain() && !allowed.possible(), !allowed.certain()),
            Wanted::NoRequest => (matched.certain(), true),
        };
        if broken || possible {
            let breach = self.breach(principal, case.action, shown, &allowed);
            if broken {
                tally.broken.push(breach)
            } else {
                tally.open.push(breach)
            }
        }
    }

    fn in_invariant_scope(&self, invariant: &Invariant, case: &Case<'_>) -> bool {
        self.in_scope(
            &invariant.principal,
            &case.principal,
            case.principal_lineage(),
        ) && self.in_scope(&invariant.resource, &case.resource, case.resource_lineage())
    }

    fn breach(
        &self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
        allowed: &Partial,
    ) -> Breach {
        let access = self.access(principal, action, resource.clone(), allowed);
        Breach {
            principal: principal.to_owned(),
            action,
            resource: resource.clone(),
            access: allowed.possible().then_some(access),
        }
    }
}
