//! Rust source with its comments and literals told apart, so that a rule about code does not trip over
//! a word in a sentence. A lexer for counting, not a parser.

/// One stretch of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Code,
    Comment,
    /// A string or character literal, with its quotes.
    Literal,
}

/// Cuts `text` into stretches; together they are the whole text, in order.
pub(crate) fn stretches(text: &str) -> Vec<(Kind, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (kind, length) = next(rest);
        let (head, tail) = rest.split_at(length.min(rest.len()));
        found.push((kind, head));
        rest = tail;
    }
    found
}

/// The code alone: comments and literals become spaces, line breaks stay.
pub(crate) fn code(text: &str) -> String {
    stretches(text)
        .into_iter()
        .map(|(kind, part)| match kind {
            Kind::Code => part.to_owned(),
            Kind::Comment | Kind::Literal => blank(part),
        })
        .collect()
}

fn blank(part: &str) -> String {
    part.chars()
        .map(|letter| if letter == '\n' { '\n' } else { ' ' })
        .collect()
}

/// The kind and length in bytes of the stretch that `rest` begins with.
fn next(rest: &str) -> (Kind, usize) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    if let Some(length) = raw_string(rest) {
        return (Kind::Literal, length);
    }
    if rest.starts_with('"') {
        return (Kind::Literal, quoted(rest, '"'));
    }
    if rest.starts_with('\'')
        && let Some(length) = character(rest)
    {
        return (Kind::Literal, length);
    }
    (Kind::Code, plain(rest))
}

/// Up to the next place where something other than code may begin. An identifier is taken whole, so that
/// the `r` of `for"` or the `b` of `grab"` does not look like a prefix.
fn plain(rest: &str) -> usize {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut letters = rest.char_indices();
    let Some((_, first)) = letters.next() else {
        return 0;
    };
    if is_word(first) {
        return letters
            .find(|(_, letter)| !is_word(*letter))
            .map_or(rest.len(), |(at, _)| at);
    }
    first.len_utf8()
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            match tail.chars().next() {
                Some(letter) => at += letter.len_utf8(),
                None => break,
            }
        }
    }
    rest.len()
}

/// `r"…"`, `br#"…"#` and their like.
fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"]
        .into_iter()
        .find(|p| rest.starts_with(p))?;
    let after = rest.get(prefix.len()..)?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = prefix.len() + hashes + 1;
    Some(opening + body.find(&end).map_or(body.len(), |at| at + end.len()))
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if letter == '\\' {
            escaped = true;
        } else if letter == quote {
            return at + letter.len_utf8();
        }
    }
    rest.len()
}

/// A character literal, unless it is a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut letters = rest.char_indices().skip(1);
    let (_, first) = letters.next()?;
    if first == '\\' {
        return Some(quoted(rest, '\''));
    }
    let (at, second) = letters.next()?;
    (second == '\'').then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::{Kind, code, stretches};

    #[test]
    fn nothing_is_lost() {
        let text =
            "fn f<'a>(x: &'a str) -> char { /* a /* b */ */ r#\"\"quoted\"\"#; b'\\''; 'x' } // é";
        let whole: String = stretches(text).into_iter().map(|(_, part)| part).collect();
        assert_eq!(whole, text);
    }

    #[test]
    fn words_in_sentences_are_not_code() {
        let text = "//! todo!\nlet a = \"dbg! \\\" more\"; let b = r\"unimplemented!\"; real!()";
        let left = code(text);
        assert!(!left.contains("todo!") && !left.contains("dbg!") && !left.contains("unimpl"));
        assert!(left.contains("real!()"));
        assert_eq!(left.lines().count(), text.lines().count());
    }

    #[test]
    fn a_lifetime_does_not_open_a_literal() {
        let parts = stretches("&'static str, 'a', \"s\"");
        let literals: Vec<_> = parts
            .iter()
            .filter(|(kind, _)| *kind == Kind::Literal)
            .map(|(_, part)| *part)
            .collect();
        assert_eq!(literals, ["'a'", "\"s\""]);
    }
}
