//! Rule: what may be issued on comes from verifiers (`docs/decisions/0019-claims-only-from-verifiers.md`).
//!
//! Nothing makes an affirmed verdict without a `Warrant`, and nothing makes a warrant without naming the type.
//! So the files that name it are listed here, each with why; outside of tests no other does. In them it is a
//! private constant: what is handed on would be made elsewhere.

use super::Break;
use crate::source::code;

const TYPE: &str = "Warrant";

/// Where the type and what it makes are defined: there it is public.
const DEFINED: &[&str] = &[
    "crates/facts/src/lib.rs",
    "crates/facts/src/verdict.rs",
    "crates/facts/src/warrant.rs",
];

/// The verifiers.
const VERIFIERS: &[&str] = &[
    // Several verdicts of verifiers, as one.
    "crates/attest/src/compose.rs",
    "crates/attest-tpm/src/join.rs",
    "crates/attest-tee/src/lib.rs",
    "crates/attest-code/src/judge.rs",
    // Boots and lists against reference values.
    "crates/appraise/src/presented.rs",
    // Digests of code against reference values.
    "crates/estate/src/code.rs",
    // Tokens, the estate's names for machines, agents' words as such, and the server's own store.
    "crates/server/src/warranted.rs",
];

/// Roots of packages whose sources are no running code of the product.
const TESTS: &[&str] = &["xtask/", "crates/hostile/", "crates/testkit/", "fuzz/"];

pub(super) fn check(file: &str, text: &str) -> Vec<Break> {
    if is_test(file) {
        return Vec::new();
    }
    let code = without_tests(&code(text));
    let lines: Vec<&str> = code.lines().collect();
    let (defined, verifier) = (DEFINED.contains(&file), VERIFIERS.contains(&file));
    if defined || verifier {
        let breaks = lines.iter().enumerate().filter_map(|(at, line)| {
            let what = if renames(line, lines.get(at + 1)) {
                "gives the warrant another name, by which others could have it"
            } else if line.contains("macro_rules!") {
                "makes a macro where warrants are: whoever calls it would make one unnamed"
            } else if verifier && names(line) && hands_on(&item(&lines, at)) {
                "hands a warrant on: it is a private constant of the verifier"
            } else {
                return None;
            };
            Some(Break::at(file, at + 1, what))
        });
        return breaks.collect();
    }
    let named = lines.iter().enumerate().filter(|(_, line)| names(line));
    named
        .map(|(at, _)| {
            let what = "names a warrant, which only verifiers have: \
                 docs/decisions/0019-claims-only-from-verifiers.md";
            Break::at(file, at + 1, what)
        })
        .collect()
}

/// Folders beside a crate's `src` are no part of it; one in it that is called so is.
fn is_test(file: &str) -> bool {
    let folder = file.split('/').nth(2).unwrap_or_default();
    TESTS.iter().any(|root| file.starts_with(root))
        || (file.starts_with("crates/") && ["tests", "examples", "benches"].contains(&folder))
}

/// Files of the list that are gone, or have no warrant any more.
pub(super) fn check_list(files: &[String], read: impl Fn(&str) -> Option<String>) -> Vec<Break> {
    let stale = VERIFIERS.iter().filter(|verifier| {
        let text = files
            .iter()
            .any(|file| file == *verifier)
            .then(|| read(verifier))
            .flatten();
        text.is_none_or(|text| !without_tests(&code(&text)).lines().any(names))
    });
    let what = "is listed as a verifier in xtask/src/tidy/warrants.rs and has no warrant";
    stale.map(|file| Break::file(file, what)).collect()
}

/// The type as a word of its own.
fn names(line: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.split(|letter| !is_word(letter))
        .any(|word| word == TYPE)
}

/// The type under another name: `use … as`, or an alias; the word may stand on the line behind.
fn renames(line: &str, next: Option<&&str>) -> bool {
    let mut words = line.split_whitespace().chain(
        // What goes on there.
        next.filter(|_| names(line))
            .into_iter()
            .flat_map(|next| next.split_whitespace().take(1)),
    );
    let alias = {
        let item = line.trim_start();
        let item = item.strip_prefix("pub").map_or(item, |rest| {
            rest.trim_start_matches(|letter| letter != ' ').trim_start()
        });
        item.starts_with("type ") && (names(line) || next.is_some_and(|next| names(next)))
    };
    let mut before = "";
    alias
        || words.any(|word| {
            let renamed = word == "as" && names(before);
            before = word;
            renamed
        })
}

/// The line, with what stands before it of the same item: rustfmt may break it anywhere.
fn item(lines: &[&str], at: usize) -> String {
    let ends = |line: &&&str| {
        let line = line.trim_end();
        line.is_empty() || line.ends_with([';', '{', '}', ','])
    };
    let before = lines.iter().take(at).rev().take_while(|line| !ends(line));
    let mut parts: Vec<&str> = before.copied().collect();
    parts.reverse();
    parts.extend(lines.get(at).copied());
    parts.join(" ")
}

/// `pub` of any reach, or the type behind an arrow. `pub use`, constants, fields and functions alike.
fn hands_on(line: &str) -> bool {
    let before = line.split(TYPE).next().unwrap_or_default();
    before.trim_start().starts_with("pub") || before.contains("->")
}

