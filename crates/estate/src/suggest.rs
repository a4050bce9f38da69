//! What somebody may have meant: the nearest of the names that there are, and the words that a schema
//! knows. Used wherever a name leads nowhere: in declarations, policies, tests and questions.

use crate::vocabulary::BASE_SCHEMA;
use std::collections::BTreeSet;

/// A suggestion looks at everything that is declared: behind so many problems, which nobody reads through, none
/// is made, so that very many wrong names among very many right ones stay cheap.
pub(crate) const MOST_PROBLEMS: usize = 100;

/// The candidate within a third of `word`'s length in edits, if there is one.
#[must_use]
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 128;
    if word.len() > LONGEST {
        return None;
    }
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST && *candidate != word)
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// “did you mean `x`?”, if one of `candidates` is close to `word`.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The nearest word of Cedar, or of the schema that every estate has, to what a message says is unknown.
pub(crate) fn meant(message: &str) -> Option<String> {
    const KEYWORDS: &str =
        "permit forbid when unless principal action resource context in is has like if then else";
    let known: BTreeSet<&str> = words_of(BASE_SCHEMA).chain(words_of(KEYWORDS)).collect();
    let mut unknown = quoted(message).filter(|word| !known.contains(word));
    unknown.find_map(|word| did_you_mean(word, known.iter().copied()))
}

/// The words of a schema's text: its types, attributes and actions. Words of comments are among them,
/// which suggests at worst a word that is none.
fn words_of(schema: &str) -> impl Iterator<Item = &str> {
    let code = schema
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-'))
        .filter(|word| word.len() > 1)
}

/// The words in back quotes of a message, the last part of a path alone: what a validator could not find
/// is one of them.
pub(crate) fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|word| word.rsplit(['.', ':']).next().unwrap_or(word))
        .map(|word| word.trim_matches('"'))
}

/// Levenshtein distance, one row at a time.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (deleted, left) in from.chars().enumerate() {
        let mut diagonal = deleted;
        let mut previous = deleted + 1;
        if let Some(first) = row.first_mut() {
            *first = previous;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(&to) {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = *cell;
            previous = replaced.min(diagonal + 1).min(previous + 1);
            *cell = previous;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (from, to, distance) in [("", "abc", 3), ("kitten", "sitting", 3), ("a", "a", 0)] {
            assert_eq!(edits(from, to), distance, "{from} → {to}");
        }
    }

    #[test]
    fn suggests_only_what_is_close() {
        assert_eq!(
            closest("payment/api", ["payments/api", "people/dba"]),
            Some("payments/api")
        );
        assert_eq!(closest("zzz", ["payments/api"]), None);
    }

    #[test]
    fn words_of_a_schema_leave_its_comments_out() {
        let schema = "// A clasification.\nentity Table in [Schema] = { classification: String };";
        let words: Vec<_> = words_of(schema).collect();
        assert_eq!(
            words,
            [
                "entity",
                "Table",
                "in",
                "Schema",
                "classification",
                "String"
            ]
        );
    }

    #[test]
    fn what_a_message_says_is_unknown_has_a_nearest_word() {
        let hint = meant("attribute `clasification` on entity type `Table` not found");
        assert_eq!(hint.as_deref(), Some("did you mean `classification`?"));
        assert_eq!(meant("unexpected token `,`"), None);
    }

    #[test]
    fn what_a_message_quotes_is_the_last_part_of_a_path() {
        let message = "attribute `resource.clasification` on entity type `Table` not found";
        assert_eq!(
            quoted(message).collect::<Vec<_>>(),
            ["clasification", "Table"]
        );
    }
}
