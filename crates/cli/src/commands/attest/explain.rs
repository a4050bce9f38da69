//! A recorded verdict, and what its evidence says.

use super::told;
use crate::arguments::{ExplainArguments, Global};
use crate::commands::ask::{list, text};
use crate::{Failure, output};
use appraise::{Account, Refusal};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::process::ExitCode;

pub(super) async fn explain(
    arguments: &ExplainArguments,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let Some(verdict) = &arguments.verdict else {
        return Err(Failure::usage("name a verdict, or an event log"));
    };
    let folder = arguments.estate.as_ref();
    let folder = folder.map_or_else(String::new, |path| path.display().to_string());
    let document = super::ask(verdict, &folder, global).await?;
    if global.json {
        output::json(&document);
    } else {
        print(&document);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(document: &Value) {
    output::line(format_args!(
        "server:{}  {}  {}  {}",
        text(document, "/index"),
        text(document, "/outcome"),
        text(document, "/time"),
        text(document, "/node"),
    ));
    let refusals: Vec<Refusal> = field(document, "/refusals").unwrap_or_default();
    if refusals.is_empty() {
        for finding in list(document, "/findings") {
            told::finding(finding);
        }
    }
    for refusal in &refusals {
        told::refusal(refusal);
    }
    for finding in list(document, "/unreadable") {
        output::line("the evidence cannot be read:");
        told::finding(finding);
    }
    if let Some(account) = field::<Account>(document, "/account") {
        told::account(&account);
    }
    let facts = facts(document);
    if !facts.is_empty() {
        output::line("facts");
        let rows: Vec<Vec<String>> = facts
            .iter()
            .map(|fact| {
                let cell = |pointer| output::value(&text(fact, pointer));
                vec![cell("/name"), cell("/value"), cell("/source")]
            })
            .collect();
        output::table(&["NAME", "VALUE", "SOURCE"], &rows);
    }
    if let Some(outcome) = document.pointer("/today/outcome").and_then(Value::as_str) {
        output::line(format_args!(
            "by the estate in force ({}) this evidence would be {outcome} now",
            text(document, "/today/estate")
        ));
        let today: Vec<Refusal> = field(document, "/today/refusals").unwrap_or_default();
        if today != refusals {
            today.iter().for_each(told::refusal);
        }
    }
}

/// Each with its name, value and source.
pub(super) fn facts(document: &Value) -> Vec<&Value> {
    match document.get("facts") {
        Some(Value::Object(facts)) => facts.values().collect(),
        Some(Value::Array(facts)) => facts.iter().collect(),
        _ => Vec::new(),
    }
}

/// A part of an answer, if it is there and of its form.
pub(super) fn field<T: DeserializeOwned>(document: &Value, pointer: &str) -> Option<T> {
    let value = document.pointer(pointer)?;
    serde_json::from_value(value.clone()).ok()
}
