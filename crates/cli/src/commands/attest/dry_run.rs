//! What an estate would make of the machines.

use super::explain::field;
use super::told;
use crate::arguments::{DryRunArguments, Global};
use crate::commands::ask::{list, text};
use crate::commands::estate;
use crate::{Failure, admin, output};
use appraise::Refusal;
use proto::v1;
use serde_json::Value;
use std::process::ExitCode;

pub(super) async fn dry_run(
    arguments: &DryRunArguments,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let files = estate::read(&arguments.estate)?;
    let request = v1::DryRunRequest {
        files: files.to_blob(),
        node: arguments.node.clone().unwrap_or_default(),
        past: arguments.since.is_some(),
        since: arguments.since.unwrap_or_default(),
        folder: arguments.estate.display().to_string(),
    };
    let mut documents = admin::connect(global)
        .await?
        .attest_dry_run(request)
        .await
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    let mut evicted = false;
    let mut ended = false;
    while let Some(document) = documents
        .message()
        .await
        .map_err(|status| admin::refusal(&status))?
    {
        let document: Value = serde_json::from_str(&document.json)
            .map_err(|error| admin::unusable(format!("it is not JSON: {error}")))?;
        evicted |= text(&document, "/outcome") == "evicted";
        ended |= document.get("counts").is_some();
        if global.json {
            output::json(&document);
        } else {
            print(&document);
        }
    }
    if !ended {
        return Err(admin::unusable("it ended before every machine was tried".to_owned()).into());
    }
    Ok(if evicted {
        ExitCode::from(crate::EXIT_VERIFICATION)
    } else {
        ExitCode::SUCCESS
    })
}

fn print(document: &Value) {
    if let Some(counts) = document.get("counts") {
        let counts = counts.as_object().into_iter().flatten();
        let counts = counts.filter(|(_, count)| count.as_u64() != Some(0));
        let counts: Vec<String> = counts
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        output::line(format_args!(
            "version {}: {}",
            text(document, "/version"),
            if counts.is_empty() {
                "no machine".to_owned()
            } else {
                counts.join(", ")
            }
        ));
        return;
    }
    let past = document.get("past").is_some();
    output::line(format_args!(
        "{:9} {}{}, by the evidence of server:{}",
        text(document, "/outcome"),
        text(document, "/node"),
        if past { " as it was refused" } else { "" },
        text(document, "/verdict"),
    ));
    if let Some(locked) = document.get("locked").and_then(Value::as_str) {
        output::line(format_args!("  it is out: {}", output::value(locked)));
    }
    if let Some(since @ 1..) = document.get("entries_since").and_then(Value::as_u64) {
        output::line(format_args!(
            "  {since} entries of its list were measured since and are not tried"
        ));
    }
    let refusals: Vec<Refusal> = field(document, "/refusals").unwrap_or_default();
    refusals.iter().for_each(told::refusal);
    if refusals.is_empty() {
        list(document, "/findings").iter().for_each(told::finding);
    }
}
