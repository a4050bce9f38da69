//! Programs of other people's libraries that are written in Go, built where a test needs one.

use crate::find::{target_folder, tool, workspace};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program of `tests/peers/NAME`, built into the target folder's `go`; Go's own cache makes the second time
/// quick.
///
/// # Errors
/// Why it is not there: Go is not installed, or its modules cannot be had.
pub fn go_peer(name: &str) -> Result<PathBuf, String> {
    build(name, ".", target_folder().join("go").join(name))
}

/// Other people's whole program, which is a `tool` of `tests/peers/NAME/go.mod`.
///
/// # Errors
/// As [`go_peer`].
pub fn go_tool(name: &str, package: &str) -> Result<PathBuf, String> {
    let program = package.rsplit('/').next().unwrap_or(package);
    let program = target_folder().join("go").join(program);
    build(name, package, program)
}

fn build(name: &str, package: &str, program: PathBuf) -> Result<PathBuf, String> {
    let go = tool("go")
        .or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.is_file()))
        .ok_or("Go is not installed")?;
    let peer: &Path = &workspace().join("tests/peers").join(name);
    let built = Command::new(go)
        .args(["build", "-o"])
        .arg(&program)
        .arg(package)
        .current_dir(peer)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("go build: {error}"))?;
    if built.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&built.stderr);
    let said = said.lines().last().unwrap_or_default();
    Err(format!("tests/peers/{name} cannot be built: {said}"))
}
