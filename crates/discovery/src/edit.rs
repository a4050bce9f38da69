//! Changes of a text by place, and how what is new is written. It knows no estate.

use crate::document::{Element, List, line_end, line_start};
use std::fmt::Write as _;
use std::ops::Range;

/// What stands above what nobody has judged, where something else would have judged it.
const UNJUDGED: &str = "# New, found by trilith resources sync; nobody has classified it yet.\n";

/// Insertions and removals, by places of the text as it was.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    insertions: Vec<(usize, String)>,
    removals: Vec<Range<usize>>,
}

/// A table to write.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) key: &'static str,
    /// Keys and values as TOML has them.
    pub(crate) pairs: Vec<(&'static str, String)>,
    pub(crate) unjudged: bool,
    pub(crate) children: Vec<Self>,
}

impl Edits {
    pub(crate) const fn is_empty(&self) -> bool {
        self.insertions.is_empty() && self.removals.is_empty()
    }

    pub(crate) fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.insertions.push((at, text.into()));
    }

    pub(crate) fn replace(&mut self, place: Range<usize>, text: impl Into<String>) {
        self.insert(place.start, text);
        self.removals.push(place);
    }

    /// Puts `new` under `key` of `parent`, whose header is `path`; at `after`, or else at its end.
    /// Of `list`, what it holds now, those in `gone` are taken out at the same time.
    pub(crate) fn add(
        &mut self,
        parent: &Element<'_>,
        text: &str,
        path: &[&str],
        list: &List<'_>,
        new: &[New],
        (after, gone): (Option<usize>, &[usize]),
    ) {
        let Some(first) = new.first() else { return };
        match list {
            List::Inline(place, elements) => {
                let Some(last) = last_that_stays(elements, gone) else {
                    let all: Vec<String> = new.iter().map(inline).collect();
                    self.insert(place.start + 1, all.join(", "));
                    return;
                };
                let separator = separator(text, last.start);
                let mut added = String::new();
                for one in new {
                    added.push_str(&separator);
                    added.push_str(&inline(one));
                }
                self.insert(last.end, added);
            }
            List::Absent if parent.is_inline() => {
                let all: Vec<String> = new.iter().map(inline).collect();
                let added = format!(", {} = [{}]", first.key, all.join(", "));
                self.insert(parent.own_end(), added);
            }
            List::Absent | List::Headers(_) => {
                let at = line_end(text, after.unwrap_or_else(|| parent.end()));
                let before = text.get(..at).unwrap_or_default();
                let mut added = String::new();
                if !before.is_empty() && !before.ends_with('\n') {
                    added.push('\n');
                }
                for one in new {
                    block(&mut added, path, one);
                }
                let added = if before.is_empty() {
                    added.trim_start().to_owned()
                } else {
                    added
                };
                self.insert(at, added);
            }
        }
    }

    /// Takes `gone` out of `list`.
    pub(crate) fn remove(&mut self, text: &str, list: &List<'_>, gone: &[usize]) {
        match list {
            _ if gone.is_empty() => {}
            List::Absent => {}
            List::Headers(elements) => {
                for element in gone.iter().filter_map(|at| elements.get(*at)) {
                    for block in element.blocks() {
                        let before = text.get(..block.start).unwrap_or_default();
                        let blank = before.ends_with("\n\n");
                        let start = block.start - usize::from(blank);
                        self.removals.push(start..block.end);
                    }
                }
            }
            List::Inline(place, elements) => self.remove_inline(text, place, elements, gone),
        }
    }

    /// Each with the comma behind it; what ends a list, with the comma before it, unless a comment would go.
    fn remove_inline(
        &mut self,
        text: &str,
        place: &Range<usize>,
        elements: &[Element<'_>],
        gone: &[usize],
    ) {
        let stays = last_that_stays(elements, gone);
        let (from, to) = match (&stays, elements.last()) {
            (Some(stays), Some(last)) => (stays.end, last.span().end),
            _ => (place.start + 1, place.end.saturating_sub(1)),
        };
        let at_the_end = !text.get(from..to).unwrap_or_default().contains('#');
        if at_the_end && from < to {
            self.removals.push(from..to);
        }
        for element in gone.iter().filter_map(|at| elements.get(*at)) {
            let span = element.span().clone();
            if at_the_end && span.start >= from {
                continue;
            }
            match comma(text, span.end) {
                Some(comma) => {
                    self.removals.push(comma..comma + 1);
                    self.removals.push(with_blanks(text, span, comma));
                }
                None => self.removals.push(span),
            }
        }
    }

    pub(crate) fn apply(mut self, text: &str) -> String {
        // Stable: what was put first at a place stands first.
        self.insertions.sort_by_key(|(at, _)| *at);
        self.removals.sort_by_key(|removal| removal.start);
        let breaks = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut written = String::with_capacity(text.len());
        let mut removals = self.removals.iter().peekable();
        let mut at = 0;
        let mut keep = |written: &mut String, to: usize| {
            while at < to {
                while removals.next_if(|removal| removal.end <= at).is_some() {}
                let Some(removal) = removals.peek().filter(|removal| removal.start < to) else {
                    written.push_str(text.get(at..to).unwrap_or_default());
                    at = to;
                    return;
                };
                if removal.start > at {
                    written.push_str(text.get(at..removal.start).unwrap_or_default());
                }
                at = removal.end.min(to).max(at);
            }
        };
        for (place, added) in &self.insertions {
            keep(&mut written, *place);
            written.push_str(&added.replace('\n', breaks));
        }
        keep(&mut written, text.len());
        written
    }
}

