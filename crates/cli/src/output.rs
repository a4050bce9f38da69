//! What is printed: results on stdout, everything else on stderr.

#![expect(clippy::print_stderr, reason = "this is the one place that prints")]

use crate::Failure;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// A part of a document, as it comes.
pub(crate) fn part(text: &str) {
    use std::io::Write as _;
    if write!(std::io::stdout(), "{}", escaped_json(text)).is_err() {
        std::process::exit(0);
    }
}

fn write(text: &str) {
    use std::io::Write as _;
    // A closed pipe (`trilith … | head`) is the reader's choice, not an error.
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// How far long work is: a line now and then on a terminal, and nothing in a pipe.
pub(crate) struct Progress {
    what: &'static str,
    /// When it was told last; `None` where nobody reads it as it comes.
    told: Option<Mutex<Instant>>,
}

impl Progress {
    /// Between two lines.
    const EVERY: Duration = Duration::from_secs(5);

    pub(crate) fn new(what: &'static str) -> Self {
        use std::io::IsTerminal as _;
        let told = std::io::stderr().is_terminal();
        Self {
            what,
            told: told.then(|| Mutex::new(Instant::now())),
        }
    }

    pub(crate) fn tell(&self, done: u64, of: u64) {
        let Some(told) = &self.told else {
            return;
        };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= Self::EVERY {
            *told = Instant::now();
            note(format_args!("{done} of {of} {}", self.what));
        }
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
    let mut table = Table::new(header);
    if rows.is_empty() {
        table.head();
    }
    table.rows(rows);
}

/// A table that grows as its rows are found: its columns are as wide as those that came first, or wider.
pub(crate) struct Table {
    header: Vec<String>,
    widths: Vec<usize>,
    begun: bool,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|cell| (*cell).to_owned()).collect(),
            widths: header.iter().map(|cell| cell.chars().count()).collect(),
            begun: false,
        }
    }

    /// The header comes with the first rows.
    pub(crate) fn rows(&mut self, rows: &[Vec<String>]) {
        let shown: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| value(cell)).collect())
            .collect();
        for row in &shown {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !shown.is_empty() {
            self.head();
        }
        for row in &shown {
            self.print(row);
        }
    }

    fn head(&mut self) {
        if !self.begun {
            self.begun = true;
            self.print(&self.header);
        }
    }

    fn print(&self, cells: &[String]) {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            text.push_str(cell);
            let padding = width.saturating_sub(cell.chars().count()) + 2;
            text.extend(std::iter::repeat_n(' ', padding));
        }
        line(text.trim_end());
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
