//! `trilith resources sync`: what live systems have, declared in an estate's files. What is asked is told
//! here; how it is put into the files is `discovery`'s business.

mod postgres;
mod write;

use crate::arguments::{
    Global, McpArguments, OpenapiArguments, ProtocolArgument, ResourcesCommand, SyncArguments,
    SyncCommand,
};
use crate::commands::estate::read;
use crate::runtime::block_on;
use crate::{Failure, files, output};
use ::estate::Estate;
use discovery::{Endpoint, Found, Options, Outcome, Protocol, Report, ToolServer};
use estate_prove::Standing;
use facts::Finding;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

/// A token is a line.
const MAX_TOKEN: u64 = 16 * 1024;

pub(crate) fn run(command: ResourcesCommand, global: &Global) -> Result<ExitCode, Failure> {
    let ResourcesCommand::Sync(command) = command;
    match command {
        SyncCommand::Postgres(arguments) => {
            let found = block_on(1, postgres::found(&arguments))?;
            sync(&found, &arguments.sync, false, global)
        }
        SyncCommand::Openapi(arguments) => {
            sync(&described(&arguments)?, &arguments.sync, false, global)
        }
        SyncCommand::Mcp(arguments) => {
            let found = block_on(1, listed(&arguments))?;
            sync(&found, &arguments.sync, arguments.accept_changed, global)
        }
    }
}

fn described(arguments: &OpenapiArguments) -> Result<Found, Failure> {
    let most = u64::try_from(discovery::MAX_DOCUMENT).unwrap_or(u64::MAX);
    let Some(document) = files::read(&arguments.file, most)? else {
        return Err(
            Finding::new("SYNC-OPENAPI-SIZE", "the document is too large")
                .expected(format!("at most {most} bytes"))
                .next("split the document, and give each part a name of its own")
                .into(),
        );
    };
    let api = discovery::routes(&document, &arguments.api, arguments.base.as_deref())?;
    Ok(Found::Api(api))
}

async fn listed(arguments: &McpArguments) -> Result<Found, Failure> {
    let endpoint = match &arguments.url {
        Some(url) => Endpoint::Http {
            url: url.clone(),
            ca: arguments.ca_file.clone(),
            token: match &arguments.token_file {
                Some(path) => Some(secret(path)?),
                None => None,
            },
        },
        None => Endpoint::Command(arguments.command.clone()),
    };
    let protocol = match arguments.protocol {
        ProtocolArgument::Either => Protocol::Either,
        ProtocolArgument::Stateless => Protocol::Stateless,
        ProtocolArgument::Initialized => Protocol::Initialized,
    };
    let timeout = Duration::from_secs(arguments.timeout);
    let listed = discovery::tools(&endpoint, protocol, timeout).await?;
    Ok(Found::ToolServer(ToolServer {
        name: arguments.server.clone(),
        tools: listed.tools,
    }))
}

/// What stands in a file, without the line break at its end.
fn secret(path: &std::path::Path) -> Result<crypto::SecretBytes, Failure> {
    let Some(mut bytes) = files::read(path, MAX_TOKEN)? else {
        return Err(Finding::new(
            "SYNC-SECRET",
            format!("{} is too large for a secret", path.display()),
        )
        .next("name a file with the secret alone, in one line")
        .into());
    };
    while bytes
        .last()
        .is_some_and(|last| matches!(last, b'\n' | b'\r'))
    {
        bytes.pop();
    }
    Ok(crypto::SecretBytes::new(bytes))
}

fn sync(
    found: &Found,
    arguments: &SyncArguments,
    accept_changed: bool,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let options = Options {
        prune: arguments.prune,
        inherit: arguments.inherit,
        accept_changed,
    };
    let files = read(&arguments.estate)?;
    let outcome = discovery::merge(&files, found, &options)?;
    let after = compiled(&files, &outcome)?;
    let broken = after.map_or_else(Vec::new, |after| broken(&files, &after));
    if !arguments.check {
        for change in &outcome.changes {
            write::put(&arguments.estate, change)?;
        }
    }
    show(&outcome, &broken, arguments, global);
    let mut findings = findings(&outcome.report);
    findings.extend(broken.iter().map(breaks));
    if !findings.is_empty() {
        return Err(Failure::all(findings));
    }
    let to_do = !outcome.changes.is_empty() || outcome.report.needs_attention();
    let failed = arguments.check && to_do;
    Ok(ExitCode::from(if failed { crate::EXIT_FAILED } else { 0 }))
}

