//! What a condition looks at, of all its parts: comparisons with literals, texts, names of facts.

use crate::policy::path;
use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template};
use std::cell::RefCell;

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
    each(body, |part| {
        let Expr::BinaryOp { op, left, right } = part else {
            return;
        };
        let comparison = match op {
            BinaryOp::Eq | BinaryOp::NotEq => {
                compared(left, right).or_else(|| compared(right, left))
            }
            // `["a", "b"].contains(principal.kind)`, and `principal.code.known_as.contains("a")`
            BinaryOp::Contains => compared(right, left).or_else(|| compared(left, right)),
            BinaryOp::ContainsAny | BinaryOp::ContainsAll => compared(left, right),
            _ => None,
        };
        found.borrow_mut().extend(comparison);
    });
    found.into_inner()
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
