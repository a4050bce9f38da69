//! What a log asks of a witness, and what it hears: the requests and answers of `add-checkpoint`,
//! c2sp.org/tlog-witness, and whether it may cosign ([`consider()`]). Bytes only: no connection and no state.

mod consider;

pub use consider::{Known, Refusal, consider};

use crate::scalar::{decode_hash, parse_decimal};
use crate::{
    CheckpointError, Code, ForeignCheckpoint, Hash, HexDigest, Note, NoteError, NoteSignature,
};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// "The client MUST NOT send more than 63 consistency proof lines."
pub const MAX_PROOF_LINES: usize = 63;
/// Bytes of a request, at most: a note, and 63 hashes.
pub const MAX_REQUEST: usize = crate::note::MAX_NOTE + 4096;
/// "The response MUST have a `Content-Type` of `text/x.tlog.size`."
pub const SIZE_TYPE: &str = "text/x.tlog.size";

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WitnessError {
    #[error("not an add-checkpoint request: {0}")]
    Request(&'static str),
    #[error("the request's checkpoint")]
    Checkpoint(#[source] CheckpointError),
    #[error("not a witness's answer: {0}")]
    Answer(&'static str),
    #[error("the answer's signature lines")]
    Lines(#[source] NoteError),
}

impl Code for WitnessError {
    fn code(&self) -> &'static str {
        match self {
            Self::Request(_) | Self::Checkpoint(_) => "LEDGER-WITNESS-REQUEST",
            Self::Answer(_) | Self::Lines(_) => "LEDGER-WITNESS-ANSWER",
        }
    }
}

/// The body of `POST <submission prefix>/add-checkpoint`. `Display` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness cosigned last, as the client believes.
    pub old: u64,
    /// From `old` to the checkpoint, as RFC 6962, section 2.1.2.
    pub proof: Vec<Hash>,
    pub note: Note,
    /// What the note's text says.
    pub checkpoint: ForeignCheckpoint,
}

impl AddCheckpoint {
    /// A request for a note that is a checkpoint.
    pub fn new(old: u64, proof: Vec<Hash>, note: Note) -> Result<Self, WitnessError> {
        if proof.len() > MAX_PROOF_LINES {
            return Err(WitnessError::Request("more than 63 hashes"));
        }
        let checkpoint = ForeignCheckpoint::parse(&note.text).map_err(WitnessError::Checkpoint)?;
        Ok(Self {
            old,
            proof,
            note,
            checkpoint,
        })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{}", crypto::base64::encode(hash))?;
        }
        write!(f, "\n{}", self.note)
    }
}

impl FromStr for AddCheckpoint {
    type Err = WitnessError;

    /// INVARIANT: `parse(x)?.to_string() == x`. A witness answers an error by 400.
    fn from_str(body: &str) -> Result<Self, WitnessError> {
        if body.len() > MAX_REQUEST {
            return Err(WitnessError::Request("longer than any note and proof"));
        }
        let (head, note) = body
            .split_once("\n\n")
            .ok_or(WitnessError::Request("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| parse_decimal(line.strip_prefix("old ")?))
            .ok_or(WitnessError::Request("the first line is not `old <size>`"))?;
        let proof = lines
            .map(|line| {
                decode_hash(line).ok_or(WitnessError::Request("a line is not a base64 hash"))
            })
            .collect::<Result<_, _>>()?;
        let note = Note::parse(note).map_err(|error| WitnessError::Checkpoint(error.into()))?;
        Self::new(old, proof, note)
    }
}

/// What a witness answers to `add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200: signature lines, at least one.
    Cosigned(Vec<NoteSignature>),
    /// 409: the witness cosigned a checkpoint of this size last.
    Conflict { size: u64 },
    /// 400 malformed, 403 no known key signed it, 404 unknown origin, 422 inconsistent, and whatever else
    /// HTTP has. The body of these is for people.
    Refused { status: u16 },
}

impl Answer {
    /// Reads an answer; `kind` is its `Content-Type`.
    pub fn parse(status: u16, kind: Option<&str>, body: &[u8]) -> Result<Self, WitnessError> {
        match status {
            200 => {
                let lines = std::str::from_utf8(body)
                    .map_err(|_error| WitnessError::Answer("it is not UTF-8"))?;
                NoteSignature::parse_lines(lines)
                    .map(Self::Cosigned)
                    .map_err(WitnessError::Lines)
            }
            // Other 409s are of servers in between.
            409 if kind == Some(SIZE_TYPE) => std::str::from_utf8(body)
                .ok()
                .and_then(|body| parse_decimal(body.strip_suffix('\n')?))
                .map(|size| Self::Conflict { size })
                .ok_or(WitnessError::Answer("409 without a size")),
            status => Ok(Self::Refused { status }),
        }
    }

    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Cosigned(_) => 200,
            Self::Conflict { .. } => 409,
            Self::Refused { status } => *status,
        }
    }

    /// The body that goes with it; empty for a refusal.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Self::Cosigned(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            Self::Conflict { size } => format!("{size}\n"),
            Self::Refused { .. } => String::new(),
        }
    }
}

/// The folder of a log under a witness's monitoring prefix: `<origin hash>/checkpoint`.
#[must_use]
pub fn origin_hash(origin: &str) -> HexDigest {
    HexDigest::of(origin.as_bytes())
}
