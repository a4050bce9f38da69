//! Conditions that no request can meet, by what stands in them: one attribute that is to be two things, a
//! part that is asked for and refused, a number between bounds that cross. Sound, and not complete: what it
//! finds is one; a solver finds more.

use super::{Means, Remark, Severity};
use crate::decision::Effect;
use crate::estate::Estate;
use crate::invariant::Invariant;
use crate::policy::{PolicyInfo, Scope, conjuncts};
use crate::resource::{ResourceKind, ResourceRef};
use cedar_policy::pst::{BinaryOp, Expr, Literal, UnaryOp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) fn check(estate: &Estate, info: &PolicyInfo, remarks: &mut Vec<Remark>) {
    let conjuncts = conjuncts(&info.body);
    let (severity, by, why) = match contradiction(Known::default(), &conjuncts) {
        Some(why) => (Severity::Error, Means::Text, why),
        // Another declaration would make it match: it may be meant for one that is to come.
        None => match contradiction(declared(estate, info), &conjuncts) {
            Some(why) => (
                Severity::Warning,
                Means::Declarations,
                format!("{why}, as it is declared"),
            ),
            None => return,
        },
    };
    let what = match info.reference.effect {
        Effect::Permit => "it never permits anything",
        Effect::Forbid => "it never forbids anything",
    };
    let message = format!("{what}: {why}");
    let next = "correct the condition, or delete the policy";
    remarks.push(Remark::of_policy(
        severity,
        by,
        "LINT-NEVER-MATCHES",
        &info.reference,
        message,
        next,
    ));
}

/// An invariant about no request holds, and keeps nothing from happening.
pub(super) fn check_invariant(invariant: &Invariant, remarks: &mut Vec<Remark>) {
    let Ok(policy) = invariant.policy.to_pst() else {
        return;
    };
    if let Some(why) = contradiction(Known::default(), &conjuncts(policy.body())) {
        remarks.push(Remark::of_policy(
            Severity::Error,
            Means::Text,
            "LINT-NEVER-MATCHES",
            &invariant.reference,
            format!("it is about no request, and so holds always: {why}"),
            "correct the condition, or delete the invariant",
        ));
    }
}

/// What is declared of the one principal and the one resource that a policy is about.
fn declared(estate: &Estate, info: &PolicyInfo) -> Known {
    let mut known = Known::default();
    let mut is = |key: &str, value: &str| {
        let values = BTreeSet::from([format!("{value:?}")]);
        known.values.insert(key.to_owned(), values);
    };
    if let Scope::Eq(uid) = &info.principal
        && uid.type_name().to_string() == "Identity"
        && let Some(identity) = estate.identity(uid.id().unescaped())
    {
        is("principal.kind", identity.kind.as_str());
        is("principal.owner", &identity.owner);
    }
    if let Scope::Eq(uid) = &info.resource
        && uid.type_name().to_string() == "Table"
    {
        let table = ResourceRef::new(ResourceKind::Table, uid.id().unescaped());
        is(
            "resource.classification",
            &estate.object(&table).classification,
        );
    }
    known
}

/// Why no request can meet all of `conjuncts` where `known` holds.
fn contradiction(mut known: Known, conjuncts: &[Arc<Expr>]) -> Option<String> {
    // Twice, so that of two alternatives the one falls away that a later condition excludes.
    for _ in 0..2 {
        for conjunct in conjuncts {
            if let Err(why) = known.assume(conjunct, true) {
                return Some(why);
            }
        }
    }
    None
}

/// What a request must be like so that all of what was assumed holds. Conditions have no effects: one
/// text means one thing.
#[derive(Debug, Clone, Default)]
struct Known {
    /// What an expression can be, of literals as they are written.
    values: BTreeMap<String, BTreeSet<String>>,
    /// What it cannot be.
    excluded: BTreeMap<String, BTreeSet<String>>,
    /// Least and most of a number.
    bounds: BTreeMap<String, (i64, i64)>,
    /// Whether a condition that is nothing of the above holds.
    holds: BTreeMap<String, bool>,
}

impl Known {
    /// Takes it that `expr` is `truth`, or says why it cannot be.
    fn assume(&mut self, expr: &Expr, truth: bool) -> Result<(), String> {
        match expr {
            Expr::Literal(Literal::Bool(value)) if *value != truth => {
                Err(format!("`{value}` stands where {truth} is asked for"))
            }
            Expr::UnaryOp {
                op: UnaryOp::Not,
                expr,
            } => self.assume(expr, !truth),
            Expr::BinaryOp { op, left, right } => self.assume_binary(expr, *op, left, right, truth),
            _ => self.assume_whole(expr, truth),
        }
    }

