//! `never (…) except { … }`: across `assume` and use, identity by identity. One that can do what never may be
//! done has to be out of reach of every workload but those that `except` speaks of.
//!
//! First whether anybody can do that at all. Else each identity is two questions, or three: can it do that; if so,
//! only in sessions with such facts; else, can another workload become it. Templates stand for their instances, as
//! policies see them. Identities that nobody declared yet come with a version of their own, which is proved again.

use crate::counterexample::Counterexample;
use crate::proof::Prover;
use crate::report::{Result as ProofResult, Unknown};
use estate::{Breach, Estate, Invariant, Today, cedar};
use std::collections::{BTreeMap, BTreeSet};

/// What is known today of an invariant that spans both, without a solver: nothing that it rests on.
pub(crate) fn unproved_today(estate: &Estate, invariant: &Invariant) -> Today {
    let today = estate.holds_today(invariant);
    match (&invariant.except, today) {
        (None, today) | (Some(_), today @ Today::Holds { .. }) => today,
        (Some(_), Today::Broken { by }) => Today::Open {
            on: by,
            because: vec![NOT_ASKED.to_owned()],
        },
        (Some(_), open @ Today::Open { .. }) => open,
    }
}

const NOT_ASKED: &str = "which workloads become them was not asked";

/// What is wrong with one identity.
enum Fault {
    Broken(Box<Counterexample>),
    Unknown(Unknown),
}

impl Prover<'_> {
    /// For any data, and for what is declared today.
    pub(crate) async fn spanning(&self, invariant: &Invariant) -> (ProofResult, Today) {
        let estate = self.questions.estate;
        let reach = self.holds_today(invariant);
        let policy = cedar::matching(invariant);
        let mut kinds = policy.get_valid_request_envs(cedar::schema(estate));
        if let Some(other) = kinds.find(|env| env.principal().to_string() != "Identity") {
            let message = format!(
                "an `except` is about what identities do, and this is about what {} does as well",
                other.principal()
            );
            let why = Unknown::new("PROVE-EXCEPT", message);
            return (
                ProofResult::Unknown { why },
                unproved_today(estate, invariant),
            );
        }
        // Where nobody can do it, as where a forbid keeps everybody off, that is one proof and not one for each identity.
        // Then what enumeration found stands as it is: a breach would be a lie of the solver.
        if let Some(uses) = cedar::at_all(invariant)
            && matches!(self.is_proved(&uses).await, Ok(true))
        {
            return (ProofResult::Proved, reach);
        }
        let mut faults: BTreeMap<String, Fault> = BTreeMap::new();
        for identity in estate.identities() {
            let fault = match self.through(invariant, &identity.path).await {
                Ok(None) => continue,
                Ok(Some(counterexample)) => Fault::Broken(Box::new(counterexample)),
                Err(why) => Fault::Unknown(why),
            };
            faults.insert(format!("Identity::{:?}", identity.path), fault);
        }
        let today = today(reach, &faults);
        (result(faults, &today), today)
    }

    /// How a workload that should not could do it through this identity.
    async fn through(
        &self,
        invariant: &Invariant,
        path: &str,
    ) -> Result<Option<Counterexample>, Unknown> {
        let unread = || {
            Unknown::new(
                "PROVE-EXCEPT",
                format!("the invariant cannot be asked of {path}"),
            )
        };
        let uses = cedar::using(invariant, path, false).ok_or_else(unread)?;
        if matches!(self.is_proved(&uses).await, Ok(true)) {
            return Ok(None);
        }
        if let Some(uses) = cedar::using(invariant, path, true)
            && matches!(self.is_proved(&uses).await, Ok(true))
        {
            return Ok(None);
        }
        let becoming = cedar::becoming(invariant, path).ok_or_else(unread)?;
        let Some(becomes) = self.try_all(&becoming).await? else {
            return Ok(None);
        };
        // Only where it is broken matters by which use.
        let used = self.try_all(&uses).await?;
        Ok(used.map(|used| becomes.and_then(used)))
    }
}

/// A request that breaks it before one of which nothing is known, and one of today before others.
fn result(faults: BTreeMap<String, Fault>, today: &Today) -> ProofResult {
    let of_today: BTreeSet<&str> = match today {
        Today::Broken { by } | Today::Open { on: by, .. } => {
            by.iter().map(|one| one.principal.as_str()).collect()
        }
        Today::Holds { .. } => BTreeSet::new(),
    };
    let (mut first, mut unknown) = (None, None);
    for (identity, fault) in faults {
        let now = of_today.contains(identity.as_str());
        match fault {
            Fault::Broken(found) => {
                if first.as_ref().is_none_or(|(was_now, _)| now && !was_now) {
                    first = Some((now, found));
                }
            }
            Fault::Unknown(why) => unknown = unknown.or(Some(why)),
        }
    }
    match (first, unknown) {
        (Some((_, counterexample)), _) => ProofResult::Broken { counterexample },
        (None, Some(why)) => ProofResult::Unknown { why },
        (None, None) => ProofResult::Proved,
    }
}

/// Of those that can do it today, whether others than should become them.
fn today(reach: Today, faults: &BTreeMap<String, Fault>) -> Today {
    let (certain, possible, mut because) = match reach {
        Today::Holds { requests } => return Today::Holds { requests },
        Today::Broken { by } => (by, Vec::new(), Vec::new()),
        Today::Open { on, because } => (Vec::new(), on, because),
    };
    let requests = certain.len() + possible.len();
    let (mut broken, mut open): (Vec<Breach>, Vec<Breach>) = (Vec::new(), Vec::new());
    let cases = certain.into_iter().map(|one| (one, true));
    for (breach, certain) in cases.chain(possible.into_iter().map(|one| (one, false))) {
        match faults.get(&breach.principal) {
            None => {}
            Some(Fault::Broken(found)) if certain && found.today => {
                broken.push(breach);
            }
            Some(Fault::Broken(_)) => open.push(breach),
            Some(Fault::Unknown(why)) => {
                because.push(why.to_string());
                open.push(breach);
            }
        }
    }
    because.sort();
    because.dedup();
    if !broken.is_empty() {
        Today::Broken { by: broken }
    } else if open.is_empty() && because.is_empty() {
        Today::Holds { requests }
    } else {
        Today::Open { on: open, because }
    }
}
