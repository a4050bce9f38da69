//! What is wrong with an estate: a stable code, the place, and what to write instead.

use crate::suggest::did_you_mean;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One reason why an estate does not compile. Codes are listed in `docs/reference/findings.md`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// Path within the estate folder; empty when no one file is to blame.
    pub file: String,
    /// From 1; 0 when the whole file is meant.
    pub line: u32,
    /// Of the character in its line, from 1; 0 when the whole line is meant.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub column: u32,
    /// `ESTATE-…`
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(
        code: &'static str,
        file: impl Into<String>,
        line: u32,
        message: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            line,
            column: 0,
            code: code.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(crate) const fn column(mut self, column: u32) -> Self {
        self.column = column;
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds “did you mean `x`?” when one of `candidates` is close to `word`.
    #[must_use]
    pub(crate) fn did_you_mean<'a>(
        self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        match did_you_mean(word, candidates) {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }
}

const fn is_nothing(column: &u32) -> bool {
    *column == 0
}

/// `file:line:column: CODE: message (hint)`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line, self.column) {
            ("", ..) => {}
            (file, 0, _) => write!(f, "{file}: ")?,
            (file, line, 0) => write!(f, "{file}:{line}: ")?,
            (file, line, column) => write!(f, "{file}:{line}:{column}: ")?,
        }
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// The line of byte `offset`, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> u32 {
    Lines::of(text).line(offset)
}

/// The column of byte `offset` in its line, in characters, from 1.
pub(crate) fn column_of(text: &str, offset: usize) -> u32 {
    Lines::of(text).column(offset)
}

/// Where the lines of a text begin, to find many of them.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    breaks: Vec<usize>,
    /// The bytes that continue a character: they take no column.
    continued: Vec<usize>,
}

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        let mut lines = Self {
            breaks: Vec::new(),
            continued: Vec::new(),
        };
        for (offset, byte) in text.bytes().enumerate() {
            if byte == b'\n' {
                lines.breaks.push(offset);
            } else if continues(byte) {
                lines.continued.push(offset);
            }
        }
        lines
    }

    /// The line of byte `offset`, from 1.
    pub(crate) fn line(&self, offset: usize) -> u32 {
        number(self.breaks_before(offset))
    }

    /// The column of byte `offset` in its line, in characters, from 1.
    pub(crate) fn column(&self, offset: usize) -> u32 {
        let last = self.breaks_before(offset).checked_sub(1);
        let start = last
            .and_then(|last| self.breaks.get(last))
            .map_or(0, |line_break| line_break + 1);
        let until = |end: usize| self.continued.partition_point(|byte| *byte < end);
        let continued = until(offset) - until(start);
        number(offset.saturating_sub(start).saturating_sub(continued))
    }

    fn breaks_before(&self, offset: usize) -> usize {
        self.breaks
            .partition_point(|line_break| *line_break < offset)
    }
}

/// Bytes that continue a character of UTF-8 begin with the bits 10.
const fn continues(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// From 1.
fn number(from_nothing: usize) -> u32 {
    u32::try_from(from_nothing)
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_line_and_column() {
        let text = "ab\ncd é x\n";
        let lines = Lines::of(text);
        for (offset, place) in [
            (0, (1, 1)),
            (1, (1, 2)),
            (3, (2, 1)),
            (8, (2, 5)),
            (9, (2, 6)),
        ] {
            assert_eq!(
                (lines.line(offset), lines.column(offset)),
                place,
                "{offset}"
            );
        }
        let problem = Problem::new("ESTATE-NAME", "a.toml", 2, "no name").column(5);
        assert_eq!(problem.to_string(), "a.toml:2:5: ESTATE-NAME: no name");
    }
}
