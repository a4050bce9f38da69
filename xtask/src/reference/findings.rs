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

| code | says | where it is decided |
|---|---|---|
";

#[derive(Default)]
struct Entry {
    /// The messages that stand beside the code in the source; empty where an error type has them.
    says: Vec<String>,
    places: Vec<String>,
}

/// The page as it should be.
pub(super) fn page() -> Result<String> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for path in tracked_files()? {
        let in_source = path.starts_with("crates/") && path.contains("/src/");
        let left_out = ["/gen/", "crates/testkit/", "crates/hostile/", "/tests.rs"];
        if !in_source || !path.ends_with(".rs") || left_out.iter().any(|part| path.contains(part)) {
            continue;
        }
        for (code, message) in codes(&read_text(&path)?) {
            let entry = entries.entry(code).or_default();
            push_new(&mut entry.places, path.clone());
            if let Some(message) = message {
                push_new(&mut entry.says, message);
            }
        }
    }
    let mut page = HEAD.to_owned();
    for (code, entry) in &entries {
        let says = entry.says.join("; ").replace('|', "\\|");
        let links: Vec<_> = entry
            .places
            .iter()
            .map(|path| format!("[{path}](../../{path})"))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{code}` | {says} | {} |", links.join(", "));
    }
    Ok(page)
}

fn push_new(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Codes in running code, up to the tests of the file: string literals of the right shape or that begin with
/// one and a colon, and the message: what follows one as the next argument, in place or as a variable, or what
/// the error says of whose variant it is the code.
fn codes(text: &str) -> Vec<(String, Option<String>)> {
    let running = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    // Code between two literals as one: it comes in words.
    let mut joined: Vec<(Kind, String)> = Vec::new();
    for (kind, part) in stretches(running) {
        match (kind, joined.last_mut()) {
            (Kind::Comment, _) => {}
            (Kind::Code, Some((Kind::Code, code))) => code.push_str(part),
            _ => joined.push((kind, part.to_owned())),
        }
    }
    let parts: Vec<(Kind, &str)> = joined
        .iter()
        .map(|(kind, part)| (*kind, part.as_str()))
        .collect();
    let errors = errors(&parts);
    let mut found = Vec::new();
    for (at, (kind, literal)) in parts.iter().enumerate() {
        let Some(text) = plain(*kind, literal) else {
            continue;
        };
        if let Some((code, message)) = text.split_once(": ").filter(|(code, _)| is_code(code)) {
            let message = (!message.is_empty()).then(|| unescaped(message));
            found.push((code.to_owned(), message));
            continue;
        }
        if !is_code(text) {
            continue;
        }
        let (before, after) = (
            parts.get(..at).unwrap_or_default(),
            parts.get(at + 1..).unwrap_or_default(),
        );
        let says = message(after)
            .or_else(|| variable(before, after))
            .or_else(|| errors.get(variant(before)?).cloned());
        found.push((text.to_owned(), says));
    }
    found
}

/// By variant, what an error type of the file says: `#[error("…")]`.
fn errors<'a>(parts: &[(Kind, &'a str)]) -> BTreeMap<&'a str, String> {
    let mut errors = BTreeMap::new();
    for three in parts.windows(3) {
        let [(Kind::Code, before), (kind, literal), (Kind::Code, after)] = three else {
            continue;
        };
        if !before.ends_with("#[error(") {
            continue;
        }
        let variant = after
            .split_once("]")
            .map(|(_, rest)| word(rest.trim_start()));
        if let (Some(text), Some(variant)) = (plain(*kind, literal), variant) {
            errors.insert(variant, unescaped(text));
        }
    }
    errors
}

/// The variant of the match arm that ends with `before`: of `Self::Key(_) =>`, `Key`.
fn variant<'a>(before: &[(Kind, &'a str)]) -> Option<&'a str> {
    let (Kind::Code, code) = before.last()? else {
        return None;
    };
    let (pattern, value) = code.rsplit_once("=>")?;
    // Of another arm, if something ends in between.
    if value.contains([';', '}']) {
        return None;
    }
    let (_, path) = pattern.rsplit_once("::")?;
    Some(word(path)).filter(|word| !word.is_empty())
}

