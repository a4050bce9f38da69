//! The command line and the demo.

#![forbid(unsafe_code)]

/// Runs the command line of this process.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
