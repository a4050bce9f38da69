//! `tests/*`: decisions that the estate's authors expect.

use crate::action::Action;
use crate::decision::{Decision, Request};
use crate::declare::Expected;
use crate::estate::Estate;
use crate::resolve::PlacedTest;
use crate::resource::ResourceRef;
use facts::{FactSet, Source, Timestamp};
use serde::Serialize;

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
    pub decision: Decision,
}

pub(crate) fn run(estate: &Estate, test: &PlacedTest) -> TestOutcome {
    let decision = decide(estate, test);
    let failure = failure(test, &decision);
    TestOutcome {
        name: test.entry.name.get_ref().clone(),
        file: test.file.clone(),
        line: test.line,
        passed: failure.is_none(),
        failure,
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
    match principal
        .strip_prefix("uid:")
        .and_then(|uid| uid.parse().ok())
    {
        Some(uid) => estate.decide_admin(uid, action, &resource),
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

fn failure(test: &PlacedTest, decision: &Decision) -> Option<String> {
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
    if expected != came {
        let near: Vec<_> = decision
            .near
            .iter()
            .map(|near| format!("; {} asks for {}", near.policy, near.failed))
            .collect();
        let because: Vec<_> = decision
            .policies
            .iter()
            .map(|policy| format!("; because of {policy}"))
            .collect();
        return Some(format!(
            "expected {expected:?}, came {came:?}{}{}",
            because.join(""),
            near.join("")
        ));
    }
    let because = test.entry.because.as_ref()?;
    let ids = decision.policy_ids();
    let alike = because.len() == ids.len() && because.iter().all(|id| ids.contains(id));
    (!alike).then(|| format!("expected because of {because:?}, came because of {ids:?}"))
}
