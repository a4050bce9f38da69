//! What is printed: results on stdout, everything else on stderr.

#![expect(clippy::print_stderr, reason = "this is the one place that prints")]

use crate::Failure;
use serde_json::Value;

/// One line of what was asked for.
pub(crate) fn line(text: impl std::fmt::Display) {
    use std::io::Write as _;
    // A closed pipe (`trilith … | head`) is the reader's choice, not an error.
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// A document as one line of JSON.
pub(crate) fn json(document: &Value) {
    line(document);
}

/// Something that is said beside the result.
pub(crate) fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

pub(crate) fn failure(failure: &Failure) {
    eprintln!("trilith: {failure}");
}

/// Rows in columns as wide as their widest cell; the last column is never padded or cut.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
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
    for row in rows {
        line(render(&mut row.iter().map(String::as_str)));
    }
}
