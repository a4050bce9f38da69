//! A use of a column is a use of its table as well: whoever asks about a column is answered of both, where the estate
//! decides on columns. Which columns a statement touches gateways know, and ask the table and each of them alone.

use crate::action::Action;
use crate::ask::{Access, Residual};
use crate::authorize::Prepared;
use crate::chain::{Chain, ChainDecision, ChainExplanation, ChainFacts};
use crate::decision::{Decision, PolicyRef};
use crate::estate::Estate;
use crate::regardless::Regardless;
use crate::resource::{ResourceKind, ResourceRef};
use facts::FactSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of a column, whether its table is asked as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    WithTable,
    Alone,
}

/// The same questions about one resource alone, each one question to Cedar: for who asks the table of a column by
/// itself, as a gateway does of a statement, and for who makes a record again that names both.
#[derive(Debug, Clone, Copy)]
pub struct Alone<'a>(&'a Estate);

impl Estate {
    /// What has to be allowed beside `resource`: of a column its table, where the estate decides on columns. An action
    /// of the estate's own is decided of columns alone.
    #[must_use]
    pub fn table_asked(&self, action: Action, resource: &ResourceRef) -> Option<ResourceRef> {
        let of_column = resource.kind == ResourceKind::Column
            && action.is_by_column()
            && self.decides_columns();
        of_column.then(|| resource.parent()).flatten()
    }

    #[must_use]
    pub const fn alone(&self) -> Alone<'_> {
        Alone(self)
    }

    /// `own` of the resource alone, and of the table of a column that is allowed what `ask` says: both have to allow.
    pub(crate) fn with_table(
        &self,
        own: Decision,
        action: Action,
        resource: &ResourceRef,
        ask: impl FnOnce(&ResourceRef) -> Decision,
    ) -> Decision {
        let table = self.table_asked(action, resource);
        let Some(table) = table.filter(|_| own.allow) else {
            return own;
        };
        let of_table = ask(&table);
        if of_table.allow {
            own.and(of_table)
        } else {
            of_table.of(table)
        }
    }

    /// As [`Estate::with_table`], where no facts are known.
    pub(crate) fn regardless_with_table(
        &self,
        own: Regardless,
        action: Action,
        resource: &ResourceRef,
        ask: impl FnOnce(&ResourceRef) -> Regardless,
    ) -> Regardless {
        let table = self.table_asked(action, resource);
        let Some(table) = table.filter(|_| own.is_possible()) else {
            return own;
        };
        let of_table = ask(&table);
        if !of_table.is_possible() {
            return Regardless {
                decision: of_table.decision.of(table),
                depends: None,
            };
        }
        match (own.depends, of_table.depends) {
            (None, None) => Regardless {
                decision: own.decision.and(of_table.decision),
                depends: None,
            },
            (None, Some(depends)) => Regardless {
                decision: of_table.decision.of(table),
                depends: Some(Access {
                    resource: resource.clone(),
                    ..depends.given_by(own.decision.policies)
                }),
            },
            (Some(depends), None) => Regardless {
                decision: own.decision,
                depends: Some(depends.given_by(of_table.decision.policies)),
            },
            (Some(depends), Some(more)) => Regardless {
                decision: own.decision,
                depends: Some(depends.and(more)),
            },
        }
    }
}

impl Alone<'_> {
    /// As [`Estate::decide_prepared`].
    pub fn decide_prepared(
        self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
        prepared: &Prepared,
    ) -> Decision {
        self.0.decide_alone(principal, action, resource, prepared)
    }

    /// As [`Estate::decide_regardless`].
    #[must_use]
    pub fn decide_regardless(
        self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
    ) -> Regardless {
        self.0.regardless_alone(principal, action, resource)
    }

    /// As [`Estate::decide_chain`].
    pub fn decide_chain(
        self,
        chain: &Chain,
        action: Action,
        resource: &ResourceRef,
        facts: &ChainFacts,
    ) -> ChainDecision {
        self.0
            .chain_asked(chain, (action, resource), facts, Extent::Alone)
    }

    /// As [`Estate::why_chain`].
    #[must_use]
    pub fn why_chain(
        self,
        chain: &Chain,
        action: Action,
        resource: &ResourceRef,
        facts: &FactSet,
        earlier: &BTreeMap<String, FactSet>,
    ) -> ChainExplanation {
        self.0
            .why_chain_asked(chain, (action, resource), (facts, earlier), Extent::Alone)
    }
}

impl Regardless {
    /// Whether some facts could make it an allow.
    fn is_possible(&self) -> bool {
        self.decision.allow || self.depends.is_some()
    }
}

impl Decision {
    /// An allow, where `other` allows as well: what determined both.
    fn and(self, other: Self) -> Self {
        let mut policies = self.policies;
        for policy in other.policies {
            if !policies.contains(&policy) {
                policies.push(policy);
            }
        }
        policies.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
        Self { policies, ..self }
    }

    /// A denial of the table, of one of its columns, which is allowed.
    pub(crate) fn of(self, table: ResourceRef) -> Self {
        Self {
            of_table: Some(table),
            ..self
        }
    }
}

impl Access {
    /// The same, where `table` has to hold as well.
    pub(crate) fn and(self, table: Self) -> Self {
        let both = self.given_by(table.policies);
        Self {
            when: one_of_each(both.when, table.when),
            unless: sorted(both.unless, table.unless),
            if_defined: sorted(both.if_defined, table.if_defined),
            ..both
        }
    }

    fn given_by(self, more: Vec<Arc<PolicyRef>>) -> Self {
        Self {
            policies: sorted(self.policies, more),
            ..self
        }
    }
}

fn sorted<T: Ord>(mut all: Vec<T>, more: Vec<T>) -> Vec<T> {
    all.extend(more);
    all.sort();
    all.dedup();
    all
}

/// Of two lists of which one each has to hold, one such list. Empty: nothing has to.
fn one_of_each(own: Vec<Residual>, table: Vec<Residual>) -> Vec<Residual> {
    if own.is_empty() || table.is_empty() {
        return sorted(own, table);
    }
    let within = |one: &Residual, all: &[Residual]| {
        let mut all = all.iter();
        all.any(|other| other.condition == one.condition)
    };
    let (mut both, own): (Vec<_>, Vec<_>) = own.into_iter().partition(|one| within(one, &table));
    let table: Vec<Residual> = table
        .into_iter()
        .filter(|one| !within(one, &both))
        .collect();
    if let (Some(first), false) = (own.first(), table.is_empty()) {
        both.push(Residual {
            policy: Arc::clone(&first.policy),
            condition: format!("{} && {}", any_of(&own), any_of(&table)),
        });
    }
    both.sort();
    both
}

fn any_of(all: &[Residual]) -> String {
    let each: Vec<String> = all
        .iter()
        .map(|one| format!("({})", one.condition))
        .collect();
    match each.as_slice() {
        [one] => one.clone(),
        _ => format!("({})", each.join(" || ")),
    }
}
