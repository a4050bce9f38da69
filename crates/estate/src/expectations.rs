//! `tests/*`: decisions that the estate's authors expect, and the policies that they expect to make them.

use crate::action::Action;
use crate::administrator::Administrator;
use crate::decision::{Decision, PolicyRef, Request};
use crate::declare::Expected;
use crate::estate::Estate;
use crate::policy::{Policies, PolicyInfo};
use crate::problem::{Lines, Problem};
use crate::resolve::PlacedTest;
use crate::resource::ResourceRef;
use crate::suggest::did_you_mean;
use facts::{FactSet, Source, Timestamp};
use serde::Serialize;
use std::collections::BTreeSet;
use toml::Spanned;

/// How one test went.
#[derive(Debug, Clone, Serialize)]
pub struct TestOutcome {
    pub name: String,
    pub file: String,
    pub line: u32,
    pub passed: bool,
    /// What was expected and what came, when it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The policies that were expected, when the test names them: `file:line "id"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Vec<String>>,
    pub decision: Decision,
}

/// What tests name and there is not, each where it is named: policies that they expect, and who is to become
/// or to do something. Such a test fails.
pub(crate) fn unknown_names(estate: &Estate) -> Vec<Problem> {
    let mut problems = Vec::new();
    for test in &estate.tests {
        let text = estate.files().0.get(&test.file);
        let lines = Lines::of(text.map_or("", String::as_str));
        let at = |code, name: &Spanned<String>, message: String| {
            // The lines of JSON are not those of the form that it is read through.
            if test.file.ends_with(".json") {
                return Problem::new(code, &test.file, test.line, message);
            }
            let start = name.span().start;
            let problem = Problem::new(code, &test.file, lines.line(start), message);
            problem.column(lines.column(start))
        };
        for name in test.entry.why.iter().flatten() {
            if find(&estate.policies, name.get_ref()).is_none() {
                let hint = meant(&estate.policies, name.get_ref());
                let hint =
                    hint.unwrap_or_else(|| "name a policy by its @id, or by file:line".to_owned());
                let problem = at("ESTATE-TEST-WHY", name, unknown(name.get_ref()));
                problems.push(problem.hint(hint));
            }
        }
        let becomes = *test.entry.action.get_ref() == Action::Assume;
        let identity = if becomes {
            &test.entry.resource
        } else {
            &test.entry.principal
        };
        if let Some(name) = identity
            && !name.get_ref().starts_with("uid:")
            && estate.identity(name.get_ref()).is_none()
        {
            let message = format!("no identity `{}` is declared", name.get_ref());
            let paths = estate.identities().map(|one| one.path.as_str());
            let problem = at("ESTATE-IDENTITY-UNKNOWN", name, message);
            problems.push(problem.did_you_mean(name.get_ref(), paths));
        }
    }
    problems
}

fn unknown(name: &str) -> String {
    format!("no policy is {name:?}")
}

fn meant(policies: &Policies, name: &str) -> Option<String> {
    let ids = policies.list.iter();
    did_you_mean(name, ids.map(|info| info.reference.id.as_str()))
}

/// The policy with this `@id`, or that stands at this `file:line`.
fn find<'a>(policies: &'a Policies, name: &str) -> Option<&'a PolicyInfo> {
    let by_id = policies.list.iter().find(|info| info.reference.id == name);
    by_id.or_else(|| {
        let (file, line) = name.rsplit_once(':')?;
        let line: u32 = line.parse().ok()?;
        policies.list.iter().find(|info| {
            let first = info.reference.line;
            let further = info.text.matches('\n').count();
            let last = first.saturating_add(u32::try_from(further).unwrap_or(u32::MAX));
            info.reference.file == file && (first..=last).contains(&line)
        })
    })
}

pub(crate) fn run(estate: &Estate, test: &PlacedTest) -> TestOutcome {
    let decision = decide(estate, test);
    let names = test.entry.why.as_ref();
    let missing = names
        .into_iter()
        .flatten()
        .find(|name| find(&estate.policies, name.get_ref()).is_none());
    let expected = names.map(|names| {
        let found = names
            .iter()
            .filter_map(|name| find(&estate.policies, name.get_ref()));
        found.map(|info| &*info.reference).collect::<Vec<_>>()
    });
    let failure = match missing.map(|name| name.get_ref()) {
        Some(name) => {
            let hint =
                meant(&estate.policies, name).map_or_else(String::new, |hint| format!(" ({hint})"));
            Some(format!("ESTATE-TEST-WHY: {}{hint}", unknown(name)))
        }
        None => failure(test, expected.as_deref(), &decision),
    };
    TestOutcome {
        name: test.entry.name.get_ref().clone(),
        file: test.file.clone(),
        line: test.line,
        passed: failure.is_none(),
        failure,
        expected: expected.map(|list| list.iter().map(ToString::to_string).collect()),
        decision,
    }
}