/// What the estate becomes; nothing if it stays as it is, or did not compile before. One that compiles goes on to.
fn compiled(files: &::estate::EstateFiles, outcome: &Outcome) -> Result<Option<Estate>, Failure> {
    if outcome.changes.is_empty() {
        return Ok(None);
    }
    let mut after = files.clone();
    for change in &outcome.changes {
        after.insert(change.file.as_str(), change.after.as_str());
    }
    let problems = match Estate::compile(&after) {
        Ok(after) => return Ok(Some(after)),
        Err(problems) => problems,
    };
    if Estate::compile(files).is_err() {
        output::note("the estate does not compile, and did not before: trilith estate lint");
        return Ok(None);
    }
    let refused = |problem: &::estate::Problem| {
        Finding::new(
            "SYNC-ESTATE",
            "with what was found the estate would not compile",
        )
        .observed(problem.to_string())
        .next("nothing was written; correct what is declared, or declare this by hand")
    };
    Err(Failure::all(
        problems.iter().take(20).map(refused).collect(),
    ))
}

/// Invariants that what was found breaks: by enumeration, as a plan will find them. What is broken already is not
/// this command's business.
fn broken(files: &::estate::EstateFiles, after: &Estate) -> Vec<Standing> {
    let now = estate_prove::standing_blocking(after);
    if !now.iter().any(Standing::is_broken) {
        return Vec::new();
    }
    let before = Estate::compile(files).map(|before| estate_prove::standing_blocking(&before));
    let before = before.unwrap_or_default();
    let was = |one: &Standing| {
        let of = |other: &&Standing| other.invariant.id == one.invariant.id;
        before.iter().find(of).is_some_and(Standing::is_broken)
    };
    now.into_iter()
        .filter(|one| one.is_broken() && !was(one))
        .collect()
}

fn breaks(standing: &Standing) -> Finding {
    Finding::new(
        "SYNC-INVARIANT",
        "with what was found an invariant does not hold today; no such version is applied",
    )
    .observed(standing.to_string())
    .next("classify what is new, or change who may use it; then: trilith estate plan DIR")
}

fn show(outcome: &Outcome, broken: &[Standing], arguments: &SyncArguments, global: &Global) {
    let report = &outcome.report;
    let files: Vec<&str> = outcome
        .changes
        .iter()
        .map(|change| change.file.as_str())
        .collect();
    if global.json {
        output::json(&json!({
            "changed": files,
            "written": !arguments.check,
            "report": report,
            "broken": broken,
        }));
        return;
    }
    let gone: Vec<_> = report
        .gone
        .iter()
        .filter(|item| !report.removed.contains(item))
        .cloned()
        .collect();
    for (verb, items) in [
        ("added", &report.added),
        ("restricted", &report.restricted),
        ("pinned", &report.pinned),
        ("unclassified", &report.unclassified),
        ("gone", &gone),
        ("removed", &report.removed),
    ] {
        for item in items {
            let path = output::value(&item.path);
            output::line(format_args!("{verb:<12}  {} {path}", item.kind));
        }
    }
    for standing in broken {
        output::line(format_args!("breaks        {standing}"));
    }
    for changed in &report.changed {
        let path = output::value(&changed.item.path);
        output::line(format_args!("changed       {} {path}", changed.item.kind));
    }
    let verb = match (files.is_empty(), arguments.check) {
        (true, _) => "nothing to write".to_owned(),
        (false, true) => format!("would write {}", files.join(", ")),
        (false, false) => format!("wrote {}", files.join(", ")),
    };
    output::line(format_args!(
        "{} kept, {} added, {} unclassified, {} gone; {verb}",
        report.kept,
        report.added.len(),
        report.unclassified.len(),
        report.gone.len(),
    ));
    if !report.unclassified.is_empty() || !report.restricted.is_empty() {
        let most = "what nobody classified counts as the most restricted";
        output::note(format_args!(
            "{most}; write classifications, then: trilith estate plan DIR"
        ));
    }
}

/// What nobody may overlook.
fn findings(report: &Report) -> Vec<Finding> {
    let changed = report.changed.iter().filter(|changed| !changed.accepted);
    let changed = changed.map(|changed| {
        let path = output::value(&changed.item.path);
        Finding::new(
            "SYNC-DEFINITION-CHANGED",
            format!("the tool {path} is not the one that was declared: its definition changed"),
        )
        .expected(changed.was.as_str())
        .observed(changed.is.as_str())
        .next("read what the server says of it now; then the same command with --accept-changed")
    });
    let refused = report.refused.iter().map(|refused| {
        let name = output::value(&refused.name.chars().take(200).collect::<String>());
        Finding::new(
            "SYNC-NAME-REFUSED",
            format!(
                "the {} {name:?} is not declared: {}",
                refused.kind, refused.why
            ),
        )
        .next("have it renamed where it is; what contains it decides until then")
    });
    changed.chain(refused).collect()
}

#[cfg(test)]
mod tests;