    fn assume_binary(
        &mut self,
        whole: &Expr,
        op: BinaryOp,
        left: &Expr,
        right: &Expr,
        truth: bool,
    ) -> Result<(), String> {
        match (op, truth) {
            (BinaryOp::And, true) | (BinaryOp::Or, false) => {
                self.assume(left, truth)?;
                self.assume(right, truth)
            }
            (BinaryOp::Or, true) | (BinaryOp::And, false) => self.assume_one_of(left, right, truth),
            (BinaryOp::Eq, _) => self.assume_equal(whole, left, right, truth),
            (BinaryOp::NotEq, _) => self.assume_equal(whole, left, right, !truth),
            (BinaryOp::Contains, _) => match (left, literal(right)) {
                (Expr::Set(items), None) => {
                    let literals: Option<BTreeSet<String>> =
                        items.iter().map(|item| literal(item)).collect();
                    match literals {
                        Some(literals) => self.assume_among(right, literals, truth),
                        None => self.assume_whole(whole, truth),
                    }
                }
                _ => self.assume_whole(whole, truth),
            },
            (BinaryOp::Less | BinaryOp::LessEq | BinaryOp::Greater | BinaryOp::GreaterEq, _) => {
                self.assume_order(whole, op, left, right, truth)
            }
            _ => self.assume_whole(whole, truth),
        }
    }

