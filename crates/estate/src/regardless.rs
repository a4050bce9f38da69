//! Decisions for who does not know the facts of the session, and what there is to ask about.
//!
//! Without facts `context` is empty, and a `forbid` that looks at one forbids nothing. So an allow counts
//! here only if every session would get it, whatever its facts are.

use crate::action::Action;
use crate::ask::{Access, Partial};
use crate::decision::Decision;
use crate::entities::resource_of;
use crate::estate::Estate;
use crate::resource::ResourceRef;
use cedar_policy::PolicyId;
use facts::FactSet;

/// What holds whatever the facts of the session are.
#[derive(Debug, Clone)]
pub struct Regardless {
    /// Allows only what is allowed for any facts.
    pub decision: Decision,
    /// Of a denial that some facts would turn into an allow: under which conditions.
    pub depends: Option<Access>,
}

impl Estate {
    /// May this identity do this to that, whatever the facts of its session are?
    #[must_use]
    pub fn decide_regardless(
        &self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
    ) -> Regardless {
        let alone = |resource: &ResourceRef| self.regardless_alone(principal, action, resource);
        self.regardless_with_table(alone(resource), action, resource, alone)
    }

    pub(crate) fn regardless_alone(
        &self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
    ) -> Regardless {
        let only = |decision| Regardless {
            decision,
            depends: None,
        };
        let prepared = self.prepare(&FactSet::new());
        let case = match self.use_case(principal, action, resource, &prepared) {
            Ok(case) => case,
            Err(unanswerable) => return only(unanswerable.decision()),
        };
        match self.partially(&case) {
            Err(error) => only(Decision::error("ESTATE-EVALUATION", error)),
            Ok(None) => only(Decision::deny()),
            Ok(Some(partial)) if partial.certain() => only(Decision {
                allow: true,
                ..self.determined(&partial.true_permits)
            }),
            Ok(Some(partial)) if partial.possible() => Regardless {
                decision: Decision::deny(),
                depends: Some(self.access(principal, action, resource.clone(), &partial)),
            },
            Ok(Some(partial)) => only(self.denied(&partial)),
        }
    }

    fn denied(&self, partial: &Partial) -> Decision {
        let errors = partial.errors.iter().map(|id| {
            let id = id.to_string();
            format!("ESTATE-EVALUATION: policy {id:?} errs, which denies")
        });
        Decision {
            errors: errors.collect(),
            ..self.determined(&partial.true_forbids)
        }
    }

    /// A denial with the reasons `ids`.
    fn determined(&self, ids: &[PolicyId]) -> Decision {
        let mut policies: Vec<_> = ids
            .iter()
            .filter_map(|id| Some(self.policies.find(id)?.reference.clone()))
            .collect();
        policies.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
        Decision {
            policies,
            ..Decision::deny()
        }
    }

    /// Everything declared that identities use, in order of kind and path. What no file lists is used as
    /// well, and cannot be listed.
    #[must_use]
    pub fn used_resources(&self) -> Vec<ResourceRef> {
        let used = |resource: &ResourceRef| {
            let mut uses = self.uses();
            uses.any(|action| self.resource_kinds(action).contains(&resource.kind))
        };
        let nodes = self.graph.nodes().iter();
        let mut found: Vec<_> = nodes
            .filter_map(|node| resource_of(&node.uid))
            .filter(used)
            .collect();
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::EstateFiles;

    const POLICIES: &str = r#"
@id("reads")
permit (principal == Identity::"a", action == Action::"select", resource == Table::"shop/public/cards");
@id("reads orders by tpm")
permit (principal == Identity::"a", action == Action::"select", resource == Table::"shop/public/orders")
when { context has machine && context.machine has join && context.machine.join == "tpm" };
@id("never by token")
forbid (principal, action == Action::"insert", resource)
when { context has machine && context.machine has join && context.machine.join == "token" };
@id("writes")
permit (principal == Identity::"a", action == Action::"insert", resource == Table::"shop/public/cards");
"#;

    fn estate() -> Estate {
        let mut files = EstateFiles::new();
        files.insert("estate.toml", "trust_domain = \"example.org\"\n");
        files.insert(
            "identities/a.toml",
            "[[identity]]\npath = \"a\"\nkind = \"service\"\nowner = \"us\"\nvisible = [\"machine.join\"]\n",
        );
        files.insert(
            "resources/shop.toml",
            "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
             [[database.schema.table]]\nname = \"cards\"\n[[database.schema.table]]\nname = \"orders\"\n",
        );
        files.insert("policies/a.cedar", POLICIES);
        Estate::compile(&files).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn a_forbid_that_looks_at_a_fact_is_not_passed_by_telling_none() {
        let estate = estate();
        let cards = ResourceRef::table("shop/public/cards");
        let reads = estate.decide_regardless("a", Action::Select, &cards);
        assert!(reads.decision.allow && reads.depends.is_none());
        assert_eq!(reads.decision.policy_ids(), ["reads"]);
        let writes = estate.decide_regardless("a", Action::Insert, &cards);
        assert!(!writes.decision.allow);
        assert_eq!(writes.depends.unwrap().unless.len(), 1);
        // By facts that are known to be none it would be let through.
        let none = FactSet::new();
        let request = crate::Request {
            principal: "a",
            action: Action::Insert,
            resource: cards,
            facts: &none,
        };
        assert!(estate.decide(&request).allow);
    }

    #[test]
    fn a_permit_that_asks_for_a_fact_says_for_which() {
        let estate = estate();
        let orders = ResourceRef::table("shop/public/orders");
        let reads = estate.decide_regardless("a", Action::Select, &orders);
        assert!(!reads.decision.allow);
        assert_eq!(reads.depends.unwrap().when.len(), 1);
        let nobody = estate.decide_regardless("b", Action::Select, &orders);
        assert!(!nobody.decision.allow && !nobody.decision.errors.is_empty());
    }

    #[test]
    fn what_is_used_is_listed_and_who_uses_it_is_not() {
        let used = estate().used_resources();
        let names: Vec<_> = used.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "Database::\"shop\"",
                "Schema::\"shop/public\"",
                "Table::\"shop/public/cards\"",
                "Table::\"shop/public/orders\""
            ]
        );
    }
}
