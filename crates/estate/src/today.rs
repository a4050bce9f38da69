//! Whether an invariant holds of what is declared today, by enumeration. No solver, and no claim
//! about other data.

use crate::action::Action;
use crate::administrator::Administrator;
use crate::ask::{Access, Partial};
use crate::authorize::{Case, Prepared};
use crate::candidates::{Ends, Target, Targets};
use crate::estate::Estate;
use crate::invariant::{Given, Invariant, InvariantKind};
use crate::policy::{Guard, Side, guards};
use crate::resource::{ResourceKind, ResourceRef};
use crate::sieve::Sieve;
use cedar_policy::{Effect, Policy, PolicySet};
use facts::FactSet;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// What enumeration found. Only `holds` is a yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Today {
    /// Every declared principal and resource was tried, for all facts.
    Holds {
        /// How many requests its scope takes in, and what it asks of their texts first. That nothing permits
        /// one of them settles a `never` without an evaluation.
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

/// Requests that are tried before the next are looked for: what is held of them at once is bounded.
const BATCH: usize = 65_536;
/// Fewer requests than this are not worth another thread.
const WORTH_A_THREAD: usize = 256;
/// Conditions nest deep, and Cedar recurses.
const STACK_BYTES: usize = 128 << 20;

/// Somebody, and the places of what is tried with them.
type Tries<'a> = (Principal<'a>, Vec<usize>);

/// A question made ready for very many requests.
struct Asked<'a> {
    question: &'a Question<'a>,
    /// Threads that may try requests at once.
    threads: usize,
    /// The requests that are looked at, as a set.
    matching: PolicySet,
    /// What it asks before anything that can err.
    guards: Vec<Guard>,
    prepared: Prepared,
}

