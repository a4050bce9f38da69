//! `cargo xtask fuzz`: drives what has to hold of any bytes (`crates/hostile`) by libFuzzer. The compiler
//! counts what is reached, and AddressSanitizer stands by for the C of the crypto backend; cargo-fuzz is
//! not needed.

use crate::arguments::Arguments;
use crate::shell::{Doing as _, Failure, Result, line, read, succeeds};
use crate::workspace::{cargo, evidence, root, target};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

pub(crate) const HELP: &str = "\
Searches for bytes of which something does not hold that has to hold of any: a parser that panics or
overflows, bytes that are read and written as others, a verdict for what nobody signed, memory that a
message makes of itself. Needs a nightly compiler (`rustup toolchain install nightly`) and g++.

Without TARGET, each target in turn. What was learned stays in target/fuzz/corpus. Bytes that broke
something lie in target/fuzz/found, and the run fails; mend it, and leave a test in the crate whose
parser it is.

Usage: cargo xtask fuzz [TARGET]... [--seconds N] [--list]

Options:
  --seconds N  for each target; default 60
  --list       print the targets
  -h, --help   this text

Examples:
  cargo xtask fuzz tcg_log --seconds 600
  cargo xtask fuzz --seconds 20
";

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const SECONDS: u32 = 60;
/// No message that is read needs more in one piece.
const MALLOC_MIB: u32 = 128;
const RSS_MIB: u32 = 1024;
/// Bytes of an input. Longer ones than a parser's limit teach nothing.
const LONGEST: u32 = 64 * 1024;
/// A reader that takes longer for one input hangs.
const TIMEOUT: u32 = 10;

/// As cargo-fuzz builds, but without `cfg(fuzzing)`: what is searched is what runs.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
];

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let seconds = match arguments.values("--seconds")?.pop() {
        None => SECONDS,
        Some(word) => word
            .parse()
            .ok()
            .filter(|seconds| *seconds > 0)
            .ok_or_else(|| Failure::usage(format!("`{word}` is no number of seconds")))?,
    };
    let list = arguments.flag("--list");
    let wanted = arguments.words()?;
    let folder = target().join("fuzz");
    let targets = seeds(&folder.join("seeds"), &wanted)?;
    if list {
        println!("{}", targets.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        return Err(Failure::usage(format!("there is no target `{unknown}`"))
            .next("cargo xtask fuzz --list"));
    }
    let program = build(&folder)?;
    let mut broken = Vec::new();
    println!("target             executions  per second  coverage  corpus");
    for name in &targets {
        match search(&program, &folder, name, seconds)? {
            Searched { broke: true, .. } => broken.push(name.as_str()),
            searched => println!("{name:<18} {searched}"),
        }
    }
    if broken.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!(
        "something does not hold: {}",
        broken.join(" ")
    )))
}

/// Writes the seeds of the wanted targets, of all if none is named, and returns their names.
fn seeds(folder: &Path, wanted: &[String]) -> Result<Vec<String>> {
    let mut write = cargo(&[
        "run",
        "--quiet",
        "-p",
        "hostile",
        "--example",
        "seeds",
        "--",
    ]);
    if let Some(evidence) = evidence() {
        write.env("TRILITH_EVIDENCE", evidence);
    }
    let names = read(write.arg(folder).args(wanted))?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn build(folder: &Path) -> Result<PathBuf> {
    // Not through this cargo, which is of the version that rust-toolchain.toml names.
    let rustup = || {
        let mut rustup = Command::new("rustup");
        rustup.args(["run", "nightly"]).current_dir(root());
        rustup
    };
    if !succeeds(rustup().args(["rustc", "--version"])) {
        return Err(Failure::new("there is no nightly compiler")
            .next("rustup toolchain install nightly --profile minimal"));
    }
    let mut build = rustup();
    build
        .args([
            "cargo",
            "build",
            "--release",
            "--locked",
            "--target",
            TRIPLE,
        ])
        .args(["--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .arg(folder)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env("RUSTFLAGS", FLAGS.join(" "));
    crate::shell::run(&mut build)?;
    Ok(folder.join(TRIPLE).join("release/fuzz"))
}

/// What one search came to.
#[derive(Default)]
struct Searched {
    executions: u64,
    per_second: u64,
    /// Edges of the program that were reached.
    coverage: u64,
    /// Inputs that each reached something new.
    corpus: u64,
    broke: bool,
}

impl std::fmt::Display for Searched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>10}  {:>10}  {:>8}  {:>6}",
            self.executions, self.per_second, self.coverage, self.corpus
        )
    }
}

fn search(program: &Path, folder: &Path, name: &str, seconds: u32) -> Result<Searched> {
    let corpus = folder.join("corpus").join(name);
    let found = folder.join("found");
    for folder in [&corpus, &found] {
        std::fs::create_dir_all(folder).doing(folder.display())?;
    }
    let mut search = Command::new(program);
    if let Some(evidence) = evidence() {
        search.env("TRILITH_EVIDENCE", evidence);
    }
    search
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-malloc_limit_mb={MALLOC_MIB}"))
        .arg(format!("-rss_limit_mb={RSS_MIB}"))
        .arg(format!("-artifact_prefix={}/{name}-", found.display()))
        .arg("-print_final_stats=1")
        .arg(&corpus)
        .arg(folder.join("seeds").join(name))
        .env("TRILITH_FUZZ", name)
        .current_dir(root())
        .stdin(Stdio::null());
    let output = search.output().doing(line(&search))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(searched(&said));
    }
    println!("{said}");
    println!("{name}: BROKEN; the bytes lie in {}", found.display());
    Ok(Searched {
        broke: true,
        ..Searched::default()
    })
}

/// Reads `stat::NAME: NUMBER` and the last line that names coverage.
fn searched(said: &str) -> Searched {
    let stat = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().parse().ok()
    };
    let after = |word: &str| {
        let line = said.lines().rfind(|line| line.contains(word))?;
        let rest = line.split(word).nth(1)?.trim_start();
        rest.split([' ', '/']).next()?.parse().ok()
    };
    Searched {
        executions: stat("stat::number_of_executed_units").unwrap_or_default(),
        per_second: stat("stat::average_exec_per_sec").unwrap_or_default(),
        coverage: after("cov: ").unwrap_or_default(),
        corpus: after("corp: ").unwrap_or_default(),
        broke: false,
    }
}

#[cfg(test)]
mod tests {
    use super::searched;

    #[test]
    fn what_libfuzzer_says_at_its_end_is_read() {
        let said = "#2\tINITED cov: 7 ft: 8 corp: 1/9b exec/s: 0\n\
            #900\tDONE   cov: 812 ft: 1620 corp: 201/9Kb lim: 64 exec/s: 300 rss: 60Mb\n\
            stat::number_of_executed_units: 900\nstat::average_exec_per_sec:     300\n";
        let searched = searched(said);
        assert_eq!((searched.executions, searched.per_second), (900, 300));
        assert_eq!((searched.coverage, searched.corpus), (812, 201));
    }
}
