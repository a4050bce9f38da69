//! Who can, what can, and what to grant: complete answers over the declared estate, with conditions
//! on facts left standing as conditions.
//!
//! The index says which pairs some permit could concern; of those Cedar's type-aware partial
//! evaluation, with the session's facts unknown, leaves true, false, or a residual condition.

mod accesses;
mod cursor;
mod plain;
mod sweep;

pub use accesses::{Accesses, Page};
pub(crate) use cursor::Place;
pub use cursor::{Cursor, CursorError};
pub(crate) use sweep::Below;

use crate::action::Action;
use crate::authorize::{Case, Prepared};
use crate::decision::PolicyRef;
use crate::estate::Estate;
use crate::policy::{conjuncts, may_err};
use crate::resource::{ResourceKind, ResourceRef};
use cedar_policy::{
    Effect, EntityUid, PartialEntities, PartialEntityUid, PartialRequest, Policy, PolicyId,
    PolicySet, TpeResponse,
};
use facts::FactSet;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One way in which an identity can use a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Access {
    /// Identity path.
    pub identity: String,
    pub action: Action,
    /// For an action on tables or functions, a schema stands for every one in it that no file lists, a
    /// database for every one in a schema that no file lists, and the database `*` for every other
    /// database; so do a tool server and an API for what they have beyond what is listed.
    pub resource: ResourceRef,
    /// The permits that give it, definitely or under a condition.
    pub policies: Vec<Arc<PolicyRef>>,
    /// Unless empty: one of these must hold.
    pub when: Vec<Residual>,
    /// None of these may hold.
    pub unless: Vec<Residual>,
    /// Each of these must evaluate without an error, such as an overflow, which denies.
    pub if_defined: Vec<Residual>,
}

impl Access {
    /// Whether it holds whatever the session's facts are.
    #[must_use]
    pub const fn is_unconditional(&self) -> bool {
        self.when.is_empty() && self.unless.is_empty() && self.if_defined.is_empty()
    }
}

/// What is left of a policy's condition once everything but the session's facts is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Residual {
    pub policy: Arc<PolicyRef>,
    /// Cedar text over `context`.
    pub condition: String,
}

/// All accesses that were asked for, in order of identity, action, resource.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// The estate's version, SHA-256 hex.
    pub estate: String,
    pub accesses: Vec<Access>,
    /// What could not be evaluated. An answer with errors is not complete, and says so.
    pub errors: Vec<String>,
}

/// What a per-identity role needs on one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// As in [`Access::resource`].
    pub resource: ResourceRef,
    /// Allowed whatever the facts are.
    pub actions: Vec<Action>,
    /// Allowed for some facts: the role needs them, the gateway decides each time.
    pub conditional: Vec<Action>,
}

/// What the policies come to when the facts are unknown.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    pub(crate) true_permits: Vec<PolicyId>,
    pub(crate) true_forbids: Vec<PolicyId>,
    /// With their conditions.
    pub(crate) residual_permits: Vec<(PolicyId, String)>,
    pub(crate) residual_forbids: Vec<(PolicyId, String)>,
    pub(crate) fragile: Vec<(PolicyId, String)>,
    pub(crate) errors: Vec<PolicyId>,
}

impl Partial {
    /// Whether all facts make it an allow.
    pub(crate) fn certain(&self) -> bool {
        self.possible()
            && !self.true_permits.is_empty()
            && self.residual_forbids.is_empty()
            && self.fragile.is_empty()
    }

    /// Whether some facts could make it an allow.
    pub(crate) fn possible(&self) -> bool {
        self.errors.is_empty()
            && self.true_forbids.is_empty()
            && !(self.true_permits.is_empty() && self.residual_permits.is_empty())
    }
}

/// Asked of a version one by one, before all its entities are made ready.
const FEW_QUESTIONS: usize = 256;

/// A name that PostgreSQL cannot give anything and that no policy names.
const UNLISTED: &str = "\u{1}";

pub(crate) const fn undeclared_name() -> &'static str {
    UNLISTED
}

