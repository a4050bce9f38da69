//! The project's own automation: `cargo xtask COMMAND`. Not shipped, and linked by nothing.
//!
//! It knows what a fresh machine lacks, what the house rules are and how the project is judged;
//! `.ci/run` is one call of `cargo xtask test`.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks on its streams"
)]

mod agent_static;
mod arguments;
mod bench;
mod codegen;
mod demo;
mod fuzz;
mod machine;
mod mutants;
mod reference;
mod shell;
mod source;
mod test;
mod tidy;
mod workspace;

use arguments::Arguments;
use shell::{Failure, Result};
use std::process::ExitCode;

const HELP: &str = "\
The project's own automation.

Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  test          run everything that judges this project, installing what it needs
  demo          build Trilith and run its demo
  bench         measure the figures, each beside its limit or peer in the same run
  tidy          check the house rules
  mutants       remove one check at a time and expect its attack tests to fail
  fuzz          search for bytes that a parser must not trip over
  codegen       generate the gRPC code and the reference pages
  agent-static  build the slim static node agent

`cargo xtask COMMAND --help` says more, with examples.
Exit codes: 0 done, 1 failed, 2 usage; `demo` exits as the demo does.
";

struct Command {
    name: &'static str,
    help: &'static str,
    run: fn(Arguments) -> Result<ExitCode>,
}

const COMMANDS: [Command; 8] = [
    Command {
        name: "test",
        help: test::HELP,
        run: test::run,
    },
    Command {
        name: "demo",
        help: demo::HELP,
        run: demo::run,
    },
    Command {
        name: "bench",
        help: bench::HELP,
        run: bench::run,
    },
    Command {
        name: "tidy",
        help: tidy::HELP,
        run: tidy::run,
    },
    Command {
        name: "mutants",
        help: mutants::HELP,
        run: mutants::run,
    },
    Command {
        name: "fuzz",
        help: fuzz::HELP,
        run: fuzz::run,
    },
    Command {
        name: "codegen",
        help: codegen::HELP,
        run: codegen::run,
    },
    Command {
        name: "agent-static",
        help: agent_static::HELP,
        run: agent_static::run,
    },
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(name) = words.next() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "-h" | "--help" | "help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return fail(&Failure::usage(format!("there is no command `{name}`")));
    };
    let arguments = Arguments::new(words.collect());
    if arguments.asks_for_help() {
        print!("{}", command.help);
        return ExitCode::SUCCESS;
    }
    (command.run)(arguments).unwrap_or_else(|failure| fail(&failure))
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("error: {failure}");
    ExitCode::from(failure.exit_code)
}
