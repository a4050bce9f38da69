//! `given { … }`: what the proof of an invariant takes for granted of declared data, such as that every table
//! of personal data has a label. A proof is worth what its givens are: each is held against what is declared
//! today, and again at every change.

use crate::policy::{conjuncts, parse_statement, paths};
use crate::problem::Problem;
use crate::statements::{Clause, Statement, clauses};
use cedar_policy::Policy;

const GIVEN: &str = "given";
/// Each is tried on everything that is declared, at every change.
const MOST: usize = 8;

/// One `given` of an invariant.
#[derive(Debug, Clone)]
pub struct Given {
    /// As written: `given { resource.hasTag("team") }`.
    pub text: String,
    /// The requests that the invariant speaks of and in which this does not hold, as a permit.
    pub(crate) failing: Policy,
}

/// The statement with each `given` as a `when`. Places stay as they are.
pub(super) fn as_conditions(text: &str, effect_offset: usize) -> String {
    let mut written = text.to_owned();
    for given in givens(text, effect_offset) {
        let keyword = given.start..given.start + given.keyword.len();
        written.replace_range(keyword, "when ");
    }
    written
}

/// # Errors
/// `ESTATE-INVARIANT-GIVEN` for one that reads the facts of sessions, which nobody can list; syntax.
pub(super) fn of(file: &str, statement: &Statement<'_>, text: &str) -> Result<Vec<Given>, Problem> {
    let all = clauses(text, statement.effect_offset);
    let mut found = Vec::new();
    let count = all.iter().filter(|one| one.keyword == GIVEN).count();
    if count > MOST {
        let message = format!("an invariant takes {count} things for granted; at most {MOST}");
        let problem = Problem::new("ESTATE-INVARIANT-GIVEN", file, statement.line, message);
        return Err(
            problem.hint("join those that belong together by `&&`, or cut the invariant in two")
        );
    }
    for (number, given) in all.iter().enumerate() {
        if given.keyword != GIVEN {
            continue;
        }
        let failing = unless(text, &all, number, |other| other.keyword == GIVEN);
        let alone = unless(text, &all, number, |_| true);
        let (_, policy) = parse_statement(file, statement, &failing)?;
        let (_, alone) = parse_statement(file, statement, &alone)?;
        if reads_facts(&alone) {
            let line = statement.line + lines_before(text, given.start);
            let message = "a given speaks of what is declared, not of the facts of a session";
            let problem = Problem::new("ESTATE-INVARIANT-GIVEN", file, line, message);
            return Err(problem.hint("write it as a `when` of the invariant"));
        }
        found.push(Given {
            text: text
                .get(given.start..given.end)
                .unwrap_or_default()
                .to_owned(),
            failing: policy,
        });
    }
    Ok(found)
}

/// The statement with the clause of this number as an `unless`, and without the others that are `hidden`.
fn unless(text: &str, all: &[Clause], number: usize, hidden: impl Fn(&Clause) -> bool) -> String {
    let mut written = text.to_owned();
    // From the last, so that places before it stay.
    for (other, clause) in all.iter().enumerate().rev() {
        if other == number {
            // What follows the keyword is a blank or a brace; the blank makes room.
            let behind = clause.start + clause.keyword.len();
            let blank = text.get(behind..).is_some_and(|rest| rest.starts_with(' '));
            written.replace_range(clause.start..behind + usize::from(blank), "unless");
        } else if hidden(clause) {
            let blanks: String = text
                .get(clause.start..clause.end)
                .unwrap_or_default()
                .chars()
                .map(|letter| if letter == '\n' { '\n' } else { ' ' })
                .collect();
            written.replace_range(clause.start..clause.end, &blanks);
        }
    }
    written
}

fn givens(text: &str, effect_offset: usize) -> Vec<Clause> {
    let mut found = clauses(text, effect_offset);
    found.retain(|clause| clause.keyword == GIVEN);
    found
}

pub(super) fn lines_before(text: &str, offset: usize) -> u32 {
    let before = text.get(..offset).unwrap_or_default();
    u32::try_from(before.matches('\n').count()).unwrap_or(u32::MAX)
}

/// Whether any condition reads the context. One that cannot be read is taken to.
fn reads_facts(policy: &Policy) -> bool {
    let Ok(policy) = policy.to_pst() else {
        return true;
    };
    let mut read = conjuncts(policy.body()).into_iter();
    read.any(|one| paths(&one).iter().any(|path| path.starts_with("context")))
}
