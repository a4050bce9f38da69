//! What is printed: results on stdout, everything else on stderr.

#![expect(clippy::print_stderr, reason = "this is the one place that prints")]

use crate::Failure;
use serde_json::Value;

/// One line of what was asked for, or some.
///
/// INVARIANT: nothing that is printed acts on the terminal. Names, reasons and questions come from whoever
/// wrote them into a record.
pub(crate) fn line(text: impl std::fmt::Display) {
    write(&shown(&text.to_string()));
}

/// A document as one line of JSON.
pub(crate) fn json(document: &Value) {
    write(&escaped_json(&document.to_string()));
}

fn write(text: &str) {
    use std::io::Write as _;
    // A closed pipe (`trilith … | head`) is the reader's choice, not an error.
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Something that is said beside the result.
pub(crate) fn note(text: impl std::fmt::Display) {
    eprintln!("{}", shown(&text.to_string()));
}

pub(crate) fn failure(failure: &Failure) {
    note(format_args!("trilith: {failure}"));
}

/// `text` with whatever a terminal would obey written out, as `\u{1b}`. Lines and tabs stay.
fn shown(text: &str) -> String {
    escaped(text, |c| c != '\n' && c != '\t' && acts(c))
}

/// As it is printed of a name, a reason, a value: it does not leave its line either.
pub(crate) fn value(text: &str) -> String {
    escaped(text, acts)
}

fn escaped(text: &str, acts: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control characters, and those that turn the direction of what follows.
fn acts(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || turns
}

/// serde writes out what is below a space; some terminals obey what is above `~` as well. Outside of
/// strings JSON has neither.
fn escaped_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && acts(c) {
            // Each is in the plane that four digits name.
            shown.extend(format!("\\u{:04x}", u32::from(c)).chars());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Rows in columns as wide as their widest cell; the last column is never padded or cut.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| value(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            let padding = width.saturating_sub(cell.chars().count()) + 2;
            text.extend(std::iter::repeat_n(' ', padding));
        }
        text.trim_end().to_owned()
    };
    line(render(&mut header.iter().copied()));
    for row in &rows {
        line(render(&mut row.iter().map(String::as_str)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reason, a name or a question cleared the screen of whoever looked at its record, or wrote lines there
    /// that no record has.
    #[test]
    fn what_is_printed_of_a_record_does_not_act_on_the_terminal() {
        let hostile = "ok\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}31m\u{7f}\u{202e}gpj";
        let seen = r"ok\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}31m\u{7f}\u{202e}gpj";
        assert_eq!(shown(hostile), seen);
        assert_eq!(value(hostile), seen);
        assert_eq!(shown("a\n\tb"), "a\n\tb");
        assert_eq!(
            value("a\nserver:9  all is well"),
            r"a\nserver:9  all is well"
        );
        assert_eq!(value("Grüße, 世界 \\ ok"), "Grüße, 世界 \\ ok");
        let document = serde_json::json!({ "reason": hostile });
        let text = escaped_json(&document.to_string());
        assert!(!text.chars().any(acts), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, document);
    }
}
