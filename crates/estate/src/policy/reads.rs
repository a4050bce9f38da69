//! What a condition looks at of an entity: what two entities must have in common for it to come to the same
//! for both. Nothing is evaluated here.

use super::conditions::text;
use crate::entities::uid;
use cedar_policy::EntityUid;
use cedar_policy::pst::{BinaryOp, Expr, Literal, Template, Var};

/// Of one side of a request. What is not told apart here counts as `whole`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reads {
    /// What nodes have as texts: kind, classification, owner, labels.
    pub(crate) texts: bool,
    /// What it lies in.
    pub(crate) lineage: bool,
    /// More than that: no two entities are alike.
    pub(crate) whole: bool,
}

impl Reads {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            texts: self.texts || other.texts,
            lineage: self.lineage || other.lineage,
            whole: self.whole || other.whole,
        }
    }
}

/// What a policy's condition looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Looks {
    pub(crate) principal: Reads,
    pub(crate) resource: Reads,
    /// Entities that it names.
    pub(crate) named: Vec<EntityUid>,
}

pub(crate) fn looks(body: &Template) -> Looks {
    let mut looks = Looks::default();
    for conjunct in super::conjuncts(body) {
        looks.visit(&conjunct);
    }
    looks.named.sort();
    looks.named.dedup();
    looks
}

impl Looks {
    fn side(&mut self, expr: &Expr) -> Option<&mut Reads> {
        match expr {
            Expr::Var(Var::Principal) => Some(&mut self.principal),
            Expr::Var(Var::Resource) => Some(&mut self.resource),
            _ => None,
        }
    }

    fn visit(&mut self, expr: &Expr) {
        match expr {
            Expr::Var(_) => {
                if let Some(reads) = self.side(expr) {
                    reads.whole = true;
                }
            }
            Expr::Literal(Literal::EntityUID(named)) => {
                self.named
                    .push(uid(&named.ty.to_string(), named.eid.as_str()));
            }
            Expr::GetAttr { expr, attr } => self.attribute(expr, attr.as_str()),
            Expr::HasAttr { expr, attrs } if attrs.len() == 1 => {
                self.attribute(expr, attrs.first().as_str());
            }
            Expr::HasAttr { expr, .. } => self.visit(expr),
            Expr::BinaryOp { op, left, right } => self.operation(*op, left, right),
            Expr::Is { expr, in_expr, .. } => {
                match (self.side(expr), in_expr) {
                    // Its type is never left out of what is compared.
                    (Some(reads), within) => reads.lineage |= within.is_some(),
                    (None, _) => self.visit(expr),
                }
                if let Some(within) = in_expr {
                    self.visit(within);
                }
            }
            Expr::UnaryOp { expr, .. } | Expr::Like { expr, .. } => self.visit(expr),
            Expr::IfThenElse {
                cond,
                then_expr,
                else_expr,
            } => {
                self.visit(cond);
                self.visit(then_expr);
                self.visit(else_expr);
            }
            Expr::Set(items) => items.iter().for_each(|item| self.visit(item)),
            Expr::Record(fields) => fields.values().for_each(|value| self.visit(value)),
            Expr::Literal(_) => {}
            // Nothing else stands in a policy that was read from text.
            _ => self.anything(),
        }
    }

    fn attribute(&mut self, of: &Expr, attribute: &str) {
        let known = match of {
            Expr::Var(Var::Principal) => matches!(attribute, "kind" | "owner"),
            Expr::Var(Var::Resource) => matches!(attribute, "classification" | "owner"),
            _ => return self.visit(of),
        };
        if let Some(reads) = self.side(of) {
            reads.texts |= known;
            reads.whole |= !known;
        }
    }

    fn operation(&mut self, op: BinaryOp, left: &Expr, right: &Expr) {
        match (op, self.side(left)) {
            (BinaryOp::HasTag | BinaryOp::GetTag, Some(reads)) if text(right).is_some() => {
                reads.texts = true;
            }
            (BinaryOp::In, Some(reads)) => {
                reads.lineage = true;
                self.visit(right);
            }
            (BinaryOp::Eq, Some(reads)) if is_named(right) => {
                reads.lineage = true;
                self.visit(right);
            }
            (BinaryOp::Eq, None) if is_named(left) => {
                match self.side(right) {
                    Some(reads) => reads.lineage = true,
                    None => self.visit(right),
                }
                self.visit(left);
            }
            _ => {
                self.visit(left);
                self.visit(right);
            }
        }
    }

    const fn anything(&mut self) {
        self.principal.whole = true;
        self.resource.whole = true;
    }
}

const fn is_named(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(Literal::EntityUID(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn of(condition: &str) -> Looks {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        let policy: Policy = text.parse().unwrap();
        looks(policy.to_pst().unwrap().body())
    }

    fn shown(reads: Reads) -> String {
        let names = [
            (reads.texts, "texts"),
            (reads.lineage, "lineage"),
            (reads.whole, "whole"),
        ];
        let names = names.iter().filter(|(is, _)| *is).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_looked_at_is_told_and_the_rest_is_the_whole() {
        for (condition, principal, resource) in [
            ("context has machine", "", ""),
            ("principal.kind == \"job\"", "texts", ""),
            (
                "resource has owner && resource.owner == principal.owner",
                "texts",
                "texts",
            ),
            ("resource.ownerID == \"x\"", "", "whole"),
            ("resource has attributes", "", "whole"),
            (
                "principal.hasTag(\"t\") && principal.getTag(\"t\") == \"1\"",
                "texts",
                "",
            ),
            ("resource.hasTag(principal.owner)", "texts", "whole"),
            ("principal in Group::\"g\"", "lineage", ""),
            ("resource is Table in Schema::\"s\"", "", "lineage"),
            ("resource is Table", "", ""),
            ("resource == Table::\"t\"", "", "lineage"),
            ("Table::\"t\" == resource", "", "lineage"),
            ("resource == principal", "whole", "whole"),
            ("[Identity::\"a\"].contains(principal)", "whole", ""),
            (
                "if context has machine then principal.kind == \"a\" else resource.classification like \"a*\"",
                "texts",
                "texts",
            ),
            ("principal has attributes.region", "whole", ""),
        ] {
            let looks = of(condition);
            assert_eq!(shown(looks.principal), principal, "{condition}");
            assert_eq!(shown(looks.resource), resource, "{condition}");
        }
        let named = of("principal in Group::\"g\" && resource != Table::\"t\"").named;
        let named: Vec<_> = named.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["Group::\"g\"", "Table::\"t\""]);
    }
}
