//! What a change takes from the invariants of the version in force: what is removed, weakened, or left unknown.
//! It takes two authors; who they are and whether they signed is not decided here.
//!
//! An invariant goes on if the new version has it as it was, or has invariants of which each request of the old
//! one is part, proved over any data. Its name, its file and its notes may change; a scope that is narrower, one
//! more condition, a `given` or `@proof("today")` is a weakening. What cannot be proved counts as one.

use crate::options::Options;
use crate::pool::unknown;
use crate::proof::on_a_prover;
use crate::questions::hex;
use crate::report::{Report, Unknown};
use crate::solvers::{Said, Solvers};
use cedar_policy::{PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::CompiledPolicySet;
use estate::{Estate, GovernedChange, GovernedKind, Invariant, cedar};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One change, and why it counts as one, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Governed {
    #[serde(flatten)]
    pub change: GovernedChange,
    /// Where it stood, or stands: `invariants/shop.cedar:3`. Empty of authors.
    pub place: String,
    pub why: String,
}

/// Everything in `new` that two authors have to sign: its `report` is that of its proof. Blocks the thread, on
/// which no async runtime may be running.
#[must_use]
pub fn governed_blocking(
    old: Option<&Estate>,
    new: &Estate,
    report: &Report,
    options: &Options,
) -> Vec<Governed> {
    let mut found = Vec::new();
    if let Some(old) = old {
        authors(old, new, &mut found);
        let changed: Vec<&Invariant> = old
            .invariants()
            .iter()
            .filter(|invariant| !goes_on(old, new, invariant))
            .collect();
        if !changed.is_empty() {
            let judged = on_a_prover(|| async {
                let solvers = Solvers::of(options);
                let mut found = Vec::new();
                for invariant in &changed {
                    if let Err(why) = implied(old, new, invariant, &solvers).await {
                        found.push(lost(new, invariant, why.to_string()));
                    }
                }
                found
            });
            found.extend(judged.unwrap_or_else(|error| {
                let lost = |invariant: &&Invariant| lost(new, invariant, error.to_string());
                changed.iter().map(lost).collect()
            }));
        }
    }
    for one in report.invariants.iter().filter(|one| one.is_open()) {
        let before = old.and_then(|old| named(old, &one.invariant.id));
        found.push(Governed {
            change: GovernedChange {
                kind: GovernedKind::Unknown,
                of: one.invariant.id.clone(),
                before: before.map(Invariant::digest),
                after: Some(one.digest.clone()),
            },
            place: format!("{}:{}", one.invariant.file, one.invariant.line),
            why: one.result.to_string(),
        });
    }
    found.sort_by(|one, other| one.change.cmp(&other.change));
    found
}

/// As [`governed_blocking`], off the async threads.
///
/// # Errors
/// The thread ended as it should not.
pub async fn governed(
    old: Option<Arc<Estate>>,
    new: Arc<Estate>,
    report: Arc<Report>,
    options: Options,
) -> Result<Vec<Governed>, Unknown> {
    let work = move || governed_blocking(old.as_deref(), &new, &report, &options);
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Unknown::new("PROVE-THREAD", error.to_string()))
}

fn named<'a>(estate: &'a Estate, id: &str) -> Option<&'a Invariant> {
    estate
        .invariants()
        .iter()
        .find(|one| one.reference.id == id)
}

/// Once there are two, one alone does not choose who they are.
fn authors(old: &Estate, new: &Estate, found: &mut Vec<Governed>) {
    let digest = |estate: &Estate, name: &str| {
        let key = estate.authors().get(name)?;
        Some(hex(&key.spki_sha256()))
    };
    if old.authors().len() < 2 {
        return;
    }
    let names: BTreeSet<&String> = old.authors().keys().chain(new.authors().keys()).collect();
    for name in names {
        let (before, after) = (digest(old, name), digest(new, name));
        if before == after {
            continue;
        }
        let why = match (&before, &after) {
            (None, _) => "an author is added",
            (_, None) => "an author is removed",
            _ => "an author has another key",
        };
        found.push(Governed {
            why: why.to_owned(),
            place: String::new(),
            change: GovernedChange {
                kind: GovernedKind::Author,
                of: name.clone(),
                before,
                after,
            },
        });
    }
}

