//! What a merge did and what it leaves to people, as data for the command line and for machines.

use serde::Serialize;
use std::fmt;

/// Paths are those of the estate, `shop/public/cards`; of a column, with its name behind that of its table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Item {
    pub kind: &'static str,
    pub path: String,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path)
    }
}

/// A tool whose definition is not the one that was seen when it was declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    #[serde(flatten)]
    pub item: Item,
    pub was: String,
    pub is: String,
    /// The estate says the new one now.
    pub accepted: bool,
}

/// A name that no estate can declare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub kind: &'static str,
    pub name: String,
    pub why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Declared now and not before.
    pub added: Vec<Item>,
    /// Of these, what would have inherited a classification, and has the most restricted written instead.
    pub restricted: Vec<Item>,
    /// Declared and found, and of no classification: it counts as the most restricted.
    pub unclassified: Vec<Item>,
    /// Declared, looked for and not found. It stays declared unless `removed` has it.
    pub gone: Vec<Item>,
    pub removed: Vec<Item>,
    pub changed: Vec<Changed>,
    /// Tools that had no digest of their definition.
    pub pinned: Vec<Item>,
    pub refused: Vec<Refused>,
    /// How many were declared and are there.
    pub kept: usize,
}

impl Report {
    /// Whether a person has something to look at.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.gone.len() > self.removed.len()
            || self.changed.iter().any(|changed| !changed.accepted)
            || !self.refused.is_empty()
    }
}
