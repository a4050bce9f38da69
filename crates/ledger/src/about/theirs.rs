//! What is somebody's: names of identities, machines and resources, exact or by what they begin with; and whether a
//! record is about any of it.

use super::{About, machine, resource};
use crate::Record;
use std::collections::BTreeSet;
use thiserror::Error;

/// Why a name cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("a name is exact, or has one `*` at its end: {0:?}")]
    Pattern(String),
    #[error("`machines` are nodes, by their names or their SPIFFE IDs: {0:?}")]
    Machine(String),
    #[error("`identities`, `machines` or `resources` are named")]
    Nothing,
}

/// A name, or what it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// It ended in `*`.
    begins: bool,
}

impl Pattern {
    /// # Errors
    /// [`NameError::Pattern`].
    pub fn read(text: &str) -> Result<Self, NameError> {
        let (text, begins) = match text.strip_suffix('*') {
            Some(text) => (text, true),
            None => (text, false),
        };
        if text.contains('*') || (text.is_empty() && !begins) {
            return Err(NameError::Pattern(text.to_owned()));
        }
        let text = text.to_owned();
        Ok(Self { text, begins })
    }

    /// # Errors
    /// [`NameError::Pattern`].
    pub fn all(texts: &[String]) -> Result<Vec<Self>, NameError> {
        texts.iter().map(|text| Self::read(text)).collect()
    }

    /// Resources, however they are written: by their paths, or as records have them.
    ///
    /// # Errors
    /// [`NameError::Pattern`].
    pub fn resources(texts: &[String]) -> Result<Vec<Self>, NameError> {
        let paths = texts.iter().map(|text| resource(text));
        paths.map(Self::read).collect()
    }

    /// Nodes, however they are written: by name or by SPIFFE ID.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn machines(texts: &[String]) -> Result<Vec<Self>, NameError> {
        let name = |text: &String| {
            let name = machine(text);
            if name.starts_with("spiffe://") {
                return Err(NameError::Machine(text.clone()));
            }
            Self::read(name)
        };
        texts.iter().map(name).collect()
    }

    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.begins {
            true => name.starts_with(&self.text),
            false => name == self.text,
        }
    }

    /// One of `patterns` does.
    #[must_use]
    pub fn any(patterns: &[Self], name: &str) -> bool {
        patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// As [`Self::matches`], of a column: `…/*` may be any of its table.
    fn matches_column(&self, name: &str) -> bool {
        let any = name.strip_suffix('*').filter(|table| table.ends_with('/'));
        self.matches(name) || any.is_some_and(|table| self.text.starts_with(table))
    }
}

/// What somebody owns.
#[derive(Debug, Clone)]
pub struct Theirs {
    identities: Vec<Pattern>,
    machines: Vec<Pattern>,
    resources: Vec<Pattern>,
}

impl Theirs {
    /// Of names that are exact or end in `*`.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn new(
        identities: &[String],
        machines: &[String],
        resources: &[String],
    ) -> Result<Self, NameError> {
        let theirs = Self {
            identities: Pattern::all(identities)?,
            machines: Pattern::machines(machines)?,
            resources: Pattern::resources(resources)?,
        };
        let lists = [&theirs.identities, &theirs.machines, &theirs.resources];
        if lists.iter().all(|names| names.is_empty()) {
            return Err(NameError::Nothing);
        }
        Ok(theirs)
    }

    /// The same text for what is the same, whatever the order of its names.
    pub(crate) fn canonical(&self) -> String {
        let mut names = BTreeSet::new();
        for (kind, patterns) in [
            ("identity", &self.identities),
            ("machine", &self.machines),
            ("resource", &self.resources),
        ] {
            let end = |pattern: &Pattern| if pattern.begins { "*" } else { "" };
            let lines = patterns.iter();
            names.extend(
                lines.map(|pattern| format!("{kind} {:?}{}\n", pattern.text, end(pattern))),
            );
        }
        names.into_iter().collect()
    }

    /// What of it a record is about that says `about`; nothing, if it is not about any.
    #[must_use]
    pub fn of(&self, about: &About) -> Vec<String> {
        let mut found = Vec::new();
        let lists: [(_, _, &BTreeSet<String>); 3] = [
            ("identity", &self.identities, &about.identities),
            ("machine", &self.machines, &about.machines),
            ("resource", &self.resources, &about.resources),
        ];
        for (kind, patterns, names) in lists {
            let hits = names.iter().filter(|name| Pattern::any(patterns, name));
            found.extend(hits.map(|name| format!("{kind} {name}")));
        }
        // Whose the table is, is told of the table.
        let columns = about.columns.iter().filter(|name| {
            let table = name.rsplit_once('/').map_or("", |(table, _)| table);
            let mut owned = self.resources.iter();
            !Pattern::any(&self.resources, table)
                && owned.any(|pattern| pattern.matches_column(name))
        });
        found.extend(columns.map(|name| format!("column {name}")));
        let acts = about.actor.iter();
        let acts = acts.filter(|actor| Pattern::any(&self.identities, actor));
        found.extend(acts.map(|actor| format!("actor {actor}")));
        if about.unseen {
            found.push("contents of records that were not looked at".to_owned());
        }
        if about.cut && !self.resources.is_empty() {
            found.push("resources that the record has no room for".to_owned());
        }
        found
    }

    /// The record is about something of it, or it may be: one that cannot be read may be about anything.
    #[must_use]
    pub fn concerns(&self, read: Option<&(Record, About)>) -> bool {
        read.is_none_or(|(_, about)| !self.of(about).is_empty())
    }
}
