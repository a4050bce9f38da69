//! Invariants as written: `never (…)` and `always (…)`. They enforce nothing; `estate-prove` proves
//! them.

mod given;

pub use given::Given;

use crate::decision::PolicyRef;
use crate::files::EstateFiles;
use crate::model::Model;
use crate::policy::{
    Guard, Place, Scope, check_names, collect, each_statement, guards, parse_statement,
    principal_scope, resource_scope, validate,
};
use crate::problem::Problem;
use crate::statements::Statement;
use cedar_policy::{Policy, Schema};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvariantKind {
    /// No request that matches is allowed.
    Never,
    /// Every request that matches is allowed.
    Always,
}

/// One invariant, by what it says and where.
#[derive(Debug, Clone)]
pub struct Invariant {
    pub kind: InvariantKind,
    /// Its `@id`, place and annotations.
    pub reference: Arc<PolicyRef>,
    /// As written.
    pub text: String,
    /// What its proof takes for granted, which has to hold of what is declared today.
    pub givens: Vec<Given>,
    /// As Cedar has it: `permit` in the place of the keyword, and each `given` as one more condition.
    pub(crate) rewritten: String,
    /// Of the text's first letter, from 1.
    column: u32,
    /// The set of requests that it speaks of, as a permit.
    pub(crate) policy: Policy,
    pub(crate) principal: Scope,
    pub(crate) resource: Scope,
    /// What it asks before anything that can err.
    pub(crate) guards: Vec<Guard>,
}

impl Invariant {
    fn place(&self) -> Place<'_> {
        Place {
            file: &self.reference.file,
            line: self.reference.line,
            column: self.column,
            text: &self.rewritten,
        }
    }

    /// Whether its author asks only that it holds of today's declarations: `@proof("today")`.
    /// Otherwise it must hold of all data that fits the schema.
    #[must_use]
    pub fn is_about_today(&self) -> bool {
        self.reference
            .annotations
            .get("proof")
            .is_some_and(|scope| scope == "today")
    }
}

/// # Errors
/// Every problem of `invariants/*.cedar`.
pub(crate) fn parse_invariants(
    files: &EstateFiles,
    schema: &Schema,
    model: &Model,
) -> Result<Vec<Invariant>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut list: Vec<Invariant> = Vec::new();
    for (file, text) in files
        .0
        .iter()
        .filter(|(path, _)| path.starts_with("invariants/"))
    {
        each_statement(
            file,
            text,
            &mut problems,
            |statement, problems| match parse_invariant(file, &statement) {
                Ok(invariant) => list.push(invariant),
                Err(problem) => problems.push(problem),
            },
        );
    }
    let pairs = list
        .iter()
        .map(|invariant| (&invariant.reference, &invariant.policy));
    let set = collect(pairs, &mut problems);
    validate(&set, schema, &mut problems, |id| {
        let invariant = list.iter().find(|invariant| invariant.policy.id() == id)?;
        Some(invariant.place())
    });
    for invariant in &list {
        check_names(&invariant.policy, invariant.place(), model, &mut problems);
    }
    if problems.is_empty() {
        Ok(list)
    } else {
        Err(problems)
    }
}

pub(crate) fn parse_invariant(file: &str, statement: &Statement<'_>) -> Result<Invariant, Problem> {
    let refuse = |code, message| Problem::new(code, file, statement.line, message);
    let kind = match statement.effect {
        "never" => InvariantKind::Never,
        "always" => InvariantKind::Always,
        other => {
            let message = format!("an invariant begins with `never` or `always`, not `{other}`");
            let problem = refuse("ESTATE-CEDAR-SYNTAX", message);
            return Err(match other {
                "permit" | "forbid" => problem.hint("policies stand in policies/*.cedar"),
                word => problem.did_you_mean(word, ["never", "always"]),
            });
        }
    };
    // `permit` in the place of the keyword, on the same line: places stay as written.
    let (before, rest) = statement.text.split_at(statement.effect_offset);
    let after = rest.strip_prefix(statement.effect).unwrap_or_default();
    // The keyword's space makes room, so that columns do as well wherever there is one.
    let room = usize::from(kind == InvariantKind::Never && after.starts_with(' '));
    let after = after.get(room..).unwrap_or_default();
    let replaced = format!("{before}permit{after}");
    let rewritten = given::as_conditions(&replaced, statement.effect_offset);
    let (reference, policy) = parse_statement(file, statement, &rewritten)?;
    let givens = given::of(file, statement, &replaced)?;
    let scope = reference.annotations.get("proof");
    if scope.is_some_and(|scope| scope != "today") {
        let message = "@proof says \"today\" or is left out".to_owned();
        return Err(refuse("ESTATE-INVARIANT-PROOF", message));
    }
    Ok(Invariant {
        kind,
        reference: Arc::new(reference),
        text: statement.text.to_owned(),
        givens,
        rewritten,
        column: statement.column,
        guards: policy
            .to_pst()
            .map(|policy| guards(policy.body()))
            .unwrap_or_default(),
        principal: principal_scope(policy.principal_constraint()),
        resource: resource_scope(policy.resource_constraint()),
        policy,
    })
}
