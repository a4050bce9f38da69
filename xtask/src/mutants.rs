//! `cargo xtask mutants`: shows that each attack test fails once the check that it guards is gone.
//! What is removed, and which tests must notice, is for `tests/mutants/*.toml` to say, not for this file.

pub(crate) mod catalogue;
mod checkout;
mod trial;

use crate::arguments::Arguments;
use crate::shell::{Failure, Result};
use crate::workspace::{read_text, tracked_files};
use catalogue::{Catalogue, Mutant};
use checkout::Checkout;
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;
use trial::{Baseline, Outcome, Trial};

pub(crate) const HELP: &str = "\
Removes one check at a time from the running code, as tests/mutants/*.toml say, and expects the tests
named there to fail. First it runs those tests on the code as it is, so that a test which fails anyway
is not taken for one that noticed.

One line per mutant:
  caught          each of its tests failed
  SURVIVED        a test passed without the check that it guards
  does not build  the mutant is no program, and shows nothing
  not judged      a test of it does not exist, was skipped, does not end or fails without the mutant

It works in this checkout, one file at a time, and only if git has those files as they are. They are put
back at the end, also after Ctrl-C or a kill: a process of its own waits for the end of this one. Change
nothing in a file while it is mutated; to go on working, run this in another `git worktree`.

Each mutant costs the build of a crate and of the tests that use it, which is why `cargo xtask test` does
not include this. `cargo xtask tidy` checks that every entry still fits the code.

Usage: cargo xtask mutants [--only WHICH]... [--list] [--json]

Options:
  --only WHICH  only mutants with this name, in this file of tests/mutants (without .toml) or of this
                crate; may be repeated
  --list        run nothing: say which mutants there are, and which linked attack tests have none
  --json        one object a line on stdout
  -h, --help    this text

Examples:
  cargo xtask mutants --list
  cargo xtask mutants --only receipt-of-another-certificate
  cargo xtask mutants --only 01-proved-before-issued --only crates/ledger
";

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    // The other half of `checkout`: called by this command only.
    if arguments.flag("--restore-when-stdin-closes") {
        arguments.finish()?;
        return checkout::restore_when_stdin_closes();
    }
    let only = arguments.values("--only")?;
    let list = arguments.flag("--list");
    let json = arguments.flag("--json");
    arguments.finish()?;

    let catalogue = Catalogue::read(&tracked_files()?)?;
    let chosen = choose(&catalogue, &only)?;
    if list {
        print_list(&catalogue, &chosen, json)?;
        return Ok(ExitCode::SUCCESS);
    }
    judge(&chosen, json)
}

/// The mutants to run, those of one crate side by side: each step from crate to crate costs a build.
fn choose<'c>(catalogue: &'c Catalogue, only: &[String]) -> Result<Vec<&'c Mutant>> {
    let unknown = only
        .iter()
        .find(|which| !catalogue.mutants.iter().any(|mutant| mutant.is(which)));
    if let Some(unknown) = unknown {
        return Err(
            Failure::usage(format!("no mutant, file or crate is called `{unknown}`"))
                .next("cargo xtask mutants --list"),
        );
    }
    let mut chosen: Vec<_> = catalogue
        .mutants
        .iter()
        .filter(|mutant| only.is_empty() || only.iter().any(|which| mutant.is(which)))
        .collect();
    chosen.sort_by_key(|mutant| mutant.place());
    Ok(chosen)
}

/// Runs each mutant; the exit code is that of a test run.
fn judge(chosen: &[&Mutant], json: bool) -> Result<ExitCode> {
    let mut checkout = Checkout::open(chosen)?;
    let baseline = Baseline::run(chosen, &mut checkout)?;
    let mut caught = 0_usize;
    for mutant in chosen {
        let started = Instant::now();
        let trial = match baseline.objection(mutant) {
            Some(why) => Trial::not_judged(why),
            None => {
                let applied = checkout.apply(mutant)?;
                let trial = baseline.judge(mutant, &mut checkout)?;
                applied.restore()?;
                trial
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        caught += usize::from(trial.outcome == Outcome::Caught);
        report(mutant, &trial, seconds, json);
    }
    checkout.close()?;
    let others = chosen.len() - caught;
    if !json {
        println!("{caught} caught, {others} not");
    }
    Ok(ExitCode::from(u8::from(others > 0)))
}

fn report(mutant: &Mutant, trial: &Trial, seconds: f64, json: bool) {
    if json {
        println!(
            "{}",
            json!({
                "name": mutant.name,
                "outcome": trial.outcome.word(),
                "seconds": (seconds * 10.0).round() / 10.0,
                "why": trial.why,
                "said": trial.said,
            })
        );
        return;
    }
    println!(
        "{:<14} {seconds:>6.1} s  {}",
        trial.outcome.word(),
        mutant.name
    );
    for line in trial.why.iter().chain(&trial.said) {
        println!("{:25}{line}", "");
    }
}

fn print_list(catalogue: &Catalogue, chosen: &[&Mutant], json: bool) -> Result<()> {
    for mutant in chosen {
        let tests: Vec<_> = mutant.fails.iter().map(ToString::to_string).collect();
        if json {
            let files: BTreeSet<_> = mutant.edits.iter().map(|edit| &edit.file).collect();
            let line = json!({
                "name": mutant.name,
                "in": mutant.origin,
                "files": files,
                "fails": tests,
            });
            println!("{line}");
            continue;
        }
        println!("{} ({})", mutant.name, mutant.origin);
        for test in tests {
            println!("    {test}");
        }
    }
    let coverage = catalogue.coverage(&read_text(catalogue::THREATS)?);
    if json {
        let line = json!({
            "mutants": catalogue.mutants.len(),
            "linked": coverage.linked,
            "with_mutant": coverage.linked - coverage.without.len(),
            "without": coverage.without,
        });
        println!("{line}");
        return Ok(());
    }
    println!("\nlinked attack tests without a mutant:");
    for test in &coverage.without {
        println!("    {test}");
    }
    println!("{} mutants; {coverage}", catalogue.mutants.len());
    Ok(())
}
