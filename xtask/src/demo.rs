//! `cargo xtask demo`: from a clone to the running demo. The demo itself is `trilith demo`.

use crate::arguments::Arguments;
use crate::machine::{self, Consent};
use crate::shell::{self, Doing as _, Result, line};
use crate::workspace::{cargo, root, target};
use std::process::{Command, ExitCode};

pub(crate) const HELP: &str = "\
Builds Trilith and runs its demo: a server, a node agent with a software TPM, a gateway and a real
PostgreSQL on this machine, on loopback, in a directory that is removed at the end.

Debian packages that are missing are named and installed: without asking when `--yes` is given or no
terminal is there. Only root can install; anyone else is shown the command.

Usage: cargo xtask demo [--yes] [OPTIONS OF `trilith demo`]

Options:
  --yes         install what is missing without asking
  -h, --help    this text; `cargo xtask demo -- --help` is that of `trilith demo`

Everything else is handed on to `trilith demo`, and its exit code is returned.

Examples:
  cargo xtask demo --yes
  cargo xtask demo --yes --json
  cargo xtask demo --hold
";

/// The binary, the demo's clients and the thief's tool, which is an example and no part of `trilith`.
const BUILD: [&str; 10] = [
    "build",
    "--profile",
    "demo",
    "-p",
    "trilith",
    "-p",
    "demo-workloads",
    "--bins",
    "--example",
    "attack",
];

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let consent = if arguments.flag("--yes") {
        Consent::Given
    } else {
        Consent::Ask
    };
    let mut rest = arguments.rest();
    if rest.first().is_some_and(|word| word == "--") {
        rest.remove(0);
    }
    machine::install(machine::FOR_DEMO, consent)?;
    shell::run(&mut cargo(&BUILD))?;

    let mut demo = Command::new(target().join("demo/trilith"));
    demo.arg("demo").args(rest).current_dir(root());
    let status = demo.status().doing(line(&demo))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
