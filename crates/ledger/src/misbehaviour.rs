//! Two notes that one ledger's key signed and that cannot both be of one ledger that only grows. Whether they prove
//! that by themselves, or only as whoever records them claims, follows from their bytes alone.

use crate::body::KeyRotation;
use crate::lineage::Link;
use crate::merkle::{Hash, verify_consistency};
use crate::{Checkpoint, CheckpointError, Code, LedgerKey, Note};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What is wrong with a ledger that signed two notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Misbehaviour {
    /// Two roots of one size: nobody can explain that, so the notes prove it to anybody.
    Fork,
    /// Fewer records than were signed before. Older notes are signed too, and may be shown late: that the shorter
    /// one was presented as the newest is what the witness of it claims.
    Rollback,
    /// More records, which are not shown to extend the ones before: a proof may exist that nobody gave.
    Unproven,
    /// A head that is not of the tree with which the ledger ended, as the key has signed as well: of more records, or
    /// of as many with another root. Whoever signs the end of a ledger signs nothing more for it.
    Ended,
    /// Two logs that the ledger went on as.
    Succession,
}

impl Misbehaviour {
    pub const ALL: [Self; 5] = [
        Self::Fork,
        Self::Rollback,
        Self::Unproven,
        Self::Ended,
        Self::Succession,
    ];

    /// As records have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Rollback => "rollback",
            Self::Unproven => "unproven",
            Self::Ended => "ended",
            Self::Succession => "succession",
        }
    }

    /// True if the two notes are enough to convince whoever knows the ledger's key.
    #[must_use]
    pub const fn proves_itself(self) -> bool {
        matches!(self, Self::Fork | Self::Ended | Self::Succession)
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Misbehaviour {
    type Err = NotMisbehaviour;

    fn from_str(text: &str) -> Result<Self, NotMisbehaviour> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| NotMisbehaviour::Kind(text.to_owned()))
    }
}

/// Why two notes show nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotMisbehaviour {
    #[error("{0:?} is no kind of misbehaviour")]
    Kind(String),
    #[error("the first note")]
    First(#[source] CheckpointError),
    #[error("the second note")]
    Second(#[source] CheckpointError),
    #[error("both notes state {size} records with one root")]
    Same { size: u64 },
    #[error("the second note is proven to extend the first, of {size} records")]
    Extends { size: u64 },
    #[error("a link that does not lead on from {0}, or is not signed by both of its keys")]
    Link(String),
    #[error("a head of {size} records, and the ledger ended with {end}: it may be of those")]
    Within { size: u64, end: u64 },
}

impl Code for NotMisbehaviour {
    fn code(&self) -> &'static str {
        match self {
            Self::First(error) | Self::Second(error) => error.code(),
            Self::Kind(_)
            | Self::Same { .. }
            | Self::Extends { .. }
            | Self::Link(_)
            | Self::Within { .. } => "LEDGER-MISBEHAVIOUR",
        }
    }
}

/// What `second`, which came after `first`, shows of the ledger that `key` signs. `proof` is what was given to show
/// that it extends the first: where that holds there is nothing to blame. Either may be a link by which the ledger went
/// on as a new log, as [`link_evidence`] has it, in place of a note.
pub fn judge(
    key: &LedgerKey,
    first: &str,
    second: &str,
    proof: &[Hash],
) -> Result<(Misbehaviour, [Checkpoint; 2]), NotMisbehaviour> {
    if is_link(first) || is_link(second) {
        return judge_links(key, first, second);
    }
    let older = Checkpoint::open(first, key).map_err(NotMisbehaviour::First)?;
    let newer = Checkpoint::open(second, key).map_err(NotMisbehaviour::Second)?;
    let size = older.size;
    let kind = if newer.size == size {
        if newer.root == older.root {
            return Err(NotMisbehaviour::Same { size });
        }
        Misbehaviour::Fork
    } else if newer.size < size {
        Misbehaviour::Rollback
    } else {
        // Every tree extends the empty one.
        let extends = verify_consistency(size, &older.root, newer.size, &newer.root, proof).is_ok();
        if size == 0 || extends {
            return Err(NotMisbehaviour::Extends { size });
        }
        Misbehaviour::Unproven
    };
    Ok((kind, [older, newer]))
}

/// What two signed things show of which at least one is a link.
fn judge_links(
    key: &LedgerKey,
    first: &str,
    second: &str,
) -> Result<(Misbehaviour, [Checkpoint; 2]), NotMisbehaviour> {
    type Opened = Result<(Checkpoint, Option<Link>), NotMisbehaviour>;
    let opened = |text: &str, of: fn(CheckpointError) -> NotMisbehaviour| -> Opened {
        if is_link(text) {
            let link = end(key, text)?;
            let head = Checkpoint {
                origin: key.origin().clone(),
                size: link.size,
                root: link.root,
            };
            return Ok((head, Some(link)));
        }
        Ok((Checkpoint::open(text, key).map_err(of)?, None))
    };
    let (older, one) = opened(first, NotMisbehaviour::First)?;
    let (newer, other) = opened(second, NotMisbehaviour::Second)?;
    let kind = match (&one, &other) {
        (Some(one), Some(other)) if one == other => {
            return Err(NotMisbehaviour::Same { size: one.size });
        }
        (Some(_), Some(_)) => Misbehaviour::Succession,
        _ => {
            let (end, head) = match one {
                Some(_) => (&older, &newer),
                None => (&newer, &older),
            };
            let of_it = head.size < end.size || (head.size, head.root) == (end.size, end.root);
            if of_it {
                let (size, end) = (head.size, end.size);
                return Err(NotMisbehaviour::Within { size, end });
            }
            Misbehaviour::Ended
        }
    };
    Ok((kind, [older, newer]))
}

/// No note begins so: its first line is an origin, which has no quotes.
fn is_link(text: &str) -> bool {
    text.starts_with("{\"")
}

/// The link of `text`, if `key` and the key that it leads to have signed that it leads on from the ledger of `key`.
fn end(key: &LedgerKey, text: &str) -> Result<Link, NotMisbehaviour> {
    let rotation: Option<KeyRotation> = serde_json::from_str(text).ok();
    let link = rotation.and_then(|rotation| Link::open(&rotation).ok());
    link.filter(|link| link.from == *key)
        .ok_or_else(|| NotMisbehaviour::Link(key.to_string()))
}

/// A link as it is kept as evidence: the body of its record.
#[must_use]
pub fn link_evidence(link: &KeyRotation) -> String {
    serde_json::to_string(link).unwrap_or_default()
}

/// A note as it is kept as evidence: the ledger's own line alone. What is not a note is kept as it is.
#[must_use]
pub fn evidence(key: &LedgerKey, note: &str) -> String {
    match Note::parse(note) {
        Ok(parsed) => parsed.strip(key).to_string(),
        Err(_) => note.to_owned(),
    }
}
