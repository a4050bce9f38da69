//! Checkpoints, c2sp.org/tlog-checkpoint: origin, size and root. Signing lives in `key`, cosigning in
//! `cosignature`.

use crate::scalar::{decode_hash, parse_decimal};
use crate::{Code, Hash, LedgerKey, Note, NoteError, Origin};
use std::cmp::Ordering;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    #[error("not a checkpoint: origin, size, root, each on its line and nothing else")]
    Format,
    #[error("a checkpoint of {found}, expected one of {expected}")]
    Origin { expected: String, found: String },
    #[error(
        "a checkpoint of {size} records of {origin}, which ended with {end} and went on as {newest}"
    )]
    Ended {
        origin: String,
        size: u64,
        end: u64,
        newest: String,
    },
    #[error(
        "a checkpoint of all {size} records that {origin} ended with, with another root than that: {newest} does not go on from it"
    )]
    EndForked {
        origin: String,
        size: u64,
        newest: String,
    },
    #[error(
        "a checkpoint of {size} records of {origin}, which went on as {newest}: nothing shows that they are of the {end} that it ended with"
    )]
    Former {
        origin: String,
        size: u64,
        end: u64,
        newest: String,
    },
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl Code for CheckpointError {
    fn code(&self) -> &'static str {
        match self {
            Self::Format => "LEDGER-CHECKPOINT-FORMAT",
            Self::Origin { .. } => "LEDGER-CHECKPOINT-ORIGIN",
            Self::Ended { .. } => "LEDGER-CHECKPOINT-ENDED",
            Self::EndForked { .. } => "LEDGER-CHECKPOINT-END-FORKED",
            Self::Former { .. } => "LEDGER-CHECKPOINT-FORMER",
            Self::Note(error) => error.code(),
        }
    }
}

/// A checkpoint of any log, also of one that nobody here runs: its origin may have spaces, and it may have
/// extension lines. What we sign is a [`Checkpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignCheckpoint {
    /// The line as it stands; it names the log.
    pub origin: String,
    pub size: u64,
    pub root: Hash,
    /// Opaque, and vouched for by nobody.
    pub extensions: Vec<String>,
}

impl ForeignCheckpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let root = crypto::base64::encode(&self.root);
        let mut text = format!("{}\n{}\n{root}\n", self.origin, self.size);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the text of a note: "a sequence of at least three non-empty lines". INVARIANT:
    /// `parse(x)?.text() == x`.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Format)?;
        let mut lines = lines.split('\n').map(str::to_owned);
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Format);
        };
        let extensions: Vec<String> = lines.collect();
        if origin.is_empty() || extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Format);
        }
        Ok(Self {
            origin,
            size: parse_decimal(&size).ok_or(CheckpointError::Format)?,
            root: decode_hash(&root).ok_or(CheckpointError::Format)?,
            extensions,
        })
    }
}

impl From<&Checkpoint> for ForeignCheckpoint {
    fn from(ours: &Checkpoint) -> Self {
        Self {
            origin: ours.origin.to_string(),
            size: ours.size,
            root: ours.root,
            extensions: Vec::new(),
        }
    }
}

/// What a ledger states about itself. Worth something only once a signature over it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: Origin,
    pub size: u64,
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let root = crypto::base64::encode(&self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// Reads the text of a note. Extension lines are refused: nothing in our ledgers audits them
    /// ("The use of extension lines is NOT RECOMMENDED").
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').unwrap_or_default().split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Format);
        };
        Ok(Self {
            origin: Origin::new(origin).map_err(|_name| CheckpointError::Format)?,
            size: parse_decimal(size).ok_or(CheckpointError::Format)?,
            root: decode_hash(root).ok_or(CheckpointError::Format)?,
        })
    }

    /// Reads a signed note and verifies that `key` signed it for its own origin; or, of a lineage, a former key for
    /// its own and not beyond its end. Below the end that key may be a thief's, and its signature alone shows nothing:
    /// whoever calls proves that the checkpoint is of the tree that it follows, or asks [`Checkpoint::shown_by`].
    pub fn open(note: &str, key: &LedgerKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::open_beyond(note, key)?;
        checkpoint.standing(key)?;
        Ok(checkpoint)
    }

    /// As [`Checkpoint::open`], for whoever follows no tree: a former key counts for the whole tree that its link names,
    /// and for nothing else.
    pub fn open_shown(note: &str, key: &LedgerKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::open_beyond(note, key)?;
        checkpoint.shown_by(key)?;
        Ok(checkpoint)
    }

    /// As [`Checkpoint::open`], and takes what a former key signed beyond its end. That shows what somebody was
    /// given to see, and is no head of the ledger.
    pub fn open_beyond(note: &str, key: &LedgerKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let origin = note.text.split('\n').next().unwrap_or_default();
        let key = key.of(origin).map_or(key, |(key, _end)| key);
        note.verify(key)?;
        let checkpoint = Self::parse(&note.text)?;
        if checkpoint.origin == *key.origin() {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Origin {
                expected: key.origin().to_string(),
                found: checkpoint.origin.to_string(),
            })
        }
    }

    /// Of a checkpoint that was verified: whether it counts by itself, which one of the newest log does, and of a
    /// log that ended the one that its link names.
    pub fn shown_by(&self, key: &LedgerKey) -> Result<(), CheckpointError> {
        self.standing(key)?.map_or(Ok(()), Err)
    }

    fn standing(&self, key: &LedgerKey) -> Result<Option<CheckpointError>, CheckpointError> {
        standing(key, self.origin.as_str(), self.size, &self.root)
    }
}

/// Refuses what a former key of the lineage of `key` cannot have signed while its log stood. Else why a head that it
/// signed does not count by its signature alone; `None` if it does.
pub(crate) fn standing(
    key: &LedgerKey,
    origin: &str,
    size: u64,
    root: &Hash,
) -> Result<Option<CheckpointError>, CheckpointError> {
    let Some(ended) = key.of(origin).and_then(|(_key, end)| end) else {
        return Ok(None);
    };
    let (origin, newest) = (origin.to_owned(), key.origin().to_string());
    let end = ended.size;
    match size.cmp(&end) {
        Ordering::Greater => Err(CheckpointError::Ended {
            origin,
            size,
            end,
            newest,
        }),
        Ordering::Equal if *root == ended.root => Ok(None),
        Ordering::Equal => Err(CheckpointError::EndForked {
            origin,
            size,
            newest,
        }),
        Ordering::Less => Ok(Some(CheckpointError::Former {
            origin,
            size,
            end,
            newest,
        })),
    }
}
