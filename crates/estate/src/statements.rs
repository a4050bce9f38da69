//! Cuts a `.cedar` file into statements, so that each keeps its line. Knows strings, comments and
//! `;`, nothing else: what a statement means is for Cedar's parser, which gets exactly one at a time,
//! so a cut in the wrong place is a parse error, never another meaning.

use crate::problem::{Lines, Problem};

/// One statement of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    /// From its first annotation or keyword to its `;`.
    pub(crate) text: &'a str,
    /// Offset of `text` in the file.
    pub(crate) offset: usize,
    /// Line of `offset`, from 1.
    pub(crate) line: u32,
    /// Column of `offset`, from 1.
    pub(crate) column: u32,
    /// Offset within `text` of the effect: `permit`, `forbid`, `never`, `always`.
    pub(crate) effect_offset: usize,
    pub(crate) effect: &'a str,
}

/// # Errors
/// `ESTATE-CEDAR-SYNTAX` at what follows the last `;` or at a statement without an effect.
pub(crate) fn statements<'a>(file: &str, text: &'a str) -> Result<Vec<Statement<'a>>, Problem> {
    let mut found = Vec::new();
    let lines = Lines::of(text);
    let mut cursor = Cursor { text, offset: 0 };
    loop {
        cursor.skip_blank();
        if cursor.rest().is_empty() {
            return Ok(found);
        }
        let offset = cursor.offset;
        let line = lines.line(offset);
        let unfinished = |message: &str| Problem::new("ESTATE-CEDAR-SYNTAX", file, line, message);
        let (effect_at, effect) = cursor.effect().ok_or_else(|| {
            unfinished("expected annotations and then an effect, such as `permit`")
        })?;
        if !cursor.skip_past_semicolon() {
            return Err(unfinished("the statement does not end: `;` is missing"));
        }
        found.push(Statement {
            text: text.get(offset..cursor.offset).unwrap_or_default(),
            offset,
            line,
            column: lines.column(offset),
            effect_offset: effect_at - offset,
            effect,
        });
    }
}

struct Cursor<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    /// White space and comments.
    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.offset += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.offset += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Past the annotations and over the effect; its offset and text.
    fn effect(&mut self) -> Option<(usize, &'a str)> {
        loop {
            self.skip_blank();
            if !self.rest().starts_with('@') {
                break;
            }
            self.offset += 1;
            self.skip_blank();
            self.word()?;
            self.skip_blank();
            if self.rest().starts_with('(') {
                self.skip_past(')')?;
            }
        }
        let start = self.offset;
        Some((start, self.word()?))
    }

    fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let length = rest
            .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .unwrap_or(rest.len());
        self.offset += length;
        rest.get(..length).filter(|word| !word.is_empty())
    }

    fn skip_past_semicolon(&mut self) -> bool {
        self.skip_past(';').is_some()
    }

    /// Past the next `end` that is in no string and no comment.
    fn skip_past(&mut self, end: char) -> Option<()> {
        let (at, letter) = code(self.rest()).find(|(_, letter)| *letter == end)?;
        self.offset += at + letter.len_utf8();
        Some(())
    }
}

/// Where `wanted`, which begins with no string, first stands in `text` outside of strings and comments.
pub(crate) fn find_code(text: &str, wanted: &str) -> Option<usize> {
    code(text)
        .map(|(at, _)| at)
        .find(|at| text.get(*at..).is_some_and(|rest| rest.starts_with(wanted)))
}

/// A `when`, `unless`, `given` or `except` behind a scope, with what it holds in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) keyword: &'static str,
    /// Offset of the keyword.
    pub(crate) start: usize,
    /// Offset behind the closing brace.
    pub(crate) end: usize,
}

/// The clauses of one statement, whose effect stands at `effect_offset`.
pub(crate) fn clauses(text: &str, effect_offset: usize) -> Vec<Clause> {
    const KEYWORDS: [&str; 4] = ["when", "unless", "given", "except"];
    let mut found: Vec<Clause> = Vec::new();
    let mut open = 0_usize;
    let mut word: Option<usize> = None;
    let mut begun: Option<(&'static str, usize)> = None;
    let body = text.get(effect_offset..).unwrap_or_default();
    for (at, letter) in code(body) {
        let at = at + effect_offset;
        if letter.is_ascii_alphanumeric() || letter == '_' {
            word.get_or_insert(at);
            continue;
        }
        if let Some(start) = word.take().filter(|_| open == 0) {
            let text = text.get(start..at).unwrap_or_default();
            let keyword = KEYWORDS.into_iter().find(|keyword| *keyword == text);
            begun = keyword.map(|keyword| (keyword, start));
        }
        match letter {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => {
                open = open.saturating_sub(1);
                if open == 0
                    && letter == '}'
                    && let Some((keyword, start)) = begun.take()
                {
                    let end = at + 1;
                    found.push(Clause {
                        keyword,
                        start,
                        end,
                    });
                }
            }
            _ => {}
        }
    }
    found
}

/// The comments of `text`, in order, from `//` on and without white space at their ends.
pub(crate) fn comments(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut expected = 0;
    // What `code` steps over is a string or a comment.
    for (at, letter) in code(text).chain([(text.len(), ' ')]) {
        let skipped = text.get(expected..at).unwrap_or_default();
        found.extend(comments_of_gap(skipped));
        expected = at + letter.len_utf8();
    }
    found
}

/// A gap is strings and comments; a comment goes to the end of its line.
fn comments_of_gap(gap: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = gap;
    loop {
        if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let (comment, after) = rest.split_at(end);
            found.push(comment.trim_end());
            rest = after.strip_prefix('\n').unwrap_or(after);
        } else if let Some(string) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = string.char_indices().find(|(_, letter)| {
                let ends = *letter == '"' && !escaped;
                escaped = *letter == '\\' && !escaped;
                ends
            });
            rest = end.map_or("", |(at, _)| string.get(at + 1..).unwrap_or_default());
        } else {
            return found;
        }
    }
}

