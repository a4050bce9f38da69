//! What a condition looks at, of all its parts: comparisons with literals, texts, names of facts; and which
//! of them the policy wants, and which keep it from applying.

use crate::policy::path;
use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template, UnaryOp};
use std::cell::RefCell;

/// What a fact is to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// It applies to what has the fact: `when { … }`, or a denial in `unless`.
    Wanted,
    /// It does not apply to what has the fact: `unless { … }`, or a denial in `when`.
    Exempting,
}

impl Role {
    const fn other(self) -> Self {
        match self {
            Self::Wanted => Self::Exempting,
            Self::Exempting => Self::Wanted,
        }
    }
}

/// A path and the texts that it is compared with: `principal.kind` and `ai-agent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) path: String,
    pub(super) texts: Vec<String>,
}

/// Calls `look` on every part of the policy's conditions.
fn each(body: &Template, look: impl Fn(&Expr)) {
    for clause in body.clauses() {
        let (Clause::When(expr) | Clause::Unless(expr)) = clause;
        expr.reduce(
            &|part| {
                look(part);
                None::<()>
            },
            &|(), ()| (),
            (),
        );
    }
}

/// Every comparison of a path with texts, whichever way round and whether wanted or not.
pub(super) fn comparisons(body: &Template) -> Vec<Comparison> {
    let found = RefCell::new(Vec::new());
    each(body, |part| found.borrow_mut().extend(comparison(part)));
    found.into_inner()
}

fn comparison(part: &Expr) -> Option<Comparison> {
    let Expr::BinaryOp { op, left, right } = part else {
        return None;
    };
    match op {
        BinaryOp::Eq | BinaryOp::NotEq => compared(left, right).or_else(|| compared(right, left)),
        // `["a", "b"].contains(principal.kind)`, and `principal.code.known_as.contains("a")`
        BinaryOp::Contains => compared(right, left).or_else(|| compared(left, right)),
        BinaryOp::ContainsAny | BinaryOp::ContainsAll => compared(left, right),
        _ => None,
    }
}

/// Comparisons with what each is to the policy.
pub(super) fn comparisons_by_role(body: &Template) -> Vec<(Comparison, Role)> {
    let mut found = Vec::new();
    by_role(body, &mut |part, role| {
        let Some(comparison) = comparison(part) else {
            return;
        };
        let unlike = matches!(
            part,
            Expr::BinaryOp {
                op: BinaryOp::NotEq,
                ..
            }
        );
        found.push((comparison, if unlike { role.other() } else { role }));
    });
    found
}

/// Paths that are read, with what each is to the policy, each pair once. `!(has x) || x` guards the reading
/// of `x`, and does not deny it: where a path is read for its value, that counts and not its guard.
pub(super) fn paths_by_role(body: &Template) -> Vec<(String, Role)> {
    let (mut guards, mut values) = (Vec::new(), Vec::new());
    by_role(body, &mut |part, role| {
        let found = match part {
            Expr::HasAttr { .. } => &mut guards,
            _ => &mut values,
        };
        found.extend(path(part).map(|path| (path, role)));
    });
    guards.retain(|(guard, _)| {
        let below = |value: &str| {
            value
                .strip_prefix(guard.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !values.iter().any(|(value, _)| below(value))
    });
    values.extend(guards);
    values.sort();
    values.dedup();
    values
}

/// Calls `look` on every part of the conditions up to a path, with what a fact there is to the policy.
fn by_role(body: &Template, look: &mut impl FnMut(&Expr, Role)) {
    for clause in body.clauses() {
        match clause {
            Clause::When(expr) => descend(expr, Role::Wanted, look),
            Clause::Unless(expr) => descend(expr, Role::Exempting, look),
        }
    }
}

fn descend(expr: &Expr, role: Role, look: &mut impl FnMut(&Expr, Role)) {
    look(expr, role);
    if path(expr).is_some() {
        return;
    }
    match expr {
        Expr::UnaryOp {
            op: UnaryOp::Not,
            expr,
        } => descend(expr, role.other(), look),
        // Of `fact == false`, whoever has the fact as false is meant.
        Expr::UnaryOp { expr, .. } | Expr::Like { expr, .. } | Expr::Is { expr, .. } => {
            descend(expr, role, look);
        }
        Expr::BinaryOp { left, right, .. } => {
            descend(left, role, look);
            descend(right, role, look);
        }
        Expr::IfThenElse {
            cond,
            then_expr,
            else_expr,
        } => {
            descend(cond, role, look);
            descend(then_expr, role, look);
            descend(else_expr, role, look);
        }
        Expr::Set(items) => {
            for item in items {
                descend(item, role, look);
            }
        }
        _ => {}
    }
}

fn compared(path_of: &Expr, texts_of: &Expr) -> Option<Comparison> {
    let texts = match texts_of {
        Expr::Literal(Literal::String(text)) => vec![text.to_string()],
        Expr::Set(items) => items
            .iter()
            .map(|item| match item.as_ref() {
                Expr::Literal(Literal::String(text)) => Some(text.to_string()),
                _ => None,
            })
            .collect::<Option<_>>()?,
        _ => return None,
    };
    let path = path(path_of)?;
    Some(Comparison { path, texts })
}

/// Every text that stands in the conditions.
pub(super) fn texts(body: &Template) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    each(body, |part| {
        if let Expr::Literal(Literal::String(text)) = part {
            found.borrow_mut().push(text.to_string());
        }
    });
    found.into_inner()
}

/// The paths that the conditions read, the longest form of each.
pub(super) fn paths(body: &Template) -> Vec<String> {
    let mut found: Vec<String> = body
        .clauses()
        .iter()
        .flat_map(|clause| {
            let (Clause::When(expr) | Clause::Unless(expr)) = clause;
            crate::policy::paths(expr)
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The fact that a path reads: `machine.join` of `principal.machine.join`, where the principal is a
/// workload, and of `context.machine.join`; `workload.uid` of `principal.uid`.
pub(super) fn fact_of(path: &str) -> Option<String> {
    if let Some(fact) = path.strip_prefix("context.") {
        return Some(fact.to_owned());
    }
    let own = path.strip_prefix("principal.")?;
    if own.starts_with("getTag(") || matches!(own, "kind" | "owner") {
        return None;
    }
    let of_machine_or_code = ["machine", "code"].into_iter().any(|branch| {
        own == branch
            || own
                .strip_prefix(branch)
                .is_some_and(|rest| rest.starts_with('.'))
    });
    Some(if of_machine_or_code {
        own.to_owned()
    } else {
        format!("workload.{own}")
    })
}
