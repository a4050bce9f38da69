//! What is asked in the words of cvc5, in those of Z3: finite sets are arrays of truth values there, and overflow is
//! said by what a wider sum would be.
//!
//! Z3's sets may be infinite, so it looks among more data than cvc5 does: where it finds nothing there is nothing.

use std::fmt::Write as _;
use std::path::Path;

/// Which words a solver understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Cvc5,
    Z3,
}

impl Dialect {
    /// By the program's name.
    pub(crate) fn of(solver: &Path) -> Self {
        let name = solver.file_name().map(|name| name.as_encoded_bytes());
        match name.is_some_and(|name| name.starts_with(b"z3")) {
            true => Self::Z3,
            false => Self::Cvc5,
        }
    }
}

/// Terms are cut into definitions, so nothing is deep. What is does not come from the encoder.
const DEEPEST: usize = 64;

enum Expression<'a> {
    Atom(&'a str),
    List(Vec<Self>),
}

/// A script for Z3. Nothing, where `script` is none.
pub(crate) fn for_z3(script: &str) -> Option<String> {
    let mut translated = String::with_capacity(script.len());
    for command in read(script)? {
        if let Expression::List(parts) = &command
            && matches!(parts.first(), Some(Expression::Atom("set-logic")))
        {
            continue;
        }
        write(&command, &mut translated);
        translated.push('\n');
    }
    Some(translated)
}

/// The commands of a script, without its comments.
fn read(script: &str) -> Option<Vec<Expression<'_>>> {
    let mut open: Vec<Vec<Expression<'_>>> = vec![Vec::new()];
    let mut rest = script.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ';' => {
                rest = rest.split_once('\n').map_or("", |(_, after)| after);
                rest = rest.trim_start();
                continue;
            }
            '(' => {
                if open.len() > DEEPEST {
                    return None;
                }
                open.push(Vec::new());
                1
            }
            ')' => {
                let list = open.pop()?;
                open.last_mut()?.push(Expression::List(list));
                1
            }
            quote @ ('"' | '|') => {
                let (atom, _) = rest.split_at_checked(quoted(rest, quote)?)?;
                open.last_mut()?.push(Expression::Atom(atom));
                atom.len()
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | ';' | '|');
                let (atom, _) = rest.split_at_checked(rest.find(ends).unwrap_or(rest.len()))?;
                open.last_mut()?.push(Expression::Atom(atom));
                atom.len()
            }
        };
        rest = rest.get(length..)?.trim_start();
    }
    match open.pop() {
        Some(commands) if open.is_empty() => Some(commands),
        _ => None,
    }
}

/// How long what is quoted is. A quote in a text is written twice.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut from = 1;
    loop {
        let end = from + text.get(from..)?.find(quote)? + 1;
        if quote == '"' && text.get(end..)?.starts_with(quote) {
            from = end + 1;
        } else {
            return Some(end);
        }
    }
}

fn write(expression: &Expression<'_>, to: &mut String) {
    match expression {
        Expression::Atom(atom) => to.push_str(atom),
        Expression::List(parts) => match special(parts) {
            Some(text) => to.push_str(&text),
            None => {
                to.push('(');
                for (number, part) in parts.iter().enumerate() {
                    if number > 0 {
                        to.push(' ');
                    }
                    write(part, to);
                }
                to.push(')');
            }
        },
    }
}

fn text(expression: &Expression<'_>) -> String {
    let mut text = String::new();
    write(expression, &mut text);
    text
}

/// What Z3 has other words for.
fn special(parts: &[Expression<'_>]) -> Option<String> {
    let (Expression::Atom(head), rest) = parts.split_first()? else {
        return None;
    };
    let said = match (*head, rest) {
        ("Set", [of]) => format!("(Array {} Bool)", text(of)),
        ("as", [Expression::Atom("set.empty"), sort]) => {
            format!("((as const {}) false)", text(sort))
        }
        ("set.member", [one, set]) => format!("(select {} {})", text(set), text(one)),
        ("set.inter", [one, other]) => format!("((_ map and) {} {})", text(one), text(other)),
        ("set.subset", [one, other]) => {
            let (one, other) = (text(one), text(other));
            format!("(= ((_ map and) {one} {other}) {one})")
        }
        ("set.insert", [members @ .., set]) => {
            let mut whole = text(set);
            for member in members {
                whole = format!("(store {whole} {} true)", text(member));
            }
            whole
        }
        ("bvsaddo", [one, other]) => overflow("bvadd", 1, one, other),
        ("bvssubo", [one, other]) => overflow("bvsub", 1, one, other),
        // Integers have 64 bits.
        ("bvsmulo", [one, other]) => overflow("bvmul", 64, one, other),
        _ => return None,
    };
    Some(said)
}

/// Whether the result has another value than it has in so many bits more.
fn overflow(operation: &str, more: u32, one: &Expression<'_>, other: &Expression<'_>) -> String {
    let (one, other) = (text(one), text(other));
    let wider = |what: &str| format!("((_ sign_extend {more}) {what})");
    let mut said = String::new();
    // Writing to a text does not fail.
    let _ = write!(
        said,
        "(not (= {} ({operation} {} {})))",
        wider(&format!("({operation} {one} {other})")),
        wider(&one),
        wider(&other)
    );
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_overflow_are_said_in_other_words_and_the_rest_as_it_is() {
        let z3 = |script: &str| for_z3(script).unwrap();
        assert_eq!(
            z3("(reset)\n; (set.member \"\n(set-logic ALL)\n(check-sat)\n"),
            "(reset)\n(check-sat)\n"
        );
        assert_eq!(
            z3("(declare-fun f (E0) (Set E0))"),
            "(declare-fun f (E0) (Array E0 Bool))\n"
        );
        assert_eq!(
            z3("(define-fun t () Bool (set.member \"a (set.subset) \"\" b\" t1))"),
            "(define-fun t () Bool (select t1 \"a (set.subset) \"\" b\"))\n"
        );
        assert_eq!(
            z3("(set.insert t1 t2 (as set.empty (Set String)))"),
            "(store (store ((as const (Array String Bool)) false) t1 true) t2 true)\n"
        );
        assert_eq!(z3("(set.subset a b)"), "(= ((_ map and) a b) a)\n");
        assert_eq!(
            z3("(bvssubo a (_ bv1 64))"),
            "(not (= ((_ sign_extend 1) (bvsub a (_ bv1 64))) (bvsub ((_ sign_extend 1) a) ((_ sign_extend 1) (_ bv1 64)))))\n"
        );
        for none in ["(", ")", "(a))", "(\"a)", &"(".repeat(100)] {
            assert!(for_z3(none).is_none(), "{none}");
        }
    }
}