/// Code with its test modules blanked: from `#[cfg(test)]` before a `mod` to the brace that closes it, which
/// rustfmt puts in the column of the attribute.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut lines = code.lines().peekable();
    while let Some(line) = lines.next() {
        let module = |next: &&str| next.trim_start().starts_with("mod ") && next.ends_with('{');
        if line.trim() != "#[cfg(test)]" || lines.peek().is_none_or(|next| !module(next)) {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        kept.push('\n');
        for line in lines.by_ref() {
            kept.push('\n');
            if line.trim_end() == end {
                break;
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{VERIFIERS, check, check_list};

    const MADE: &str = "//! x\nuse facts::Warrant;\nconst W: Warrant = Warrant::of(S, &[]);\n";

    fn lines(file: &str, text: &str) -> Vec<usize> {
        check(file, text).iter().map(|one| one.line).collect()
    }

    #[test]
    fn only_a_verifier_makes_a_warrant() {
        assert_eq!(lines("crates/server/src/issue.rs", MADE), [2, 3]);
        assert_eq!(lines("crates/identity/src/lib.rs", MADE), [2, 3]);
        assert!(lines("crates/attest-tpm/src/join.rs", MADE).is_empty());
    }

    #[test]
    fn tests_may_and_what_follows_them_may_not() {
        assert!(lines("crates/server/tests/it/attesting.rs", MADE).is_empty());
        assert!(lines("crates/server/examples/fleet_bench.rs", MADE).is_empty());
        let module = "//! x\n#[cfg(test)]\nmod tests {\n    use facts::Warrant;\n}\n";
        assert!(lines("crates/server/src/issue.rs", module).is_empty());
        let behind = format!("{module}use facts::Warrant;\n");
        assert_eq!(lines("crates/server/src/issue.rs", &behind), [6]);
        // A comment is blanks by then.
        let said = module.replace("\n}\n", "\n} // mod tests\n");
        let behind = format!("{said}use facts::Warrant;\n");
        assert_eq!(lines("crates/server/src/issue.rs", &behind), [6]);
        for inside in ["tests", "examples", "benches"] {
            let file = format!("crates/server/src/{inside}/made.rs");
            assert_eq!(lines(&file, MADE), [2, 3], "{file}");
        }
        let alone = "//! x\n#[cfg(test)]\nuse facts::Warrant;\n";
        assert_eq!(lines("crates/server/src/issue.rs", alone), [3]);
    }

    #[test]
    fn another_name_for_it_is_a_name_of_it() {
        let renamed = "//! x\nuse facts::Warrant as W;\nconst A: W = W::of(S, &[]);\n";
        assert_eq!(lines("crates/server/src/issue.rs", renamed), [2]);
        let others = "//! A Warrant.\nlet warranted = \"Warrant\"; let Warrants = 1;\n";
        assert!(lines("crates/server/src/issue.rs", others).is_empty());
    }

    /// Elsewhere nobody would have to name the type.
    #[test]
    fn where_it_may_be_named_it_keeps_its_name() {
        for line in [
            "use facts::Warrant as W;",
            "pub use warrant::Warrant as Permit;",
            "use facts::{Verdict, Warrant as W};",
            "type W = Warrant;",
            "pub(crate) type W = facts::Warrant;",
            "macro_rules! warrant {",
        ] {
            for file in ["crates/server/src/warranted.rs", "crates/facts/src/lib.rs"] {
                let text = format!("//! x\n{line}\n");
                assert_eq!(lines(file, &text), [2], "{file}: {line}");
            }
        }
        for fine in [
            "use facts::Warrant;",
            "let at = (line as usize, WARRANT);",
            "type Judged = (u8, u8);",
        ] {
            let text = format!("//! x\n{fine}\n");
            assert!(lines("crates/server/src/warranted.rs", &text).is_empty());
        }
        let broken = "//! x\nuse facts::Warrant\n    as W;\n";
        assert_eq!(lines("crates/server/src/warranted.rs", broken), [2]);
    }

    #[test]
    fn an_item_on_several_lines_is_one() {
        let constant = "//! x\npub(crate) const LONG:\n    Warrant = Warrant::of(S, &[]);\n";
        assert_eq!(lines("crates/server/src/warranted.rs", constant), [3]);
        let function = "//! x\nfn warrant(one: u8) ->\n    &'static Warrant {\n";
        assert_eq!(lines("crates/server/src/warranted.rs", function), [3]);
        let private = "//! x\npub fn other() {}\nconst LONG:\n    Warrant = Warrant::of(S, &[]);\n";
        assert!(lines("crates/server/src/warranted.rs", private).is_empty());
    }

    #[test]
    fn a_verifier_hands_its_warrant_to_nobody() {
        for line in [
            "pub const W: Warrant = Warrant::of(S, &[]);",
            "pub(crate) static W: Warrant = Warrant::of(S, &[]);",
            "    pub warrant: Warrant,",
            "pub use facts::Warrant;",
            "fn warrant() -> Warrant {",
            ") -> &'static Warrant {",
        ] {
            let text = format!("//! x\n{line}\n");
            assert_eq!(
                lines("crates/server/src/warranted.rs", &text),
                [2],
                "{line}"
            );
        }
    }

    #[test]
    fn the_list_names_no_file_without_a_warrant() {
        let files: Vec<String> = VERIFIERS.iter().map(|file| (*file).to_owned()).collect();
        assert!(check_list(&files, |_| Some(MADE.to_owned())).is_empty());
        let gone = check_list(files.get(1..).unwrap_or_default(), |_| {
            Some(MADE.to_owned())
        });
        assert_eq!(gone.len(), 1);
        assert_eq!(
            check_list(&files, |_| Some("//! x\n".to_owned())).len(),
            files.len()
        );
    }
}
