//! Rules about Rust files that neither rustfmt nor clippy knows.

use super::Break;
use crate::source::code;
use crate::workspace::{Package, read_text};

const LINES: usize = 800;

/// The one crate that may hold unsafe code.
const UNSAFE: &str = "device";

/// Code that has no place here, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("dbg!", "use tracing"),
    (
        "#[ignore",
        "a test runs, or calls testkit::skip with the reason",
    ),
    ("#[should_panic", "check the value that is returned"),
];

pub(super) fn check(file: &str, text: &str) -> Vec<Break> {
    if file.contains("/gen/") {
        return Vec::new();
    }
    let mut breaks = Vec::new();
    if file.ends_with("/mod.rs") {
        breaks.push(Break::file(file, "no mod.rs: foo.rs stands beside foo/"));
    }
    if !text.starts_with("//!") {
        breaks.push(Break::at(
            file,
            1,
            "begins with `//!`: what this is, and what it is not",
        ));
    }
    let lines = text.lines().count();
    if lines > LINES {
        breaks.push(Break::file(
            file,
            format!("{lines} lines; {LINES} are the most"),
        ));
    }
    let code = code(text);
    for (index, line) in code.lines().enumerate() {
        for (banned, instead) in BANNED {
            if line.contains(banned) {
                breaks.push(Break::at(
                    file,
                    index + 1,
                    format!("no {banned}: {instead}"),
                ));
            }
        }
    }
    breaks.extend(bare_allows(file, &code));
    breaks
}

/// `allow(…)` attributes without a reason; an `expect` is better still, as it ends with its cause.
fn bare_allows(file: &str, code: &str) -> Vec<Break> {
    let mut breaks = Vec::new();
    let mut offset = 0;
    while let Some(found) = code.get(offset..).and_then(|rest| rest.find("allow(")) {
        let at = offset + found;
        offset = at + "allow(".len();
        let before = code.get(..at).unwrap_or_default();
        let opens = before
            .rsplit(['\n', ';', '{', '}'])
            .next()
            .unwrap_or_default();
        if !opens.trim_start().starts_with("#") && !before.trim_end().ends_with("test,") {
            continue;
        }
        let inside = code.get(offset..).and_then(|rest| rest.split(')').next());
        if !inside.unwrap_or_default().contains("reason") {
            let line = before.matches('\n').count() + 1;
            breaks.push(Break::at(file, line, "an `allow` without a reason"));
        }
    }
    breaks
}

/// `#![forbid(unsafe_code)]` at the root of every crate but the one that talks to hardware.
pub(super) fn check_roots(packages: &[Package], files: &[String]) -> Vec<Break> {
    let mut breaks = Vec::new();
    for package in packages.iter().filter(|package| package.name != UNSAFE) {
        for root in ["src/lib.rs", "src/main.rs"] {
            let file = format!("{}/{root}", package.folder);
            if !files.contains(&file) {
                continue;
            }
            let text = read_text(&file).unwrap_or_default();
            if !code(&text).contains("#![forbid(unsafe_code)]") {
                breaks.push(Break::file(&file, "has no #![forbid(unsafe_code)]"));
            }
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::check;

    fn complaints(text: &str) -> Vec<String> {
        check("crates/x/src/y.rs", text)
            .into_iter()
            .map(|broken| format!("{}: {}", broken.line, broken.what))
            .collect()
    }

    #[test]
    fn words_in_comments_and_strings_are_no_breaks() {
        let text = "//! No todo! here.\n// #[ignore]\nconst A: &str = \"dbg!\";\n";
        assert!(complaints(text).is_empty());
    }

    #[test]
    fn a_banned_macro_is_found_with_its_line() {
        let found = complaints("//! x\n\nfn f() { todo!() }\n");
        assert_eq!(found, ["3: no todo!: finish it"]);
    }

    #[test]
    fn an_allow_needs_a_reason() {
        let with =
            "//! x\n#[allow(\n    dead_code,\n    reason = \"r\"\n)]\nfn f() { g.allow(1) }\n";
        assert!(complaints(with).is_empty(), "{:?}", complaints(with));
        let without = "//! x\n#[allow(dead_code)]\nfn f() {}\n";
        assert_eq!(complaints(without), ["2: an `allow` without a reason"]);
        let in_tests = "//! x\n#![cfg_attr(\n    test,\n    allow(clippy::panic)\n)]\n";
        assert_eq!(complaints(in_tests).len(), 1);
    }

    #[test]
    fn a_file_begins_with_what_it_is() {
        assert_eq!(complaints("fn f() {}\n").len(), 1);
        assert_eq!(complaints(&format!("//! x\n{}", "\n".repeat(800))).len(), 1);
    }
}
