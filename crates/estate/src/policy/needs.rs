//! What a permit for `assume` cannot do without: of the workload's facts, and of the identity. Nothing is
//! evaluated here, and nothing is said of forbids.
//!
//! A permit allows only if each of its conjuncts is true. So of a permit, unlike of a policy that must not
//! be left out where it could err, every conjunct may be used, wherever it stands: where one is false or
//! errs, the permit allows nothing.

use super::conditions::{conjuncts, text};
use super::{PolicyInfo, Scope};
use cedar_policy::pst::{BinaryOp, Expr, Literal, Var};
use facts::{FactSet, Value, names};
use std::collections::BTreeSet;

/// Of an `||` or a list with more, nothing is made.
const MOST_ALTERNATIVES: usize = 64;

/// `code.known_as`: derived of the code's digests, and no verifier's fact.
const KNOWN_AS: &str = "code.known_as";

/// One value of one fact; of a list, one of its items.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Atom {
    name: String,
    value: AtomValue,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum AtomValue {
    Bool(bool),
    Integer(i64),
    Text(String),
}

impl Atom {
    fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: AtomValue::Text(value.into()),
        }
    }
}

/// At least one of these has to be there. Of none: it can never be met.
pub(crate) type Need = BTreeSet<Atom>;

/// A text of an identity, its kind, its owner or a label, and what it has to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TextNeed {
    /// As the nodes of the graph name it: `owner`, `tag:team`.
    pub(crate) name: String,
    pub(crate) wanted: Wanted,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    Text(String),
    /// Whatever this fact of the workload says.
    Fact(String),
}

/// INVARIANT: whoever is permitted by the policy has one of each need, becoming an identity that has every text.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) facts: Vec<Need>,
    pub(crate) texts: Vec<TextNeed>,
}

/// Of a permit.
pub(crate) fn needs(permit: &PolicyInfo) -> Needs {
    let mut found = Needs::default();
    if let Some(uid) = permit.principal.uid()
        && matches!(permit.principal, Scope::In(..))
        && uid.type_name().to_string() == "Pool"
    {
        let pool = Atom::text(names::MACHINE_POOL, uid.id().unescaped());
        found.facts.push(Need::from([pool]));
    }
    for conjunct in conjuncts(&permit.body) {
        found.facts.extend(need(&conjunct));
        found.texts.extend(text_need(&conjunct));
    }
    found
}

/// Everything that a need could name of these facts. More than policies see is no harm: what is found by it
/// is decided on all the same.
pub(crate) fn atoms<'a>(
    facts: &FactSet,
    known_as: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<Atom> {
    let mut atoms: BTreeSet<Atom> = known_as
        .into_iter()
        .map(|name| Atom::text(KNOWN_AS, name))
        .collect();
    for fact in facts.iter() {
        let name = || fact.name.clone();
        match &fact.value {
            Value::Bool(value) => atoms.extend([Atom {
                name: name(),
                value: AtomValue::Bool(*value),
            }]),
            Value::Integer(value) => atoms.extend([Atom {
                name: name(),
                value: AtomValue::Integer(*value),
            }]),
            Value::Text(value) => atoms.extend([Atom::text(name(), value.as_str())]),
            Value::List(items) => {
                atoms.extend(items.iter().map(|item| Atom::text(name(), item.as_str())));
            }
        }
    }
    atoms
}

