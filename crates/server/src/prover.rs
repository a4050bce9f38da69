//! The proof of a version's invariants, as plan and apply see it and as it is recorded.
//!
//! Everything but `proved` counts as not proved: a refutation, a time-out, a solver that is missing.

use crate::core::Core;
use estate::{Estate, Today};
use estate_prove::{InvariantReport, Options, Result};
use ledger::body::InvariantResult;
use serde_json::Value;
use std::sync::Arc;

pub(crate) struct Proved {
    pub(crate) accepted: bool,
    /// The whole report, with a counterexample for what is broken.
    pub(crate) document: Value,
    pub(crate) invariants: Vec<InvariantResult>,
    /// A sentence for each invariant that keeps the version from being accepted.
    pub(crate) reasons: Vec<String>,
}

/// Proves every invariant of `estate` that is not known to be proved.
pub(crate) async fn prove(core: &Core, estate: &Arc<Estate>) -> Proved {
    let options = Options {
        solver: core.config.solver.clone(),
        second: core.config.second_solver.clone(),
        ..Options::default()
    };
    let memory = Arc::clone(&core.proved);
    let report = estate_prove::prove(Arc::clone(estate), options, memory).await;
    let document = serde_json::to_value(&report);
    Proved {
        // A report that cannot be recorded proves nothing.
        accepted: report.is_accepted() && document.is_ok(),
        document: document.unwrap_or_default(),
        invariants: report.invariants.iter().map(recorded).collect(),
        reasons: report
            .invariants
            .iter()
            .filter(|report| !report.is_accepted())
            .map(sentence)
            .collect(),
    }
}

/// Which invariant, what the solver says, and what breaks it already today.
fn sentence(report: &InvariantReport) -> String {
    let today = match &report.today {
        Today::Broken { by } => by.first().map(|first| {
            let more = match by.len() {
                1 => String::new(),
                count => format!(", and {} more", count - 1),
            };
            format!(
                "; today: {} {} {}{more}",
                first.principal, first.action, first.resource
            )
        }),
        Today::Holds { .. } | Today::Open { .. } => None,
    };
    let givens = report.givens.iter().filter(|given| !given.holds());
    let givens: String = givens
        .map(|given| {
            let by = match &given.today {
                Today::Broken { by } | Today::Open { on: by, .. } => by.first(),
                Today::Holds { .. } => None,
            };
            let by = by.map_or_else(String::new, |first| {
                format!(" of {} {}", first.principal, first.resource)
            });
            format!(
                "; what it takes for granted does not hold{by}: {}",
                given.given
            )
        })
        .collect();
    format!(
        "{}: {}{}{givens}",
        report.invariant,
        report.result,
        today.unwrap_or_default()
    )
}

fn recorded(report: &InvariantReport) -> InvariantResult {
    InvariantResult {
        id: report.invariant.id.clone(),
        any_data: match report.result {
            Result::Proved => "proved",
            Result::Broken { .. } => "refuted",
            Result::Unknown { .. } => "unknown",
        }
        .to_owned(),
        today: match report.today {
            Today::Holds { .. } => "holds",
            Today::Broken { .. } => "broken",
            Today::Open { .. } => "unknown",
        }
        .to_owned(),
    }
}
