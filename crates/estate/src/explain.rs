//! Why: the near misses of a denial, found by evaluating the parts of each candidate's condition.
//! Not on the path of a decision.

use crate::authorize::Case;
use crate::decision::{Condition, Decision, Effect, Explanation, Near, Observed, Request};
use crate::entities::NodeId;
use crate::estate::Estate;
use crate::policy::{PolicyInfo, Scope, conjuncts, paths};
use crate::suggest::closest;
use cedar_policy::{
    EntityUid, EvalResult, Expression, Request as CedarRequest, eval_expression, pst,
};
use std::sync::Arc;

/// How many near misses a decision carries; `why` says how many more there are.
const MOST_NEAR: usize = 10;

/// A candidate that failed: how far it got, and where it stopped.
pub(crate) struct Miss<'a> {
    pub(crate) info: &'a PolicyInfo,
    distance: usize,
    pub(crate) condition: Condition,
    /// Whether `condition` is a part of the scope.
    pub(crate) out_of_scope: bool,
    /// The conjunct that failed, in scope or not.
    pub(crate) conjunct: Option<Arc<pst::Expr>>,
}

impl Miss<'_> {
    fn near(&self) -> Near {
        Near {
            policy: Arc::clone(&self.info.reference),
            failed: self.condition.clone(),
        }
    }
}

impl Estate {
    /// Of a column with its table: where that is what is not allowed, why that is not.
    pub(crate) fn explain(&self, request: &Request<'_>) -> Explanation {
        let own = self.explain_alone(request);
        let table = self.table_asked(request.action, &request.resource);
        let Some(table) = table.filter(|_| own.decision.allow) else {
            return own;
        };
        let of_table = self.explain_alone(&Request {
            resource: table,
            ..request.clone()
        });
        let further = of_table.further;
        let decision = self.with_table(own.decision, request.action, &request.resource, |_| {
            of_table.decision
        });
        Explanation {
            texts: self.texts_of(&decision),
            decision,
            further,
            ..own
        }
    }

    pub(crate) fn explain_alone(&self, request: &Request<'_>) -> Explanation {
        let prepared = self.prepare(request.facts);
        let case = self.use_case(
            request.principal,
            request.action,
            &request.resource,
            &prepared,
        );
        let mut further = 0;
        let decision = match case {
            Err(unanswerable) => unanswerable.decision(),
            Ok(case) => {
                let mut decision = case.decide(self);
                // A forbid or an error is reason enough; near misses explain a default denial.
                if !decision.allow && decision.policies.is_empty() && decision.errors.is_empty() {
                    further = self.add_near(&case, &mut decision);
                }
                decision
            }
        };
        Explanation {
            texts: self.texts_of(&decision),
            principal: format!("Identity::{:?}", request.principal),
            action: request.action,
            classification: request
                .resource
                .kind
                .is_classified()
                .then(|| self.classification(&request.resource)),
            resource: request.resource.clone(),
            estate: self.version().to_owned(),
            decision,
            further,
        }
    }

    fn texts_of(&self, decision: &Decision) -> Vec<String> {
        let policies = decision.policies.iter();
        policies
            .filter_map(|policy| self.text_of(&policy.id))
            .collect()
    }

    /// The source text of the policy with this id.
    #[must_use]
    pub fn text_of(&self, id: &str) -> Option<String> {
        let info = self.policies.find(&cedar_policy::PolicyId::new(id))?;
        Some(info.text.clone())
    }

    /// Of a database object that no file lists: says so, with the nearest that is listed.
    #[must_use]
    pub fn undeclared(&self, resource: &crate::ResourceRef) -> Option<String> {
        let model = &self.model;
        if model.declares(resource) || !resource.kind.is_classified() {
            return None;
        }
        let mut said = "not declared in the estate".to_owned();
        let paths = model
            .resources()
            .filter(|candidate| candidate.kind == resource.kind)
            .map(|candidate| candidate.path.as_str());
        if let Some(near) = closest(&resource.path, paths) {
            said.push_str(&format!(" (did you mean {near}?)"));
        }
        Some(said)
    }

    fn classification(&self, resource: &crate::ResourceRef) -> String {
        match self.model.inherited(resource) {
            Some(declared) => declared
                .classification
                .unwrap_or_else(|| self.settings().most_restricted().to_owned()),
            None => self.object(resource).classification,
        }
    }

    /// Returns how many candidates were left out.
    pub(crate) fn add_near(&self, case: &Case<'_>, decision: &mut Decision) -> usize {
        let misses = self.misses(case);
        decision.near = misses.iter().take(MOST_NEAR).map(Miss::near).collect();
        misses.len() - decision.near.len()
    }

