//! The proof of a version's invariants, as plan and apply see it and as it is recorded.
//!
//! Everything but `proved` counts as not proved: a refutation, a time-out, a solver that is missing.

use crate::core::Core;
use crate::refusal::Refusal;
use estate::{Estate, Today};
use estate_prove::{Governed, InvariantReport, Options, Result, Witnesses};
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
    /// What keeps it from being accepted is not known to be wrong: two authors may take it on trust.
    pub(crate) open: bool,
    /// All that keeps it from being accepted is what invariants take for granted.
    pub(crate) ungiven: bool,
    /// What two authors have to sign.
    pub(crate) governed: Vec<Governed>,
}

/// A record is small: with more invariants than this their texts are named by the blob alone.
const MOST_NAMED: usize = 64;

/// Proves every invariant of `estate` that is not known to be proved, and says what of the version in force it
/// takes away.
pub(crate) async fn prove(
    core: &Core,
    old: Option<Arc<Estate>>,
    estate: &Arc<Estate>,
) -> std::result::Result<Proved, Refusal> {
    let options = options(core);
    let memory = Arc::clone(&core.proved);
    let report = estate_prove::prove(Arc::clone(estate), options.clone(), memory).await;
    let report = Arc::new(report);
    // INVARIANT: where it cannot be told what is weakened, nothing is applied.
    let governed = estate_prove::governed(old, Arc::clone(estate), Arc::clone(&report), options)
        .await
        .map_err(|why| {
            Refusal::internal(
                "comparing invariants",
                &std::io::Error::other(why.to_string()),
            )
        })?;
    let document = serde_json::to_value(&*report);
    let refused: Vec<&InvariantReport> = report
        .invariants
        .iter()
        .filter(|report| !report.is_accepted())
        .collect();
    let named = report.invariants.len() <= MOST_NAMED;
    Ok(Proved {
        // A report that cannot be recorded proves nothing.
        accepted: report.is_accepted() && document.is_ok(),
        open: refused.iter().all(|one| one.is_open()) && document.is_ok(),
        ungiven: report.lacks_only_givens(),
        document: document.unwrap_or_default(),
        invariants: report
            .invariants
            .iter()
            .map(|report| recorded(report, named))
            .collect(),
        reasons: refused.into_iter().map(sentence).collect(),
        governed,
    })
}

fn options(core: &Core) -> Options {
    Options {
        solver: core.config.solver.clone(),
        second: core.config.second_solver.clone(),
        find_second: std::env::var_os("PATH"),
        ..Options::default()
    }
}

/// Requests that `estate` decides otherwise than `old`, over any data: beside the proof, bounded by itself.
pub(crate) fn witnesses(
    core: &Core,
    old: Arc<Estate>,
    estate: &Arc<Estate>,
) -> impl Future<Output = Option<Witnesses>> + Send + use<> {
    estate_prove::witnesses(old, Arc::clone(estate), options(core).for_a_hint())
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

fn recorded(report: &InvariantReport, named: bool) -> InvariantResult {
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
        text: report.digest.parse().ok().filter(|_| named),
    }
}
