//! Two notes that one ledger's key signed and that cannot both be of one ledger that only grows. Whether they prove
//! that by themselves, or only as whoever records them claims, follows from their bytes alone.

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
}

impl Misbehaviour {
    pub const ALL: [Self; 3] = [Self::Fork, Self::Rollback, Self::Unproven];

    /// As records have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Rollback => "rollback",
            Self::Unproven => "unproven",
        }
    }

    /// True if the two notes are enough to convince whoever knows the ledger's key.
    #[must_use]
    pub const fn proves_itself(self) -> bool {
        matches!(self, Self::Fork)
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
}

impl Code for NotMisbehaviour {
    fn code(&self) -> &'static str {
        match self {
            Self::First(error) | Self::Second(error) => error.code(),
            Self::Kind(_) | Self::Same { .. } | Self::Extends { .. } => "LEDGER-MISBEHAVIOUR",
        }
    }
}

/// What `second`, which came after `first`, shows of the ledger that `key` signs. `proof` is what was given to show
/// that it extends the first: where that holds there is nothing to blame.
pub fn judge(
    key: &LedgerKey,
    first: &str,
    second: &str,
    proof: &[Hash],
) -> Result<(Misbehaviour, [Checkpoint; 2]), NotMisbehaviour> {
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

/// A note as it is kept as evidence: the ledger's own line alone. What is not a note is kept as it is.
#[must_use]
pub fn evidence(key: &LedgerKey, note: &str) -> String {
    match Note::parse(note) {
        Ok(parsed) => parsed.strip(key).to_string(),
        Err(_) => note.to_owned(),
    }
}
