//! What the programs that `cargo xtask bench` runs have in common: their options, and a row on stdout.
//! What is measured, and the check of what was produced, is theirs.

use std::io::Write as _;

/// The options that `cargo xtask bench` hands on: `[--only ID]... [--quick]`.
pub struct Plan {
    only: Vec<String>,
    /// Shorter runs: show that a row works, not what it is worth.
    pub quick: bool,
}

impl Plan {
    /// # Errors
    /// Names the first argument that is not understood.
    pub fn from_arguments() -> Result<Self, String> {
        Self::parse(std::env::args().skip(1))
    }

    fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let mut plan = Self {
            only: Vec::new(),
            quick: false,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => plan.quick = true,
                "--only" => plan.only.push(words.next().ok_or("--only needs an ID")?),
                _ => return Err(format!("`{word}` is not [--only ID]... [--quick]")),
            }
        }
        Ok(plan)
    }

    /// True if the row `id` is to be measured.
    #[must_use]
    pub fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == id)
    }
}

/// Prints one row. `reference` is the peer's or the limit's figure in the same unit, and what it is.
///
/// # Errors
/// When stdout is closed.
pub fn row(id: &str, ours: f64, unit: &str, reference: Option<(f64, &str)>) -> std::io::Result<()> {
    let line = json(id, ours, unit, reference);
    std::io::stdout().write_all(line.as_bytes())
}

fn json(id: &str, ours: f64, unit: &str, reference: Option<(f64, &str)>) -> String {
    // Debug's quoting is JSON's for the plain words that stand here.
    let beside = match reference {
        Some((value, is)) => {
            let ratio = ours / value;
            format!("\"reference\":{value},\"reference_is\":{is:?},\"ratio\":{ratio}")
        }
        None => "\"reference\":null,\"reference_is\":null,\"ratio\":null".to_owned(),
    };
    format!("{{\"id\":{id:?},\"ours\":{ours},\"unit\":{unit:?},{beside}}}\n")
}

#[cfg(test)]
mod tests {
    use super::{Plan, json};

    fn plan(line: &str) -> Result<Plan, String> {
        Plan::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn only_what_is_asked_for_is_measured() {
        let all = plan("--quick").unwrap();
        assert!(all.quick && all.wants("a.b"));
        let one = plan("--only a.b").unwrap();
        assert!(one.wants("a.b") && !one.wants("a.c"));
        assert!(plan("--fast").is_err() && plan("--only").is_err());
    }

    #[test]
    fn a_row_has_its_reference_or_nothing_in_its_place() {
        assert_eq!(
            json("a.b", 1.5, "us", Some((3.0, "a peer"))),
            "{\"id\":\"a.b\",\"ours\":1.5,\"unit\":\"us\",\"reference\":3,\"reference_is\":\"a peer\",\"ratio\":0.5}\n"
        );
        assert!(json("a.b", 2.0, "us", None).contains("\"ratio\":null"));
    }
}
