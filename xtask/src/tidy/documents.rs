//! Rules about documents: decisions have numbers of their own, every architecture invariant of the
//! threat model links to attack tests that exist, and so do the pages that source names.

use super::Break;
use crate::mutants::catalogue::{THREATS, defines, link};
use crate::workspace::read_text;
use std::collections::BTreeMap;

const INVARIANTS: usize = 10;

pub(super) fn check(files: &[String], threats: &str) -> Vec<Break> {
    let mut breaks = decisions(files);
    breaks.extend(invariants(threats, |path| read_text(path).ok()));
    breaks
}

/// `docs/decisions/NNNN-name.md`: each number once.
fn decisions(files: &[String]) -> Vec<Break> {
    let mut breaks = Vec::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for file in files {
        let Some(name) = file.strip_prefix("docs/decisions/") else {
            continue;
        };
        let number = name
            .get(..4)
            .filter(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(number) = number else {
            breaks.push(Break::file(file, "is named NNNN-what-was-decided.md"));
            continue;
        };
        if let Some(other) = seen.insert(number, file) {
            breaks.push(Break::file(file, format!("has the number of {other}")));
        }
    }
    breaks
}

/// Every `docs/….md` that Rust source or a gRPC definition names is a page.
pub(super) fn named(file: &str, text: &str, files: &[String]) -> Vec<Break> {
    let source = [".rs", ".proto"].iter().any(|end| file.ends_with(end));
    // This file speaks of pages that are not there.
    if !source || file == "xtask/src/tidy/documents.rs" {
        return Vec::new();
    }
    let mut breaks = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices("docs/") {
            // Of another project, in an address.
            if line.get(..at).is_some_and(|before| before.ends_with('/')) {
                continue;
            }
            let rest = line.get(at..).unwrap_or_default();
            let part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            let path = rest.split(|c| !part(c)).next().unwrap_or_default();
            let page = path.trim_end_matches('.');
            if page.ends_with(".md") && files.iter().all(|file| file != page) {
                breaks.push(Break::at(file, index + 1, format!("there is no {page}")));
            }
        }
    }
    breaks
}

/// Sections `### N. Name`, each with links of the form
/// ``- [`function`](../crates/x/tests/it/file.rs)``.
fn invariants(threats: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Break> {
    let mut breaks = Vec::new();
    let mut links = [0_usize; INVARIANTS];
    let mut current = None;
    for (index, line) in threats.lines().enumerate() {
        if line.starts_with('#') {
            current = section(line);
            continue;
        }
        let (Some(section), Some(test)) = (current, link(line)) else {
            continue;
        };
        let exists = read(&test.file).is_some_and(|text| defines(&text, &test.function));
        if !exists {
            breaks.push(Break::at(
                THREATS,
                index + 1,
                format!("there is no test `{}` in {}", test.function, test.file),
            ));
        } else if let Some(count) = links.get_mut(section) {
            *count += 1;
        }
    }
    for (section, _) in links.iter().enumerate().filter(|(_, count)| **count == 0) {
        breaks.push(Break::file(
            THREATS,
            format!("invariant {} links to no attack test", section + 1),
        ));
    }
    breaks
}

/// The index of the invariant that a heading `### N. Name` opens.
fn section(heading: &str) -> Option<usize> {
    let (number, _) = heading.strip_prefix("### ")?.split_once(". ")?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::{decisions, invariants, named};

    #[test]
    fn two_decisions_may_not_share_a_number() {
        let files = [
            "docs/decisions/0001-a.md",
            "docs/decisions/0001-b.md",
            "docs/decisions/c.md",
        ];
        assert_eq!(decisions(&files.map(str::to_owned)).len(), 2);
    }

    #[test]
    fn a_page_that_source_names_is_there() {
        let files = ["docs/there.md".to_owned()];
        let text = "//! `docs/there.md`, docs/gone.md. https://example.org/docs/far.md\n";
        assert_eq!(named("a.rs", text, &files).len(), 1);
        assert!(named("a.md", text, &files).is_empty());
    }

    #[test]
    fn an_invariant_needs_an_attack_test_that_exists() {
        let page: String = (1..=10)
            .map(|n| {
                format!("### {n}. Name\n- [`attack`](../crates/x/tests/it/a.rs): what it tries.\n")
            })
            .collect();
        let there = |_: &str| Some("fn attack() {}".to_owned());
        assert!(invariants(&page, there).is_empty());
        // A link to nothing is itself a break, and leaves its invariant without a test.
        assert_eq!(invariants(&page, |_| None).len(), 20);
        assert_eq!(
            invariants(&page.replace("### 7.", "### Seven"), there).len(),
            1
        );
    }
}