/// The databases, tool servers and APIs that no file lists.
pub(crate) fn elsewhere() -> [ResourceRef; 3] {
    [
        ResourceKind::Database,
        ResourceKind::ToolServer,
        ResourceKind::Api,
    ]
    .map(|kind| ResourceRef::new(kind, "*"))
}

/// What an action on `kinds` applies to in `container` and no file lists: one of each kind stands for all of it.
/// In a declared database these are the schemas that are not declared; what is in a declared schema
/// is asked of that schema.
pub(crate) fn unlisted_in(kinds: &[ResourceKind], container: &ResourceRef) -> Vec<ResourceRef> {
    kinds
        .iter()
        .filter_map(|kind| {
            let below = match (container.kind, kind) {
                (ResourceKind::Schema, ResourceKind::Table | ResourceKind::Function)
                | (ResourceKind::Database, ResourceKind::Schema)
                | (ResourceKind::ToolServer, ResourceKind::Tool) => format!("/{UNLISTED}"),
                (ResourceKind::Database, ResourceKind::Table | ResourceKind::Function) => {
                    format!("/{UNLISTED}/{UNLISTED}")
                }
                (ResourceKind::Api, ResourceKind::Route) => format!("/*/{UNLISTED}"),
                _ => return None,
            };
            Some(ResourceRef::new(
                *kind,
                format!("{}{below}", container.path),
            ))
        })
        .collect()
}

impl Estate {
    /// Which identities can do this to that. `resource` need not be declared. [`Estate::accesses_to`] has the
    /// same one after another.
    #[must_use]
    pub fn who_can(&self, action: Action, resource: &ResourceRef) -> Answer {
        self.whole(self.accesses_to(action, resource))
    }

    /// What this identity can do, to every declared resource and to what is not declared: in each
    /// declared schema, in each declared database, and elsewhere. [`Estate::accesses_of`] has the same one
    /// after another.
    #[must_use]
    pub fn what_can(&self, principal: &str) -> Answer {
        self.whole(self.accesses_of(principal))
    }

    fn whole(&self, accesses: Accesses<'_>) -> Answer {
        let mut answer = self.empty_answer();
        for found in accesses {
            match found {
                Ok(access) => answer.accesses.push(access),
                Err(error) => answer.errors.push(error),
            }
        }
        answer
    }

    /// Of what the identity can do, what is of these actions on resources, as answers show them. What is not
    /// declared here is nothing.
    pub(crate) fn what_of(
        &self,
        principal: &str,
        keys: &BTreeSet<(Action, ResourceRef)>,
        prepared: &Prepared,
    ) -> Answer {
        let mut answer = self.empty_answer();
        for (action, shown) in keys {
            if self.graph.resource(shown).is_none() && !elsewhere().contains(shown) {
                continue;
            }
            let kinds = self.vocabulary.kinds_of(*action);
            let itself = kinds.contains(&shown.kind).then(|| shown.clone());
            for resource in itself.into_iter().chain(unlisted_in(kinds, shown)) {
                self.ask(principal, *action, &resource, shown, prepared, &mut answer);
            }
        }
        answer.accesses.sort();
        answer
    }

    /// What the identity can do to `resource` alone, as answers show it.
    pub(crate) fn what_of_one(
        &self,
        principal: &str,
        action: Action,
        [resource, shown]: [&ResourceRef; 2],
        prepared: &Prepared,
    ) -> Answer {
        let mut answer = self.empty_answer();
        self.ask(principal, action, resource, shown, prepared, &mut answer);
        answer
    }

