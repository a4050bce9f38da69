//! A plan, an apply and a proof, for people: what holds, what breaks it, who newly reaches what and
//! because of which line. `--json` prints the document that this reads.

mod markdown;
mod parts;
mod running;
mod witnesses;

pub(crate) use markdown::page;
pub(crate) use parts::{asked, left_out};

use super::ask::{list, policy_name, residuals, text};
use super::estate::lint::count;
use crate::output;
use facts::Finding;
use serde_json::Value;

/// The whole plan, with why it cannot be applied.
pub(crate) fn print(document: &Value) {
    outline(document);
    if document.get("applicable").and_then(Value::as_bool) == Some(false) {
        refused(document);
    }
}

/// What was signed: whether it can be applied is not asked, since it lacks the other author's signature.
pub(crate) fn signed(document: &Value) {
    governed(document);
    compared(document);
    if let Some(version) = document.get("version").and_then(Value::as_str) {
        output::line(format_args!("version {version}"));
    }
}

/// The plan of what was to be applied: whoever was refused is told why at the end of the command.
pub(crate) fn outline(document: &Value) {
    if document.get("same").and_then(Value::as_bool) == Some(true)
        && document.get("applicable").and_then(Value::as_bool) == Some(true)
        // Applied all the same, to have everything issued anew.
        && document.get("index").is_none()
    {
        let version = text(document, "/version");
        output::line(format_args!("nothing to do: version {version} is in force"));
        return;
    }
    let problems = list(document, "/problems");
    for problem in problems {
        output::line(format_args!("{}", problem_line(problem)));
    }
    // What does not compile was neither proved nor tested.
    if document.get("proof").is_some() {
        invariants(list(document, "/proof/invariants"));
        tests(document);
    }
    governed(document);
    if let Some(diff) = document.get("diff").filter(|diff| !diff.is_null()) {
        difference(diff);
    }
    witnesses::print(document);
    remarks(document);
    if let Some(machines) = document.get("machines").filter(|one| !one.is_null()) {
        evictions(machines);
    }
    running::print(document);
    if let Some(version) = document.get("version").and_then(Value::as_str) {
        output::line(format_args!("version {version}"));
    }
    if let Some(index) = document.get("index").and_then(Value::as_u64) {
        output::line(format_args!(
            "current since record {index}; proof in record {}; revoked {}, reconsidered {}",
            text(document, "/proof_index"),
            text(document, "/revoked"),
            text(document, "/reconsidered"),
        ));
    } else if document.get("applicable").and_then(Value::as_bool) == Some(true) {
        match running::flags(document) {
            Some(flags) => output::line(format_args!(
                "it can be applied by whoever means that: estate apply with {flags}"
            )),
            None => output::line("it can be applied"),
        }
    } else {
        output::line("it cannot be applied");
    }
}

/// Why it cannot be applied, and what to do about it.
fn refused(document: &Value) {
    let finding = document.get("finding").cloned().unwrap_or_default();
    if let Ok(finding) = serde_json::from_value::<Finding>(finding) {
        output::line(format_args!("  {finding}"));
    }
}

/// What the change takes from invariants, and who has signed it.
fn governed(document: &Value) {
    let changes = list(document, "/governed");
    for change in changes {
        let place = text(change, "/place");
        let place = if place.is_empty() {
            String::new()
        } else {
            format!(" ({place})")
        };
        output::line(format_args!(
            "TWO SIGN {} {}{place}: {}",
            text(change, "/kind"),
            text(change, "/of"),
            text(change, "/why")
        ));
    }
    let signed: Vec<String> = list(document, "/approved_by").iter().map(plain).collect();
    if !signed.is_empty() {
        output::line(format_args!("  signed by {}", signed.join(" and ")));
    }
}

