//! What follows, one after another: first what is reached, then what that can do, found as it is asked for. It can
//! be cut anywhere and goes on by its cursor.

use super::{ActsFor, Blast, BlastPath as Path, Reach, Taken};
use crate::ask::{Access, Accesses, Cursor, CursorError, Place};
use crate::estate::Estate;
use serde::Serialize;
use std::collections::BTreeSet;

/// The answer to `blast-radius`, as it is found.
pub struct BlastAnswer<'a> {
    estate: &'a Estate,
    question: String,
    taken: Taken,
    /// Everything but accesses.
    head: Vec<BlastItem>,
    /// Whose accesses follow, each once.
    identities: Vec<String>,
    counts: BlastCounts,
    /// In list 0, so many of the head; in list `n`, what identity `n - 1` can do.
    at: Place,
}

/// One part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlastItem {
    Path(Path),
    Identity(Reach),
    ActsFor(ActsFor),
    Access(Access),
    /// What could not be evaluated.
    Error(String),
}

/// How much the whole has of what is known before any access is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BlastCounts {
    pub paths: usize,
    /// Each once, by however many ways it is reached: by becoming it, and by a path.
    pub identities: usize,
    pub acts_for: usize,
}

/// A page of the answer.
#[derive(Debug, Clone, Serialize)]
pub struct BlastPage {
    /// As the whole, with what is of this page.
    #[serde(flatten)]
    pub blast: Blast,
    /// Of the whole, whatever stands on this page.
    pub counts: BlastCounts,
    /// Where the rest begins; without it there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<'a> BlastAnswer<'a> {
    pub(super) fn new(estate: &'a Estate, blast: Blast) -> Self {
        let reached: BTreeSet<&String> = blast.identities.iter().map(|one| &one.identity).collect();
        let identities: Vec<String> = reached.into_iter().cloned().collect();
        let counts = BlastCounts {
            paths: blast.paths.len(),
            identities: identities.len(),
            acts_for: blast.acts_for.len(),
        };
        let mut head: Vec<BlastItem> = blast.paths.into_iter().map(BlastItem::Path).collect();
        head.extend(blast.identities.into_iter().map(BlastItem::Identity));
        head.extend(blast.acts_for.into_iter().map(BlastItem::ActsFor));
        head.extend(blast.errors.into_iter().map(BlastItem::Error));
        Self {
            estate,
            question: format!("blast-radius {:?}", blast.taken),
            taken: blast.taken,
            head,
            identities,
            counts,
            at: Place::default(),
        }
    }

    /// Of the whole.
    #[must_use]
    pub const fn counts(&self) -> BlastCounts {
        self.counts
    }

    /// Paths of all that can be become or acted as, each once.
    #[must_use]
    pub fn identities(&self) -> &[String] {
        &self.identities
    }

    /// Goes on where an answer to the same question by the same version of the estate was cut.
    ///
    /// # Errors
    /// The cursor belongs to another question or another version.
    pub fn after(mut self, cursor: &Cursor) -> Result<Self, CursorError> {
        self.at = cursor.check(self.estate.version(), &self.question)?;
        Ok(self)
    }

    /// The estate's version, SHA-256 hex.
    #[must_use]
    pub fn version(&self) -> &str {
        self.estate.version()
    }

    /// The next parts, `limit` at most and after about `evaluations` requests to Cedar at most, and where the rest
    /// begins: there may be fewer, or none, and more to come.
    #[must_use]
    pub fn part(&mut self, limit: usize, evaluations: usize) -> (Vec<BlastItem>, Option<String>) {
        let mut items = Vec::new();
        let (limit, mut tries) = (limit.max(1), evaluations.max(1));
        if self.at.list == 0 {
            let rest = self.head.iter().skip(self.at.given).take(limit);
            items.extend(rest.cloned());
            self.at.given += items.len();
            if self.at.given >= self.head.len() {
                self.at = Place {
                    list: 1,
                    ..Place::default()
                };
            }
        }
        while self.at.list > 0 && items.len() < limit && tries > 0 {
            let Some(identity) = self.identities.get(self.at.list - 1) else {
                break;
            };
            let mut accesses: Accesses<'_> = self.estate.accesses_of(identity).at(self.at);
            let page = accesses.page(limit - items.len(), tries);
            // One whose accesses are no work takes its turn as well.
            tries = tries.saturating_sub(accesses.evaluations().max(1));
            items.extend(page.accesses.into_iter().map(BlastItem::Access));
            items.extend(page.errors.into_iter().map(BlastItem::Error));
            let cut = page.next.and_then(|cursor| cursor.parse::<Cursor>().ok());
            self.at = match cut {
                Some(cursor) => Place {
                    list: self.at.list,
                    ..cursor.place()
                },
                None => Place {
                    list: self.at.list + 1,
                    ..Place::default()
                },
            };
        }
        let ended = self.at.list > self.identities.len();
        let next = Cursor::new(self.estate.version(), &self.question, self.at);
        (items, (!ended).then(|| next.to_string()))
    }

    /// As [`BlastAnswer::part`], in the form of the whole.
    #[must_use]
    pub fn page(&mut self, limit: usize, evaluations: usize) -> BlastPage {
        let (items, next) = self.part(limit, evaluations);
        let mut blast = Blast {
            estate: self.estate.version().to_owned(),
            taken: self.taken.clone(),
            paths: Vec::new(),
            identities: Vec::new(),
            acts_for: Vec::new(),
            accesses: Vec::new(),
            errors: Vec::new(),
        };
        for item in items {
            match item {
                BlastItem::Path(path) => blast.paths.push(path),
                BlastItem::Identity(reach) => blast.identities.push(reach),
                BlastItem::ActsFor(one) => blast.acts_for.push(one),
                BlastItem::Access(access) => blast.accesses.push(access),
                BlastItem::Error(error) => blast.errors.push(error),
            }
        }
        BlastPage {
            blast,
            counts: self.counts,
            next,
        }
    }
}