    /// The permits that share the request's action and at least one side of its scope, nearest
    /// first; those that failed in one place before those that failed in two.
    pub(crate) fn misses(&self, case: &Case<'_>) -> Vec<Miss<'_>> {
        let Ok(request) = case.request() else {
            return Vec::new();
        };
        let mut misses: Vec<_> = self
            .policies
            .list
            .iter()
            .filter(|info| info.reference.effect == Effect::Permit)
            .filter(|info| {
                info.actions
                    .as_ref()
                    .is_none_or(|actions| actions.contains(&case.action))
            })
            .filter_map(|info| self.miss(info, case, &request))
            .collect();
        misses.sort_by_key(|miss| miss.distance);
        misses
    }

    fn miss<'a>(
        &'a self,
        info: &'a PolicyInfo,
        case: &Case<'_>,
        request: &CedarRequest,
    ) -> Option<Miss<'a>> {
        let principal = self.in_scope(&info.principal, &case.principal, case.principal_lineage());
        let resource = self.in_scope(&info.resource, &case.resource, case.resource_lineage());
        let scope = match (principal, resource) {
            (false, false) => return None,
            (true, true) => None,
            (false, true) => Some(scope_condition(
                "principal",
                &info.principal,
                &case.principal,
            )),
            (true, false) => Some(scope_condition("resource", &info.resource, &case.resource)),
        };
        // A scope on one side alone is no kinship: `principal` in general is everyone.
        if scope.is_some() {
            let shared = if principal {
                &info.principal
            } else {
                &info.resource
            };
            if matches!(shared, Scope::Any | Scope::Is(_)) {
                return None;
            }
        }
        let failed = conjuncts(&info.body)
            .into_iter()
            .find(|conjunct| evaluate(conjunct, request, case) != Some(EvalResult::Bool(true)));
        let out_of_scope = scope.is_some();
        // A policy about somebody else is further than one whose condition failed.
        let distance = 2 * usize::from(out_of_scope) + usize::from(failed.is_some());
        let condition = match (scope, &failed) {
            (Some(condition), _) => condition,
            (None, Some(conjunct)) => observe(conjunct, request, case),
            (None, None) => return None,
        };
        Some(Miss {
            info,
            distance,
            condition,
            out_of_scope,
            conjunct: failed,
        })
    }

    pub(crate) fn in_scope(&self, scope: &Scope, uid: &EntityUid, lineage: &[NodeId]) -> bool {
        let is = |name: &str| uid.type_name().to_string() == name;
        match scope {
            Scope::Any => true,
            Scope::Is(name) => is(name),
            Scope::Eq(wanted) => wanted == uid,
            Scope::In(name, wanted) => {
                name.as_ref().is_none_or(|name| is(name))
                    && (wanted == uid
                        || self
                            .graph
                            .find(wanted)
                            .is_some_and(|id| lineage.contains(&id)))
            }
        }
    }
}

fn scope_condition(side: &str, scope: &Scope, seen: &EntityUid) -> Condition {
    let text = match scope {
        Scope::Any => side.to_owned(),
        Scope::Is(name) => format!("{side} is {name}"),
        Scope::Eq(uid) => format!("{side} == {uid}"),
        Scope::In(None, uid) => format!("{side} in {uid}"),
        Scope::In(Some(name), uid) => format!("{side} is {name} in {uid}"),
    };
    let observed = Observed {
        name: side.to_owned(),
        value: seen.to_string(),
    };
    Condition {
        text,
        observed: vec![observed],
    }
}

/// The conjunct's text, and the value of each attribute that it reads.
fn observe(conjunct: &pst::Expr, request: &CedarRequest, case: &Case<'_>) -> Condition {
    let mut observed: Vec<_> = paths(conjunct)
        .into_iter()
        .map(|name| {
            let value = name
                .parse::<Expression>()
                .ok()
                .and_then(|expression| eval_expression(request, &case.entities, &expression).ok());
            let value = value.map_or_else(|| "absent".to_owned(), |value| value.to_string());
            Observed { name, value }
        })
        .collect();
    observed.sort();
    Condition {
        text: conjunct.to_string(),
        observed,
    }
}

fn evaluate(conjunct: &pst::Expr, request: &CedarRequest, case: &Case<'_>) -> Option<EvalResult> {
    let expression: Expression = conjunct.to_string().parse().ok()?;
    eval_expression(request, &case.entities, &expression).ok()
}
