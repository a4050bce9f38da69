//! Running programs and saying what failed. Nothing is run through a shell.

use std::ffi::OsStr;
use std::fmt;
use std::process::{Command, Stdio};

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What could not be done, and what to run next.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    next: Option<String>,
    pub(crate) exit_code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: None,
            exit_code: 1,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit_code: 2,
            ..Self::new(message).next("cargo xtask --help")
        }
    }

    /// The command that leads on.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        match &self.next {
            Some(next) => write!(f, "\nnext: {next}"),
            None => Ok(()),
        }
    }
}

/// Adds what was being done to an I/O error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{what}: {error}")))
    }
}

/// The program and its arguments as one would type them.
pub(crate) fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs to the end with the terminal's streams; anything but exit code 0 is a failure.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().doing(line(command))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{}`: {status}", line(command))))
}

/// Runs to the end and returns what was printed on stdout.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .doing(line(command))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "`{}`: {}",
            line(command),
            output.status
        )));
    }
    String::from_utf8(output.stdout).doing(format!("output of `{}`", line(command)))
}

/// True if the program runs and exits with 0; its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
