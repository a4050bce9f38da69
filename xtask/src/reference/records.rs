//! The page of records: what each body says, from the structs of `ledger::body`.

use super::declarations::{Declaration, read};
use crate::shell::Result;
use crate::workspace::{read_text, tracked_files};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const FOLDER: &str = "crates/ledger/src/body/";
/// Has the types of records, a line each: `SessionStart = "session-start",`.
const TYPES: &str = "crates/ledger/src/record.rs";

const HEAD: &str = "\
# Records

A record is strict I-JSON of at most 16 KiB in an envelope of fixed field order; this page lists the bodies.
A body is headed by its type as `trilith ledger search --type` takes it; a name such as `ActionOn` is of a part.
Unknown fields are refused, the order of fields is the order below, and 64-bit numbers are strings.
What may be personal or reveal topology is a digest or a commitment, never plain.
This page is made by `cargo xtask codegen` from `ledger::body`; a test fails when it is stale.
";

pub(super) fn page() -> Result<String> {
    let mut page = HEAD.to_owned();
    let types = types(&read_text(TYPES)?);
    for file in tracked_files()? {
        if !file.starts_with(FOLDER) || !file.ends_with(".rs") {
            continue;
        }
        let text = read_text(&file)?;
        let about = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("//! "));
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## {}\n",
            about.unwrap_or(&file).trim_end_matches('.')
        );
        for declaration in read(&text) {
            page.push_str(&section(&declaration, &types));
        }
    }
    Ok(page)
}

/// The type's name in records, by the name of its body.
fn types(text: &str) -> BTreeMap<String, String> {
    let named = text
        .split_once("record_types! {\n")
        .and_then(|(_, list)| list.split_once("\n}"))
        .map_or("", |(list, _)| list);
    named
        .lines()
        .filter_map(|line| {
            let (body, kind) = line.trim().split_once(" = \"")?;
            Some((body.to_owned(), kind.strip_suffix("\",")?.to_owned()))
        })
        .collect()
}

fn section(declaration: &Declaration, types: &BTreeMap<String, String>) -> String {
    let name = &declaration.name;
    let mut text = match types.get(name) {
        Some(kind) => format!("\n### `{kind}`\n"),
        None => format!("\n### {name}\n"),
    };
    if !declaration.documentation.is_empty() {
        let _ = write!(text, "\n{}\n", declaration.documentation);
    }
    text.push_str(if declaration.is_enum {
        "\n| one of | |\n|---|---|\n"
    } else {
        "\n| field | type | |\n|---|---|---|\n"
    });
    for member in &declaration.members {
        let (name, about) = (&member.name, &member.documentation);
        let _ = if declaration.is_enum {
            writeln!(text, "| `{name}` | {about} |")
        } else {
            writeln!(text, "| `{name}` | `{}` | {about} |", member.kind)
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_headed_by_what_a_search_takes() {
        let types = types(&read_text(TYPES).unwrap());
        assert_eq!(types["SessionStart"], "session-start");
        assert_eq!(types["Recovery"], "recovery");
        assert!(!types.contains_key("ActionOn"));
    }
}
