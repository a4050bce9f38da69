//! What the server says a statement has come to, as far as it tells whether the two still speak of the
//! same one.

use super::End;

/// Longest part of what the server said that is repeated.
const REPEATED: usize = 40;

/// Whether `tag` is what a server says of a statement with this verb (PostgreSQL's `cmdtaglist.h`).
pub(super) fn fits(verb: &str, tag: &str) -> bool {
    match verb {
        "COPY FROM" | "COPY TO" => counts("COPY", tag),
        "BEGIN" => matches!(tag, "BEGIN" | "START TRANSACTION"),
        // Of a transaction that has failed.
        "COMMIT" => matches!(tag, "COMMIT" | "ROLLBACK"),
        "ROLLBACK TO" => tag == "ROLLBACK",
        "SET" => matches!(tag, "SET" | "RESET"),
        "CREATE TABLE AS" => {
            counts("SELECT", tag) || matches!(tag, "CREATE TABLE AS" | "CREATE MATERIALIZED VIEW")
        }
        "DEALLOCATE" | "CLOSE CURSOR" => tag.strip_suffix(" ALL").unwrap_or(tag) == verb,
        "DISCARD" | "DROP" => tag.split(' ').next() == Some(verb),
        _ => counts(verb, tag),
    }
}

/// The verb alone, or with the numbers of `INSERT 0 5`.
fn counts(verb: &str, tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix(verb) else {
        return false;
    };
    rest.is_empty()
        || rest.strip_prefix(' ').is_some_and(|numbers| {
            let mut numbers = numbers.split(' ');
            numbers.all(|number| number.parse::<u64>().is_ok())
        })
}

/// The gateway took an answer for that of another statement: whatever it would record is wrong.
pub(super) fn out_of_step(expected: &'static str, said: &str) -> End {
    End::OutOfStep {
        expected,
        said: said.chars().take(REPEATED).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_tag_fits_its_own_verb_only() {
        for (verb, tag) in [
            ("SELECT", "SELECT 5"),
            ("INSERT", "INSERT 0 1"),
            ("COPY FROM", "COPY 3"),
            ("COMMIT", "ROLLBACK"),
            ("ROLLBACK TO", "ROLLBACK"),
            ("BEGIN", "START TRANSACTION"),
            ("CREATE TABLE AS", "SELECT 2"),
            ("CREATE TABLE", "CREATE TABLE"),
            ("DEALLOCATE", "DEALLOCATE ALL"),
            ("CLOSE CURSOR", "CLOSE CURSOR"),
            ("DISCARD", "DISCARD ALL"),
            ("DROP", "DROP MATERIALIZED VIEW"),
            ("SET", "RESET"),
            ("SET CONSTRAINTS", "SET CONSTRAINTS"),
        ] {
            assert!(fits(verb, tag), "{verb} {tag}");
        }
        for (verb, tag) in [
            ("SELECT", "DELETE 5"),
            ("SELECT", "SELECTED 5"),
            ("SELECT", "SELECT five"),
            ("INSERT", ""),
            ("SET", "SET CONSTRAINTS"),
            ("CREATE TABLE", "CREATE TABLE AS"),
            ("ROLLBACK", "COMMIT"),
            ("DEALLOCATE", "DISCARD ALL"),
        ] {
            assert!(!fits(verb, tag), "{verb} {tag}");
        }
    }
}
