//! A program for a test to be run at once.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes `path` a program: a script of the shell's with `body`.
///
/// Another process writes it. A file that this one opened for writing may be held open by a child that another test
/// forks just then, until that child has become its own program, and the kernel runs no such file (`ETXTBSY`).
///
/// # Errors
/// When there is no shell, or it cannot write there.
pub fn script(path: &Path, body: &str) -> io::Result<()> {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", r#"cat > "$0" && chmod 0755 "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = shell.stdin.take() {
        writeln!(input, "#!/bin/sh\n{body}")?;
    }
    if shell.wait()?.success() {
        return Ok(());
    }
    let said = format!("no script can be written to {}", path.display());
    Err(io::Error::other(said))
}
