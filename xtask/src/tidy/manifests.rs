//! A manifest names what its crate uses, and nothing else: an unused dependency is built for nothing and
//! hides an arrow that no longer exists.

use super::Break;
use crate::source::code;
use crate::workspace::{Package, read_text};

pub(super) fn check(packages: &[Package], files: &[String]) -> Vec<Break> {
    packages
        .iter()
        .flat_map(|package| {
            let folder = format!("{}/", package.folder);
            let sources: Vec<(bool, String)> = files
                .iter()
                .filter(|file| file.ends_with(".rs") && is_in(file, &folder, packages))
                .filter_map(|file| {
                    let running = file.starts_with(&format!("{folder}src/"));
                    Some((running, code(&read_text(file).ok()?)))
                })
                .collect();
            unused(package, &sources)
        })
        .collect()
}

/// True if the file belongs to the package of this folder, not to one inside it.
fn is_in(file: &str, folder: &str, packages: &[Package]) -> bool {
    let deeper =
        |other: &Package| other.folder.starts_with(folder) && file.starts_with(&other.folder);
    file.starts_with(folder) && !packages.iter().any(deeper)
}

/// `sources` are files with whether they are running code; tests may be among that, in modules.
fn unused(package: &Package, sources: &[(bool, String)]) -> Vec<Break> {
    let manifest = format!("{}/Cargo.toml", package.folder);
    package
        .dependencies
        .iter()
        .filter(|dependency| {
            !sources
                .iter()
                .filter(|(running, _)| *running || dependency.dev)
                .any(|(_, text)| names(text, &dependency.identifier))
        })
        .map(|dependency| {
            let what = format!("{} does not use {}", package.name, dependency.name);
            Break::file(&manifest, what)
        })
        .collect()
}

/// True if the identifier stands in the code as a word.
fn names(code: &str, identifier: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(identifier).any(|(at, _)| {
        let before = code.get(..at).and_then(|head| head.chars().next_back());
        let after = code
            .get(at + identifier.len()..)
            .and_then(|tail| tail.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::unused;
    use crate::workspace::{Dependency, Package};

    fn complaints(dev: bool, sources: &[(bool, &str)]) -> usize {
        let package = Package {
            name: "x".to_owned(),
            folder: "crates/x".to_owned(),
            dependencies: vec![Dependency {
                name: "serde-json".to_owned(),
                identifier: "serde_json".to_owned(),
                dev,
                ours: false,
            }],
            examples: Vec::new(),
        };
        let sources: Vec<_> = sources
            .iter()
            .map(|(running, text)| (*running, (*text).to_owned()))
            .collect();
        unused(&package, &sources).len()
    }

    #[test]
    fn a_dependency_is_named_somewhere() {
        assert_eq!(complaints(false, &[(true, "use serde_json::Value;")]), 0);
        assert_eq!(complaints(false, &[(true, "use my_serde_json::Value;")]), 1);
        // Only tests use it: it belongs among the dev-dependencies.
        assert_eq!(complaints(false, &[(false, "serde_json::json!(1)")]), 1);
        assert_eq!(complaints(true, &[(false, "serde_json::json!(1)")]), 0);
    }
}
