//! The page of configuration files: every key, from the structs that parse them.

use super::declarations::{Declaration, read};
use crate::shell::Result;
use crate::workspace::{read_text, tracked_files};
use std::fmt::Write as _;

/// File, and the sources that parse it.
const FILES: [(&str, &[&str]); 3] = [
    ("server.toml", &["crates/server/src/config.rs"]),
    ("agent.toml", &["crates/agent/src/config.rs"]),
    (
        "gateway.toml",
        &[
            "crates/gateway/src/config.rs",
            "crates/gateway-postgres/src/config.rs",
        ],
    ),
];

const HEAD: &str = "\
# Configuration files

TOML, strict: an unknown key is refused, with its line.
No key and no environment variable turns a check off.
This page is made by `cargo xtask codegen` from the structs that parse the files; a test fails when it is stale.
";

pub(super) fn page() -> Result<String> {
    let tracked = tracked_files()?;
    let mut page = HEAD.to_owned();
    for (file, sources) in FILES {
        let mut declarations = Vec::new();
        for source in sources
            .iter()
            .filter(|source| tracked.iter().any(|file| file == *source))
        {
            declarations.extend(read(&read_text(source)?));
        }
        if declarations.is_empty() {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## {file}\n");
        for (index, declaration) in declarations.iter().enumerate() {
            page.push_str(&section(declaration, index == 0));
        }
    }
    Ok(page)
}

fn section(declaration: &Declaration, is_top: bool) -> String {
    let mut text = String::new();
    if !is_top {
        let _ = write!(text, "\n### {}\n", declaration.name);
    }
    if !declaration.documentation.is_empty() {
        let _ = write!(text, "\n{}\n", declaration.documentation);
    }
    text.push_str("\n| key | type | required | |\n|---|---|---|---|\n");
    for member in &declaration.members {
        let required = match (member.kind.is_empty(), member.optional) {
            (true, _) => "",
            (false, true) => "no",
            (false, false) if member.kind.starts_with("Option<") => "no",
            (false, false) => "yes",
        };
        let kind = if member.kind.is_empty() {
            String::new()
        } else {
            format!("`{}`", member.kind)
        };
        let _ = writeln!(
            text,
            "| `{}` | {kind} | {required} | {} |",
            member.name, member.documentation
        );
    }
    text
}
