//! Rule: a refusal of a confidential machine says what to do next: the command or the estate's line that would
//! allow it, or that nothing does. What others refuse is not looked at here.

use super::Break;
use crate::source::{Kind, stretches};

const MADE: &str = "Finding::new(";
const CODES: &str = "\"TEE-";
const NEXT: &str = ".next(";
/// Here each finding is one of a confidential machine's, whatever variable has its code.
const VERIFIER: &str = "crates/attest-tee/src/";

pub(super) fn check(file: &str, text: &str) -> Vec<Break> {
    let in_source = file.starts_with("crates/") && file.contains("/src/");
    if !in_source || file.starts_with("crates/testkit/") || file.starts_with("crates/hostile/") {
        return Vec::new();
    }
    let running = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    // Literals as they are, their brackets taken out; comments gone.
    let plain: String = stretches(running)
        .into_iter()
        .map(|(kind, part)| match kind {
            Kind::Code => part.to_owned(),
            Kind::Comment => lines_of(part),
            Kind::Literal => part.replace(['(', ')', '.'], " "),
        })
        .collect();
    let found = plain.match_indices(MADE).filter_map(|(at, _)| {
        let rest = plain.get(at..)?;
        let (arguments, after) = call(rest)?;
        let first = arguments.trim_start();
        let ours = first.starts_with(CODES) || file.starts_with(VERIFIER);
        if !ours || has_next(after) {
            return None;
        }
        let code = first.split(',').next().unwrap_or_default();
        let line = plain.get(..at)?.matches('\n').count() + 1;
        Some(Break::at(
            file,
            line,
            format!(
                "the finding {code} has no `.next(…)`: what would allow it, or that nothing does"
            ),
        ))
    });
    found.collect()
}

fn lines_of(comment: &str) -> String {
    comment.chars().filter(|letter| *letter == '\n').collect()
}

/// What stands between the first bracket and the one that closes it, and what comes after.
fn call(text: &str) -> Option<(&str, &str)> {
    let open = text.find('(')?;
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some((text.get(open + 1..at)?, text.get(at + 1..)?));
        }
    }
    None
}

/// Among the methods that are called on it one after another.
fn has_next(mut after: &str) -> bool {
    loop {
        let rest = after.trim_start();
        if rest.starts_with(NEXT) {
            return true;
        }
        let Some(method) = rest.strip_prefix('.') else {
            return false;
        };
        let name = method.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        if !name.is_some_and(|end| method.get(end..).is_some_and(|rest| rest.starts_with('('))) {
            return false;
        }
        let Some((_, beyond)) = call(rest) else {
            return false;
        };
        after = beyond;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{read_text, tracked_files};

    fn lines(file: &str, text: &str) -> Vec<usize> {
        check(file, text).into_iter().map(|one| one.line).collect()
    }

    #[test]
    fn a_refusal_without_a_next_is_found_and_one_with_it_is_not() {
        let text = "fn one() {\n    Finding::new(\"TEE-X\", \"a (b\")\n        .expected(format!(\"{}\", f(1)))\n}\n\
                    fn two() {\n    Finding::new(\"TEE-Y\", \"c\").observed(\"d\").next(\"e\")\n}\n\
                    fn three() { Finding::new(\"TPM-Z\", \"f\") }\n";
        assert_eq!(lines("crates/server/src/join/tee.rs", text), [2]);
        // In the verifier, of whatever code.
        assert_eq!(lines("crates/attest-tee/src/snp.rs", text), [2, 8]);
        // That of another finding is not its own.
        let other = "a(Finding::new(\"TEE-X\", \"b\"), Finding::new(\"TEE-Y\", \"c\").next(\"d\"))";
        assert_eq!(lines("crates/server/src/join/tee.rs", other), [1]);
        let test = "#[cfg(test)]\nmod tests { fn f() { Finding::new(\"TEE-X\", \"b\"); } }";
        assert!(lines("crates/attest/src/ear.rs", test).is_empty());
    }

    #[test]
    fn each_code_of_a_confidential_machine_says_what_is_next() {
        let mut seen = 0;
        for file in tracked_files().unwrap() {
            if !file.ends_with(".rs") {
                continue;
            }
            let text = read_text(&file).unwrap();
            if file.starts_with("crates/") && file.contains("/src/") {
                seen += text.matches("\"TEE-").count();
            }
            assert_eq!(check(&file, &text), [], "{file}");
        }
        assert!(seen > 60, "{seen}");
    }
}
