//! The page of findings: every code that a refusal can carry, from the string literals of running code.

use crate::shell::Result;
use crate::source::{Kind, stretches};
use crate::workspace::{read_text, tracked_files};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const HEAD: &str = "\
# Findings

Every refusal carries a code that does not change, what was expected, what was seen and what to do next.
It looks alike in the log, on the command line and in the ledger.
This page is made by `cargo xtask codegen` from the source; a test fails when it is stale.

| code | where it is decided |
|---|---|
";

/// The page as it should be.
pub(super) fn page() -> Result<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in tracked_files()? {
        let in_source = path.starts_with("crates/") && path.contains("/src/");
        if !in_source
            || !path.ends_with(".rs")
            || path.contains("/gen/")
            || path.contains("testkit")
        {
            continue;
        }
        for code in codes(&read_text(&path)?) {
            let places = places.entry(code).or_default();
            if !places.contains(&path) {
                places.push(path.clone());
            }
        }
    }
    let mut page = HEAD.to_owned();
    for (code, places) in &places {
        let links: Vec<_> = places
            .iter()
            .map(|path| format!("[{path}](../../{path})"))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{code}` | {} |", links.join(", "));
    }
    Ok(page)
}

/// Codes in running code: string literals of the right shape, up to the tests of the file.
fn codes(text: &str) -> Vec<String> {
    let running = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    stretches(running)
        .into_iter()
        .filter(|(kind, _)| *kind == Kind::Literal)
        .filter_map(|(_, literal)| literal.strip_prefix('"')?.strip_suffix('"'))
        .filter(|word| is_code(word))
        .map(str::to_owned)
        .collect()
}

/// `TPM-QUOTE-NONCE`: at least two words of capitals and digits, each beginning with a letter, so that
/// `SHA-256` and `SQLSTATE` values are none.
fn is_code(word: &str) -> bool {
    let parts: Vec<_> = word.split('-').collect();
    parts.len() >= 2
        && !NAMES.contains(&word)
        && parts.iter().all(|part| {
            part.len() >= 2
                && part.starts_with(|first: char| first.is_ascii_uppercase())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        })
}

/// Names of other people's things that look like a code.
const NAMES: [&str; 3] = ["SCRAM-SHA", "AES-GCM", "SEV-SNP"];

#[cfg(test)]
mod tests {
    use super::codes;

    #[test]
    fn only_codes_of_running_code_are_listed() {
        let text = "// \"NOT-THIS\"\nFinding::new(\"TPM-QUOTE-NONCE\", \"SHA-256\");\n\
                    #[cfg(test)]\nmod tests { const A: &str = \"NOR-THIS\"; }";
        assert_eq!(codes(text), ["TPM-QUOTE-NONCE"]);
    }
}
