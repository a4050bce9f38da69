//! `except { … }`: what has to hold of a workload that became an identity, so that an invariant about uses says
//! nothing of it. `never (…) except { principal has code && … }` spans both halves: who may become somebody, and
//! what that somebody may do.

use super::given::lines_before;
use crate::policy::parse_statement;
use crate::problem::Problem;
use crate::statements::{Statement, clauses};
use cedar_policy::Policy;

const EXCEPT: &str = "except";

/// The `except` of an invariant.
#[derive(Debug, Clone)]
pub struct Except {
    /// As written: `except { principal has code }`.
    pub text: String,
    /// As Cedar has it, its lines where they were.
    pub(crate) rewritten: String,
    /// Workloads of which it holds, becoming anybody, as a permit.
    pub(crate) policy: Policy,
}

/// The statement without its `except`, and that. Places stay as they are.
///
/// # Errors
/// `ESTATE-INVARIANT-EXCEPT` for one in an `always`, or for two; syntax.
pub(super) fn taken_out(
    file: &str,
    statement: &Statement<'_>,
    text: &str,
    never: bool,
) -> Result<(String, Option<Except>), Problem> {
    let mut found = clauses(text, statement.effect_offset);
    found.retain(|clause| clause.keyword == EXCEPT);
    let Some(clause) = found.first() else {
        return Ok((text.to_owned(), None));
    };
    let line = statement.line + lines_before(text, clause.start);
    if !never || found.len() > 1 {
        let message = "`except` stands once, in a `never`";
        let problem = Problem::new("ESTATE-INVARIANT-EXCEPT", file, line, message);
        return Err(problem.hint("join conditions by `&&`; an `always` says who by `when`"));
    }
    let written = text.get(clause.start..clause.end).unwrap_or_default();
    let condition = written.strip_prefix(EXCEPT).unwrap_or_default();
    let lines = lines_before(text, clause.start);
    let lines = "\n".repeat(usize::try_from(lines).unwrap_or_default());
    let rewritten = format!(
        "{lines}permit (principal is Workload, action == Action::\"assume\", resource is Identity) \
         when{condition};"
    );
    let (_, policy) = parse_statement(file, statement, &rewritten)?;
    let blanks: String = written
        .chars()
        .map(|letter| if letter == '\n' { '\n' } else { ' ' })
        .collect();
    let mut rest = text.to_owned();
    rest.replace_range(clause.start..clause.end, &blanks);
    let except = Except {
        text: written.to_owned(),
        rewritten,
        policy,
    };
    Ok((rest, Some(except)))
}
