//! `blast-radius`: asked of an estate on this machine, be it a folder or what the server has in force.

use super::ask::{estate_record, list, plain, policy_name, residuals, text};
use super::{delegation, estate};
use crate::arguments::{BlastArguments, Global, TakenCommand};
use crate::{Failure, admin, output};
use ::estate::{BlastAnswer, BlastItem, BlastStep, Cursor, CursorError, Estate, Taken};
use anyhow::Context as _;
use facts::Finding;
use proto::v1;
use serde_json::{Value, json};

/// Items that are looked for before the first of them is printed.
const FOUND_AT_ONCE: usize = 500;

pub(crate) async fn blast_radius(
    arguments: BlastArguments,
    global: &Global,
) -> Result<(), Failure> {
    let (files, record) = match &arguments.estate {
        Some(folder) => (estate::read(folder)?, None),
        None => estate::in_force(global).await?,
    };
    let estate = estate::compile(&files)?;
    let taken = match arguments.taken {
        TakenCommand::Machine { name, pool } => Taken::Machine { name, pool },
        TakenCommand::Code { sha256 } => Taken::Code(sha256.to_ascii_lowercase()),
        TakenCommand::Signer { name } => Taken::Signer(name),
        TakenCommand::Identity { path } => Taken::Identity(path),
        TakenCommand::Gateway { path } => Taken::Gateway(path),
        TakenCommand::Administrator { who } => Taken::Administrator(who),
        TakenCommand::Root { name } => Taken::Root(name),
        TakenCommand::Server => Taken::Server,
    };
    let mut answer = estate.blast(taken).map_err(|message| {
        Finding::new("BLAST-UNKNOWN", message).next("name it as the estate does")
    })?;
    let part = &arguments.part;
    if let Some(cursor) = &part.after {
        let cursor: Cursor = cursor.parse().map_err(cannot_go_on)?;
        answer = answer.after(&cursor).map_err(cannot_go_on)?;
    }
    let limit = part.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    // Of the first part alone: whoever goes on has read them.
    let tokens = match (&arguments.estate, &part.after) {
        (None, None) => tokens(&estate, &answer, global).await,
        _ => Ok(Vec::new()),
    };
    let tokens = tokens.unwrap_or_else(|failure| {
        output::note(format_args!(
            "which delegation tokens are good now is not known: {failure}"
        ));
        Vec::new()
    });
    if part.lines {
        for token in tokens {
            output::json(&json!({ "token": token }));
        }
        return lines(answer, limit, record.as_deref());
    }
    // As many as are wanted, whatever work they are.
    let page = answer.page(limit, usize::MAX);
    let mut document = serde_json::to_value(&page).context("cannot print the answer")?;
    if let Value::Object(fields) = &mut document {
        if !tokens.is_empty() {
            fields.insert("tokens".to_owned(), tokens.into());
        }
        if let Some(record) = record {
            fields.insert("estate_record".to_owned(), record.into());
        }
    }
    if global.json {
        output::json(&document);
    } else {
        for line in said(&document, part.after.is_some()) {
            output::line(line);
        }
        if let Some(next) = document.get("next").and_then(Value::as_str) {
            output::note(format_args!("more with --after {next}"));
        }
    }
    complete(page.blast.errors.len())
}

/// Delegation tokens by which those who are reached act for others now. A folder has none.
async fn tokens(
    estate: &Estate,
    answer: &BlastAnswer<'_>,
    global: &Global,
) -> Result<Vec<Value>, Failure> {
    let live = admin::connect(global)
        .await?
        .delegations(v1::DelegationsRequest::default())
        .await
        .map_err(|status| admin::refusal(&status))?;
    let live = admin::document(live)?;
    let held = list(&live, "/delegations").iter();
    let held = held.filter(|token| is_held(estate, answer.identities(), token));
    Ok(held.cloned().collect())
}

/// Whether it is good, and somebody of `reached` acts by it.
fn is_held(estate: &Estate, reached: &[String], token: &Value) -> bool {
    let chain = list(token, "/chain");
    let last = chain.last().and_then(Value::as_str).unwrap_or_default();
    let path = last
        .strip_prefix("spiffe://")
        .and_then(|id| id.split_once('/'));
    // Instances stand in answers by their template.
    let declared = path.and_then(|(_, path)| estate.identity(path));
    token.get("stands").and_then(Value::as_bool) == Some(true)
        && declared.is_some_and(|one| reached.contains(&one.path))
}

