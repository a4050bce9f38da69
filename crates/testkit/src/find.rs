//! Where a test finds what it needs from outside: evidence, programs, a Python with the peers' packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the workspace that this crate was built in.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}

/// The folder of real evidence (event logs, quotes, certificates of vendors): `TRILITH_EVIDENCE`, else
/// `shared/evidence` beside the workspace.
#[must_use]
pub fn evidence() -> Option<PathBuf> {
    let beside = || workspace().parent().map(|up| up.join("shared/evidence"));
    std::env::var_os("TRILITH_EVIDENCE")
        .map(PathBuf::from)
        .or_else(beside)
        .filter(|folder| folder.is_dir())
}

/// The program `name` on `PATH`, in the administrator's folders or among PostgreSQL's own programs, which
/// Debian keeps off `PATH`.
#[must_use]
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(postgres_folders())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// PostgreSQL's own `name`, as `psql`, and not the script that Debian puts on `PATH` in its place.
#[must_use]
pub fn postgres_tool(name: &str) -> Option<PathBuf> {
    postgres_folders()
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// All of `names`, or the first that is missing: what a test says when it skips.
///
/// # Errors
/// The name of the first program that is not installed.
pub fn tools<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N], String> {
    let mut found = [const { PathBuf::new() }; N];
    for (slot, name) in found.iter_mut().zip(names) {
        *slot = tool(name).ok_or_else(|| format!("{name} is not installed"))?;
    }
    Ok(found)
}

/// The Python that `cargo xtask test` fills from `tests/peers/requirements.txt`, if it can import all of
/// `modules`.
#[must_use]
pub fn venv_python(modules: &[&str]) -> Option<PathBuf> {
    let python = target_folder().join("venv/bin/python");
    if !python.is_file() {
        return None;
    }
    let imports = modules.iter().map(|module| format!("import {module}\n"));
    Command::new(&python)
        .arg("-c")
        .arg(imports.collect::<String>())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
        .then_some(python)
}

/// The program `name` of `tests/peers`, which judges with other people's libraries and which
/// `cargo xtask test` builds.
#[must_use]
pub fn peer(name: &str) -> Option<PathBuf> {
    let program = target_folder().join("peers/debug").join(name);
    program.is_file().then_some(program)
}

/// `trilith-agent` as one file without shared libraries: of profile `slim`, as machines get it and
/// `cargo xtask agent-static` builds it; or `guest`, which builds in half the time.
#[must_use]
pub fn static_agent(profile: &str) -> Option<PathBuf> {
    let folder = target_folder().join("x86_64-unknown-linux-gnu");
    let program = folder.join(profile).join("trilith-agent");
    program.is_file().then_some(program)
}

/// Where this build puts what it makes.
#[must_use]
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Newest version first.
fn postgres_folders() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::{tool, tools, workspace};

    #[test]
    fn the_workspace_holds_its_manifest() {
        assert!(workspace().join("Cargo.lock").is_file());
    }

    #[test]
    fn a_missing_program_is_named() {
        assert!(tool("sh").is_some());
        let missing = tools(["sh", "no-such-program"]);
        assert_eq!(missing, Err("no-such-program is not installed".to_owned()));
    }
}