    /// Whether this identity can do this to that, and under which conditions on the session's facts.
    ///
    /// # Errors
    /// What could not be evaluated, which is a denial.
    pub fn can(
        &self,
        principal: &str,
        action: Action,
        resource: &ResourceRef,
    ) -> Result<Option<Access>, String> {
        if !action.is_use() || !self.vocabulary.kinds_of(action).contains(&resource.kind) {
            return Err(format!("`{action}` does not apply to {resource}"));
        }
        let mut answer = self.empty_answer();
        let prepared = self.prepare(&FactSet::new());
        self.ask(
            principal,
            action,
            resource,
            resource,
            &prepared,
            &mut answer,
        );
        match answer.errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(answer.accesses.into_iter().next()),
        }
    }

    /// What the identity's role in a database needs, by resource.
    #[must_use]
    pub fn grants(&self, principal: &str) -> Vec<Grant> {
        let mut grants: BTreeMap<ResourceRef, Grant> = BTreeMap::new();
        let accesses = self.what_can(principal).accesses.into_iter();
        // Roles are granted tables; what they do to columns the gateway decides each time.
        let granted = |kind: ResourceKind| kind.is_in_database() && kind != ResourceKind::Column;
        for access in accesses.filter(|access| granted(access.resource.kind)) {
            let grant = grants
                .entry(access.resource.clone())
                .or_insert_with(|| Grant {
                    resource: access.resource.clone(),
                    actions: Vec::new(),
                    conditional: Vec::new(),
                });
            let list = if access.is_unconditional() {
                &mut grant.actions
            } else {
                &mut grant.conditional
            };
            list.push(access.action);
        }
        grants.into_values().collect()
    }

    fn empty_answer(&self) -> Answer {
        Answer {
            estate: self.version().to_owned(),
            accesses: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// `None` when no permit concerns the case at all.
    pub(crate) fn partially(&self, case: &Case<'_>) -> Result<Option<Partial>, String> {
        let mut slice = PolicySet::new();
        let mut permitted = false;
        for policy in case.slice_for_any_facts(self).flat_map(PolicySet::policies) {
            permitted |= policy.effect() == Effect::Permit;
            slice
                .add(policy.clone())
                .map_err(|error| error.to_string())?;
        }
        if !permitted {
            return Ok(None);
        }
        self.evaluate_partially(case, &slice).map(Some)
    }

    /// `policies` on the case, with its context unknown.
    pub(crate) fn evaluate_partially(
        &self,
        case: &Case<'_>,
        policies: &PolicySet,
    ) -> Result<Partial, String> {
        if matches!(case.entities, Cow::Borrowed(_))
            && self.partial.get().is_none()
            && self.asked_partially.fetch_add(1, Ordering::Relaxed) < FEW_QUESTIONS
        {
            let named = policies.policies().flat_map(Policy::entity_literals);
            let named: Vec<EntityUid> = named.collect();
            return self.evaluate_partially_among(case, policies, &named);
        }
        let small;
        let entities = match &case.entities {
            Cow::Borrowed(_) => self
                .partial_entities()
                .ok_or("the entities do not fit the schema")?,
            Cow::Owned(entities) => {
                small = PartialEntities::from_concrete(entities.clone(), &self.vocabulary.schema)
                    .map_err(|error| error.to_string())?;
                &small
            }
        };
        self.evaluate_with(case, policies, entities)
    }

    /// As [`Estate::evaluate_partially`] with no other entities than the case is about and `policies` name: what
    /// else is declared is not made ready first. Attributes hold no entities, so nothing else can be read.
    fn evaluate_partially_among<'a>(
        &self,
        case: &Case<'_>,
        policies: &PolicySet,
        named: impl IntoIterator<Item = &'a EntityUid>,
    ) -> Result<Partial, String> {
        if matches!(case.entities, Cow::Owned(_)) {
            return self.evaluate_partially(case, policies);
        }
        let graph = &self.graph;
        let named = named
            .into_iter()
            .filter_map(|uid| graph.node(graph.find(uid)?));
        let lineages = [case.principal_lineage(), case.resource_lineage()];
        let lineages = lineages
            .into_iter()
            .chain(named.map(|node| &*node.lineage))
            .flatten();
        let groups = self.vocabulary.action_entity(case.action);
        let entities = self.graph.store(lineages, groups).and_then(|entities| {
            PartialEntities::from_concrete(entities, &self.vocabulary.schema)
                .map_err(|error| error.to_string())
        })?;
        self.evaluate_with(case, policies, &entities)
    }

    fn evaluate_with(
        &self,
        case: &Case<'_>,
        policies: &PolicySet,
        entities: &PartialEntities,
    ) -> Result<Partial, String> {
        let request = PartialRequest::new(
            PartialEntityUid::from_concrete(case.principal.clone()),
            case.action_uid.clone(),
            PartialEntityUid::from_concrete(case.resource.clone()),
            None,
            &self.vocabulary.schema,
        )
        .map_err(|error| error.to_string())?;
        let response = policies
            .tpe(&request, entities, &self.vocabulary.schema)
            .map_err(|error| error.to_string())?;
        Ok(partial(&response))
    }

    /// What lies in what permits name. Made at the first question that goes by it.
    pub(crate) fn below(&self) -> &Below {
        self.below.get_or_init(|| Below::build(self))
    }

    fn partial_entities(&self) -> Option<&PartialEntities> {
        self.partial
            .get_or_init(|| {
                PartialEntities::from_concrete(self.graph.entities.clone(), &self.vocabulary.schema)
                    .ok()
            })
            .as_ref()
    }

    pub(crate) fn access(
        &self,
        identity: &str,
        action: Action,
        resource: ResourceRef,
        partial: &Partial,
    ) -> Access {
        let certain = !partial.true_permits.is_empty();
        let residual = partial.residual_permits.iter().map(|(id, _)| id);
        let mut policies: Vec<_> = if certain {
            self.policy_references(partial.true_permits.iter())
        } else {
            self.policy_references(residual)
        };
        policies.sort();
        Access {
            identity: identity.to_owned(),
            action,
            resource,
            policies,
            when: if certain {
                Vec::new()
            } else {
                self.residuals(&partial.residual_permits)
            },
            unless: self.residuals(&partial.residual_forbids),
            if_defined: self.residuals(&partial.fragile),
        }
    }

    fn policy_references<'a>(
        &self,
        ids: impl Iterator<Item = &'a PolicyId>,
    ) -> Vec<Arc<PolicyRef>> {
        ids.filter_map(|id| Some(self.policies.find(id)?.reference.clone()))
            .collect()
    }

    fn residuals(&self, list: &[(PolicyId, String)]) -> Vec<Residual> {
        let mut residuals: Vec<_> = list
            .iter()
            .filter_map(|(id, condition)| {
                let policy = self.policies.find(id)?.reference.clone();
                Some(Residual {
                    policy,
                    condition: condition.clone(),
                })
            })
            .collect();
        residuals.sort();
        residuals
    }
}

