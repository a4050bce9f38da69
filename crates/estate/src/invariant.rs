//! Invariants as written: `never (…)` and `always (…)`. They enforce nothing; `estate-prove` proves
//! them.

mod except;
mod given;

pub use except::Except;
pub use given::Given;

use crate::decision::PolicyRef;
use crate::files::EstateFiles;
use crate::model::Model;
use crate::policy::{
    Guard, Place, Scope, check_names, collect, each_statement, guards, parse_statement,
    principal_scope, resource_scope, spelled_anew, validate,
};
use crate::problem::Problem;
use crate::statements::Statement;
use cedar_policy::{Policy, PolicyId, PolicySet, Schema};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
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
    /// Who may do it all the same: workloads of which this holds, once they became somebody.
    pub except: Option<Except>,
    /// As Cedar has it: `permit` in the place of the keyword, and each `given` as one more condition.
    pub(crate) rewritten: String,
    /// Of the text's first letter, from 1.
    pub(crate) column: u32,
    /// The set of requests that it speaks of, as a permit.
    pub(crate) policy: Policy,
    pub(crate) principal: Scope,
    pub(crate) resource: Scope,
    /// What it asks before anything that can err.
    pub(crate) guards: Vec<Guard>,
}

impl Invariant {
    /// SHA-256 of the text as written, hex: names it in records.
    #[must_use]
    pub fn digest(&self) -> String {
        crypto::hex::encode(&crypto::sha256(self.text.as_bytes()))
    }

    fn place(&self) -> Place<'_> {
        Place {
            file: &self.reference.file,
            line: self.reference.line,
            column: self.column,
            text: &self.rewritten,
        }
    }

    fn except_place(&self) -> Option<Place<'_>> {
        Some(Place {
            text: &self.except.as_ref()?.rewritten,
            ..self.place()
        })
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
    recorded: bool,
) -> Result<Vec<Invariant>, Vec<Problem>> {
    let before = recorded.then_some(model);
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
            |statement, problems| match parse_invariant(file, &statement, before) {
                Ok(invariant) => list.push(invariant),
                Err(problem) => problems.push(problem),
            },
        );
    }
    let pairs = list
        .iter()
        .map(|invariant| (&invariant.reference, &invariant.policy));
    let set = collect(pairs, &mut problems);
    let placed: HashMap<&PolicyId, &Invariant> = list
        .iter()
        .map(|invariant| (invariant.policy.id(), invariant))
        .collect();
    validate(&set, schema, &mut problems, |id| {
        Some(placed.get(id)?.place())
    });
    for invariant in &list {
        check_names(&invariant.policy, invariant.place(), model, &mut problems);
    }
    excepts(&list, schema, model, &mut problems);
    if problems.is_empty() {
        Ok(list)
    } else {
        Err(problems)
    }
}

/// What is said of workloads is well typed, and names what is declared.
fn excepts(list: &[Invariant], schema: &Schema, model: &Model, problems: &mut Vec<Problem>) {
    let of: Vec<&Invariant> = list.iter().filter(|one| one.except.is_some()).collect();
    let mut set = PolicySet::new();
    for except in of.iter().filter_map(|one| one.except.as_ref()) {
        // One of each statement, so no two have one id; what is not taken is not valid below.
        drop(set.add(except.policy.clone()));
    }
    validate(&set, schema, problems, |id| {
        let found = of.iter().find(|one| {
            let except = one.except.as_ref();
            except.is_some_and(|except| except.policy.id() == id)
        })?;
        found.except_place()
    });
    for invariant in of {
        if let (Some(except), Some(place)) = (&invariant.except, invariant.except_place()) {
            check_names(&except.policy, place, model, problems);
        }
    }
}

pub(crate) fn parse_invariant(
    file: &str,
    statement: &Statement<'_>,
    recorded: Option<&Model>,
) -> Result<Invariant, Problem> {
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
    let never = kind == InvariantKind::Never;
    let (replaced, except) = except::taken_out(file, statement, &replaced, never)?;
    let rewritten = given::as_conditions(&replaced, statement.effect_offset);
    let (reference, policy) = parse_statement(file, statement, &rewritten)?;
    let policy = match recorded {
        Some(model) => spelled_anew(policy, model),
        None => policy,
    };
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
        except,
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
