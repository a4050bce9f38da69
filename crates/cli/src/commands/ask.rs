//! `why`, `who-can`, `what-can`: questions to the estate that is current at the server.

mod accesses;

use self::accesses::Printed;
use crate::arguments::{Global, WhatCanArguments, WhoCanArguments, WhyArguments};
use crate::{Failure, admin, output};
use facts::Timestamp;
use proto::v1;
use serde_json::Value;

pub(crate) async fn why(arguments: WhyArguments, global: &Global) -> Result<(), Failure> {
    let request = match (arguments.action, arguments.resource) {
        (Some(action), Some(resource)) => v1::WhyRequest {
            principal: arguments.principal,
            action,
            resource,
            decision: String::new(),
            on_behalf_of: arguments.on_behalf_of,
        },
        (None, None) if arguments.principal.contains(':') && arguments.on_behalf_of.is_empty() => {
            v1::WhyRequest {
                decision: arguments.principal,
                ..v1::WhyRequest::default()
            }
        }
        _ => {
            return Err(Failure::usage(
                "`why` takes IDENTITY ACTION RESOURCE, or the id of a decision as in `pg-1:42`",
            ));
        }
    };
    let answer = admin::connect(global)
        .await?
        .why(request)
        .await
        .map_err(|status| admin::refusal(&status))?;
    let document = admin::document(answer)?;
    if global.json {
        output::json(&document);
    } else if let Some(chain) = document.get("chain") {
        explain_chain(chain);
        grounds(&document);
    } else {
        explain(&document);
        grounds(&document);
    }
    Ok(())
}

/// On what a live answer rests: the facts of the workload that is the identity now, and the record that made the
/// estate's version current. A recorded decision has said them of its own time.
fn grounds(document: &Value) {
    let Some(place) = estate_record(document) else {
        return;
    };
    let facts = list(document, "/facts");
    for fact in facts {
        output::line(format_args!("  {}", fact_line(fact)));
    }
    if facts.is_empty() {
        output::line("  without facts: none is shown of a workload that is it now");
    }
    output::line(format_args!("  estate record {place}"));
}

fn fact_line(fact: &Value) -> String {
    let source = fact.get("source").and_then(Value::as_str);
    let source = source.unwrap_or("who stood behind it is not recorded");
    format!(
        "fact {} = {} ({source})",
        text(fact, "/name"),
        text(fact, "/value")
    )
}

/// `server:12`, of answers by the version in force.
pub(super) fn estate_record(document: &Value) -> Option<&str> {
    document.get("estate_record").and_then(Value::as_str)
}

/// What a gateway recorded: where, of whom, under which estate, with which facts, and what it found.
fn recorded(document: &Value, record: &Value) {
    output::line(format_args!(
        "recorded as {} ({}), {}",
        text(record, "/id"),
        text(record, "/type"),
        text(record, "/time")
    ));
    output::line(format_args!(
        "  {} of session {}",
        text(record, "/actor"),
        text(record, "/body/session")
    ));
    if let Some(issuance) = record.get("issuance").and_then(Value::as_u64) {
        output::line(format_args!(
            "  its SVID was issued in record {issuance} of the server"
        ));
    }
    output::line(format_args!(
        "  decided under estate {} (record server:{})",
        text(record, "/estate/version"),
        text(record, "/estate/index")
    ));
    for fact in list(document, "/facts") {
        output::line(format_args!("  {}", fact_line(fact)));
    }
    for finding in list(record, "/body/findings") {
        output::line(format_args!("  because of {}", plain(finding)));
    }
    explain_links(document);
    if document.get("agrees").and_then(Value::as_bool) == Some(false) {
        output::line("  WARNING: computed again from what is recorded, it comes out otherwise");
    }
}