fn last_that_stays(elements: &[Element<'_>], gone: &[usize]) -> Option<Range<usize>> {
    let stays = |(at, element): (usize, &Element<'_>)| {
        (!gone.contains(&at)).then(|| element.span().clone())
    };
    elements.iter().enumerate().rev().find_map(stays)
}

/// Where the comma behind an element stands, past blanks, line breaks and comments.
fn comma(text: &str, end: usize) -> Option<usize> {
    let mut in_comment = false;
    for (at, c) in text.get(end..)?.char_indices() {
        match c {
            '\n' => in_comment = false,
            _ if in_comment => {}
            '#' => in_comment = true,
            ',' => return Some(end + at),
            c if c.is_whitespace() => {}
            _ => return None,
        }
    }
    None
}

/// An element, and the blanks that would be left of it: behind its comma on its line, or all of its line.
fn with_blanks(text: &str, span: Range<usize>, comma: usize) -> Range<usize> {
    let blank = |part: Option<&str>| part.is_some_and(|part| part.trim().is_empty());
    if !blank(text.get(span.end..comma)) {
        return span;
    }
    let after = text.get(comma + 1..).unwrap_or_default();
    let blanks = after.len() - after.trim_start_matches([' ', '\t', '\r']).len();
    let end = comma + 1 + blanks;
    let start = line_start(text, span.start);
    if start < span.start && text.get(end..).is_some_and(|rest| rest.starts_with('\n')) {
        return start..end + 1;
    }
    if text.get(end..).is_some_and(|rest| rest.starts_with('\n')) {
        return span.start..comma + 1;
    }
    span.start..end
}

/// What stands between two elements of a list, by how its last is written.
fn separator(text: &str, last: usize) -> String {
    let before = text.get(..last).unwrap_or_default();
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let indent = before.get(line..).unwrap_or_default();
    if line > 0 && indent.trim().is_empty() {
        format!(",\n{indent}")
    } else {
        ", ".to_owned()
    }
}

fn block(text: &mut String, path: &[&str], new: &New) {
    let mut path = path.to_vec();
    path.push(new.key);
    if new.key != "column" || new.unjudged {
        text.push('\n');
    }
    if new.unjudged {
        text.push_str(UNJUDGED);
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "[[{}]]", path.join("."));
    for (key, value) in &new.pairs {
        let _ = writeln!(text, "{key} = {value}");
    }
    for child in &new.children {
        block(text, &path, child);
    }
}

fn inline(new: &New) -> String {
    let mut parts: Vec<String> = new
        .pairs
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    let mut keys: Vec<&str> = new.children.iter().map(|child| child.key).collect();
    keys.dedup();
    for key in keys {
        let children = new.children.iter().filter(|child| child.key == key);
        let children: Vec<String> = children.map(inline).collect();
        parts.push(format!("{key} = [{}]", children.join(", ")));
    }
    format!("{{ {} }}", parts.join(", "))
}

/// A basic string of TOML, with whatever a terminal or an editor would obey written out.
pub(crate) fn quoted(text: &str) -> String {
    let mut written = String::from("\"");
    for c in text.chars() {
        let turns = matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        match c {
            '"' | '\\' => written.extend(['\\', c]),
            c if c.is_control() || turns => {
                let _ = write!(written, "\\u{:04X}", u32::from(c));
            }
            c => written.push(c),
        }
    }
    written.push('"');
    written
}