fn partial(response: &TpeResponse<'_>) -> Partial {
    let mut partial = Partial {
        true_permits: response.true_permits().cloned().collect(),
        true_forbids: response.true_forbids().cloned().collect(),
        errors: response
            .error_permits()
            .chain(response.error_forbids())
            .cloned()
            .collect(),
        ..Partial::default()
    };
    let permits = response.residual_permits().map(|id| (id, true));
    let forbids = response.residual_forbids().map(|id| (id, false));
    for (id, is_permit) in permits.chain(forbids) {
        let (condition, fragile) = condition(response, id);
        if fragile {
            partial.fragile.push((id.clone(), condition.clone()));
        }
        let list = if is_permit {
            &mut partial.residual_permits
        } else {
            &mut partial.residual_forbids
        };
        list.push((id.clone(), condition));
    }
    partial
}

/// The residual condition as text, and whether it can err.
fn condition(response: &TpeResponse<'_>, id: &PolicyId) -> (String, bool) {
    let Some(Ok(policy)) = response.get_policy(id).map(|policy| policy.to_pst()) else {
        return ("a condition that cannot be shown".to_owned(), true);
    };
    let conjuncts = conjuncts(policy.body());
    let texts: Vec<_> = conjuncts.iter().map(ToString::to_string).collect();
    (
        texts.join(" && "),
        conjuncts.iter().any(|conjunct| may_err(conjunct)),
    )
}