/// An explanation for people. `record` stands in it when a recorded decision was asked for.
fn explain(document: &Value) {
    if let Some(record) = document.get("record") {
        recorded(document, record);
    }
    let explanation = document.get("explanation").unwrap_or(document);
    if explanation.is_null() {
        // Refused before any policy was asked: the record's findings have said why.
        return;
    }
    let allow = explanation
        .pointer("/decision/allow")
        .and_then(Value::as_bool)
        == Some(true);
    output::line(format_args!(
        "{}: {} {} {}",
        if allow { "allowed" } else { "denied" },
        text(explanation, "/principal"),
        text(explanation, "/action"),
        text(explanation, "/resource"),
    ));
    if let Some(said) = explanation.get("undeclared").and_then(Value::as_str) {
        output::line(format_args!("  the resource is {said}"));
    }
    if let Some(classification) = explanation.get("classification").and_then(Value::as_str) {
        output::line(format_args!(
            "  the resource is classified `{classification}`"
        ));
    }
    if let Some(table) = explanation.pointer("/decision/of_table") {
        output::line(format_args!(
            "  the column by itself is allowed, and its table is not: {}",
            plain(table)
        ));
    }
    let texts = list(explanation, "/texts");
    for (number, policy) in list(explanation, "/decision/policies").iter().enumerate() {
        output::line(format_args!("  because of {}", policy_name(policy)));
        if let Some(source) = texts.get(number).and_then(Value::as_str) {
            for line in source.lines() {
                output::line(format_args!("    {line}"));
            }
        }
    }
    for error in list(explanation, "/decision/errors") {
        output::line(format_args!("  because of an error: {}", plain(error)));
    }
    let near = list(explanation, "/decision/near");
    if !allow && list(explanation, "/decision/policies").is_empty() {
        output::line("  because no policy allows it");
    }
    for near in near {
        let observed: Vec<String> = list(near, "/failed/observed")
            .iter()
            .map(|seen| format!("{} is {}", text(seen, "/name"), text(seen, "/value")))
            .collect();
        let seen = if observed.is_empty() {
            String::new()
        } else {
            format!(", but {}", observed.join(", "))
        };
        output::line(format_args!(
            "  nearest {}: it wants {}{seen}",
            near.get("policy").map_or_else(String::new, policy_name),
            text(near, "/failed/text"),
        ));
    }
    for finding in list(explanation, "/decision/findings") {
        output::line(format_args!(
            "  {}: {}",
            text(finding, "/code"),
            text(finding, "/message")
        ));
    }
    output::line(format_args!("  estate {}", text(explanation, "/estate")));
}

/// The whole, then who let whom act, then each hop as if it were asked about alone.
fn explain_chain(chain: &Value) {
    let hops = list(chain, "/hops");
    let names: Vec<String> = hops.iter().map(|hop| text(hop, "/principal")).collect();
    let allow = chain.get("allow").and_then(Value::as_bool) == Some(true);
    output::line(format_args!(
        "{}: {}",
        if allow { "allowed" } else { "denied" },
        names.join(" -> ")
    ));
    explain_links(chain);
    if let Some(said) = chain.get("undeclared").and_then(Value::as_str) {
        output::line(format_args!("  the resource is {said}"));
    }
    for hop in hops {
        explain(hop);
    }
}

/// Who let whom act, by which line, or why not.
fn explain_links(document: &Value) {
    for link in list(document, "/links") {
        let (from, to) = (text(link, "/from"), text(link, "/to"));
        if let Some(token) = link.get("token") {
            output::line(format_args!("  {from} -> {to}: {}", token_line(token)));
        }
        if let Some(finding) = link.get("refused") {
            let (code, message) = (text(finding, "/code"), text(finding, "/message"));
            output::line(format_args!("  {from} -> {to}: {code}: {message}"));
            continue;
        }
        for grant in list(link, "/grants") {
            output::line(format_args!("  {from} -> {to}: by {}", policy_name(grant)));
        }
    }
}

/// A delegation that was presented, and what it was narrowed to.
fn token_line(token: &Value) -> String {
    let among = |field: &str| match list(token, field) {
        [] if token.pointer(field).is_none_or(Value::is_null) => "any".to_owned(),
        these => these.iter().map(plain).collect::<Vec<_>>().join(", "),
    };
    let jti = text(token, "/jti");
    let Some(record) = token.get("record").and_then(Value::as_u64) else {
        return format!(
            "token {jti}, of which this server's ledger has no record as far back as a token lasts"
        );
    };
    let chain: Vec<String> = list(token, "/chain").iter().map(plain).collect();
    let chain = match chain.is_empty() {
        true => String::new(),
        false => format!(", {}", chain.join(" -> ")),
    };
    format!(
        "token {jti} (record server:{record}{chain}) for action {} on resource {}{}",
        among("/actions"),
        among("/resources"),
        token.get("ended").map_or_else(String::new, ended)
    )
}

/// When and by what a token ended.
fn ended(ended: &Value) -> String {
    let at = ended.get("at").and_then(Value::as_u64).unwrap_or_default();
    let at = Timestamp::from_millis(at);
    match ended.get("record").and_then(Value::as_u64) {
        None => format!("; it expired at {at}"),
        Some(record) => format!(
            "; taken back at {at} by record server:{record} ({}, by {}: {})",
            text(ended, "/revoked"),
            text(ended, "/who"),
            text(ended, "/reason")
        ),
    }
}

pub(crate) async fn who_can(arguments: WhoCanArguments, global: &Global) -> Result<(), Failure> {
    let WhoCanArguments {
        action,
        resource,
        part,
        on_behalf_of,
    } = arguments;
    let mut admin = admin::connect(global).await?;
    let mut answer = Printed::new(&part, global);
    while let Some((limit, after)) = answer.wants() {
        let request = v1::WhoCanRequest {
            action: action.clone(),
            resource: resource.clone(),
            limit,
            after,
            on_behalf_of: on_behalf_of.clone(),
        };
        let page = admin.who_can(request).await;
        answer.page(&admin::document(
            page.map_err(|status| admin::refusal(&status))?,
        )?)?;
    }
    answer.end()
}