/// `None`: nothing can be said of it.
fn need(expr: &Expr) -> Option<Need> {
    match expr {
        Expr::BinaryOp { op, left, right } => match op {
            BinaryOp::And => match (need(left), need(right)) {
                (Some(left), Some(right)) if left.len() <= right.len() => Some(left),
                (left, right) => right.or(left),
            },
            BinaryOp::Or => {
                let mut either = need(left)?;
                either.extend(need(right)?);
                (either.len() <= MOST_ALTERNATIVES).then_some(either)
            }
            BinaryOp::Eq => one(left, right).or_else(|| one(right, left)),
            // `["a", "b"].contains(principal.machine.name)` or `principal.groups.contains("a")`
            BinaryOp::Contains => match left.as_ref() {
                Expr::Set(items) => any_of(&fact_name(right)?, items),
                _ => one(left, right),
            },
            BinaryOp::ContainsAny => match (left.as_ref(), right.as_ref()) {
                (Expr::Set(items), fact) | (fact, Expr::Set(items)) => {
                    any_of(&fact_name(fact)?, items)
                }
                _ => None,
            },
            BinaryOp::ContainsAll => match right.as_ref() {
                Expr::Set(items) => one(left, items.first()?),
                _ => None,
            },
            BinaryOp::In if is_principal(left) => pools(right),
            _ => None,
        },
        Expr::Is {
            expr,
            in_expr: Some(within),
            ..
        } if is_principal(expr) => pools(within),
        // Never of a workload.
        Expr::Is {
            expr, entity_type, ..
        } if is_principal(expr) && entity_type.to_string() != "Workload" => Some(Need::new()),
        Expr::GetAttr { .. } => Some(Need::from([Atom {
            name: fact_name(expr)?,
            value: AtomValue::Bool(true),
        }])),
        _ => None,
    }
}

fn one(fact: &Expr, literal: &Expr) -> Option<Need> {
    let name = fact_name(fact)?;
    let value = value(literal)?;
    Some(Need::from([Atom { name, value }]))
}

fn any_of(fact: &str, items: &[std::sync::Arc<Expr>]) -> Option<Need> {
    if items.len() > MOST_ALTERNATIVES {
        return None;
    }
    items
        .iter()
        .map(|item| {
            Some(Atom {
                name: fact.to_owned(),
                value: value(item)?,
            })
        })
        .collect()
}

/// A workload stands in the pool that its machine is placed in, and in nothing else.
fn pools(expr: &Expr) -> Option<Need> {
    let one = |expr: &Expr| match expr {
        Expr::Literal(Literal::EntityUID(uid)) if uid.ty.to_string() == "Pool" => {
            Some(Atom::text(names::MACHINE_POOL, uid.eid.as_str()))
        }
        _ => None,
    };
    match expr {
        Expr::Set(items) if items.len() <= MOST_ALTERNATIVES => {
            items.iter().map(|item| one(item)).collect()
        }
        _ => Some(Need::from([one(expr)?])),
    }
}

fn value(expr: &Expr) -> Option<AtomValue> {
    match expr {
        Expr::Literal(Literal::Bool(value)) => Some(AtomValue::Bool(*value)),
        Expr::Literal(Literal::Long(value)) => Some(AtomValue::Integer(*value)),
        Expr::Literal(Literal::String(value)) => Some(AtomValue::Text(value.to_string())),
        _ => None,
    }
}

/// The fact behind an attribute of the workload: `machine.pool` of `principal.machine.pool`, `workload.uid` of
/// `principal.uid`.
fn fact_name(expr: &Expr) -> Option<String> {
    let Expr::GetAttr { expr, attr } = expr else {
        return None;
    };
    match expr.as_ref() {
        Expr::Var(Var::Principal) if matches!(attr.as_str(), "machine" | "code") => {
            Some(attr.to_string())
        }
        Expr::Var(Var::Principal) => Some(format!("workload.{attr}")),
        inner => Some(format!("{}.{attr}", fact_name(inner)?)),
    }
}

fn text_need(conjunct: &Expr) -> Option<TextNeed> {
    let Expr::BinaryOp {
        op: BinaryOp::Eq,
        left,
        right,
    } = conjunct
    else {
        return None;
    };
    let need = |identity: &Expr, other: &Expr| {
        let name = identity_text(identity)?;
        let wanted = match text(other) {
            Some(text) => Wanted::Text(text.to_owned()),
            None => Wanted::Fact(fact_name(other)?),
        };
        Some(TextNeed { name, wanted })
    };
    need(left, right).or_else(|| need(right, left))
}

/// What the nodes of identities have among their texts.
fn identity_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::GetAttr { expr, attr }
            if is_resource(expr) && matches!(attr.as_str(), "kind" | "owner") =>
        {
            Some(attr.to_string())
        }
        Expr::BinaryOp {
            op: BinaryOp::GetTag,
            left,
            right,
        } if is_resource(left) => Some(format!("tag:{}", text(right)?)),
        _ => None,
    }
}

const fn is_principal(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(Var::Principal))
}

