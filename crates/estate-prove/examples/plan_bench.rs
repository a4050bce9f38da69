//! Measures the plan of a change of one line: 10,000 policies, 100,000 tables, 10,000 identities, three invariants
//! whose scope has fewer than 500 policies; beside compiling the estate. One JSON object a line; exits 1 when the
//! plan does not say what the line does. `--quick` declares a tenth of it.
//!
//! What a server does for a plan, in its order: compile, prove beside what was proved before, and on another
//! thread run the tests, lint, and compare with the version in force.

#![allow(
    clippy::print_stdout,
    reason = "a program for people at a terminal, over data that it made itself"
)]

use estate::{Estate, EstateFiles};
use estate_prove::{Memory, Options, Report, prove_beside};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// What the binary allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TEAMS: usize = 100;
const DATABASES: usize = 10;
const TABLES_PER_SCHEMA: usize = 100;
const KINDS: [&str; 3] = ["service", "job", "ai-agent"];
const CLASSES: [&str; 4] = ["public", "internal", "pii", "restricted"];
/// `delete` and `truncate` are rare, and what the invariants are about.
const ACTIONS: [&str; 3] = ["select", "insert", "update"];

#[derive(Clone, Copy)]
struct Size {
    policies: usize,
    tables: usize,
    identities: usize,
}

fn pick<'a>(list: &[&'a str], number: usize) -> &'a str {
    list.get(number % list.len()).copied().unwrap_or_default()
}

fn table(number: usize, size: Size) -> String {
    let number = number % size.tables;
    let schema = number / TABLES_PER_SCHEMA;
    format!("db{}/s{schema}/t{number}", schema % DATABASES)
}

fn identity(number: usize, size: Size) -> String {
    let number = number % size.identities;
    format!("team{}/i{number}", number % TEAMS)
}

const INVARIANTS: &str = "\
    @id(\"no AI agent deletes personal data\")\n\
    never (principal, action == Action::\"delete\", resource is Table)\n\
    when { principal.kind == \"ai-agent\" && resource.classification == \"pii\" };\n\
    @id(\"nobody truncates what is restricted\")\n\
    never (principal, action == Action::\"truncate\", resource is Table)\n\
    when { resource.classification == \"restricted\" };\n\
    @id(\"jobs delete from machines that were measured alone\")\n\
    never (principal, action == Action::\"delete\", resource is Table)\n\
    when { principal.kind == \"job\" } unless { context.machine has join && context.machine.join == \"tpm\" };\n";

const GUARDS: &str = "\
    @id(\"agents keep off\") forbid (principal, action == Action::\"delete\", resource is Table)\n\
    when { principal.kind == \"ai-agent\" && resource.classification == \"pii\" };\n\
    @id(\"restricted stays\") forbid (principal, action == Action::\"truncate\", resource is Table)\n\
    when { resource.classification == \"restricted\" };\n\
    @id(\"jobs are measured\") forbid (principal, action == Action::\"delete\", resource is Table)\n\
    when { principal.kind == \"job\" } unless { context.machine has join && context.machine.join == \"tpm\" };\n";

/// What the one line gives, and to whom.
fn change(size: Size) -> String {
    format!(
        "@id(\"new\") permit (principal == Identity::\"{}\", action == Action::\"delete\", resource == Table::\"{}\");\n",
        identity(3, size),
        table(8, size)
    )
}

fn declarations(size: Size) -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"bench\"\nclassifications = [\"public\", \"internal\", \"pii\", \"restricted\"]\n",
    );
    let mut text = String::new();
    for team in 0..TEAMS {
        let _ = writeln!(text, "[[group]]\nname = \"team{team}\"");
    }
    for number in 0..size.identities {
        let _ = writeln!(
            text,
            "[[identity]]\npath = \"{}\"\nkind = \"{}\"\nowner = \"o{}\"\ngroups = [\"team{}\"]\nvisible = [\"machine.join\"]",
            identity(number, size),
            pick(&KINDS, number),
            number % 50,
            number % TEAMS,
        );
    }
    files.insert("identities/all.toml", text);
    let schemas = size.tables / TABLES_PER_SCHEMA;
    for database in 0..DATABASES {
        let mut text = format!("[[database]]\nname = \"db{database}\"\n");
        for schema in (database..schemas).step_by(DATABASES) {
            let _ = writeln!(text, "[[database.schema]]\nname = \"s{schema}\"");
            for number in 0..TABLES_PER_SCHEMA {
                let number = schema * TABLES_PER_SCHEMA + number;
                let class = pick(&CLASSES, number);
                let _ = writeln!(
                    text,
                    "[[database.schema.table]]\nname = \"t{number}\"\nclassification = \"{class}\""
                );
            }
        }
        files.insert(format!("resources/db{database}.toml"), text);
    }
    let mut text = GUARDS.to_owned();
    for number in 3..size.policies {
        let _ = writeln!(text, "@id(\"p{number}\") {}", policy(number, size));
    }
    files.insert("policies/all.cedar", text);
    files.insert("invariants/all.cedar", INVARIANTS);
    let test = format!(
        "[[test]]\nname = \"a policy of its own\"\nprincipal = \"{}\"\naction = \"select\"\nresource = 'Table::\"{}\"'\nexpect = \"deny\"\n",
        identity(1, size),
        table(2, size)
    );
    files.insert("tests/all.toml", test);
    files
}

