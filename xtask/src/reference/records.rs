//! The page of records: what each body says, from the structs of `ledger::body`.

use super::declarations::{Declaration, read};
use crate::shell::Result;
use crate::workspace::{read_text, tracked_files};
use std::fmt::Write as _;

const FOLDER: &str = "crates/ledger/src/body/";

const HEAD: &str = "\
# Records

A record is strict I-JSON of at most 16 KiB in an envelope of fixed field order; this page lists the bodies.
Unknown fields are refused, the order of fields is the order below, and 64-bit numbers are strings.
What may be personal or reveal topology is a digest or a commitment, never plain.
This page is made by `cargo xtask codegen` from `ledger::body`; a test fails when it is stale.
";

pub(super) fn page() -> Result<String> {
    let mut page = HEAD.to_owned();
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
            page.push_str(&section(&declaration));
        }
    }
    Ok(page)
}

fn section(declaration: &Declaration) -> String {
    let mut text = format!("\n### {}\n", declaration.name);
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
