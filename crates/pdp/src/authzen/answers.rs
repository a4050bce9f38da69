//! How an answer is put: a decision, and in `context` its reasons.

use crate::decider::{Answer, Version};
use crate::names::shown;
use crate::question::{Known, Refused};
use estate::{Access, ChainDecision, PolicyRef};
use serde_json::{Map, Value, json};

/// One Decision of AuthZEN. `record` names the record of it, where there is a ledger.
#[must_use]
pub fn decision(answer: &Answer, known: &Known, version: &Version, record: Option<&str>) -> Value {
    json!({
        "decision": answer.decision.allow,
        "context": context(answer, known, version, record),
    })
}

/// The denial of a question that could not be put.
#[must_use]
pub fn refusal(refused: &Refused, record: Option<&str>) -> Value {
    let mut context = Map::new();
    let error = json!({
        "status": refused.status,
        "code": refused.finding.code,
        "message": refused.finding.to_string(),
    });
    context.insert("error".to_owned(), error);
    if let Some(record) = record {
        context.insert("record".to_owned(), record.into());
    }
    json!({"decision": false, "context": context})
}

/// The reasons of an answer.
#[must_use]
pub fn context(
    answer: &Answer,
    known: &Known,
    version: &Version,
    record: Option<&str>,
) -> Map<String, Value> {
    let mut context = Map::new();
    let mut put = |name: &str, value: Value| context.insert(name.to_owned(), value);
    put("reason", reason(answer).into());
    let policies = answer.decision.policies.iter().map(|policy| listed(policy));
    put("policies", policies.collect());
    if let Some(table) = &answer.decision.of_table {
        put("of_table", table.to_string().into());
    }
    if !answer.decision.errors.is_empty() {
        put("errors", answer.decision.errors.clone().into());
    }
    if let Some(access) = &answer.depends {
        put("depends", conditions(access));
    }
    if let Some(chain) = &answer.chain {
        put("on_behalf_of", hops(chain));
    }
    put("facts", known.as_str().into());
    put(
        "estate",
        json!({"version": version.estate().version(), "index": version.index()}),
    );
    if let Some(record) = record {
        put("record", record.into());
    }
    context
}

/// What the facts would have to be.
fn conditions(access: &Access) -> Value {
    let texts = |list: &[estate::Residual]| -> Value {
        let texts = list.iter().map(|residual| residual.condition.clone());
        texts.collect::<Vec<_>>().into()
    };
    json!({
        "when": texts(&access.when),
        "unless": texts(&access.unless),
        "if_defined": texts(&access.if_defined),
    })
}

/// One sentence for a person.
fn reason(answer: &Answer) -> String {
    let decision = &answer.decision;
    if let Some(error) = decision.errors.first() {
        return shown(error);
    }
    if let Some(chain) = answer.chain.as_ref().filter(|chain| !chain.allow) {
        return in_chain(chain, answer.depends.is_some());
    }
    if let Some(policy) = decision.policies.first() {
        let what = match &decision.of_table {
            _ if decision.allow => "allowed".to_owned(),
            None => "denied".to_owned(),
            Some(table) => format!("its table {table} is denied"),
        };
        return format!("{what} by {}", policy.with_reasons());
    }
    if answer.depends.is_some() {
        return UNKNOWN.to_owned();
    }
    match &decision.of_table {
        None => "no policy allows it".to_owned(),
        Some(table) => format!("no policy allows its table {table}"),
    }
}

const UNKNOWN: &str = "PDP-FACTS-UNKNOWN: it depends on facts of the subject; show its SVID as \
                       subject.properties.x5c";

/// The first of a chain that may not, or the first delegation that is none.
fn in_chain(chain: &ChainDecision, depends: bool) -> String {
    let denying = chain.hops.iter().find(|hop| !hop.decision.allow);
    let refused = chain.findings().next();
    match (denying, refused) {
        (_, Some(finding)) => shown(&finding.to_string()),
        (Some(hop), None) if depends => match hop.lacking() {
            Some(finding) => shown(&finding.to_string()),
            None => UNKNOWN.to_owned(),
        },
        (Some(hop), None) => match hop.decision.policies.first() {
            Some(policy) => format!("{} is denied by {}", hop.principal, policy.with_reasons()),
            None => format!("no policy allows it to {}", hop.principal),
        },
        (None, None) => "denied".to_owned(),
    }
}

/// What each hop may do by itself, and who let whom act.
fn hops(chain: &ChainDecision) -> Value {
    let hops = chain.hops.iter().map(|hop| {
        let policies = hop.decision.policies.iter().map(|policy| listed(policy));
        let mut said = json!({
            "subject": hop.principal,
            "decision": hop.decision.allow,
            "facts": hop.facts,
            "policies": policies.collect::<Vec<_>>(),
        });
        if let (Some(access), Some(said)) = (&hop.depends, said.as_object_mut()) {
            said.insert("depends".to_owned(), conditions(access));
        }
        said
    });
    let delegations = chain.links.iter().map(|link| {
        json!({
            "from": link.from,
            "to": link.to,
            "grants": link.grants,
            "refused": link.refused.as_ref().map(ToString::to_string),
        })
    });
    json!({
        "hops": hops.collect::<Vec<_>>(),
        "delegations": delegations.collect::<Vec<_>>(),
    })
}

/// `annotations` has those that are written: `owner`, `reason`, `control`, and what else stands there.
fn listed(policy: &PolicyRef) -> Value {
    json!({
        "id": policy.id,
        "effect": policy.effect,
        "file": policy.file,
        "line": policy.line,
        "annotations": policy.annotations,
    })
}