/// Why an answer does not go on there.
pub(super) fn cannot_go_on(error: CursorError) -> Finding {
    Finding::new(error.code(), error.to_string())
        .next("ask again from the beginning, without --after")
}

/// One document an item, each as soon as it is found.
fn lines(mut answer: BlastAnswer<'_>, limit: usize, record: Option<&str>) -> Result<(), Failure> {
    let (mut left, mut shown, mut errors) = (limit, 0_usize, 0);
    let next = loop {
        let (items, next) = answer.part(left.min(FOUND_AT_ONCE), usize::MAX);
        for item in &items {
            errors += usize::from(matches!(item, BlastItem::Error(_)));
            output::json(&serde_json::to_value(item).context("cannot print the answer")?);
        }
        shown += items.len();
        left = left.saturating_sub(items.len());
        if next.is_none() || left == 0 {
            break next;
        }
    };
    let mut end = json!({"estate": answer.version(), "counts": answer.counts(), "shown": shown, "errors": errors, "next": next});
    if let (Some(record), Value::Object(fields)) = (record, &mut end) {
        fields.insert("estate_record".to_owned(), record.into());
    }
    output::json(&json!({ "end": end }));
    complete(errors)
}

fn complete(errors: usize) -> Result<(), Failure> {
    match errors {
        0 => Ok(()),
        many => Err(Finding::new(
            "ESTATE-ANSWER-INCOMPLETE",
            format!("{many} things could not be evaluated: the answer is not complete"),
        )
        .into()),
    }
}

/// A document in lines, whole or a part of it. `begun`: another part was there before.
fn said(document: &Value, begun: bool) -> Vec<String> {
    let more = document.get("next").is_some_and(Value::is_string);
    let mut lines = Vec::new();
    for path in list(document, "/paths") {
        let step = text(path, "/by");
        let known = BlastStep::ALL.into_iter().find(|one| one.name() == step);
        let says = known.map_or(step.as_str(), |known| known.as_str());
        lines.push(format!("{} {says}{}", text(path, "/from"), because(path)));
    }
    identities(document, &mut lines);
    for one in list(document, "/acts_for") {
        let grants: Vec<String> = list(one, "/grants").iter().map(policy_name).collect();
        lines.push(format!(
            "{} could act for {}, by {}",
            text(one, "/identity"),
            text(one, "/on_behalf_of"),
            grants.join("; ")
        ));
    }
    let tokens = list(document, "/tokens");
    if !tokens.is_empty() {
        let count = counted(tokens.len(), "delegation token is", "delegation tokens are");
        lines.push(format!("{count} good now, by which they act for others:"));
    }
    lines.extend(
        tokens
            .iter()
            .map(|token| format!("  {}", delegation::line(token))),
    );
    let accesses = list(document, "/accesses");
    let count = counted(accesses.len(), "access", "accesses");
    match (more, begun) {
        // What nobody has looked for yet is not none.
        (true, _) if accesses.is_empty() => {
            lines.push("what they can do comes after this part".to_owned());
        }
        (true, _) => lines.push(format!("and by them, in this part, {count}; there is more")),
        (false, true) => lines.push(format!("and by them, in this last part, {count}")),
        (false, false) => lines.push(format!("and by them {count}")),
    }
    for access in accesses {
        let mut because: Vec<String> = list(access, "/policies").iter().map(policy_name).collect();
        because.extend(residuals(access));
        lines.push(format!(
            "  {} {} {}, because of {}",
            text(access, "/identity"),
            text(access, "/action"),
            text(access, "/resource"),
            because.join("; ")
        ));
    }
    for error in list(document, "/errors") {
        lines.push(format!("not known: {error}"));
    }
    let record = estate_record(document);
    let record = record.map_or_else(String::new, |record| format!(" (record {record})"));
    lines.push(format!("estate {}{record}", text(document, "/estate")));
    lines
}

/// Who can be become or acted as: how many in all, and those of this part, each with all its ways.
fn identities(document: &Value, lines: &mut Vec<String>) {
    let reached = list(document, "/identities");
    let mut here: Vec<String> = reached.iter().map(|one| text(one, "/identity")).collect();
    here.dedup();
    let all = document
        .pointer("/counts/identities")
        .and_then(Value::as_u64);
    let all = all.map_or(here.len(), |all| usize::try_from(all).unwrap_or(usize::MAX));
    let part = match here.len() {
        here if here == all => String::new(),
        here => format!(", of which this part has {here}"),
    };
    lines.push(format!(
        "could become {}{part}",
        counted(all, "identity", "identities")
    ));
    let mut before = String::new();
    for reach in reached {
        let identity = text(reach, "/identity");
        let through: Vec<String> = list(reach, "/through").iter().map(plain).collect();
        let through = match through.is_empty() {
            true => String::new(),
            false => format!(", through {}", through.join(", ")),
        };
        let because = because(reach);
        if identity == before {
            lines.push(format!(
                "    also{}{because}",
                through.trim_start_matches(',')
            ));
        } else {
            lines.push(format!("  {identity}{through}{because}"));
        }
        for when in list(reach, "/when") {
            lines.push(format!("    if {}", text(when, "/condition")));
        }
        for asserting in list(reach, "/asserting") {
            let condition = text(asserting, "/condition");
            lines.push(format!("    its agent need only assert {condition}"));
        }
        before = identity;
    }
}

