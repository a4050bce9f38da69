//! What is well formed and yet should not stand: policies that can never match, that grant everything,
//! that ask for what nobody states; names that nobody uses. Cheap, from the text and the declarations alone;
//! what needs a solver (`estate-prove`) speaks in the same words.
//!
//! What must not stand at all, as an `assume` that rests on an agent's word without naming machines, is a
//! [`Problem`] of compiling: see `policy/lint.rs`.

mod annotations;
mod columns;
mod contradiction;
mod declared;
mod grants;
mod people;
mod reading;
pub(crate) mod rings;
pub(crate) mod shadow;
mod stated;
mod unused;
mod values;

use crate::decision::PolicyRef;
use crate::estate::{Estate, on_a_deep_stack};
use crate::expectations::unknown_names;
use crate::problem::Problem;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody meant something else.
    Error,
    /// It may be meant.
    Warning,
}

/// What showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// The files by themselves: true whatever becomes of the other ones.
    Text,
    /// What is declared today.
    Declarations,
    /// An SMT solver, of all data that fits the schema.
    Solver,
}

/// One thing that should not stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    pub severity: Severity,
    #[serde(flatten)]
    pub problem: Problem,
    pub by: Means,
    /// Of a policy, its `@id` and what its annotations say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Annotated>,
}

/// Which policy, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Annotated {
    pub id: String,
    /// All but `@id`.
    pub annotations: BTreeMap<String, String>,
}

impl Remark {
    /// Of a policy. `next` is what to do.
    #[must_use]
    pub fn of_policy(
        severity: Severity,
        by: Means,
        code: &'static str,
        policy: &PolicyRef,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        let problem = Problem::new(code, &policy.file, policy.line, message).hint(next);
        Self {
            policy: Some(Annotated {
                id: policy.id.clone(),
                annotations: policy.annotations.clone(),
            }),
            ..Self::new(severity, by, problem)
        }
    }

    pub(crate) const fn new(severity: Severity, by: Means, problem: Problem) -> Self {
        Self {
            severity,
            problem,
            by,
            policy: None,
        }
    }

    /// In order of file and line, the worst of a line first; each once.
    pub fn sort(remarks: &mut Vec<Self>) {
        remarks.sort_by(|one, other| {
            let place = |remark: &Self| {
                let problem = &remark.problem;
                (problem.file.clone(), problem.line, problem.column)
            };
            place(one)
                .cmp(&place(other))
                .then_with(|| one.severity.cmp(&other.severity))
                .then_with(|| one.problem.cmp(&other.problem))
        });
        remarks.dedup();
    }
}

/// What is wrong by itself.
impl From<Problem> for Remark {
    fn from(problem: Problem) -> Self {
        Self::new(Severity::Error, Means::Text, problem)
    }
}

/// `error: file:line:column: CODE: message (what to do)`, and of a policy that says so, ` (owner …; reason …)`
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.problem)?;
        let said = self.policy.as_ref().map(|policy| {
            crate::annotation::said(|name| policy.annotations.get(name).map(String::as_str))
        });
        f.write_str(&said.unwrap_or_default())
    }
}

impl Estate {
    /// Everything that the text and the declarations show, in order of file and line. Policies are also worth
    /// a solver's look; this one asks none.
    #[must_use]
    pub fn lint(&self) -> Vec<Remark> {
        // Conditions nest deep.
        let found = on_a_deep_stack(|| Ok(self.remarks()));
        found.unwrap_or_else(|problems| problems.into_iter().map(Remark::from).collect())
    }

    fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        for info in &self.policies.list {
            contradiction::check(self, info, &mut remarks);
            grants::check(info, &mut remarks);
            columns::check(self, info, &mut remarks);
            annotations::check(&info.reference, false, &mut remarks);
        }
        for invariant in &self.invariants {
            contradiction::check_invariant(invariant, &mut remarks);
            annotations::check(&invariant.reference, true, &mut remarks);
        }
        remarks.extend(unknown_names(self).into_iter().map(Remark::from));
        shadow::check(self, &mut remarks);
        let declared = declared::Declared::of(self.files());
        values::check(self, &declared, &mut remarks);
        stated::check(self, &declared, &mut remarks);
        unused::check(self, &declared, &mut remarks);
        people::check(self, &mut remarks);
        rings::check(&declared, &mut remarks);
        Remark::sort(&mut remarks);
        remarks
    }
}
