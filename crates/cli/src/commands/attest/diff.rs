//! Two boots compared, wherever they are told from.

use super::explain::{facts, field};
use super::files;
use crate::arguments::{DiffArguments, Global, Side};
use crate::commands::ask::{list, text};
use crate::{Failure, output};
use appraise::{Account, Change, Difference, EventChange, FileChange};
use facts::Finding;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// A boot, and the facts of the verdict about it.
struct Boot {
    account: Account,
    facts: Option<BTreeMap<String, String>>,
}

pub(super) async fn diff(arguments: &DiffArguments, global: &Global) -> Result<ExitCode, Failure> {
    let (a, b) = (
        read(&arguments.a, global).await?,
        read(&arguments.b, global).await?,
    );
    let mut difference = a.account.compare(&b.account);
    match (&a.facts, &b.facts) {
        (Some(a), Some(b)) => difference.facts = appraise::facts(a, b),
        (None, None) => {}
        _ => difference
            .unknown
            .push("only one is a verdict with facts: facts are not compared".to_owned()),
    }
    if global.json {
        output::json(&json!({ "same": difference.is_empty(), "difference": difference }));
    } else {
        print(&difference);
    }
    Ok(ExitCode::SUCCESS)
}

async fn read(side: &Side, global: &Global) -> Result<Boot, Failure> {
    let verdict = match side {
        Side::Verdict(verdict) => verdict,
        Side::Path(path) if path.is_file() => {
            let bytes = files::read(path)?;
            return match serde_json::from_slice::<Value>(&bytes) {
                Ok(document) => told(&document, &path.display().to_string()),
                Err(_) => Ok(Boot {
                    account: files::path(path)?,
                    facts: None,
                }),
            };
        }
        Side::Path(path) => {
            return Ok(Boot {
                account: files::path(path)?,
                facts: None,
            });
        }
    };
    let document = super::ask(verdict, "", global).await?;
    told(&document, &format!("server:{}", text(&document, "/index")))
}

fn told(document: &Value, name: &str) -> Result<Boot, Failure> {
    let account = field(document, "/account").ok_or_else(|| {
        let unreadable = list(document, "/unreadable").first();
        Finding::new(
            "ATTEST-NO-EVIDENCE",
            format!("{name} keeps no evidence of a boot"),
        )
        .expected("a verdict about a machine that joined by TPM")
        .observed(unreadable.map_or_else(|| "none".to_owned(), |finding| text(finding, "/message")))
        .next("trilith ledger search --type verdict")
    })?;
    let facts: BTreeMap<String, String> = facts(document)
        .into_iter()
        .map(|fact| (text(fact, "/name"), text(fact, "/value")))
        .collect();
    Ok(Boot {
        account,
        facts: (!facts.is_empty()).then_some(facts),
    })
}

fn print(difference: &Difference) {
    if difference.is_empty() {
        output::line("nothing differs");
    }
    for one in &difference.pcrs {
        let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
        output::line(format_args!(
            "PCR {:<2} {} then {}",
            one.pcr,
            said(&one.a),
            said(&one.b)
        ));
    }
    difference.events.iter().for_each(event);
    difference.files.iter().for_each(file);
    for fact in &difference.facts {
        let said = |value: &Option<String>| output::value(value.as_deref().unwrap_or("absent"));
        output::line(format_args!(
            "~ fact {}: {} then {}",
            fact.name,
            said(&fact.a),
            said(&fact.b)
        ));
    }
    for unknown in &difference.unknown {
        output::note(format_args!("note: {unknown}"));
    }
}

const fn sign(change: Change) -> char {
    match change {
        Change::New => '+',
        Change::Gone => '-',
        Change::Changed => '~',
    }
}

fn event(one: &EventChange) {
    output::line(format_args!(
        "{} PCR {:<2} {} {}: {}",
        sign(one.change),
        one.pcr,
        one.what.word(),
        output::value(&one.name),
        output::value(&one.detail)
    ));
}

fn file(one: &FileChange) {
    let said = |listed: &[appraise::Listed]| -> String {
        let each = listed.iter().map(|one| {
            let known = one.known.as_ref().map(|known| format!(" ({known})"));
            let violation = if one.violation {
                " written to while it was measured"
            } else {
                ""
            };
            format!("{}{}{violation}", one.digest, known.unwrap_or_default())
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let detail = match (one.a.is_empty(), one.b.is_empty()) {
        (false, false) => format!("{} then {}", said(&one.a), said(&one.b)),
        (false, true) => said(&one.a),
        _ => said(&one.b),
    };
    output::line(format_args!(
        "{} file {}: {}",
        sign(one.change),
        output::value(&one.path),
        output::value(&detail)
    ));
}
