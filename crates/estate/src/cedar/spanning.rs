//! An invariant that spans `assume` and use, as two about one identity: what its workloads are, and what it does.

use crate::invariant::{Invariant, InvariantKind};
use crate::policy::{guards, principal_scope, reads_asserted, resource_scope};
use cedar_policy::Policy;
use serde_json::{Value, json};
use std::sync::Arc;

/// What it says, without its name, its notes, its place and how it is written. None if it cannot be read.
#[must_use]
pub fn meaning(invariant: &Invariant) -> Option<String> {
    let plain = |policy: &Policy| {
        let mut policy = policy.to_json().ok()?;
        policy.as_object_mut()?.remove("annotations");
        Some(policy)
    };
    let except = match &invariant.except {
        Some(except) => plain(&except.policy)?,
        None => Value::Null,
    };
    let today = invariant.is_about_today();
    let meaning = json!([invariant.kind, plain(&invariant.policy)?, except, today]);
    Some(meaning.to_string())
}

/// That no workload becomes `path` but those that its `except` speaks of.
#[must_use]
pub fn becoming(invariant: &Invariant, path: &str) -> Option<Invariant> {
    let mut policy = invariant.except.as_ref()?.policy.to_json().ok()?;
    let fields = policy.as_object_mut()?;
    fields.insert(
        "resource".to_owned(),
        json!({ "op": "==", "entity": identity(path) }),
    );
    for condition in fields.get_mut("conditions")?.as_array_mut()? {
        condition
            .as_object_mut()?
            .insert("kind".to_owned(), json!("unless"));
    }
    derived(invariant, policy)
}

/// That nobody does any of what the invariant speaks of, whoever becomes whom.
#[must_use]
pub fn at_all(invariant: &Invariant) -> Option<Invariant> {
    derived(invariant, invariant.policy.to_json().ok()?)
}

/// That `path` does none of what the invariant speaks of; `by_session`: unless the facts of its session are
/// what `except` asks of a workload. Not if it asks for what a node agent asserts: at a use, no policy has to name
/// the machines on which that counts.
#[must_use]
pub fn using(invariant: &Invariant, path: &str, by_session: bool) -> Option<Invariant> {
    let mut policy = invariant.policy.to_json().ok()?;
    let fields = policy.as_object_mut()?;
    let conditions = fields.get_mut("conditions")?.as_array_mut()?;
    conditions.insert(
        0,
        json!({ "kind": "when", "body": { "==": {
            "left": { "Var": "principal" },
            "right": { "Value": { "__entity": identity(path) } },
        } } }),
    );
    if by_session {
        let except = &invariant.except.as_ref()?.policy;
        if reads_asserted(except.to_pst().ok()?.body()) {
            return None;
        }
        let except = except.to_json().ok()?;
        for condition in except.get("conditions")?.as_array()? {
            let mut body = condition.get("body")?.clone();
            of_the_session(&mut body);
            conditions.push(json!({ "kind": "unless", "body": body }));
        }
    }
    if let Some("All" | "is") = fields.get("principal")?.get("op")?.as_str() {
        fields.insert(
            "principal".to_owned(),
            json!({ "op": "==", "entity": identity(path) }),
        );
    }
    derived(invariant, policy)
}

fn identity(path: &str) -> Value {
    json!({ "type": "Identity", "id": path })
}

/// What was asked of the workload is asked of what its session knows of it.
fn of_the_session(body: &mut Value) {
    match body {
        Value::Object(fields) => {
            if let Some(var) = fields.get_mut("Var")
                && var == "principal"
            {
                *var = json!("context");
                return;
            }
            // Literals are data: a record with a key `Var` in it is written otherwise.
            fields
                .iter_mut()
                .filter(|(name, _)| *name != "Value")
                .for_each(|(_, value)| of_the_session(value));
        }
        Value::Array(items) => items.iter_mut().for_each(of_the_session),
        _ => {}
    }
}

fn derived(invariant: &Invariant, policy: Value) -> Option<Invariant> {
    let rewritten = policy.to_string();
    let policy = Policy::from_json(Some(invariant.policy.id().clone()), policy).ok()?;
    Some(Invariant {
        kind: InvariantKind::Never,
        reference: Arc::clone(&invariant.reference),
        text: invariant.text.clone(),
        givens: Vec::new(),
        except: None,
        rewritten,
        column: invariant.column,
        guards: policy
            .to_pst()
            .map(|policy| guards(policy.body()))
            .unwrap_or_default(),
        principal: principal_scope(policy.principal_constraint()),
        resource: resource_scope(policy.resource_constraint()),
        policy,
    })
}