/// The letters of `text` that are in no string and no comment, with their offsets. Ends early at a
/// string that does not end.
fn code(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut letters = text.char_indices().peekable();
    std::iter::from_fn(move || {
        loop {
            let (at, letter) = letters.next()?;
            match letter {
                '"' => loop {
                    match letters.next()?.1 {
                        '"' => break,
                        '\\' => {
                            letters.next()?;
                        }
                        _ => {}
                    }
                },
                '/' if letters.peek().is_some_and(|(_, next)| *next == '/') => {
                    letters.find(|(_, letter)| *letter == '\n')?;
                }
                _ => return Some((at, letter)),
            }
        }
    })
}

/// How deep the parts of a statement can stand in one another: bracket by bracket, and operator by
/// operator, as a chain of `&&` is a tree as deep as it is long.
pub(crate) fn depth(text: &str) -> usize {
    let mut open = 0_usize;
    let mut deepest = 0_usize;
    let mut operators = 0_usize;
    let mut word = String::new();
    let mut previous = ' ';
    for (_, letter) in code(text) {
        match letter {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '&' | '|' if previous == letter => operators += 1,
            '+' | '-' | '*' | '!' | '.' => operators += 1,
            _ => {}
        }
        previous = letter;
        deepest = deepest.max(open);
        if letter.is_ascii_alphanumeric() || letter == '_' {
            word.push(letter);
        } else {
            operators += usize::from(word == "if");
            word.clear();
        }
    }
    deepest.saturating_add(operators)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(u32, &str, &str)> {
        statements("f.cedar", text)
            .unwrap()
            .into_iter()
            .map(|found| (found.line, found.effect, found.text))
            .collect()
    }

    #[test]
    fn semicolons_in_strings_and_comments_end_nothing() {
        let text = "// one; two\n@id(\"a;) \\\" b\") // ;\npermit (principal, action, resource)\nwhen { \"x//;\" == \"y\" }; // end;\n\nforbid(principal,action,resource);";
        let found = cut(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0, found[0].1), (2, "permit"));
        assert!(found[0].2.ends_with("\"y\" };"));
        assert_eq!((found[1].0, found[1].1), (6, "forbid"));
    }

    #[test]
    fn what_does_not_end_is_refused_at_its_line() {
        for text in [
            "\n\npermit(principal, action, resource)",
            "\n\n\"",
            "\n\n@id(\"x\")",
            "\n\n; ",
        ] {
            let problem = statements("f.cedar", text).unwrap_err();
            assert_eq!(
                (problem.code.as_str(), problem.line),
                ("ESTATE-CEDAR-SYNTAX", 3),
                "{text:?}"
            );
        }
    }

    #[test]
    fn comments_are_told_from_what_looks_like_one() {
        let text = "// a \n\"// b\" x \"\\\"//\"// c\n// d\ny // e";
        assert_eq!(comments(text), ["// a", "// c", "// d", "// e"]);
        assert_eq!(find_code(text, "y"), Some(text.rfind('y').unwrap()));
        assert_eq!(find_code(text, "b"), None);
    }

    #[test]
    fn clauses_are_found_where_their_keywords_are_no_names_and_no_text() {
        let text = "@given(\"x\") never (principal, action, resource)\n\
                    when { principal.given == \"} given {\" } // given { no }\n\
                    given{ { \"when\": 1 }.when == 1 } unless { true };";
        let effect = text.find("never").unwrap();
        let found: Vec<_> = clauses(text, effect)
            .into_iter()
            .map(|clause| (clause.keyword, text.get(clause.start..clause.end).unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                ("when", "when { principal.given == \"} given {\" }"),
                ("given", "given{ { \"when\": 1 }.when == 1 }"),
                ("unless", "unless { true }"),
            ]
        );
    }

    #[test]
    fn an_empty_file_has_no_statement() {
        assert!(cut("").is_empty());
        assert!(cut("  // nothing").is_empty());
    }
}
