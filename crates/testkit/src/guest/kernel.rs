//! Debian's kernels, out of their packages: downloaded once, unpacked once, never installed.

use super::GuestError;
use super::run::{at, output, program, read};
use crate::debian;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel package.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The package as it was downloaded.
    pub deb: PathBuf,
    release: String,
    files: PathBuf,
}

impl Kernel {
    /// The newest kernel that apt knows whose package is named `linux-image-SERIES…FLAVOUR`, as `6.1.0-` and
    /// `-cloud-amd64`.
    ///
    /// # Errors
    /// [`GuestError::Missing`] when it is not to be had, else when unpacking fails.
    pub fn newest(series: &str, flavour: &str) -> Result<Self, GuestError> {
        let prefix = format!("linux-image-{series}");
        let name = debian::newest(&prefix, flavour).map_err(GuestError::Missing)?;
        let deb = debian::package(&name, None).map_err(GuestError::Missing)?;
        let files = debian::unpacked(&deb).map_err(GuestError::Missing)?;
        Ok(Self {
            deb,
            release: name.trim_start_matches("linux-image-").to_owned(),
            files,
        })
    }

    /// As `uname -r` says.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.files.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The modules `names` and all that they need, in the order in which they load: name and content. What the
    /// kernel has built in is no module.
    ///
    /// # Errors
    /// When a module cannot be read.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>, GuestError> {
        let mut paths = BTreeMap::new();
        let folder = self.files.join("lib/modules").join(&self.release);
        collect(&folder, &mut paths)?;
        let mut ordered = Vec::new();
        for name in names {
            load(name, &paths, &mut ordered)?;
        }
        Ok(ordered)
    }
}

fn load(
    name: &str,
    paths: &BTreeMap<String, PathBuf>,
    ordered: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), GuestError> {
    let Some(path) = paths.get(name) else {
        return Ok(());
    };
    if ordered.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let module = if path.extension().is_some_and(|extension| extension == "xz") {
        output(program("xz")?.arg("-dc").arg(path))?
    } else {
        read(path)?
    };
    for needed in depends(&module) {
        load(&needed, paths, ordered)?;
    }
    ordered.push((name.to_owned(), module));
    Ok(())
}

/// `depends=a,b` of the section `.modinfo`, whose entries end with a zero.
fn depends(module: &[u8]) -> Vec<String> {
    let entry = module
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="));
    String::from_utf8_lossy(entry.unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(plain)
        .collect()
}

/// Files are named with `-` or `_`, dependencies with `_`.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

fn collect(folder: &Path, paths: &mut BTreeMap<String, PathBuf>) -> Result<(), GuestError> {
    let entries = fs::read_dir(folder).map_err(|source| at(folder, source))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            paths.insert(plain(name), path);
        }
    }
    Ok(())
}
