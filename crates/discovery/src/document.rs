//! A TOML file with the places of what it declares, so that text can be put beside what stands there.
//! It reads; `edit` changes the text.

use facts::Finding;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

pub(crate) struct Document<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    root: DeTable<'a>,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The file itself.
    Root,
    /// Under `[[header]]` or `[header]`.
    Header,
    /// In braces.
    Inline,
}

/// A table that declares something, and where.
#[derive(Debug, Clone)]
pub(crate) struct Element<'a> {
    table: &'a DeTable<'a>,
    text: &'a str,
    /// Of the header, or of all in braces.
    span: Range<usize>,
    form: Form,
}

/// Several tables under one key.
#[derive(Debug, Clone)]
pub(crate) enum List<'a> {
    Absent,
    Headers(Vec<Element<'a>>),
    /// In brackets, with the place of all of it.
    Inline(Range<usize>, Vec<Element<'a>>),
}

impl<'a> Document<'a> {
    pub(crate) fn parse(file: &'a str, text: &'a str) -> Result<Self, Finding> {
        let root = DeTable::parse(text).map_err(|error| {
            Finding::new("SYNC-TOML", format!("{file} is no TOML"))
                .observed(error.message())
                .next("correct it; `trilith estate lint` names the line")
        })?;
        Ok(Self {
            file,
            text,
            root: root.into_inner(),
        })
    }

    pub(crate) fn root(&'a self) -> Element<'a> {
        Element {
            table: &self.root,
            text: self.text,
            span: 0..0,
            form: Form::Root,
        }
    }
}

impl<'a> List<'a> {
    pub(crate) fn elements(&self) -> &[Element<'a>] {
        match self {
            Self::Absent => &[],
            Self::Headers(elements) | Self::Inline(_, elements) => elements,
        }
    }
}

impl<'a> Element<'a> {
    /// The text under `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.table.get(key)?.get_ref().as_str()
    }

    pub(crate) fn name(&self) -> Option<&'a str> {
        self.text("name")
    }

    pub(crate) fn list(&self, key: &str) -> List<'a> {
        let Some(value) = self.table.get(key) else {
            return List::Absent;
        };
        let Some(array) = value.get_ref().as_array() else {
            return List::Absent;
        };
        let elements = array.iter().filter_map(|value| self.child(value)).collect();
        if self.is_of_headers(array) {
            List::Headers(elements)
        } else {
            List::Inline(value.span(), elements)
        }
    }

    /// The table under `key`.
    pub(crate) fn child_table(&self, key: &str) -> Option<Self> {
        self.child(self.table.get(key)?)
    }

    /// The place of the value under `key`.
    pub(crate) fn place(&self, key: &str) -> Option<Range<usize>> {
        Some(self.table.get(key)?.span())
    }

    pub(crate) const fn is_inline(&self) -> bool {
        matches!(self.form, Form::Inline)
    }

    /// Written as `labels.team = …`, without a header or braces of its own.
    pub(crate) fn is_dotted(&self) -> bool {
        self.form == Form::Header && !self.text_at(self.span.start).starts_with('[')
    }

    pub(crate) const fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// Where all that belongs to it ends.
    pub(crate) fn end(&self) -> usize {
        match self.form {
            Form::Root => self.text.len(),
            Form::Header => table_end(self.table, self.span.end),
            Form::Inline => self.span.end,
        }
    }

    /// Where its own keys end, without what stands under headers of its own; of braces, the last value in it.
    pub(crate) fn own_end(&self) -> usize {
        let from = match self.form {
            Form::Inline => self.span.start + 1,
            Form::Root | Form::Header => self.span.end,
        };
        let own = self
            .table
            .values()
            .filter(|value| !self.is_under_headers(value));
        own.fold(from, |end, value| end.max(value_end(value)))
    }

    /// The places of every header in it and of what stands under each: all that has to go with it.
    pub(crate) fn blocks(&self) -> Vec<Range<usize>> {
        let mut blocks = Vec::new();
        self.add_blocks(&mut blocks);
        blocks
    }

    fn add_blocks(&self, blocks: &mut Vec<Range<usize>>) {
        blocks.push(line_start(self.text, self.span.start)..line_end(self.text, self.own_end()));
        for value in self.table.values() {
            if !self.is_under_headers(value) {
                continue;
            }
            match value.get_ref() {
                DeValue::Array(array) => {
                    for child in array.iter().filter_map(|value| self.child(value)) {
                        child.add_blocks(blocks);
                    }
                }
                _ => {
                    if let Some(child) = self.child(value) {
                        child.add_blocks(blocks);
                    }
                }
            }
        }
    }

    fn child(&self, value: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        let span = value.span();
        let form = if self.text_at(span.start).starts_with('{') {
            Form::Inline
        } else {
            Form::Header
        };
        Some(Self {
            table: value.get_ref().as_table()?,
            text: self.text,
            span,
            form,
        })
    }

    fn is_of_headers(&self, array: &DeArray<'_>) -> bool {
        array.iter().next().is_some_and(|first| {
            first.get_ref().is_table() && self.text_at(first.span().start).starts_with('[')
        })
    }

    fn is_under_headers(&self, value: &Spanned<DeValue<'_>>) -> bool {
        match value.get_ref() {
            DeValue::Array(array) => self.is_of_headers(array),
            DeValue::Table(_) => self.text_at(value.span().start).starts_with('['),
            _ => false,
        }
    }

    fn text_at(&self, offset: usize) -> &'a str {
        self.text.get(offset..).unwrap_or_default()
    }
}

fn table_end(table: &DeTable<'_>, from: usize) -> usize {
    table.iter().fold(from, |end, (key, value)| {
        end.max(key.span().end).max(value_end(value))
    })
}

fn value_end(value: &Spanned<DeValue<'_>>) -> usize {
    let end = value.span().end;
    match value.get_ref() {
        DeValue::Table(table) => table_end(table, end),
        DeValue::Array(array) => array
            .iter()
            .fold(end, |end, value| end.max(value_end(value))),
        _ => end,
    }
}

/// Where the line of `offset` begins, if nothing but blanks stand before it; else `offset`.
pub(crate) fn line_start(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let blank = before.get(line..).unwrap_or_default().trim().is_empty();
    if blank { line } else { offset }
}

/// Behind the line break of the line in which `offset` lies.
pub(crate) fn line_end(text: &str, offset: usize) -> usize {
    let after = text.get(offset..).unwrap_or_default();
    after
        .find('\n')
        .map_or(text.len(), |at| offset.saturating_add(at).saturating_add(1))
}
