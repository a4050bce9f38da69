//! Reads conditions as trees: their conjuncts, what they look at, and what must hold first.
//! Nothing is evaluated here.

use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template, UnaryOp, Var};
use std::sync::Arc;

/// Which part of a request an attribute belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    Principal,
    Resource,
    /// The facts of the session: `context`.
    Facts,
}

/// `principal.kind == "ai-agent"`: without it the policy does not apply, with no error possible
/// before it was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Guard {
    pub(crate) side: Side,
    /// An attribute, or `tag:name`; of facts the fact's name: `machine.tpm.kind`.
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The conjuncts of all `when` clauses, and whole `unless` clauses negated, in the order in which
/// Cedar evaluates them.
pub(crate) fn conjuncts(body: &Template) -> Vec<Arc<Expr>> {
    let mut found = Vec::new();
    for clause in body.clauses() {
        match clause {
            Clause::When(expr) => flatten(expr, &mut found),
            Clause::Unless(expr) => found.push(Arc::new(Expr::UnaryOp {
                op: UnaryOp::Not,
                expr: Arc::clone(expr),
            })),
        }
    }
    found
}

fn flatten(expr: &Arc<Expr>, into: &mut Vec<Arc<Expr>>) {
    match expr.as_ref() {
        Expr::BinaryOp {
            op: BinaryOp::And,
            left,
            right,
        } => {
            flatten(left, into);
            flatten(right, into);
        }
        _ => into.push(Arc::clone(expr)),
    }
}

/// The guards among the leading conjuncts that cannot err, the most selective first. What stands
/// after one that can err must not be used: Cedar would have met the error first, and an error is a
/// denial.
pub(crate) fn guards(body: &Template) -> Vec<Guard> {
    let mut found = Vec::new();
    let mut ensured = Ensured::default();
    for conjunct in conjuncts(body) {
        match total(&conjunct, &mut ensured) {
            Total::No => break,
            Total::Other => {}
            Total::Guard(guard) => found.push(guard),
        }
    }
    found.sort_by_key(|guard| std::cmp::Reverse(weight(guard)));
    found
}

/// Labels and owners split an estate finer than kinds and classifications do; facts differ between
/// sessions, not between what is declared.
fn weight(guard: &Guard) -> u8 {
    match (guard.side, guard.name.as_str()) {
        (Side::Facts, _) => 0,
        (_, "kind") => 1,
        (_, "classification") => 2,
        (_, "owner") => 3,
        _ => 4,
    }
}

/// What earlier conjuncts have asked for, so that reading it cannot err.
#[derive(Default)]
struct Ensured {
    tags: Vec<(Side, String)>,
    /// Names of facts, and of what holds them: `machine.tpm`.
    facts: Vec<String>,
}

impl Ensured {
    /// The name of what `expr` reads of the context, if it is there.
    fn fact(&self, expr: &Expr) -> Option<String> {
        let name = fact_name(expr)?;
        (REQUIRED.contains(&name.as_str()) || self.facts.contains(&name)).then_some(name)
    }
}

/// The base schema requires these of every context that has any attributes.
const REQUIRED: [&str; 2] = ["machine", "workload"];

enum Total {
    /// It may err.
    No,
    Other,
    Guard(Guard),
}

fn total(conjunct: &Expr, ensured: &mut Ensured) -> Total {
    match conjunct {
        Expr::HasAttr { expr, attrs } => {
            let mut name = match expr.as_ref() {
                Expr::Var(Var::Context) => String::new(),
                inner => match ensured.fact(inner) {
                    Some(name) => name,
                    None => return Total::No,
                },
            };
            for attr in attrs {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(attr.as_str());
                ensured.facts.push(name.clone());
            }
            Total::Other
        }
        Expr::BinaryOp {
            op: BinaryOp::HasTag,
            left,
            right,
        } => match (side(left), text(right)) {
            (Some(side), Some(tag)) => {
                ensured.tags.push((side, tag.to_owned()));
                Total::Other
            }
            _ => Total::No,
        },
        Expr::BinaryOp {
            op: BinaryOp::Eq,
            left,
            right,
        } => match comparison(left, right, ensured).or_else(|| comparison(right, left, ensured)) {
            Some(guard) => Total::Guard(guard),
            None => Total::No,
        },
        Expr::Is {
            expr,
            in_expr: None,
            ..
        } if side(expr).is_some() => Total::Other,
        _ => Total::No,
    }
}

