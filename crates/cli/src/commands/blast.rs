//! `blast-radius`: asked of an estate on this machine, be it a folder or what the server has in force.

use super::ask::{estate_record, list, plain, policy_name, residuals, text};
use super::estate;
use crate::arguments::{BlastArguments, Global, TakenCommand};
use crate::{Failure, output};
use ::estate::{BlastAnswer, BlastItem, BlastStep, Cursor, CursorError, Taken};
use anyhow::Context as _;
use facts::Finding;
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
    if part.lines {
        return lines(answer, limit, record.as_deref());
    }
    // As many as are wanted, whatever work they are.
    let page = answer.page(limit, usize::MAX);
    let mut document = serde_json::to_value(&page).context("cannot print the answer")?;
    if let (Some(record), Value::Object(fields)) = (record, &mut document) {
        fields.insert("estate_record".to_owned(), record.into());
    }
    if global.json {
        output::json(&document);
    } else {
        print(&document);
    }
    complete(page.blast.errors.len())
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
    let mut end =
        json!({"estate": answer.version(), "shown": shown, "errors": errors, "next": next});
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

fn print(document: &Value) {
    for path in list(document, "/paths") {
        let because: Vec<String> = list(path, "/policies").iter().map(policy_name).collect();
        let because = match because.is_empty() {
            true => String::new(),
            false => format!(", because of {}", because.join("; ")),
        };
        let step = text(path, "/by");
        let known = BlastStep::ALL.into_iter().find(|one| one.name() == step);
        let says = known.map_or(step.as_str(), |known| known.as_str());
        output::line(format_args!("{} {says}{because}", text(path, "/from")));
    }
    let identities = list(document, "/identities");
    let count = counted(identities.len(), "identity", "identities");
    output::line(format_args!("could become {count}"));
    for reach in identities {
        let because: Vec<String> = list(reach, "/policies").iter().map(policy_name).collect();
        let because = if because.is_empty() {
            String::new()
        } else {
            format!(", because of {}", because.join("; "))
        };
        let through: Vec<String> = list(reach, "/through").iter().map(plain).collect();
        let through = match through.is_empty() {
            true => String::new(),
            false => format!(", through {}", through.join(", ")),
        };
        output::line(format_args!(
            "  {}{through}{because}",
            text(reach, "/identity")
        ));
        for when in list(reach, "/when") {
            output::line(format_args!("    if {}", text(when, "/condition")));
        }
        for asserting in list(reach, "/asserting") {
            let condition = text(asserting, "/condition");
            output::line(format_args!("    its agent need only assert {condition}"));
        }
    }
    for one in list(document, "/acts_for") {
        let grants: Vec<String> = list(one, "/grants").iter().map(policy_name).collect();
        output::line(format_args!(
            "{} could act for {}, by {}",
            text(one, "/identity"),
            text(one, "/on_behalf_of"),
            grants.join("; ")
        ));
    }
    let accesses = list(document, "/accesses");
    let count = counted(accesses.len(), "access", "accesses");
    output::line(format_args!("and by them {count}"));
    for access in accesses {
        let mut because: Vec<String> = list(access, "/policies").iter().map(policy_name).collect();
        because.extend(residuals(access));
        output::line(format_args!(
            "  {} {} {}, because of {}",
            text(access, "/identity"),
            text(access, "/action"),
            text(access, "/resource"),
            because.join("; ")
        ));
    }
    for error in list(document, "/errors") {
        output::line(format_args!("not known: {error}"));
    }
    if let Some(next) = document.get("next").and_then(Value::as_str) {
        output::note(format_args!("more with --after {next}"));
    }
    let record = estate_record(document);
    let record = record.map_or_else(String::new, |record| format!(" (record {record})"));
    output::line(format_args!("estate {}{record}", text(document, "/estate")));
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