fn decide(estate: &Estate, test: &PlacedTest) -> Decision {
    let entry = &test.entry;
    let mut facts = FactSet::new();
    for (name, value) in &entry.facts {
        if !facts::names::ALL.contains(&name.as_str()) {
            return Decision::error("ESTATE-TEST", format!("no verifier states a fact `{name}`"));
        }
        facts.state(name, value.clone(), Source::Verified, Timestamp::EPOCH);
    }
    let action = *entry.action.get_ref();
    let principal = entry.principal.as_ref().map_or("", |name| name.get_ref());
    let resource = entry.resource.as_ref().map_or("", |name| name.get_ref());
    if action == Action::Assume {
        return estate.assume(&facts, resource);
    }
    // A gateway sees what issuance records show, so a test that supposes more would prove nothing.
    if let Some(identity) = estate.identity(principal)
        && let Some(fact) = facts
            .iter()
            .find(|fact| !identity.visible.contains(&fact.name))
    {
        return Decision::error(
            "ESTATE-TEST",
            format!(
                "the fact `{}` is not among `visible` of `{principal}`: no gateway will ever see it",
                fact.name
            ),
        );
    }
    let resource = if action.is_administrative() && resource.is_empty() {
        ResourceRef::estate(estate.trust_domain())
    } else {
        match resource.parse() {
            Ok(resource) => resource,
            Err(error) => return Decision::error("ESTATE-TEST", error),
        }
    };
    match Administrator::parse(principal) {
        Some(who) => estate.decide_administrator(&who, action, &resource),
        None => {
            estate
                .why(&Request {
                    principal,
                    action,
                    resource,
                    facts: &facts,
                })
                .decision
        }
    }
}

fn failure(test: &PlacedTest, why: Option<&[&PolicyRef]>, decision: &Decision) -> Option<String> {
    let expected = test.entry.expect;
    let came = if decision.allow {
        Expected::Allow
    } else {
        Expected::Deny
    };
    // A test that could not be put expects nothing: a denial of a misspelt table proves nothing.
    if let Some(error) = decision.errors.first() {
        return Some(error.clone());
    }
    let ids: BTreeSet<&str> = decision
        .policies
        .iter()
        .map(|one| one.id.as_str())
        .collect();
    let alike = |wanted: BTreeSet<&str>| wanted == ids;
    let by_why = why.is_none_or(|why| alike(why.iter().map(|one| one.id.as_str()).collect()));
    let because = test.entry.because.as_ref();
    let by_because = because.is_none_or(|ids| alike(ids.iter().map(String::as_str).collect()));
    if expected == came && by_why && by_because {
        return None;
    }
    let wanted = match (why, because) {
        (Some(why), _) => reasons(
            why.iter().map(ToString::to_string),
            came_by_default(expected),
        ),
        (None, Some(ids)) => reasons(
            ids.iter().map(|id| format!("{id:?}")),
            came_by_default(expected),
        ),
        (None, None) => String::new(),
    };
    let seen = reasons(
        decision.policies.iter().map(ToString::to_string),
        came_by_default(came),
    );
    let near: String = decision
        .near
        .iter()
        .map(|near| format!("; {} asks for {}", near.policy, near.failed))
        .collect();
    Some(format!(
        "expected {expected:?}{wanted}; got {came:?}{seen}{near}"
    ))
}

/// Without a policy: a denial by default, and an allow that cannot be.
const fn came_by_default(decision: Expected) -> &'static str {
    match decision {
        Expected::Deny => ", as no policy allows it",
        Expected::Allow => "",
    }
}

fn reasons(policies: impl Iterator<Item = String>, without: &str) -> String {
    let policies: Vec<String> = policies.collect();
    if policies.is_empty() {
        without.to_owned()
    } else {
        format!(" because of {}", policies.join(" and "))
    }
}