/// The same words about the same kinds of requests.
fn goes_on(old: &Estate, new: &Estate, invariant: &Invariant) -> bool {
    let Some(meaning) = cedar::meaning(invariant) else {
        return false;
    };
    let same = |other: &&Invariant| cedar::meaning(other).as_ref() == Some(&meaning);
    let kept = new.invariants().iter().find(same);
    kept.is_some_and(|kept| {
        let before = kinds(&envs(invariant, cedar::schema(old)));
        before.is_subset(&kinds(&envs(kept, cedar::schema(new))))
    })
}

fn envs(invariant: &Invariant, schema: &Schema) -> Vec<RequestEnv> {
    cedar::matching(invariant)
        .get_valid_request_envs(schema)
        .collect()
}

fn kinds(envs: &[RequestEnv]) -> BTreeSet<[String; 3]> {
    let kind = |env: &RequestEnv| {
        [
            env.principal().to_string(),
            env.action().to_string(),
            env.resource().to_string(),
        ]
    };
    envs.iter().map(kind).collect()
}

/// Whether every request of which `invariant` speaks is one of which invariants of `new` of its kind speak.
async fn implied(
    old: &Estate,
    new: &Estate,
    invariant: &Invariant,
    solvers: &Solvers,
) -> Result<(), Unknown> {
    let weaker = |message: &str| Unknown::new("PROVE-WEAKER", message);
    let candidates: Vec<&Invariant> = new
        .invariants()
        .iter()
        .filter(|one| one.kind == invariant.kind)
        .filter(|one| invariant.is_about_today() || !one.is_about_today())
        .filter(|one| one.except.is_none() || same_except(one, invariant))
        .collect();
    if candidates.is_empty() {
        return Err(weaker("no invariant of the new version could imply it"));
    }
    let schema = cedar::schema(new);
    let envs = envs(invariant, schema);
    if envs.is_empty() || kinds(&envs) != kinds(&self::envs(invariant, cedar::schema(old))) {
        return Err(weaker("the schema has other requests than it spoke of"));
    }
    let set = |invariants: &[&Invariant]| {
        let policies = invariants.iter().map(|one| cedar::matching(one).clone());
        PolicySet::from_policies(policies)
            .map_err(|error| Unknown::new("PROVE-UNSUPPORTED", error.to_string()))
    };
    for env in &envs {
        let speak: Vec<&Invariant> = candidates
            .iter()
            .copied()
            .filter(|one| {
                let own = self::envs(one, schema);
                kinds(&own).is_superset(&kinds(std::slice::from_ref(env)))
            })
            .collect();
        if speak.is_empty() {
            let action = env.action().id().unescaped();
            return Err(weaker(&format!("nothing is said of `{action}` any more")));
        }
        let compiled = |policies: &PolicySet| {
            CompiledPolicySet::compile(policies, env, schema).map_err(|error| unknown(&error))
        };
        let (before, after) = (compiled(&set(&[invariant])?)?, compiled(&set(&speak)?)?);
        if let Said::Found { .. } = solvers.implies(&before, &after).await? {
            return Err(weaker("requests that it spoke of are spoken of no longer"));
        }
    }
    Ok(())
}

/// The same workloads may do it all the same.
fn same_except(one: &Invariant, other: &Invariant) -> bool {
    let (Some(one), Some(other)) = (&one.except, &other.except) else {
        return false;
    };
    one.text == other.text
}

fn lost(new: &Estate, invariant: &Invariant, why: String) -> Governed {
    let reference = &invariant.reference;
    let after = named(new, &reference.id).map(Invariant::digest);
    let kind = match after {
        Some(_) => GovernedKind::Weakened,
        None => GovernedKind::Removed,
    };
    Governed {
        change: GovernedChange {
            kind,
            of: reference.id.clone(),
            before: Some(invariant.digest()),
            after,
        },
        place: format!("{}:{}", reference.file, reference.line),
        why,
    }
}
