//! `cargo xtask agent-static`: the slim node agent as one file without shared libraries.

use crate::arguments::Arguments;
use crate::shell::{Doing as _, Failure, Result, read, run as run_program};
use crate::workspace::{cargo, root, target};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

pub(crate) const HELP: &str = "\
Builds `trilith-agent`: the node agent alone, statically linked, without Cedar, SQLite or the SQL
grammar. It joins, serves the Workload API and nothing else.

Usage: cargo xtask agent-static [--target TRIPLE] [--profile PROFILE]

Options:
  --target TRIPLE  default x86_64-unknown-linux-gnu (static glibc); the target has to be installed
  --profile PROFILE  default slim (small); guest builds faster, for the guests that tests boot
  -h, --help       this text

Examples:
  cargo xtask agent-static
  cargo xtask agent-static --target x86_64-unknown-linux-musl
  cargo xtask agent-static --profile guest
";

const DEFAULT_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Of the workspace's manifest: what machines get, and what guests of tests get.
const PROFILE: &str = "slim";
const FOR_TESTS: &str = "guest";

/// What the slim agent must not contain, as its dependency tree would name it.
const ABSENT: [&str; 4] = ["cedar-policy-core", "libsqlite3-sys", "pg_query", "estate"];

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let triple = arguments
        .values("--target")?
        .pop()
        .unwrap_or_else(|| DEFAULT_TARGET.to_owned());
    let profile = arguments.values("--profile")?.pop();
    arguments.finish()?;
    let binary = build(&triple, profile.as_deref().unwrap_or(PROFILE))?;
    let size = std::fs::metadata(&binary).doing(binary.display())?.len();
    let shown = binary.strip_prefix(root()).unwrap_or(&binary);
    println!("{}  {:.1} MiB, static", shown.display(), mebibytes(size));
    Ok(ExitCode::SUCCESS)
}

/// For the machine that tests run on: real guests boot with it inside.
pub(crate) fn for_tests() -> Result<()> {
    build(DEFAULT_TARGET, FOR_TESTS).map(drop)
}

/// Builds it, and checks that it is static and links nothing that it must not.
fn build(triple: &str, profile: &str) -> Result<PathBuf> {
    check_tree(triple)?;
    let mut build = cargo(&[
        "build",
        "--profile",
        profile,
        "-p",
        "trilith-agent",
        "--target",
    ]);
    // An explicit target keeps the flag away from build scripts and macros, which must stay dynamic.
    build
        .arg(triple)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    run_program(&mut build)?;
    let binary = target().join(triple).join(profile).join("trilith-agent");
    check_static(&binary)?;
    Ok(binary)
}

fn check_tree(triple: &str) -> Result<()> {
    let mut tree = cargo(&[
        "tree",
        "-p",
        "trilith-agent",
        "-e",
        "normal",
        "--prefix",
        "none",
    ]);
    let tree = read(tree.args(["--format", "{p}", "--target", triple]))?;
    for absent in ABSENT {
        if tree
            .lines()
            .any(|line| line.split(' ').next() == Some(absent))
        {
            return Err(Failure::new(format!("trilith-agent links {absent}"))
                .next(format!("cargo tree -p trilith-agent -i {absent}")));
        }
    }
    Ok(())
}

/// A static program names no interpreter: `PT_INTERP` is absent from its ELF program headers.
fn check_static(binary: &std::path::Path) -> Result<()> {
    let headers = read(Command::new("readelf").arg("-lW").arg(binary))?;
    if headers.contains("INTERP") {
        return Err(Failure::new(format!(
            "{} asks for a dynamic loader",
            binary.display()
        )));
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with one decimal; file sizes are far below 2^52"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
