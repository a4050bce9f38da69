//! What reaches further than what can be become: administering, gateways, the server's own keys, and roots of
//! hardware.

use super::{Blast, Hand, Known, Reach, itself, unknown};
use crate::action::Action;
use crate::administrator::Administrator;
use crate::decision::PolicyRef;
use crate::declare::IdentityKind;
use crate::estate::Estate;
use crate::model::TeeReference;
use crate::resource::ResourceRef;
use crate::suggest::closest;
use facts::FactSet;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One step further than what was taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Path {
    /// Who takes it: `person:people/ada`, `uid:0`, a gateway's path, `server`.
    pub from: String,
    pub by: Step,
    /// The policies that allow it. None where it lies in what was taken.
    pub policies: Vec<Arc<PolicyRef>>,
}

/// What leads further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Whoever may apply an estate may declare and permit whatever he wants.
    Apply,
    /// Whoever may make join tokens has a machine of any name in any pool.
    TokenCreate,
    /// A gateway acts in the name of everybody whom it lets in.
    Gateway,
    /// The server's keys sign for everybody.
    Server,
}

impl Step {
    pub const ALL: [Self; 4] = [Self::Apply, Self::TokenCreate, Self::Gateway, Self::Server];

    /// As documents have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::TokenCreate => "token-create",
            Self::Gateway => "gateway",
            Self::Server => "server",
        }
    }

    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => {
                "may apply an estate, and so reaches everything that there is or will be"
            }
            Self::TokenCreate => {
                "may make join tokens, and so has a machine of any name in any pool"
            }
            Self::Gateway => "acts in the name of everybody whom it lets in",
            Self::Server => "issues to everybody",
        }
    }

    const fn is_everybody(self) -> bool {
        !matches!(self, Self::TokenCreate)
    }
}

impl Path {
    pub(super) fn server() -> Self {
        Self {
            from: "server".to_owned(),
            by: Step::Server,
            policies: Vec::new(),
        }
    }
}

impl Estate {
    pub(super) fn known_administrator(&self, text: &str) -> Result<Administrator, String> {
        let unknown = || {
            let known = self.model.administrators.keys().map(ToString::to_string);
            let known: Vec<String> = known.collect();
            let near = closest(text, known.iter().map(String::as_str));
            unknown("administrator", text, near)
        };
        let who = Administrator::parse(text).ok_or_else(unknown)?;
        // Any user of the server's machine may stand in a policy alone; a person has to be declared.
        match &who {
            Administrator::Person(_) if !self.administers(&who) => Err(unknown()),
            _ => Ok(who),
        }
    }

    /// What whoever administers as `who` reaches.
    pub(super) fn administer(&self, who: &Administrator, blast: &mut Blast) {
        let whole = ResourceRef::estate(self.trust_domain());
        let may = |action| {
            let decision = self.decide_administrator(who, action, &whole);
            decision.allow.then_some(decision.policies)
        };
        let path = |by, policies| Path {
            from: who.to_string(),
            by,
            policies,
        };
        if let Some(policies) = may(Action::Apply) {
            blast.paths.push(path(Step::Apply, policies));
        }
        if let Some(policies) = may(Action::TokenCreate) {
            blast.paths.push(path(Step::TokenCreate, policies));
            let known = Known {
                facts: FactSet::new(),
                certain: &[],
                rests_on: &[],
                hand: Hand::Tokens,
            };
            self.become_by(&[known], &[who.to_string()], blast);
        }
    }

    /// A machine that such a root vouches for. What it says of itself and its place is as the thief wants it, in the
    /// pools where the root counts.
    pub(super) fn vouched_by(&self, name: &str) -> Result<Known, String> {
        let references = &self.model.references;
        let vendors = references.tees.iter().map(TeeReference::root_name);
        let of_tpms = references.tpm_roots.keys();
        let declared = of_tpms.chain(references.tee_roots.keys());
        let known: BTreeSet<&str> = declared.map(String::as_str).chain(vendors).collect();
        if !known.contains(name) {
            return Err(unknown("root", name, closest(name, known.iter().copied())));
        }
        Ok(Known {
            facts: FactSet::new(),
            certain: &[],
            rests_on: &[],
            hand: Hand::Root,
        })
    }

    /// Gateways that can be become, and everybody where a path leads to everybody. Puts all in order.
    pub(super) fn follow(&self, blast: &mut Blast) {
        let reached = blast.identities.iter().map(|reach| reach.identity.as_str());
        let gateways: BTreeSet<&str> = reached
            .filter(|path| {
                let identity = self.identity(path);
                identity.is_some_and(|identity| identity.kind == IdentityKind::Gateway)
            })
            .collect();
        let gateways = gateways.into_iter().map(|gateway| Path {
            from: gateway.to_owned(),
            by: Step::Gateway,
            policies: Vec::new(),
        });
        let gateways: Vec<Path> = gateways.collect();
        blast.paths.extend(gateways);
        let everybody = blast.paths.iter().filter(|path| path.by.is_everybody());
        let everybody: Vec<String> = everybody.map(|path| path.from.clone()).collect();
        if !everybody.is_empty() {
            let all = self.identities().map(|identity| Reach {
                through: everybody.clone(),
                ..itself(identity)
            });
            blast.identities.extend(all);
        }
        blast.identities.sort();
        let reached = blast.identities.iter().map(|reach| reach.identity.as_str());
        blast.acts_for = self.acts_for(&reached.collect());
    }
}