/// Nine in ten name an identity and a table, most others a team and a schema, one in a hundred attributes alone.
/// One in 25 lets delete.
fn policy(number: usize, size: Size) -> String {
    let action = match number % 25 {
        0 => "delete",
        _ => pick(&ACTIONS, number),
    };
    // Multiplied, so that what stands together is not given together.
    let spread = number.wrapping_mul(7_919);
    match number % 100 {
        0..90 => format!(
            "permit (principal == Identity::\"{}\", action == Action::\"{action}\", resource == Table::\"{}\");",
            identity(spread, size),
            table(spread / 3, size)
        ),
        90..99 => {
            let whole = table(spread, size);
            let schema = whole.rsplit_once('/').map_or("", |(schema, _)| schema);
            format!(
                "permit (principal in Group::\"team{}\", action == Action::\"{action}\", resource in Schema::\"{schema}\") \
                 when {{ resource.classification == \"{}\" }};",
                spread % TEAMS,
                pick(&CLASSES, number)
            )
        }
        _ => format!(
            "permit (principal, action == Action::\"{action}\", resource is Table) when {{ principal.owner == \"o{}\" \
             && resource.classification == \"public\" && context.machine has join && context.machine.join == \"tpm\" }};",
            number / 100
        ),
    }
}

fn compile(files: &EstateFiles) -> Estate {
    match Estate::compile(files) {
        Ok(estate) => estate,
        Err(problems) => {
            let first: Vec<_> = problems.iter().take(5).map(ToString::to_string).collect();
            unreachable!("{}", first.join("\n"))
        }
    }
}

fn row(id: &str, ours: f64, unit: &str, reference: f64, is: &str) {
    println!(
        "{}",
        json!({"id": id, "ours": ours, "unit": unit, "reference": reference, "reference_is": is, "ratio": ours / reference})
    );
}

/// Of the process at its most, in MiB.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let share = if quick { 10 } else { 1 };
    let size = Size {
        policies: 10_000 / share,
        tables: 100_000 / share,
        identities: 10_000 / share,
    };
    let options = Options::with_solver(std::env::var_os("CVC5"));
    let memory = Memory::default();
    let mut files = declarations(size);
    let old = compile(&files);
    let began = Instant::now();
    let before: Report = prove_beside(&old, &options, &memory);
    let whole_proof = began.elapsed().as_secs_f64();

    let policies = files
        .0
        .get("policies/all.cedar")
        .cloned()
        .unwrap_or_default();
    files.insert("policies/all.cedar", policies + &change(size));
    let began = Instant::now();
    let new = compile(&files);
    let compiled = began.elapsed().as_secs_f64();
    let (after, proved, rest) = std::thread::scope(|scope| {
        let rest = scope.spawn(|| {
            let began = Instant::now();
            let tests = new.run_tests();
            let remarks = new.lint().len();
            let linted = began.elapsed().as_secs_f64();
            let diff = estate::diff(&old, &new);
            let compared = began.elapsed().as_secs_f64() - linted;
            (tests, remarks, diff, linted, compared)
        });
        let after = prove_beside(&new, &options, &memory);
        let proved = began.elapsed().as_secs_f64();
        (after, proved, rest.join())
    });
    let planned = began.elapsed().as_secs_f64();
    let Ok((tests, remarks, diff, linted, compared)) = rest else {
        return ExitCode::FAILURE;
    };

    row(
        "estate.plan_10k_s",
        planned,
        "s",
        compiled,
        "compiling the estate",
    );
    row(
        "estate.plan_10k_first_proof_s",
        whole_proof,
        "s",
        compiled,
        "compiling the estate",
    );
    row(
        "estate.plan_10k_reproof_s",
        proved - compiled,
        "s",
        whole_proof,
        "the first proof",
    );
    row(
        "estate.plan_10k_lint_s",
        linted,
        "s",
        compiled,
        "compiling the estate",
    );
    row(
        "estate.plan_10k_diff_s",
        compared,
        "s",
        compiled,
        "compiling the estate",
    );
    if let Some(mib) = peak_memory() {
        println!(
            "{}",
            json!({"id": "estate.plan_10k_mib", "ours": mib, "unit": "MiB"})
        );
    }
    let widened: Vec<_> = diff
        .widened
        .iter()
        .filter_map(|change| change.after.as_ref())
        .map(|access| format!("{} {} {}", access.identity, access.action, access.resource))
        .collect();
    let expected = format!("{} delete Table::\"{}\"", identity(3, size), table(8, size));
    let right = before.is_accepted()
        && after.is_accepted()
        && tests.iter().all(|test| test.passed)
        && widened == [expected]
        && diff.narrowed.is_empty()
        && diff.errors.is_empty();
    println!(
        "{}",
        json!({"id": "estate.plan_10k_remarks", "ours": remarks, "unit": "", "tests": tests.len(), "right": right})
    );
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
