//! The estate folder: checked here, planned and applied at the server.

mod approve;
mod diff;
mod fmt;
mod held;
pub(crate) mod lint;

use crate::admin::Place;
use crate::arguments::{EstateCommand, Global, PartArguments};
use crate::commands::plan;
use crate::files::unwritable;
use crate::runtime::block_on;
use crate::{Failure, admin, output};
use anyhow::Context as _;
use estate::{Estate, EstateFiles, MAX_TOTAL_BYTES, Problem};
use facts::Finding;
use proto::v1;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) fn run(command: EstateCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        EstateCommand::Plan {
            directory,
            markdown,
            replay,
            folder,
            part,
        } => {
            let replay = replay.map(|days| (days, folder));
            block_on(1, plan(&directory, (markdown, part), replay, global))
        }
        EstateCommand::Apply {
            directory,
            message,
            base,
            reissue,
            evict,
            revoke,
            approval,
            signing,
        } => {
            let change = Change {
                message,
                base,
                reissue,
                seen: (evict, revoke),
                approvals: approve::read(&approval)?,
                signer: approve::signer(signing)?,
            };
            block_on(1, apply(&directory, change, global))
        }
        EstateCommand::Prove {
            directory,
            timeout,
            second_solver,
        } => prove(&directory, timeout, second_solver, global),
        EstateCommand::Test { directory } => test(&directory, global),
        EstateCommand::Lint(arguments) => lint::run(&arguments, global),
        EstateCommand::Fmt(arguments) => fmt::run(&arguments, global),
        EstateCommand::Export { directory, version } => {
            block_on(1, export(&directory, version, global))
        }
        EstateCommand::Approve {
            directory,
            author,
            keys,
            hours,
            out,
        } => {
            let signer = approve::Signer::open(author, &keys)?;
            block_on(
                1,
                approve::approve(&directory, &signer, (hours, &out), global),
            )
        }
        EstateCommand::Held(arguments) => held::run(&arguments, global),
        EstateCommand::Diff(arguments) => diff::run(&arguments, global),
        EstateCommand::Schema => {
            output::json(&estate::json_schema());
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn plan(
    directory: &Path,
    (markdown, part): (bool, PartArguments),
    replay: Option<(u64, Vec<PathBuf>)>,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let files = read(directory)?;
    let mut admin = admin::connect(global).await?;
    let asked = request(&files, Change::default());
    let mut document = plan::asked(&mut admin, asked, &part).await?;
    let quiet = Global {
        json: global.json || markdown,
        ..global.clone()
    };
    if !quiet.json && !part.lines {
        show(&document, global);
        if let Some(left) = plan::left_out(&document) {
            output::note(left);
        }
    }
    if let Some((days, folders)) = replay {
        let replayed = super::records::of_plan(&folders, directory, days, &quiet)?;
        if let Value::Object(fields) = &mut document {
            fields.insert("replayed".to_owned(), replayed);
        }
    }
    if part.lines {
        // Each item was printed as it came.
    } else if markdown && !global.json {
        output::line(plan::page(&document));
    } else if global.json {
        output::json(&document);
    }
    if document.get("applicable").and_then(Value::as_bool) == Some(false) {
        return Ok(ExitCode::from(crate::EXIT_VERIFICATION));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said of a version beside its files.
#[derive(Default)]
struct Change {
    message: String,
    base: Option<String>,
    reissue: bool,
    /// Machines that it may evict, and SVIDs that it may revoke.
    seen: (u64, u64),
    approvals: Vec<Vec<u8>>,
    signer: Option<approve::Signer>,
}

async fn apply(directory: &Path, change: Change, global: &Global) -> Result<ExitCode, Failure> {
    let document = applied(directory, change, global.into()).await?;
    if global.json {
        output::json(&document);
    } else {
        plan::outline(&document);
    }
    match refusal(&document) {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => Err(failure),
    }
}

/// The server's answer: the version as it was applied, or why it was not, as a plan would say it.
async fn applied(directory: &Path, mut change: Change, place: Place<'_>) -> Result<Value, Failure> {
    let files = read(directory)?;
    if let Some(signer) = change.signer.take() {
        let own = approve::own(&files, &signer, place).await?;
        change.approvals.extend(own);
    }
    let answer = admin::connect(place)
        .await?
        .estate_apply(request(&files, change))
        .await
        .map_err(|status| admin::refusal(&status))?;
    admin::document(answer)
}

fn refusal(document: &Value) -> Option<Failure> {
    if document.get("applicable").and_then(Value::as_bool) != Some(false) {
        return None;
    }
    let finding = document.get("finding").cloned().unwrap_or_default();
    let finding = serde_json::from_value(finding)
        .unwrap_or_else(|_| Finding::new("ESTATE-REFUSED", "the estate was not applied"));
    Some(Failure::verification(vec![finding]))
}

fn show(document: &Value, global: &Global) {
    if global.json {
        output::json(document);
    } else {
        plan::print(document);
    }
}

fn request(files: &EstateFiles, change: Change) -> v1::EstateRequest {
    v1::EstateRequest {
        files: files.to_blob(),
        message: change.message,
        base: change.base.unwrap_or_default(),
        document: true,
        reissue: change.reissue,
        approvals: change.approvals,
        evict: change.seen.0,
        revoke: change.seen.1,
    }
}

/// The files of the version that the server has in force, and the place of its record, `server:12`.
pub(crate) async fn in_force(global: &Global) -> Result<(EstateFiles, Option<String>), Failure> {
    applied_version(String::new(), global).await
}

/// Those of the version whose digest begins so; of the one in force, where none is named.
async fn applied_version(
    version: String,
    global: &Global,
) -> Result<(EstateFiles, Option<String>), Failure> {
    let exported = admin::connect(global)
        .await?
        .estate_export(v1::EstateExportRequest { version })
        .await
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    let files = EstateFiles::from_blob(&exported.files).map_err(|problem| finding(&problem))?;
    // No estate is the first record of a ledger: 0 is said by servers that do not know the field.
    let record = (exported.index > 0).then(|| format!("server:{}", exported.index));
    Ok((files, record))
}

async fn export(
    directory: &Path,
    version: Option<String>,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let exported = admin::connect(global)
        .await?
        .estate_export(v1::EstateExportRequest {
            version: version.unwrap_or_default(),
        })
        .await
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    let files = EstateFiles::from_blob(&exported.files).map_err(|problem| finding(&problem))?;
    write(&files, directory)?;
    if global.json {
        output::json(&json!({ "version": exported.version, "files": files.0.len() }));
    } else {
        output::line(format_args!(
            "{} files of version {} in {}",
            files.0.len(),
            exported.version,
            directory.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn test(directory: &Path, global: &Global) -> Result<ExitCode, Failure> {
    let outcomes = compile(&read(directory)?)?.run_tests();
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    for outcome in &outcomes {
        if global.json {
            let outcome = serde_json::to_value(outcome).context("cannot print an outcome")?;
            output::json(&outcome);
            continue;
        }
        let mark = if outcome.passed { "ok  " } else { "FAIL" };
        output::line(format_args!(
            "{mark} {}:{} {}",
            outcome.file, outcome.line, outcome.name
        ));
        if let Some(failure) = &outcome.failure {
            output::line(format_args!("     {failure}"));
        }
    }
    if outcomes.is_empty() && !global.json {
        output::line("0 tests");
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::verification(vec![Finding::new(
        "ESTATE-TESTS-FAILED",
        format!("{failed} of {} policy tests failed", outcomes.len()),
    )]))
}

fn prove(
    directory: &Path,
    timeout: u64,
    second: Option<PathBuf>,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let estate = compile(&read(directory)?)?;
    let question = Duration::from_secs(timeout);
    let count = u32::try_from(estate.invariants().len()).unwrap_or(u32::MAX);
    let defaults = estate_prove::Options::with_solver(std::env::var_os("CVC5"));
    let options = estate_prove::Options {
        question,
        second,
        find_second: std::env::var_os("PATH"),
        // Whoever gives an invariant more time gives it to each.
        total: defaults.total.max(question.saturating_mul(count.max(1))),
        ..defaults
    };
    let report = estate_prove::prove_blocking(&estate, &options);
    let document = serde_json::to_value(&report).context("cannot print the report")?;
    if global.json {
        output::json(&document);
    } else {
        let invariants = document.get("invariants").and_then(Value::as_array);
        plan::invariants(invariants.map_or(&[], Vec::as_slice));
    }
    if report.is_accepted() {
        return Ok(ExitCode::SUCCESS);
    }
    let refused = report.invariants.iter().filter(|one| !one.is_accepted());
    let observed = format!("{} of {}", refused.count(), report.invariants.len());
    Err(Failure::verification(vec![
        unproved(&report).observed(observed),
    ]))
}

/// Why the invariants do not let the version become current, in the words of the server.
fn unproved(report: &estate_prove::Report) -> Finding {
    if report.lacks_only_givens() {
        return Finding::new(
            "ESTATE-GIVEN",
            "what an invariant takes for granted does not hold of what is declared",
        )
        .next(
            "declare what the `given` asks for of the identity or resource that is named (add its label, tag \
             or group), or take the `given` out",
        );
    }
    let finding = Finding::new("ESTATE-UNPROVED", "an invariant is not proved");
    let unasked = |one: &estate_prove::InvariantReport| matches!(&one.result, estate_prove::Result::Unknown { why } if why.code == "PROVE-SOLVER-START");
    if report.invariants.iter().any(unasked) {
        return finding.next("apt install cvc5, or name its program: CVC5=PATH");
    }
    finding.next("change the policy that breaks it, or the invariant; docs/operate/invariants.md")
}

pub(crate) fn compile(files: &EstateFiles) -> Result<Estate, Failure> {
    Estate::compile(files)
        .map_err(|problems| Failure::verification(problems.iter().map(finding).collect()))
}

fn finding(problem: &Problem) -> Finding {
    Finding::new("ESTATE-PROBLEM", problem.to_string())
}

fn no_estate(directory: &Path) -> Failure {
    let what = if directory.is_dir() {
        format!("not an estate: no estate.toml in {}", directory.display())
    } else {
        format!("not an estate: {} is no folder", directory.display())
    };
    Finding::new("ESTATE-FOLDER", what)
        .next("name the folder that has estate.toml in it")
        .into()
}

/// Every regular file below `directory`, hidden ones left out. Links are refused: what is applied is what
/// stands in the folder.
pub(crate) fn read(directory: &Path) -> Result<EstateFiles, Failure> {
    let kind = std::fs::metadata(directory)
        .map_err(|error| Failure::unreadable(directory, &error))?
        .file_type();
    if !kind.is_dir() || std::fs::symlink_metadata(directory.join("estate.toml")).is_err() {
        return Err(no_estate(directory));
    }
    let mut files = EstateFiles::new();
    let mut total = 0_u64;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = directory.join(&folder);
        let unreadable = |error: std::io::Error| Failure::unreadable(&path, &error);
        let entries = std::fs::read_dir(&path).map_err(unreadable)?;
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let unreadable = |error: std::io::Error| Failure::unreadable(&entry.path(), &error);
            let kind = entry.file_type().map_err(unreadable)?;
            let relative = folder.join(&name);
            if kind.is_dir() {
                folders.push(relative);
                continue;
            }
            let shown = relative.display();
            if !kind.is_file() {
                return Err(Finding::new(
                    "ESTATE-FILE-KIND",
                    format!("{shown} is not a regular file"),
                )
                .next("copy what it stands for into the folder")
                .into());
            }
            total += entry.metadata().map_err(unreadable)?.len();
            if total > MAX_TOTAL_BYTES as u64 {
                return Err(Finding::new(
                    "ESTATE-TOO-LARGE",
                    format!(
                        "{} holds more than {MAX_TOTAL_BYTES} bytes",
                        directory.display()
                    ),
                )
                .into());
            }
            let text = std::fs::read_to_string(entry.path()).map_err(unreadable)?;
            files.insert(relative.to_string_lossy(), text);
        }
    }
    Ok(files)
}

/// Writes into a folder that is empty or new. The paths come from a blob that was checked: none leaves it.
pub(crate) fn write(files: &EstateFiles, directory: &Path) -> Result<(), Failure> {
    files.check().map_err(|problem| finding(&problem))?;
    std::fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
    let mut entries =
        std::fs::read_dir(directory).map_err(|error| Failure::unreadable(directory, &error))?;
    if entries.next().is_some() {
        return Err(Finding::new(
            "ESTATE-EXPORT-NOT-EMPTY",
            format!("{} is not empty", directory.display()),
        )
        .next("name a new folder")
        .into());
    }
    for (path, text) in &files.0 {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
        }
        std::fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
