//! The command line: arguments in, exit code out. What the commands do lives in `commands`, the demo in `demo`.
//!
//! stdout carries what was asked for; everything else goes to stderr.

#![forbid(unsafe_code)]

mod account;
mod admin;
mod arguments;
mod commands;
mod demo;
mod failure;
mod files;
mod output;
mod page;
#[cfg(test)]
mod reference;
mod runtime;
mod session;

pub use arguments::{Arguments, command};
pub use failure::{
    EXIT_FAILED, EXIT_MISBEHAVIOUR, EXIT_UNEXPECTED, EXIT_USAGE, EXIT_VERIFICATION, Failure,
};

use std::process::ExitCode;

/// Runs the command line of this process. 0 done, 1 refused or failed, 2 usage, 3 verification failed; of
/// `monitor` 4 something unexpected, 5 misbehaviour.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match commands::run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure);
            failure.exit_code()
        }
    }
}