    /// One of two: if one of them cannot be, then the other is.
    fn assume_one_of(&mut self, left: &Expr, right: &Expr, truth: bool) -> Result<(), String> {
        let mut by_left = self.clone();
        let mut by_right = self.clone();
        match (by_left.assume(left, truth), by_right.assume(right, truth)) {
            (Err(why), Err(other)) if why == other => Err(why),
            (Err(why), Err(other)) => Err(format!("{why}; and {other}")),
            (Ok(()), Err(_)) => {
                *self = by_left;
                Ok(())
            }
            (Err(_), Ok(())) => {
                *self = by_right;
                Ok(())
            }
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    fn assume_equal(
        &mut self,
        whole: &Expr,
        left: &Expr,
        right: &Expr,
        truth: bool,
    ) -> Result<(), String> {
        match (literal(left), literal(right)) {
            (Some(left), Some(right)) if (left == right) != truth => {
                let are = if truth {
                    "are not the same"
                } else {
                    "are the same"
                };
                Err(format!("{left} and {right} {are}"))
            }
            (Some(value), None) => self.assume_among(right, BTreeSet::from([value]), truth),
            (None, Some(value)) => self.assume_among(left, BTreeSet::from([value]), truth),
            _ => self.assume_whole(whole, truth),
        }
    }

    /// `expr` is, or is not, one of `literals`.
    fn assume_among(
        &mut self,
        expr: &Expr,
        literals: BTreeSet<String>,
        truth: bool,
    ) -> Result<(), String> {
        let key = expr.to_string();
        let excluded = self.excluded.entry(key.clone()).or_default();
        let known = self.values.get(&key);
        let possible = if truth {
            let known = known.unwrap_or(&literals);
            let both: BTreeSet<String> = known.intersection(&literals).cloned().collect();
            if both.is_empty() {
                let (known, asked) = (listed(known), listed(&literals));
                return Err(format!("`{key}` is to be {known} and {asked} at once"));
            }
            both
        } else {
            excluded.extend(literals);
            match known {
                Some(known) => known.clone(),
                // Nothing is known of what it is, only of what it is not.
                None => return Ok(()),
            }
        };
        let excluded = excluded.clone();
        let left: BTreeSet<String> = possible.difference(&excluded).cloned().collect();
        if left.is_empty() {
            let possible = listed(&possible);
            return Err(format!("`{key}` is to be {possible} and is not to be"));
        }
        self.values.insert(key, left);
        Ok(())
    }

    fn assume_order(
        &mut self,
        whole: &Expr,
        op: BinaryOp,
        left: &Expr,
        right: &Expr,
        truth: bool,
    ) -> Result<(), String> {
        use BinaryOp::{Greater, GreaterEq, Less, LessEq};
        // As the expression stands to the number, and as it is asked for.
        let (key, number, op) = match (left, right) {
            (expr, Expr::Literal(Literal::Long(number))) => (expr, *number, op),
            (Expr::Literal(Literal::Long(number)), expr) => {
                let mirrored = match op {
                    Less => Greater,
                    LessEq => GreaterEq,
                    Greater => Less,
                    _ => LessEq,
                };
                (expr, *number, mirrored)
            }
            _ => return self.assume_whole(whole, truth),
        };
        let op = match (op, truth) {
            (op, true) => op,
            (Less, false) => GreaterEq,
            (LessEq, false) => Greater,
            (Greater, false) => LessEq,
            (_, false) => Less,
        };
        // Beyond the last number there is none.
        let (at_least, at_most) = match op {
            Less => (Some(i64::MIN), number.checked_sub(1)),
            LessEq => (Some(i64::MIN), Some(number)),
            Greater => (number.checked_add(1), Some(i64::MAX)),
            _ => (Some(number), Some(i64::MAX)),
        };
        let key = key.to_string();
        let known = self.bounds.get(&key).copied();
        let (least, most) = known.unwrap_or((i64::MIN, i64::MAX));
        match (at_least, at_most) {
            (Some(at_least), Some(at_most)) if at_least.max(least) <= at_most.min(most) => {
                let bounds = (at_least.max(least), at_most.min(most));
                self.bounds.insert(key, bounds);
                Ok(())
            }
            _ => Err(format!("no number is what `{key}` should be")),
        }
    }

    fn assume_whole(&mut self, expr: &Expr, truth: bool) -> Result<(), String> {
        let key = expr.to_string();
        match self.holds.insert(key.clone(), truth) {
            Some(known) if known != truth => Err(format!("`{key}` is to hold and is not to")),
            _ => Ok(()),
        }
    }
}

/// A literal as it is written. Two that differ are two values.
fn literal(expr: &Expr) -> Option<String> {
    matches!(expr, Expr::Literal(_)).then(|| expr.to_string())
}

fn listed(values: &BTreeSet<String>) -> String {
    if values.is_empty() {
        return "nothing".to_owned();
    }
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;
    use expect_test::expect;

    fn why(clauses: &str) -> String {
        let text = format!("permit (principal, action, resource) {clauses};");
        let policy = Policy::parse(None, text).unwrap().to_pst().unwrap();
        let found = contradiction(Known::default(), &conjuncts(policy.body()));
        found.unwrap_or_else(|| "possible".to_owned())
    }

    #[test]
    fn what_cannot_be_is_found() {
        let cases = [
            r#"when { principal.kind == "a" && "b" == principal.kind }"#,
            r#"when { principal.kind == "a" } unless { principal.kind == "a" }"#,
            r#"when { ["a", "b"].contains(principal.kind) && principal.kind == "c" }"#,
            r#"when { ["a", "b"].contains(principal.kind) && principal.kind != "a" && principal.kind != "b" }"#,
            r#"when { context.n > 5 && context.n <= 5 }"#,
            r#"when { 5 < context.n } unless { context.n >= 2 }"#,
            r#"when { principal has code } unless { principal has code }"#,
            r#"when { principal.kind == "a" || principal.kind == "b" } when { principal.kind == "c" }"#,
            r#"when { principal in Group::"a" } unless { principal in Group::"a" || true }"#,
            r#"when { false }"#,
        ];
        let found: Vec<String> = cases.iter().map(|case| why(case)).collect();
        expect![[r#"
            `principal.kind` is to be "a" and "b" at once
            `principal.kind` is to be "a" and is not to be
            `principal.kind` is to be "a" or "b" and "c" at once
            `principal.kind` is to be "b" and is not to be
            no number is what `context.n` should be
            no number is what `context.n` should be
            `principal has code` is to hold and is not to
            `principal.kind` is to be "c" and "a" at once; and `principal.kind` is to be "c" and "b" at once
            `principal in Group::"a"` is to hold and is not to
            `false` stands where true is asked for"#]].assert_eq(&found.join("\n"));
    }

    #[test]
    fn what_can_be_is_left_alone() {
        for clauses in [
            "",
            r#"when { principal.kind == "a" && resource.kind == "b" }"#,
            r#"when { principal.kind == "a" || principal.kind == "b" }"#,
            r#"when { ["a", "b"].contains(principal.kind) } unless { principal.kind == "a" }"#,
            r#"when { context.n > 5 && context.n <= 6 }"#,
            r#"unless { principal.kind == "a" && context.n > 5 } when { principal.kind == "a" }"#,
            r#"when { principal.kind like "a*" && principal.kind == "b" }"#,
            r#"when { !(principal has code && principal.code.x == "a") && principal has code }"#,
        ] {
            assert_eq!(why(clauses), "possible", "{clauses}");
        }
    }

    /// As many alternatives as a policy may have are looked at one by one, not in all combinations.
    #[test]
    fn many_alternatives_take_no_time() {
        let one = |name: usize| format!("(context.a{name} == 1 || context.b{name} == 2)");
        let clauses: Vec<String> = (0..60).map(one).collect();
        let begun = std::time::Instant::now();
        assert_eq!(
            why(&format!("when {{ {} }}", clauses.join(" && "))),
            "possible"
        );
        assert!(begun.elapsed().as_secs() < 60);
    }
}
