//! Which tests may be skipped: `tests/skips.toml`, a reviewed file.

use crate::shell::{Doing as _, Failure, Result};
use crate::workspace::read_text;
use std::collections::{BTreeMap, BTreeSet};

const LIST: &str = "tests/skips.toml";

/// Name and reason of each `SKIPPED name: why` line.
pub(crate) fn parse(recorded: &str) -> BTreeMap<String, String> {
    recorded
        .lines()
        .filter_map(|line| line.strip_prefix("SKIPPED ")?.split_once(": "))
        .map(|(name, why)| (name.to_owned(), why.to_owned()))
        .collect()
}

/// Fails on a skip that is not listed; names the listed ones that ran.
pub(crate) fn judge(skips: &BTreeMap<String, String>, whole_workspace: bool) -> Result<()> {
    let listed = listed(&read_text(LIST)?)?;
    if whole_workspace {
        for name in listed.iter().filter(|name| !skips.contains_key(*name)) {
            println!("note: {LIST} lists {name}, which ran here");
        }
    }
    let unlisted: Vec<_> = skips
        .iter()
        .filter(|(name, _)| !listed.contains(*name))
        .map(|(name, why)| format!("  {name}: {why}"))
        .collect();
    if unlisted.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "skipped, and {LIST} does not list it:\n{}",
        unlisted.join("\n")
    ))
    .next("install what the test needs, or list the skip there with its reason"))
}

/// The names in the file. Each entry has a `name` and a `why`, and nothing else.
fn listed(text: &str) -> Result<BTreeSet<String>> {
    let table: toml::Table = text.parse().doing(LIST)?;
    let entries = match table.get("skip") {
        None => &Vec::new(),
        Some(entries) => entries
            .as_array()
            .ok_or_else(|| Failure::new(format!("{LIST}: `skip` is a list of tables")))?,
    };
    entries
        .iter()
        .map(|entry| {
            let text = |key: &str| entry.get(key)?.as_str().filter(|value| !value.is_empty());
            match (text("name"), text("why")) {
                (Some(name), Some(_)) => Ok(name.to_owned()),
                _ => Err(Failure::new(format!(
                    "{LIST}: each skip needs `name` and `why`: {entry}"
                ))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{listed, parse};

    #[test]
    fn a_recorded_skip_has_a_name_and_a_reason() {
        let skips = parse("SKIPPED a::b: no swtpm: none\nnoise\n");
        assert_eq!(
            skips.get("a::b").map(String::as_str),
            Some("no swtpm: none")
        );
        assert_eq!(skips.len(), 1);
    }

    #[test]
    fn a_listed_skip_without_a_reason_is_refused() {
        let whole = listed("[[skip]]\nname = \"a\"\nwhy = \"b\"\n").unwrap();
        assert!(whole.contains("a"));
        assert!(listed("[[skip]]\nname = \"a\"\n").is_err());
        assert!(listed("# none\n").unwrap().is_empty());
    }
}
