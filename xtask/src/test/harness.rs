//! Runs `cargo test`, hands its output on line by line, and counts what the harnesses report. A harness
//! that says nothing any more is ended, and the next one begins.

use super::skips;
use crate::shell::{Doing as _, Failure, Result, run as run_program};
use crate::workspace::{cargo, evidence, target};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What the tests came to.
#[derive(Default)]
pub(crate) struct Tally {
    /// As the harnesses count; a skipped test is among them.
    passed: usize,
    pub(crate) failed: usize,
    /// `test name … FAILED` lines.
    pub(crate) failures: Vec<String>,
    /// Name and reason.
    pub(crate) skips: BTreeMap<String, String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.skips.len();
        let passed = self.passed.saturating_sub(skipped);
        write!(
            f,
            "{passed} passed, {} failed, {skipped} skipped",
            self.failed
        )
    }
}

/// `--workspace`, or `-p` for each crate.
pub(crate) fn selection(crates: &[String]) -> Vec<String> {
    if crates.is_empty() {
        return vec!["--workspace".to_owned()];
    }
    crates
        .iter()
        .flat_map(|name| ["-p".to_owned(), name.clone()])
        .collect()
}

/// Runs the tests of `crates`, or of the workspace.
pub(crate) fn run(crates: &[String], tally: &mut Tally) -> Result<()> {
    let skips = target().join("skips.txt");
    std::fs::create_dir_all(target()).doing(target().display())?;
    std::fs::write(&skips, "").doing(skips.display())?;

    let mut command = cargo(&["test", "--no-fail-fast"]);
    command
        .args(selection(crates))
        .env("TRILITH_SKIPS", &skips)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(folder) = evidence() {
        command.env("TRILITH_EVIDENCE", folder);
    }
    let mut child = command.spawn().doing("cargo test")?;
    if let Some(stdout) = child.stdout.take() {
        hand_on(stdout, child.id(), tally)?;
    }
    let status = child.wait().doing("cargo test")?;

    let recorded = std::fs::read_to_string(&skips).doing(skips.display())?;
    tally.skips = skips::parse(&recorded);
    // A partial run cannot show that a listed skip is no longer needed.
    skips::judge(&tally.skips, crates.is_empty())?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("cargo test: {status}")))
}

/// Reads to the end. Until the first line comes, cargo builds, and takes the time that it takes.
fn hand_on(stdout: ChildStdout, cargo: u32, tally: &mut Tally) -> Result<()> {
    let (sender, lines) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut patience = Duration::MAX;
    loop {
        match lines.recv_timeout(patience) {
            Ok(line) => {
                let line = line.doing("output of cargo test")?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                tally.read(&line);
                patience = PATIENCE;
            }
            Err(RecvTimeoutError::Timeout) => end(cargo, tally)?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // It has sent all it had.
    drop(reading.join());
    Ok(())
}

/// How long a harness may say nothing; the longest test takes two minutes.
const PATIENCE: Duration = Duration::from_mins(12);

/// Ends what `cargo` runs just now. The harness has named each test that runs for over a minute.
fn end(cargo: u32, tally: &mut Tally) -> Result<()> {
    for child in children(cargo) {
        let program = std::fs::read_link(format!("/proc/{child}/exe"));
        let name = program.map_or_else(|_| child.to_string(), |path| path.display().to_string());
        let line = format!(
            "{name} said nothing for {} minutes FAILED",
            PATIENCE.as_secs() / 60
        );
        println!("{line}");
        tally.failures.push(line);
        run_program(Command::new("kill").args(["-ABRT", &child.to_string()]))?;
    }
    Ok(())
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|number| {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            // After the name, which may hold anything, come the state and the parent.
            let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
            after.split_whitespace().nth(1) == Some(&parent.to_string())
        })
        .collect()
}

impl Tally {
    /// Reads one line of a harness.
    fn read(&mut self, line: &str) {
        if line.starts_with("test ") && line.ends_with("FAILED") {
            self.failures.push(line.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |word: &str| -> usize {
            result
                .split([';', '.'])
                .filter_map(|part| part.trim().strip_suffix(word)?.trim().parse::<usize>().ok())
                .sum()
        };
        self.passed += count("passed");
        self.failed += count("failed");
    }
}

#[cfg(test)]
mod tests {
    use super::{Tally, children};
    use std::process::Command;

    #[test]
    fn what_cargo_runs_is_found() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(std::process::id()).contains(&child.id()));
    }

    #[test]
    fn results_of_several_harnesses_add_up() {
        let mut tally = Tally::default();
        tally.read("test it::a_thing ... FAILED");
        tally.read("test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        tally.read("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.01s");
        tally.skips.insert("x".to_owned(), "y".to_owned());
        assert_eq!(tally.to_string(), "14 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failures, ["test it::a_thing ... FAILED"]);
    }
}