/// What a look at the whole folder would say, in numbers.
fn remarks(document: &Value) {
    let number = |severity: &str| {
        let number = document.pointer(&format!("/lint/{severity}"));
        let number = number.and_then(Value::as_u64).unwrap_or_default();
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let (errors, warnings) = (number("errors"), number("warnings"));
    if errors + warnings > 0 {
        output::line(format_args!(
            "lint: {}, {}; look: trilith estate lint DIR",
            count(errors, "error"),
            count(warnings, "warning")
        ));
    }
}

/// What a change of reference values does to machines, by what they booted.
fn evictions(machines: &Value) {
    output::line(format_args!(
        "evicts {} of {} machines by what they booted; trilith attest dry-run tries what they ran as well",
        text(machines, "/count"),
        text(machines, "/judged"),
    ));
    for machine in list(machines, "/evicted") {
        output::line(format_args!(
            "  {}: {}: {}",
            text(machine, "/node"),
            text(machine, "/finding/code"),
            text(machine, "/finding/message")
        ));
    }
}

fn problem_line(problem: &Value) -> String {
    let hint = problem
        .get("hint")
        .and_then(Value::as_str)
        .map_or_else(String::new, |hint| format!(" ({hint})"));
    let column = match problem.get("column").and_then(Value::as_u64) {
        Some(column) => format!(":{column}"),
        None => String::new(),
    };
    format!(
        "{}:{}{column}: {}: {}{hint}",
        text(problem, "/file"),
        text(problem, "/line"),
        text(problem, "/code"),
        text(problem, "/message")
    )
}

/// Both results of each: of any data, and of what is declared today.
pub(crate) fn invariants(invariants: &[Value]) {
    for report in invariants {
        let name = report
            .get("invariant")
            .map_or_else(String::new, policy_name);
        let any = text(report, "/result/status");
        output::line(format_args!("{:8} {name}", any.to_uppercase()));
        match any.as_str() {
            "broken" => {
                let sentence = text(report, "/result/counterexample/text");
                let today = report.pointer("/result/counterexample/today");
                let of = match today.and_then(Value::as_bool) {
                    Some(true) => "with what is declared now",
                    _ => "for some data",
                };
                output::line(format_args!("  {of}: {sentence}"));
            }
            "unknown" => output::line(format_args!(
                "  {}: {}",
                text(report, "/result/code"),
                text(report, "/result/message")
            )),
            _ => {}
        }
        today(report.get("today").unwrap_or(&Value::Null));
        for given in list(report, "/givens") {
            output::line(format_args!(
                "  taken for granted: {}",
                text(given, "/given")
            ));
            today(given.get("today").unwrap_or(&Value::Null));
        }
    }
}

/// The first request of today that breaks an invariant, as the plan says it.
pub(crate) fn broken_today(document: &Value) -> Option<String> {
    list(document, "/proof/invariants")
        .iter()
        .find_map(|report| list(report, "/today/by").first())
        .map(|breach| format!("broken by {}", breach_line(breach)))
}

fn today(today: &Value) {
    match text(today, "/status").as_str() {
        "holds" => output::line(format_args!(
            "  today: holds, {} requests tried",
            text(today, "/requests")
        )),
        "broken" => {
            for breach in list(today, "/by") {
                output::line(format_args!("  today: broken by {}", breach_line(breach)));
            }
        }
        _ => {
            for breach in list(today, "/on") {
                output::line(format_args!(
                    "  today: depends on facts for {}",
                    breach_line(breach)
                ));
            }
            for because in list(today, "/because") {
                output::line(format_args!("  today: not known: {}", plain(because)));
            }
        }
    }
}

fn breach_line(breach: &Value) -> String {
    let because = breach.get("access").map_or_else(String::new, because);
    format!(
        "{} {} {}{because}",
        text(breach, "/principal"),
        text(breach, "/action"),
        text(breach, "/resource")
    )
}

fn tests(document: &Value) {
    let tests = list(document, "/tests");
    let failed: Vec<&Value> = tests
        .iter()
        .filter(|test| test.get("passed").and_then(Value::as_bool) != Some(true))
        .collect();
    for test in &failed {
        output::line(format_args!(
            "FAILED   {}:{} {}",
            text(test, "/file"),
            text(test, "/line"),
            text(test, "/name")
        ));
        output::line(format_args!("  {}", text(test, "/failure")));
    }
    // Of a part: how many there are in all.
    let whole = |pointer: &str, here: usize| {
        let count = document.pointer("/part").map(|_| {
            let count = document.pointer(pointer).and_then(Value::as_u64);
            count.unwrap_or_default()
        });
        count.unwrap_or(u64::try_from(here).unwrap_or(u64::MAX))
    };
    let all = whole("/part/lists/~1tests", tests.len());
    let failed = whole("/part/failed_tests", failed.len());
    output::line(format_args!(
        "{} of {all} policy tests pass",
        all.saturating_sub(failed)
    ));
}

/// As a difference says of `columns` that they are decided on from now on.
const DECIDED: &str = "by-table before, decided now";

/// What is declared otherwise, and what is newly possible and no longer.
pub(crate) fn compared(document: &Value) {
    if let Some(diff) = document.get("diff") {
        difference(diff);
    }
    witnesses::print(document);
}

fn difference(diff: &Value) {
    for (what, field) in [
        ("setting", "settings"),
        ("identity", "identities"),
        ("resource", "resources"),
        ("reference", "references"),
        ("policy", "policies"),
        ("invariant", "invariants"),
        ("delegation", "delegations"),
    ] {
        for (mark, list_name) in [("+", "added"), ("-", "removed"), ("~", "changed")] {
            for name in list(diff, &format!("/{field}/{list_name}")) {
                output::line(format_args!("{mark} {what} {}", plain(name)));
            }
        }
    }
    if list(diff, "/settings/changed")
        .iter()
        .any(|one| plain(one).ends_with(DECIDED))
    {
        output::line(
            "  taking this back needs two authors where an invariant speaks of select, insert or update",
        );
    }
    for (title, field, side) in [
        ("newly possible", "/widened", "after"),
        (
            "no longer possible, or under another condition",
            "/narrowed",
            "before",
        ),
    ] {
        let changes = list(diff, field);
        if changes.is_empty() {
            continue;
        }
        output::line(format_args!("{title}:"));
        for change in changes {
            if let Some(access) = change.get(side) {
                output::line(format_args!(
                    "  {} {} {}{}",
                    text(access, "/identity"),
                    text(access, "/action"),
                    text(access, "/resource"),
                    because(access)
                ));
            }
        }
    }
    for error in list(diff, "/errors") {
        output::line(format_args!("not compared: {}", plain(error)));
    }
}

/// `, because of FILE:LINE "ID"`, with the conditions that are left.
fn because(access: &Value) -> String {
    let mut because: Vec<String> = list(access, "/policies").iter().map(policy_name).collect();
    because.extend(residuals(access));
    if because.is_empty() {
        String::new()
    } else {
        format!(", because of {}", because.join("; "))
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