const fn is_resource(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(Var::Resource))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn conjunct(condition: &str) -> std::sync::Arc<Expr> {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        let policy = Policy::parse(None, text).unwrap().to_pst().unwrap();
        conjuncts(policy.body()).remove(0)
    }

    fn shown(atom: &Atom) -> String {
        match &atom.value {
            AtomValue::Bool(value) => format!("{}={value}", atom.name),
            AtomValue::Integer(value) => format!("{}={value}", atom.name),
            AtomValue::Text(value) => format!("{}={value}", atom.name),
        }
    }

    #[test]
    fn a_need_is_what_the_condition_cannot_do_without() {
        for (condition, expected) in [
            (
                r#"principal.machine.pool == "a""#,
                Some(&["machine.pool=a"][..]),
            ),
            (r#""a" == principal.unit"#, Some(&["workload.unit=a"])),
            ("principal.uid == 7", Some(&["workload.uid=7"])),
            (
                r#"principal.code.known_as.contains("x")"#,
                Some(&["code.known_as=x"]),
            ),
            (
                r#"principal.code.known_as.containsAny(["x", "y"])"#,
                Some(&["code.known_as=x", "code.known_as=y"]),
            ),
            (
                r#"principal.groups.containsAll(["x", "y"])"#,
                Some(&["workload.groups=x"]),
            ),
            (
                r#"["a", "b"].contains(principal.machine.name)"#,
                Some(&["machine.name=a", "machine.name=b"]),
            ),
            (
                r#"principal in Pool::"a" || principal.uid == 0"#,
                Some(&["machine.pool=a", "workload.uid=0"]),
            ),
            (
                r#"principal is Workload in Pool::"a""#,
                Some(&["machine.pool=a"]),
            ),
            (
                r#"principal in [Pool::"a", Pool::"b"]"#,
                Some(&["machine.pool=a", "machine.pool=b"]),
            ),
            (
                r#"(principal.uid == 0 && 1 + principal.uid > 0) || principal.uid == 2"#,
                Some(&["workload.uid=0", "workload.uid=2"]),
            ),
            (
                "principal.machine.boot.secure_boot",
                Some(&["machine.boot.secure_boot=true"]),
            ),
            (r#"principal.groups.containsAny([])"#, Some(&[])),
            ("principal is Admin", Some(&[])),
            (
                r#"principal is Admin || principal in Pool::"a""#,
                Some(&["machine.pool=a"]),
            ),
            // Here nothing is needed.
            (r#"principal.groups.containsAll([])"#, None),
            (r#"principal.machine.pool != "a""#, None),
            (r#"!(principal in Pool::"a")"#, None),
            (r#"principal in Group::"a""#, None),
            ("principal has uid", None),
            ("principal is Workload", None),
            ("principal.uid > 7", None),
            (r#"principal.machine.pool like "a*""#, None),
            (r#"principal.uid == 0 || resource.kind == "job""#, None),
            (
                r#"if principal.uid == 0 then true else resource.kind == "job""#,
                None,
            ),
            (r#"context.machine.pool == "a""#, None),
        ] {
            let found =
                need(&conjunct(condition)).map(|need| need.iter().map(shown).collect::<Vec<_>>());
            let expected = expected.map(<[&str]>::to_vec);
            assert_eq!(
                found,
                expected.map(|atoms| atoms.iter().map(ToString::to_string).collect()),
                "{condition}"
            );
        }
    }

    #[test]
    fn a_text_of_the_identity_is_compared_with_a_text_or_with_a_fact() {
        let fact = |name: &str| Wanted::Fact(name.to_owned());
        for (condition, expected) in [
            (
                r#"resource.kind == "job""#,
                Some(("kind", Wanted::Text("job".to_owned()))),
            ),
            (
                "principal.unit == resource.owner",
                Some(("owner", fact("workload.unit"))),
            ),
            (
                r#"resource.getTag("pool") == principal.machine.pool"#,
                Some(("tag:pool", fact("machine.pool"))),
            ),
            (r#"resource.kind != "job""#, None),
            ("resource.kind == resource.owner", None),
        ] {
            let found = text_need(&conjunct(condition));
            let expected = expected.map(|(name, wanted)| TextNeed {
                name: name.to_owned(),
                wanted,
            });
            assert_eq!(found, expected, "{condition}");
        }
    }
}
