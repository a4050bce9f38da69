//! The page of metrics: every name that a `metrics.rs` registers, with its help and type. Nobody registers
//! one elsewhere.

use crate::shell::{Failure, Result};
use crate::workspace::{read_text, tracked_files};
use std::fmt::Write as _;

const HEAD: &str = "\
# Metrics

What each process serves on `/metrics` at its `http_listen` address, in the Prometheus text format.
Names and labels are stable; new ones may be added.
This page is made by `cargo xtask codegen` from the source; a test fails when it is stale.
";

/// What a file that makes metrics says.
const REGISTRY: &str = "Registry::with_prefix(";

pub(super) fn page() -> Result<String> {
    let mut page = HEAD.to_owned();
    for file in tracked_files()? {
        if !file.ends_with(".rs") || !file.starts_with("crates/") || !file.contains("/src/") {
            continue;
        }
        let text = read_text(&file)?;
        if !file.ends_with("/src/metrics.rs") {
            if text.contains(REGISTRY) {
                return Err(
                    Failure::new(format!("{file}: metrics outside of metrics.rs")).next(
                        "move them to src/metrics.rs of the crate, where this page reads them",
                    ),
                );
            }
            continue;
        }
        let section = section(&text)
            .ok_or_else(|| Failure::new(format!("{file}: a metric that this page cannot read")))?;
        page.push_str(&section);
    }
    Ok(page)
}

/// The section of one source file, if every registration could be read.
fn section(text: &str) -> Option<String> {
    let (prefix, _) = literal(text.split_once(REGISTRY)?.1)?;
    let plane = prefix.strip_prefix("trilith_")?;
    let mut section = format!("\n## {plane}\n\n| metric | type | labels | |\n|---|---|---|---|\n");
    for registration in text.split("registry.register(").skip(1) {
        let (name, rest) = literal(registration)?;
        let (help, rest) = literal(rest)?;
        let field = rest.split_once('.')?.1.split_once(".clone()")?.0;
        let kind = fields(text, "Metrics").find(|(name, _)| *name == field)?.1;
        let (labels, kind) = match kind.strip_prefix("Family<") {
            Some(inner) => inner.trim_end_matches('>').split_once(", ")?,
            None => ("", kind),
        };
        let labels: Vec<String> = fields(text, labels)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let (suffix, kind) = match kind {
            "Counter" => ("_total", "counter"),
            "Gauge" => ("", "gauge"),
            "Histogram" => ("", "histogram"),
            _ => return None,
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            section,
            "| `{prefix}_{name}{suffix}` | {kind} | {} | {help} |",
            labels.join(" ")
        );
    }
    Some(section)
}

/// Names and types of the fields of the struct `name`.
fn fields<'a>(text: &'a str, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let body = text
        .split_once(&format!("struct {name} {{"))
        .and_then(|(_, rest)| rest.split_once("\n}"))
        .map_or("", |(body, _)| body);
    body.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("pub(crate) ");
        let (name, kind) = line.trim_start_matches("pub ").split_once(": ")?;
        Some((name, kind.trim_end_matches(',')))
    })
}

/// The first string literal of `text`, and what follows it.
fn literal(text: &str) -> Option<(&str, &str)> {
    text.split_once('"')?.1.split_once('"')
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn a_counter_by_label_and_a_gauge() {
        let source = r#"
pub struct Code {
    pub code: String,
}

pub struct Metrics {
    registry: Registry,
    pub refused: Family<Code, Counter>,
    pub open: Gauge,
}

fn f() { Registry::with_prefix("trilith_x");
    registry.register("refused", "Refused, by code", self.refused.clone());
    registry.register(
        "open",
        "Open now",
        metrics.open.clone(),
    );
}
"#;
        let page = section(source).unwrap();
        assert!(
            page.contains("| `trilith_x_refused_total` | counter | `code` | Refused, by code |")
        );
        assert!(page.contains("| `trilith_x_open` | gauge |  | Open now |"));
        assert_eq!(
            section("Registry::with_prefix(\"trilith_x\"); registry.register(name, \"\")"),
            None
        );
    }
}