/// `, because of FILE:LINE "ID"`; nothing where no policy is named.
fn because(of: &Value) -> String {
    let because: Vec<String> = list(of, "/policies").iter().map(policy_name).collect();
    match because.is_empty() {
        true => String::new(),
        false => format!(", because of {}", because.join("; ")),
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// Once, a part with one identity and no access yet said that one could be become, and nothing be done by it.
    #[test]
    fn a_part_says_what_the_whole_has_and_nothing_of_what_was_not_looked_for() {
        let part = json!({
            "estate": "ab", "counts": {"paths": 1, "identities": 12, "acts_for": 0}, "next": "ab.cd.0.0.0.2",
            "paths": [{"from": "uid:0", "by": "apply", "policies": []}],
            "identities": [{"identity": "payments/api", "through": ["uid:0"], "policies": []}],
            "acts_for": [], "accesses": [], "errors": [],
        });
        expect![[r"
            uid:0 may apply an estate, and so reaches everything that there is or will be
            could become 12 identities, of which this part has 1
              payments/api, through uid:0
            what they can do comes after this part
            estate ab"]]
        .assert_eq(&said(&part, false).join("\n"));
        let access = json!({"identity": "payments/api", "action": "select", "resource": "a/b/c", "policies": []});
        let mut further = part.clone();
        further["paths"] = json!([]);
        further["identities"] = json!([]);
        further["accesses"] = json!([access]);
        expect![[r"
            could become 12 identities, of which this part has 0
            and by them, in this part, 1 access; there is more
              payments/api select a/b/c, because of 
            estate ab"]]
        .assert_eq(&said(&further, true).join("\n"));
        further["next"] = Value::Null;
        assert!(
            said(&further, true).contains(&"and by them, in this last part, 1 access".to_owned())
        );
    }

    #[test]
    fn tokens_of_those_who_are_reached_are_told_while_they_are_good() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/estate-shop");
        let files = super::estate::read(&folder).unwrap();
        let estate = super::estate::compile(&files).unwrap();
        let token = |last: &str, stands: bool| {
            json!({
                "jti": "4f", "chain": ["spiffe://example.org/people/ada", format!("spiffe://example.org/{last}")],
                "actions": null, "resources": null, "ends": 1_800_000_000_000_u64, "stands": stands,
            })
        };
        let reached = ["payments/api".to_owned()];
        assert!(is_held(&estate, &reached, &token("payments/api", true)));
        assert!(!is_held(&estate, &reached, &token("payments/api", false)));
        assert!(!is_held(
            &estate,
            &reached,
            &token("reporting/nightly", true)
        ));
        let document = json!({"estate": "ab", "tokens": [token("payments/api", true)]});
        let said = said(&document, false);
        assert!(
            said.contains(
                &"1 delegation token is good now, by which they act for others:".to_owned()
            ),
            "{said:?}"
        );
        let line = said
            .iter()
            .find(|line| line.contains("people/ada > payments/api"));
        assert!(line.is_some_and(|line| line.ends_with("until 2027-01-15T08:00:00.000Z")));
    }

    #[test]
    fn who_is_reached_by_two_ways_stands_once_with_both() {
        let whole = json!({
            "estate": "ab", "counts": {"paths": 1, "identities": 1, "acts_for": 0},
            "paths": [], "acts_for": [], "accesses": [], "errors": [],
            "identities": [
                {"identity": "payments/api", "policies": [{"file": "p.cedar", "line": 3, "id": "payments"}]},
                {"identity": "payments/api", "through": ["uid:0"], "policies": []},
            ],
        });
        expect![[r#"
            could become 1 identity
              payments/api, because of p.cedar:3 "payments"
                also through uid:0
            and by them 0 accesses
            estate ab"#]]
        .assert_eq(&said(&whole, false).join("\n"));
    }
}
