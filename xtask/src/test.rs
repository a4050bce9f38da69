//! `cargo xtask test`: everything that judges this project, on a machine that has only Rust.
//! Which tests may be skipped is `tests/skips.toml`'s to say, not this file's.

mod harness;
mod skips;

use crate::arguments::Arguments;
use crate::machine::{self, Consent};
use crate::shell::{Failure, Result, run as run_program};
use crate::workspace::{cargo, evidence};
use crate::{agent_static, codegen, tidy};
use harness::Tally;
use std::process::ExitCode;
use std::time::Instant;

pub(crate) const HELP: &str = "\
Runs everything that judges this project, and installs what that needs: Debian packages (as root; else
the command is shown), the Python packages of tests/peers/requirements.txt in target/venv, the programs
of tests/peers in target/peers, and for the guests that tests boot the static node agent
(`cargo xtask agent-static`).

Stages, in this order; one that fails does not stop the next:
  tidy     the house rules (`cargo xtask tidy`)
  format   cargo fmt --check
  clippy   all targets of the whole workspace, warnings are errors
  codegen  the generated files are what their sources say
  tests    cargo test --workspace

A test that cannot run here says `SKIPPED name: why`. A skip that tests/skips.toml does not list fails
the run. The last line is `N passed, N failed, N skipped`; a stage that fails counts as one failed.

Usage: cargo xtask test [--only STAGE]... [-p CRATE]... [--no-install]

Options:
  --only STAGE   run only this stage; may be repeated
  -p CRATE       test only this crate; may be repeated
  --no-install   take the machine as it is
  -h, --help     this text

Examples:
  cargo xtask test
  cargo xtask test --only tidy --only format
  cargo xtask test --only tests -p ledger -p ledger-store
";

const STAGES: [&str; 5] = ["tidy", "format", "clippy", "codegen", "tests"];

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let only = arguments.values("--only")?;
    let crates = arguments.values("-p")?;
    let install = !arguments.flag("--no-install");
    arguments.finish()?;
    if let Some(unknown) = only.iter().find(|stage| !STAGES.contains(&stage.as_str())) {
        return Err(Failure::usage(format!("there is no stage `{unknown}`")));
    }
    let needs_tools = only.is_empty() || only.iter().any(|stage| stage == "tests");
    if install {
        prepare(needs_tools, &crates)?;
    }

    let mut tally = Tally::default();
    let mut summary = Vec::new();
    for stage in STAGES {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == stage) {
            continue;
        }
        println!("\n== {stage}");
        let started = Instant::now();
        let outcome = match stage {
            "tidy" => tidy::check(),
            "format" => run_program(&mut cargo(&["fmt", "--all", "--check"])),
            "clippy" => clippy(&crates),
            "codegen" => codegen::check(),
            _ => harness::run(&crates, &mut tally),
        };
        let seconds = started.elapsed().as_secs_f64();
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        summary.push(format!("{stage:<8} {word:<7} {seconds:>7.1} s"));
        if let Err(failure) = outcome {
            println!("{failure}");
            // A failed test has been counted already; anything else is one failure of its own.
            if stage != "tests" || tally.failed == 0 {
                tally.failed += 1;
            }
        }
    }
    Ok(report(&tally, &summary))
}

/// The machine first: the workspace does not build without libclang.
fn prepare(tests: bool, crates: &[String]) -> Result<()> {
    let started = Instant::now();
    machine::install(machine::FOR_TEST, Consent::Given)?;
    if tests {
        machine::python()?;
        machine::peers()?;
        machine::oidc()?;
    }
    if tests && (crates.is_empty() || crates.iter().any(|name| name == "trilith")) {
        agent_static::for_tests()?;
    }
    match evidence() {
        Some(folder) => println!("evidence: {}", folder.display()),
        None => println!("evidence: none (set TRILITH_EVIDENCE to a folder of it)"),
    }
    println!(
        "machine ready after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn clippy(crates: &[String]) -> Result<()> {
    let mut clippy = cargo(&["clippy", "--all-targets"]);
    clippy.args(harness::selection(crates));
    run_program(clippy.args(["--", "-D", "warnings"]))
}

fn report(tally: &Tally, summary: &[String]) -> ExitCode {
    println!();
    for line in &tally.failures {
        println!("{line}");
    }
    for (name, why) in &tally.skips {
        println!("SKIPPED {name}: {why}");
    }
    for line in summary {
        println!("{line}");
    }
    println!("{tally}");
    ExitCode::from(u8::from(tally.failed > 0))
}