/// An attribute that every entity of its type has, or a tag or fact known to be there, against a text.
fn comparison(left: &Expr, right: &Expr, ensured: &Ensured) -> Option<Guard> {
    let value = text(right)?.to_owned();
    match left {
        Expr::GetAttr { expr, attr } => {
            if let Some(name) = ensured.fact(left) {
                return Some(Guard {
                    side: Side::Facts,
                    name,
                    value,
                });
            }
            let side = side(expr)?;
            let required = match side {
                Side::Principal => matches!(attr.as_str(), "kind" | "owner"),
                // `owner` is optional on tables, so asking for it may err.
                Side::Resource => attr == "classification",
                Side::Facts => false,
            };
            required.then(|| Guard {
                side,
                name: attr.to_string(),
                value,
            })
        }
        Expr::BinaryOp {
            op: BinaryOp::GetTag,
            left,
            right,
        } => {
            let tag = (side(left)?, text(right)?.to_owned());
            ensured.tags.contains(&tag).then(|| Guard {
                side: tag.0,
                name: format!("tag:{}", tag.1),
                value,
            })
        }
        _ => None,
    }
}

/// `machine.tpm.kind` of `context.machine.tpm.kind`.
fn fact_name(expr: &Expr) -> Option<String> {
    let Expr::GetAttr { expr, attr } = expr else {
        return None;
    };
    match expr.as_ref() {
        Expr::Var(Var::Context) => Some(attr.to_string()),
        inner => Some(format!("{}.{attr}", fact_name(inner)?)),
    }
}

const fn side(expr: &Expr) -> Option<Side> {
    match expr {
        Expr::Var(Var::Principal) => Some(Side::Principal),
        Expr::Var(Var::Resource) => Some(Side::Resource),
        _ => None,
    }
}

pub(super) fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(Literal::String(text)) => Some(text.as_str()),
        _ => None,
    }
}

/// Every attribute path that an expression reads, longest form: `principal.machine.tpm.kind`.
pub(crate) fn paths(expr: &Expr) -> Vec<String> {
    expr.reduce(
        &|node| path(node).map(|path| vec![path]),
        &|mut left: Vec<String>, right| {
            for path in right {
                if !left.contains(&path) {
                    left.push(path);
                }
            }
            left
        },
        Vec::new(),
    )
}

pub(crate) fn path(expr: &Expr) -> Option<String> {
    match expr {
        Expr::GetAttr { expr, attr } => Some(format!("{}.{attr}", root(expr)?)),
        Expr::HasAttr { expr, attrs } => {
            let names: Vec<&str> = attrs.iter().map(|name| name.as_str()).collect();
            Some(format!("{}.{}", root(expr)?, names.join(".")))
        }
        Expr::BinaryOp {
            op: BinaryOp::GetTag,
            left,
            right,
        } => Some(format!("{}.getTag({:?})", root(left)?, text(right)?)),
        _ => None,
    }
}

fn root(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Var(Var::Principal) => Some("principal".to_owned()),
        Expr::Var(Var::Resource) => Some("resource".to_owned()),
        Expr::Var(Var::Context) => Some("context".to_owned()),
        other => path(other),
    }
}

/// The names that a conjunct wants code to go by: of `….known_as.contains("payments-api")` and
/// `….known_as.containsAny(["a", "b"])`.
pub(crate) fn known_as_names(conjunct: &Expr) -> Vec<String> {
    let Expr::BinaryOp { op, left, right } = conjunct else {
        return Vec::new();
    };
    let on_names = path(left).is_some_and(|path| path.ends_with(".code.known_as"));
    match (op, right.as_ref()) {
        (BinaryOp::Contains, right) if on_names => {
            text(right).map(str::to_owned).into_iter().collect()
        }
        (BinaryOp::ContainsAny | BinaryOp::ContainsAll, Expr::Set(items)) if on_names => items
            .iter()
            .filter_map(|item| text(item))
            .map(str::to_owned)
            .collect(),
        (BinaryOp::Or, right) => {
            let mut names = known_as_names(left);
            names.extend(known_as_names(right));
            names
        }
        _ => Vec::new(),
    }
}

