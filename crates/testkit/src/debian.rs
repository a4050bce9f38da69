//! Real Debian packages and lists, from the mirror that apt knows; kept under `target/debian`.

use crate::find;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// One download at a time: tests ask for the same packages.
static DOWNLOAD: Mutex<()> = Mutex::new(());

/// The `.deb` of a package, in the version given or else in the one that apt would install.
///
/// # Errors
/// Why it is not to be had, for [`crate::skip`].
pub fn package(name: &str, version: Option<&str>) -> Result<PathBuf, String> {
    let _one_at_a_time = DOWNLOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let version = match version {
        Some(version) => version.to_owned(),
        None => candidate(name)?,
    };
    let folder = find::workspace().join("target/debian");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    if let Some(kept) = kept(&folder, name, &version) {
        return Ok(kept);
    }
    let output = apt("apt-get")?
        .args(["-q", "download", &format!("{name}={version}")])
        .current_dir(&folder)
        .output()
        .map_err(|error| error.to_string())?;
    kept(&folder, name, &version).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        format!("apt-get cannot download {name}={version}: {last}")
    })
}

/// The files of a package that [`package`] downloaded, in a folder beside it.
///
/// # Errors
/// Why not, for [`crate::skip`].
pub fn unpacked(deb: &std::path::Path) -> Result<PathBuf, String> {
    let _one_at_a_time = DOWNLOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let files = deb.with_extension("files");
    if files.is_dir() {
        return Ok(files);
    }
    // Renamed once it is whole: another process may do the same.
    let part = deb.with_extension(format!("part-{}", std::process::id()));
    let unpacked = apt("dpkg-deb")?.arg("-x").arg(deb).arg(&part).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        return Err(format!("dpkg-deb cannot unpack {}", deb.display()));
    }
    match fs::rename(&part, &files) {
        Err(error) if !files.is_dir() => Err(error.to_string()),
        Err(_) => fs::remove_dir_all(&part)
            .map(|()| files)
            .map_err(|error| error.to_string()),
        Ok(()) => Ok(files),
    }
}

/// The package with the highest version in its name, of those named `PREFIX…SUFFIX` that apt could download.
///
/// # Errors
/// Why there is none, for [`crate::skip`].
pub fn newest(prefix: &str, suffix: &str) -> Result<String, String> {
    let output = apt("apt-cache")?
        .args(["pkgnames", prefix])
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<&str> = said.lines().filter(|name| name.ends_with(suffix)).collect();
    names.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
    names
        .into_iter()
        .find(|name| candidate(name).is_ok())
        .map(str::to_owned)
        .ok_or_else(|| format!("apt knows no package {prefix}*{suffix}"))
}

/// Every number in a name, in order.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// apt's folder of signed lists, if it has any.
///
/// # Errors
/// Why not, for [`crate::skip`].
pub fn lists() -> Result<PathBuf, String> {
    let folder = PathBuf::from("/var/lib/apt/lists");
    let has_release = fs::read_dir(&folder).is_ok_and(|entries| {
        let mut names = entries.flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().ends_with("_InRelease"))
    });
    if has_release {
        Ok(folder)
    } else {
        Err("apt has no lists; run apt-get update".to_owned())
    }
}

/// Debian's own keyring.
///
/// # Errors
/// When `debian-archive-keyring` is not installed.
pub fn keyring() -> Result<PathBuf, String> {
    let keyring = PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg");
    if keyring.is_file() {
        Ok(keyring)
    } else {
        Err("debian-archive-keyring is not installed".to_owned())
    }
}

/// `name_VERSION_ARCHITECTURE.deb`, where a colon is `%3a`.
/// The folders of packages that were downloaded and unpacked before, in the order of their names. Nothing is
/// fetched.
#[must_use]
pub fn cached() -> Vec<PathBuf> {
    let listed = fs::read_dir(find::workspace().join("target/debian"));
    let mut folders: Vec<PathBuf> = listed
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && path.extension().is_some_and(|end| end == "files"))
        .collect();
    folders.sort();
    folders
}

fn kept(folder: &std::path::Path, name: &str, version: &str) -> Option<PathBuf> {
    let prefix = format!("{name}_{}_", version.replace(':', "%3a"));
    fs::read_dir(folder)
        .ok()?
        .flatten()
        .find(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            file.starts_with(&prefix) && file.ends_with(".deb")
        })
        .map(|entry| entry.path())
}

fn candidate(name: &str) -> Result<String, String> {
    let output = apt("apt-cache")?
        .args(["policy", name])
        .output()
        .map_err(|error| error.to_string())?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
        .ok_or_else(|| format!("apt knows no package {name}"))
}

fn apt(program: &str) -> Result<Command, String> {
    let path = find::tool(program).ok_or_else(|| format!("{program} is not installed"))?;
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
    Ok(command)
}