#[derive(Clone, Copy)]
enum Principal<'a> {
    Admin(&'a Administrator),
    /// By its path.
    Identity(&'a str),
}

/// `Identity::"agents/helper"`
impl fmt::Display for Principal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(who) => write!(f, "Admin::\"{who}\""),
            Self::Identity(path) => write!(f, "Identity::{path:?}"),
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

impl Tally {
    /// With what was found of the requests behind these.
    fn and(&mut self, behind: Self) {
        self.requests = self.requests.saturating_add(behind.requests);
        self.broken.extend(behind.broken);
        self.open.extend(behind.open);
        self.errors.extend(behind.errors);
    }
}

impl Estate {
    /// Tries `invariant` on every declared principal and resource that its scope takes in.
    #[must_use]
    pub fn holds_today(&self, invariant: &Invariant) -> Today {
        self.holds_today_by(invariant, 1)
    }

    /// As [`Estate::holds_today`], by so many threads at most.
    #[must_use]
    pub fn holds_today_by(&self, invariant: &Invariant, threads: usize) -> Today {
        let question = Question {
            invariant,
            policy: &invariant.policy,
            wanted: Wanted::of(invariant.kind),
        };
        self.enumerate(&question, threads)
    }

    /// Tries what the proof of `invariant` takes for granted on every declared principal and resource of which
    /// it speaks.
    #[must_use]
    pub fn given_today(&self, invariant: &Invariant, given: &Given) -> Today {
        let question = Question {
            invariant,
            policy: &given.failing,
            wanted: Wanted::NoRequest,
        };
        self.enumerate(&question, 1)
    }

    fn enumerate(&self, question: &Question<'_>, threads: usize) -> Today {
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
        let asked = Asked {
            question,
            threads,
            matching,
            guards: question
                .policy
                .to_pst()
                .map(|policy| guards(policy.body()))
                .unwrap_or_default(),
            prepared: self.prepare(&FactSet::new()),
        };
        let (identities, administrators) = (self.identity_ends(), self.administrator_ends());
        // Most actions are done to the same things.
        let mut targets: BTreeMap<Vec<ResourceKind>, Rc<Targets<'_>>> = BTreeMap::new();
        for action in actions {
            let kinds = self.vocabulary.kinds_of(action).to_vec();
            let targets = targets
                .entry(kinds)
                .or_insert_with(|| self.targets(action).into());
            tally.errors.extend(targets.errors.iter().cloned());
            if action.is_administrative() {
                let all = self.model.administrators.keys();
                let who: Vec<Principal<'_>> = all.map(Principal::Admin).collect();
                self.try_action(&asked, action, (&who, &administrators), targets, &mut tally);
            } else {
                let who: Vec<Principal<'_>> = self
                    .identities()
                    .map(|identity| Principal::Identity(&identity.path))
                    .collect();
                self.try_action(&asked, action, (&who, &identities), targets, &mut tally);
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

    /// What the question speaks of, of this action. A request that no permit concerns is denied whatever else is
    /// asked: of what must be denied it is not looked at.
    fn try_action(
        &self,
        asked: &Asked<'_>,
        action: Action,
        (who, principals): (&[Principal<'_>], &Ends<'_>),
        targets: &Rc<Targets<'_>>,
        tally: &mut Tally,
    ) {
        let invariant = asked.question.invariant;
        let sieve = |scope, side| Sieve::new(scope, &asked.guards, side, &self.graph);
        let concerned = principals.through(&sieve(&invariant.principal, Side::Principal));
        let within = targets
            .ends
            .through(&sieve(&invariant.resource, Side::Resource));
        tally.requests = tally
            .requests
            .saturating_add(concerned.len().saturating_mul(within.len()));
        if within.is_empty() {
            return;
        }
        let mut permits = matches!(asked.question.wanted, Wanted::Denied)
            .then(|| self.concerned_by_permits(action, targets, Some(&within)));
        let (mut tries, mut count): (Vec<Tries<'_>>, usize) = (Vec::new(), 0);
        for place in concerned {
            let Some(principal) = who.get(place) else {
                continue;
            };
            let reached = match (&mut permits, principals.get(place)) {
                (Some(permits), Some(end)) => permits.places(end),
                _ => within.clone(),
            };
            count += reached.len();
            tries.push((*principal, reached));
            if count >= BATCH {
                self.try_batch(asked, action, &tries, &targets.list, tally);
                (tries, count) = (Vec::new(), 0);
            }
        }
        self.try_batch(asked, action, &tries, &targets.list, tally);
    }

    /// Tries them, in their order, by as many threads as are worth it. One that does not start or end leaves its part
    /// to be tried here, so that nothing is left out.
    fn try_batch(
        &self,
        asked: &Asked<'_>,
        action: Action,
        tries: &[Tries<'_>],
        list: &[Target],
        tally: &mut Tally,
    ) {
        let count: usize = tries.iter().map(|(_, places)| places.len()).sum();
        let threads = asked.threads.min(count / WORTH_A_THREAD).max(1);
        let all = |tries: &[Tries<'_>]| {
            let mut tally = Tally::default();
            for (principal, places) in tries {
                for target in places.iter().filter_map(|place| list.get(*place)) {
                    self.try_one(asked, *principal, action, target, &mut tally);
                }
            }
            tally
        };
        if threads == 1 {
            return tally.and(all(tries));
        }
        let parts = parted(tries, count.div_ceil(threads));
        let all = &all;
        std::thread::scope(|scope| {
            let begun: Vec<_> = parts
                .into_iter()
                .map(|part| {
                    let thread = std::thread::Builder::new().name("estate-today".to_owned());
                    let thread = thread.stack_size(STACK_BYTES);
                    (part, thread.spawn_scoped(scope, move || all(part)).ok())
                })
                .collect();
            for (part, thread) in begun {
                let found = thread.and_then(|thread| thread.join().ok());
                tally.and(found.unwrap_or_else(|| all(part)));
            }
        });
    }

    fn try_one(
        &self,
        asked: &Asked<'_>,
        principal: Principal<'_>,
        action: Action,
        target: &Target,
        tally: &mut Tally,
    ) {
        let case = match principal {
            Principal::Admin(who) => self.admin_case(who, action, &target.resource),
            Principal::Identity(path) => {
                self.use_case(path, action, &target.resource, &asked.prepared)
            }
        };
        let case = match case {
            Ok(case) => case,
            Err(unanswerable) => return tally.errors.push(unanswerable.message),
        };
        let outcome = match asked.question.wanted {
            Wanted::Denied if self.is_forbidden(&case) => return,
            _ => self
                .evaluate_partially(&case, &asked.matching)
                .and_then(|matched| Ok((matched, self.partially(&case)?.unwrap_or_default()))),
        };
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
        let (broken, possible) = match asked.question.wanted {
            Wanted::Denied => (matched.certain() && allowed.certain(), allowed.possible()),
            Wanted::Allowed => (matched.certain() && !allowed.possible(), !allowed.certain()),
            Wanted::NoRequest => (matched.certain(), true),
        };
        if broken || possible {
            let breach = self.breach(&principal.to_string(), action, &target.shown, &allowed);
            if broken {
                tally.broken.push(breach)
            } else {
                tally.open.push(breach)
            }
        }
    }

    /// Whether a forbid denies the case whatever the facts are. They are few where permits are many.
    fn is_forbidden(&self, case: &Case<'_>) -> bool {
        let slice = case.slice_for_any_facts(self);
        let policies = slice.flat_map(PolicySet::policies);
        let forbids = policies.filter(|policy| policy.effect() == Effect::Forbid);
        let Ok(forbids) = PolicySet::from_policies(forbids.cloned()) else {
            return false;
        };
        if forbids.is_empty() {
            return false;
        }
        let denied = |partial: Partial| !partial.true_forbids.is_empty();
        self.evaluate_partially(case, &forbids).is_ok_and(denied)
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

/// Side by side, each of about `most` requests; nobody's are taken apart.
fn parted<'t, 'a>(tries: &'t [Tries<'a>], most: usize) -> Vec<&'t [Tries<'a>]> {
    let mut parts = Vec::new();
    let (mut begin, mut count) = (0, 0);
    for (place, (_, places)) in tries.iter().enumerate() {
        count += places.len();
        if count >= most {
            parts.extend(tries.get(begin..=place));
            (begin, count) = (place + 1, 0);
        }
    }
    parts.extend(tries.get(begin..).filter(|rest| !rest.is_empty()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_side_by_side_and_leave_nobody_out() {
        let names = ["a", "b", "c", "d", "e"];
        let sizes = [3, 0, 9, 1, 2];
        let tries: Vec<Tries<'_>> = names
            .iter()
            .zip(sizes)
            .map(|(name, size)| (Principal::Identity(name), (0..size).collect()))
            .collect();
        for most in [1, 4, 8, 15, 100] {
            let parts = parted(&tries, most);
            let again: Vec<String> = parts
                .iter()
                .flat_map(|part| part.iter())
                .map(|(who, _)| who.to_string())
                .collect();
            let all: Vec<String> = tries.iter().map(|(who, _)| who.to_string()).collect();
            assert_eq!(again, all, "{most}");
            assert!(parts.iter().all(|part| !part.is_empty()));
        }
    }
}