/// Whether a strictly valid expression can err at run time: by overflow, or where partial evaluation
/// has found that it does. Extension functions take literals only, which validation has evaluated.
pub(crate) fn may_err(expr: &Expr) -> bool {
    expr.reduce(
        &|node| {
            let errs = matches!(
                node,
                Expr::BinaryOp {
                    op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul,
                    ..
                } | Expr::UnaryOp {
                    op: UnaryOp::Neg,
                    ..
                } | Expr::ResidualError
            );
            errs.then_some(true)
        },
        &|left, right| left || right,
        false,
    )
}

/// Whether the condition holds only on machines that it names: some conjunct compares
/// `principal.machine.name` or `.pool` with literals, or asks for a pool. Of an `||`, both sides.
pub(crate) fn names_machines(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryOp {
            op: BinaryOp::And,
            left,
            right,
        } => names_machines(left) || names_machines(right),
        Expr::BinaryOp {
            op: BinaryOp::Or,
            left,
            right,
        } => names_machines(left) && names_machines(right),
        Expr::BinaryOp {
            op: BinaryOp::Eq,
            left,
            right,
        } => {
            (is_placement(left) && text(right).is_some())
                || (is_placement(right) && text(left).is_some())
        }
        Expr::BinaryOp {
            op: BinaryOp::Contains,
            left,
            right,
        } => matches!(left.as_ref(), Expr::Set(_)) && is_placement(right),
        Expr::BinaryOp {
            op: BinaryOp::In,
            left,
            ..
        } => side(left) == Some(Side::Principal),
        Expr::Is {
            expr,
            in_expr: Some(_),
            ..
        } => side(expr) == Some(Side::Principal),
        _ => false,
    }
}

fn is_placement(expr: &Expr) -> bool {
    path(expr).is_some_and(|path| {
        matches!(
            path.as_str(),
            "principal.machine.name" | "principal.machine.pool"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn body(condition: &str) -> Template {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        Policy::parse(None, text)
            .unwrap()
            .to_pst()
            .unwrap()
            .body()
            .clone()
    }

    #[test]
    fn a_guard_is_taken_only_before_anything_that_can_err() {
        for (condition, expected) in [
            (
                r#"principal.kind == "ai-agent" && context.x.y"#,
                Some("kind"),
            ),
            (
                r#"resource.classification == "pii" && principal.owner == "x""#,
                Some("owner"),
            ),
            (
                r#"principal.hasTag("t") && principal.getTag("t") == "a""#,
                Some("tag:t"),
            ),
            (r#"principal.getTag("t") == "a""#, None),
            (
                r#"1 + context.n == 2 && principal.kind == "ai-agent""#,
                None,
            ),
            (r#"principal.kind == "a" || principal.kind == "b""#, None),
            (r#"resource.owner == "x""#, None),
            (
                r#"context.machine has join && context.machine.join == "tpm""#,
                Some("machine.join"),
            ),
            (
                r#"context.machine has tpm.kind && "discrete" == context.machine.tpm.kind"#,
                Some("machine.tpm.kind"),
            ),
            (
                r#"context has code && context.code has source && context.code.source == "x""#,
                Some("code.source"),
            ),
            (
                r#"context.machine has tpm && context.machine.tpm.kind == "x""#,
                None,
            ),
            (
                r#"context.code has source && context.code.source == "x""#,
                None,
            ),
            (
                r#"(context.machine has join || true) && context.machine.join == "tpm""#,
                None,
            ),
        ] {
            let found = guards(&body(condition));
            assert_eq!(
                found.first().map(|guard| guard.name.as_str()),
                expected,
                "{condition}"
            );
        }
    }

    #[test]
    fn an_alternative_without_a_machine_names_none() {
        for (condition, expected) in [
            (r#"principal.machine.pool == "a""#, true),
            (r#"["a", "b"].contains(principal.machine.name)"#, true),
            (
                r#"principal in Pool::"a" || principal.machine.name == "b""#,
                true,
            ),
            (r#"principal in Pool::"a" || principal.uid == 0"#, false),
            (r#"!(principal in Pool::"a")"#, false),
            (r#"principal.machine.pool != "a""#, false),
        ] {
            let conjuncts = conjuncts(&body(condition));
            assert_eq!(
                conjuncts.iter().any(|one| names_machines(one)),
                expected,
                "{condition}"
            );
        }
    }
}
