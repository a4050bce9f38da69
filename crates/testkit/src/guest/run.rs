//! Programs that make the pieces of a boot, and what can go wrong.

use crate::{find, swtpm::SwtpmError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// For [`crate::skip`].
    #[error("{0}")]
    Missing(String),
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed: {output}")]
    Program { program: String, output: String },
    #[error("{path:?} is not what it should be: {what}")]
    Form { path: PathBuf, what: &'static str },
    #[error("the guest's TPM: {0}")]
    Tpm(#[from] SwtpmError),
    #[error("the guest {what}; the end of its console:\n{console}")]
    Guest { what: String, console: String },
}

/// `name`, wherever it is installed, with its output captured by [`output`].
pub(super) fn program(name: &str) -> Result<Command, GuestError> {
    let [path] = find::tools([name]).map_err(GuestError::Missing)?;
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
    Ok(command)
}

/// Runs it to its end and gives its standard output.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>, GuestError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let ran = command.output().map_err(|error| GuestError::Program {
        program: program.clone(),
        output: error.to_string(),
    })?;
    if ran.status.success() {
        return Ok(ran.stdout);
    }
    let output = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Err(GuestError::Program {
        program,
        output: output.concat(),
    })
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, GuestError> {
    fs::read(path).map_err(|source| at(path, source))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), GuestError> {
    fs::write(path, bytes).map_err(|source| at(path, source))
}

pub(super) fn at(path: &Path, source: io::Error) -> GuestError {
    GuestError::File {
        path: path.to_owned(),
        source,
    }
}