/// What a variable says that is the next argument: the first literal after `let NAME =`.
fn variable(before: &[(Kind, &str)], after: &[(Kind, &str)]) -> Option<String> {
    let (Kind::Code, next) = after.first()? else {
        return None;
    };
    let name = word(
        next.trim_start()
            .strip_prefix(',')?
            .trim_start()
            .trim_start_matches('&'),
    );
    if name.is_empty() {
        return None;
    }
    let set = [format!("let{name}="), format!("let{name}=format!(")];
    let pairs = before.windows(2).rev();
    let mut literals = pairs.filter_map(|two| {
        let [(Kind::Code, code), (kind, literal)] = two else {
            return None;
        };
        let compact: String = code.split_whitespace().collect();
        set.iter()
            .any(|set| compact.ends_with(set.as_str()))
            .then(|| plain(*kind, literal).map(unescaped))
            .flatten()
    });
    literals.next()
}

/// The identifier that `text` begins with.
fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    text.split_at(end.unwrap_or(text.len())).0
}

/// The literal that comes next, if nothing but a comma and perhaps `format!(` stands before it.
fn message(parts: &[(Kind, &str)]) -> Option<String> {
    let next = parts.iter().position(|(kind, _)| *kind == Kind::Literal)?;
    let between: String = parts.get(..next)?.iter().map(|(_, part)| *part).collect();
    let between: String = between.split_whitespace().collect();
    let (kind, literal) = parts.get(next)?;
    let text = plain(*kind, literal).filter(|_| matches!(between.as_str(), "," | ",format!("))?;
    let text = unescaped(text);
    (!is_code(&text)).then_some(text)
}

/// A line break escaped in a literal continues it without the indentation.
fn unescaped(text: &str) -> String {
    let lines: Vec<_> = text.split("\\\n").collect();
    let joined: String = lines
        .iter()
        .enumerate()
        .map(|(index, line)| if index == 0 { *line } else { line.trim_start() })
        .collect();
    joined.replace("\\\"", "\"").replace('\n', " ")
}

/// The text between plain quotes.
fn plain(kind: Kind, literal: &str) -> Option<&str> {
    (kind == Kind::Literal)
        .then(|| literal.strip_prefix('"')?.strip_suffix('"'))
        .flatten()
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
        let text = "// \"NOT-THIS\"\nFinding::new(\"TPM-QUOTE-NONCE\", \"the {nonce}\");\n\
                    Self::A => \"LEDGER-KEY\",\nSelf::B => \"LEDGER-SIGN\",\nx(\"SHA-256\");\n\
                    #[cfg(test)]\nmod tests { const A: &str = \"NOR-THIS\"; }";
        let found = codes(text);
        let names: Vec<_> = found.iter().map(|(code, _)| code.as_str()).collect();
        assert_eq!(names, ["TPM-QUOTE-NONCE", "LEDGER-KEY", "LEDGER-SIGN"]);
        assert_eq!(found[0].1.as_deref(), Some("the {nonce}"));
        assert_eq!(found[1].1, None);
    }

    /// The code of a reason in one literal was in no table.
    #[test]
    fn a_code_at_the_beginning_of_a_sentence_is_one_and_messages_are_found_where_they_stand() {
        let text = "let seen = \"TPM-BOOT-REWOUND: it counts fewer boots\";\n\
                    if told.starts_with(\"AGENT-OFFLINE: \") {}\n\
                    let message = format!(\"{policy} does not let it\");\nlet next = \"look\";\n\
                    Finding::new(\"ASSUME-PLACEMENT\", message).next(next);\n\
                    #[error(\"no key in {0:?}\")]\n    Key(PathBuf),\n\
                    match self { Self::Key(_) => \"LEDGER-KEY\", Self::Other => \"LEDGER-SIGN\" }";
        let found = codes(text);
        let found: Vec<(&str, Option<&str>)> = found
            .iter()
            .map(|(code, says)| (code.as_str(), says.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                ("TPM-BOOT-REWOUND", Some("it counts fewer boots")),
                ("AGENT-OFFLINE", None),
                ("ASSUME-PLACEMENT", Some("{policy} does not let it")),
                ("LEDGER-KEY", Some("no key in {0:?}")),
                ("LEDGER-SIGN", None),
            ]
        );
    }
}
