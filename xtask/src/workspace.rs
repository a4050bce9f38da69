//! Where things lie in the workspace, what git tracks, and what cargo says of its packages.

use crate::shell::{Doing as _, Failure, Result, read};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace that xtask was built in.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// `cargo` in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The folder of real evidence: `TRILITH_EVIDENCE`, else `shared/evidence` beside the workspace.
pub(crate) fn evidence() -> Option<PathBuf> {
    std::env::var_os("TRILITH_EVIDENCE")
        .map(PathBuf::from)
        .or_else(|| Some(root().parent()?.join("shared/evidence")))
        .filter(|folder| folder.is_dir())
}

/// Every file that git tracks or would track, relative to the root, sorted.
pub(crate) fn tracked_files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ])
    .current_dir(root());
    let mut files: Vec<String> = read(&mut git)?
        .split('\0')
        .filter(|path| !path.is_empty() && root().join(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

pub(crate) fn read_text(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).doing(path)
}

/// One member of the workspace, from its manifest.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the root: `crates/ledger`.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) examples: Vec<String>,
}

pub(crate) struct Dependency {
    pub(crate) name: String,
    /// As code names it: `spiffe_core`.
    pub(crate) identifier: String,
    /// Only for tests, examples and benches.
    pub(crate) dev: bool,
    /// A member of this workspace.
    pub(crate) ours: bool,
}

/// The members of the workspace, sorted by name.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let text = read(&mut cargo(&[
        "metadata",
        "--no-deps",
        "--format-version=1",
        "--offline",
    ]))?;
    let metadata: Value = serde_json::from_str(&text).doing("cargo metadata")?;
    let malformed = || Failure::new("cargo metadata has another shape than expected");
    let mut packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .ok_or_else(malformed)?
        .iter()
        .map(|package| package_from(package).ok_or_else(malformed))
        .collect::<Result<Vec<_>>>()?;
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

fn package_from(package: &Value) -> Option<Package> {
    let manifest = Path::new(package.get("manifest_path")?.as_str()?);
    let folder = manifest.parent()?.strip_prefix(root()).ok()?;
    let dependencies = package.get("dependencies")?.as_array()?;
    let targets = package.get("targets")?.as_array()?;
    Some(Package {
        name: package.get("name")?.as_str()?.to_owned(),
        folder: folder.to_str()?.to_owned(),
        dependencies: dependencies
            .iter()
            .map(dependency_from)
            .collect::<Option<_>>()?,
        examples: targets.iter().filter_map(example_from).collect(),
    })
}

fn dependency_from(dependency: &Value) -> Option<Dependency> {
    let name = dependency.get("name")?.as_str()?;
    let renamed = dependency.get("rename").and_then(Value::as_str);
    Some(Dependency {
        name: name.to_owned(),
        identifier: renamed.unwrap_or(name).replace('-', "_"),
        dev: dependency.get("kind")?.as_str() == Some("dev"),
        ours: dependency.get("path").is_some_and(|path| !path.is_null()),
    })
}

fn example_from(target: &Value) -> Option<String> {
    let kinds = target.get("kind")?.as_array()?;
    let is_example = kinds.iter().any(|kind| kind.as_str() == Some("example"));
    is_example.then(|| target.get("name")?.as_str().map(str::to_owned))?
}