pub(crate) async fn what_can(arguments: WhatCanArguments, global: &Global) -> Result<(), Failure> {
    let WhatCanArguments { principal, part } = arguments;
    let mut admin = admin::connect(global).await?;
    let mut answer = Printed::new(&part, global);
    while let Some((limit, after)) = answer.wants() {
        let request = v1::WhatCanRequest {
            principal: principal.clone(),
            limit,
            after,
        };
        let page = admin.what_can(request).await;
        answer.page(&admin::document(
            page.map_err(|status| admin::refusal(&status))?,
        )?)?;
    }
    answer.end()
}

/// The conditions that are left of an access once everything but the session's facts is known.
pub(super) fn residuals(access: &Value) -> Vec<String> {
    let kinds = [
        ("when", "/when"),
        ("unless", "/unless"),
        ("if defined", "/if_defined"),
    ];
    let each = kinds.iter().flat_map(|(word, field)| {
        list(access, field)
            .iter()
            .map(move |residual| format!("{word} {}", text(residual, "/condition")))
    });
    each.collect()
}

/// `policies/shop.cedar:12 "the shop reads" (owner data team; reason …; control SOC2-CC6.1)`
pub(super) fn policy_name(policy: &Value) -> String {
    let annotations = policy.get("annotations");
    format!(
        "{}:{} {:?}{}",
        text(policy, "/file"),
        text(policy, "/line"),
        text(policy, "/id"),
        estate::said(|name| annotations?.get(name)?.as_str())
    )
}

pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).map_or_else(|| "-".to_owned(), plain)
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // A resource: people write its path.
        Value::Object(fields) if fields.contains_key("kind") => {
            fields.get("path").map_or_else(String::new, plain)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_is_named_with_whose_it_is_and_why_it_stands() {
        let mut policy = json!({"id": "the shop reads", "file": "policies/shop.cedar", "line": 12});
        let bare = r#"policies/shop.cedar:12 "the shop reads""#;
        assert_eq!(policy_name(&policy), bare);
        policy["annotations"] = json!({"ticket": "OPS-7"});
        assert_eq!(policy_name(&policy), bare);
        policy["annotations"] = json!({
            "control": "SOC2-CC6.1", "owner": "data team", "reason": "it serves pages", "ticket": "OPS-7",
        });
        let said = "(owner data team; reason it serves pages; control SOC2-CC6.1)";
        assert_eq!(policy_name(&policy), format!("{bare} {said}"));
    }

    #[test]
    fn a_token_is_told_with_what_it_was_narrowed_to() {
        let narrowed =
            json!({"jti": "ab", "record": 7, "actions": ["select", "call"], "resources": null});
        assert_eq!(
            token_line(&narrowed),
            "token ab (record server:7) for action select, call on resource any"
        );
        let nothing =
            json!({"jti": "ab", "record": 7, "actions": [], "resources": ["Table::\"a/b/c\""]});
        assert_eq!(
            token_line(&nothing),
            "token ab (record server:7) for action  on resource Table::\"a/b/c\""
        );
        let unknown = json!({"jti": "ab", "actions": null, "resources": null});
        assert!(
            token_line(&unknown)
                .starts_with("token ab, of which this server's ledger has no record")
        );
        let mut ended = json!({
            "jti": "ab", "record": 7, "chain": ["spiffe://d/people/ada", "spiffe://d/agents/helper"],
            "actions": ["select"], "resources": null, "ends": 1_800_000_000_000_u64,
            "ended": {"at": 1_800_000_000_000_u64, "by": "expiry"},
        });
        assert_eq!(
            token_line(&ended),
            "token ab (record server:7, spiffe://d/people/ada -> spiffe://d/agents/helper) for action select on \
             resource any; it expired at 2027-01-15T08:00:00.000Z"
        );
        ended["ended"] = json!({
            "at": 1_800_000_000_000_u64, "by": "revocation", "record": 9, "revoked": "serial ab", "who": "uid:0",
            "reason": "the task is over",
        });
        assert!(token_line(&ended).ends_with(
            "; taken back at 2027-01-15T08:00:00.000Z by record server:9 (serial ab, by uid:0: the task is over)"
        ));
    }

    #[test]
    fn a_fact_is_told_with_its_source() {
        let fact = json!({"name": "machine.join", "value": "tpm", "source": "hardware"});
        assert_eq!(fact_line(&fact), "fact machine.join = tpm (hardware)");
    }
}
