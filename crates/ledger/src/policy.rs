//! Trust policies, c2sp.org/tlog-policy: which logs count, which witnesses, and how many of their cosignatures
//! are enough. What a log holds, and whether a time is recent enough, is for others.

mod parse;

use crate::note::NoteError;
use crate::{
    Checkpoint, CheckpointError, Code, Cosignature, CosignerError, CosignerKey, ForeignCheckpoint,
    KeyError, LedgerKey, Note,
};
use crypto::PublicKey;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Bytes of a policy's text, at most; 64 post-quantum keys need half of it.
const MAX_POLICY: usize = 256 * 1024;
/// Logs, witnesses and groups, of each: "it is strongly recommended that an implementation supports at least
/// up to 32". The lines of so many witnesses fit a note.
const MAX_EACH: usize = 32;

/// Why a policy's text is none. Lines are counted from 1.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("a policy has at most {MAX_POLICY} bytes")]
    TooLarge,
    #[error("line {line}: more than {MAX_EACH} {what}")]
    TooMany { line: usize, what: &'static str },
    #[error("line {line}: byte {byte:#04x} is neither text nor tab")]
    Byte { line: usize, byte: u8 },
    #[error("line {line}: expected `{expected}`")]
    Line { line: usize, expected: &'static str },
    #[error("line {line}: the name {name:?} is taken")]
    Taken { line: usize, name: String },
    #[error("line {line}: no witness or group {name:?} is defined on a line before it")]
    Unknown { line: usize, name: String },
    #[error("line {line}: {name:?} is a member already, and counts in one way only")]
    Member { line: usize, name: String },
    #[error("line {line}: the same key as that of a line before it")]
    Key { line: usize },
    #[error(
        "line {line}: the threshold is `all`, `any`, or a number from 1 to the {members} members"
    )]
    Threshold { line: usize, members: usize },
    #[error("line {line}: there is a quorum line before it")]
    SecondQuorum { line: usize },
    #[error("no line says `quorum <name>` or `quorum none`")]
    NoQuorum,
    #[error("line {line}: the log's key")]
    Log { line: usize, source: KeyError },
    #[error("line {line}: the key")]
    Cosigner { line: usize, source: CosignerError },
}

impl Code for PolicyError {
    fn code(&self) -> &'static str {
        "LEDGER-POLICY"
    }
}

/// A log's own key: of Ed25519 over the note (0x01), or a cosigner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogKey {
    Note(LedgerKey),
    Cosigner(CosignerKey),
}

impl LogKey {
    /// The log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Note(key) => key.origin().as_str(),
            Self::Cosigner(key) => key.name(),
        }
    }

    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        match self {
            Self::Note(key) => key.public_key(),
            Self::Cosigner(key) => key.public_key(),
        }
    }

    /// The checkpoint of a note that one of `logs` signed for its own origin; or that a log which one of them goes on
    /// from ended with.
    pub fn open_any(logs: &[&Self], note: &Note) -> Result<ForeignCheckpoint, CheckpointError> {
        let found = ForeignCheckpoint::parse(&note.text)?.origin;
        let mut refused = CheckpointError::Origin {
            expected: logs
                .iter()
                .map(|log| log.name())
                .collect::<Vec<_>>()
                .join(", "),
            found: found.clone(),
        };
        for log in logs {
            let opened = match log {
                Self::Note(newest) if newest.end_of(&found).is_some() => {
                    Checkpoint::open_shown(&note.to_string(), newest).map(|former| (&former).into())
                }
                log if log.name() == found => log.open(note),
                _ => continue,
            };
            match opened {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Whether `note` has a line of this key; one that does not verify, or two, are an error.
    pub fn signed(&self, note: &Note) -> Result<bool, CheckpointError> {
        match self {
            Self::Note(key) => match note.verify(key) {
                Ok(()) => Ok(true),
                Err(NoteError::Unsigned { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Self::Cosigner(key) => Ok(key.verify(note)?.is_some()),
        }
    }

    /// Reads a signed note and verifies that this log signed it, for its own origin.
    pub fn open(&self, note: &Note) -> Result<ForeignCheckpoint, CheckpointError> {
        if !self.signed(note)? {
            let expected = match self {
                Self::Note(key) => key.to_string(),
                Self::Cosigner(key) => key.to_string(),
            };
            return Err(NoteError::Unsigned { expected }.into());
        }
        let checkpoint = ForeignCheckpoint::parse(&note.text)?;
        if checkpoint.origin == self.name() {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Origin {
                expected: self.name().to_owned(),
                found: checkpoint.origin,
            })
        }
    }
}

/// A line `log <vkey> [<url>]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    pub key: LogKey,
    pub url: Option<String>,
}

/// A line `witness <name> <vkey> [<url>]`. Its name means something within the policy only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    pub key: CosignerKey,
    /// Its submission prefix, where the policy has one.
    pub url: Option<String>,
}

/// What can witness a checkpoint, in the order of the lines: members stand before their group.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Party {
    /// Its place among the witnesses.
    Witness(usize),
    Group {
        threshold: usize,
        /// Places among the parties.
        members: Vec<usize>,
    },
}

/// A policy that was read. Two are equal if their texts are.
#[derive(Debug, Clone)]
pub struct Policy {
    text: String,
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    parties: Vec<Party>,
    /// Place among the parties; `None` asks for no cosignature.
    quorum: Option<usize>,
}

/// What the witnesses of a policy say about one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// True if the policy has enough.
    pub reached: bool,
    /// Verified, in the order of the policy's witnesses.
    pub cosignatures: Vec<Cosignature>,
    /// The latest time, in seconds since 1970, at which witnesses that are enough by themselves had seen the
    /// checkpoint, by their clocks; `None` if they are not enough, or the policy asks for none.
    pub time: Option<u64>,
}

impl Policy {
    /// Reads the text, a file of octets: what is not UTF-8 may stand in names, URLs and comments.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        parse::policy(text)
    }

    /// As it was read, but for octets that are not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// True if the quorum is `none`.
    #[must_use]
    pub const fn asks_for_none(&self) -> bool {
        self.quorum.is_none()
    }

    /// Whether those of the witnesses that `counts` holds of would be enough.
    #[must_use]
    pub fn can_be_reached(&self, counts: impl Fn(&PolicyWitness) -> bool) -> bool {
        let counted: Vec<bool> = self.witnesses.iter().map(counts).collect();
        self.reached(&counted)
    }

    /// Verifies the line of every witness that has one in `note`, and weighs them.
    ///
    /// Lines of keys that the policy does not name are ignored. A witness's line that does not verify is an
    /// error: "such a note is malformed", and so is a second line.
    pub fn judge(&self, note: &Note) -> Result<Quorum, CheckpointError> {
        self.judge_by(note, u64::MAX)
    }

    /// As [`Policy::judge`], for whom it is no later than `until`, in seconds since 1970: a line of later is of a clock
    /// that is ahead, would stay fresh for as long as that, and counts as if it were not there.
    pub fn judge_by(&self, note: &Note, until: u64) -> Result<Quorum, CheckpointError> {
        let mut found = Vec::with_capacity(self.witnesses.len());
        for witness in &self.witnesses {
            let line = witness.key.verify(note)?;
            found.push(line.filter(|line| line.time <= until));
        }
        // Whether those are enough that had seen it at `time` or later.
        let enough = |time: u64| {
            let since =
                |held: &Option<Cosignature>| held.as_ref().is_some_and(|it| it.time >= time);
            let cosigned: Vec<bool> = found.iter().map(since).collect();
            self.reached(&cosigned)
        };
        let reached = enough(0);
        let times = found.iter().flatten().map(|line| line.time);
        let time = times
            .filter(|time| self.quorum.is_some() && enough(*time))
            .max();
        Ok(Quorum {
            reached,
            cosignatures: found.into_iter().flatten().collect(),
            time,
        })
    }

    /// Reads a note that one of the policy's logs signed, and weighs its cosignatures. It is for the caller to
    /// look at [`Quorum::reached`].
    pub fn open(&self, note: &str) -> Result<(ForeignCheckpoint, Quorum), CheckpointError> {
        let note = Note::parse(note)?;
        let keys: Vec<&LogKey> = self.logs.iter().map(|log| &log.key).collect();
        let checkpoint = LogKey::open_any(&keys, &note)?;
        let quorum = self.judge(&note)?;
        Ok((checkpoint, quorum))
    }

    /// Whether those witnesses are a quorum; `cosigned` is in their order.
    fn reached(&self, cosigned: &[bool]) -> bool {
        let Some(quorum) = self.quorum else {
            return true;
        };
        let mut witnessed: Vec<bool> = Vec::with_capacity(self.parties.len());
        for party in &self.parties {
            let it = match party {
                Party::Witness(at) => cosigned.get(*at).copied().unwrap_or(false),
                Party::Group { threshold, members } => {
                    let has = |member: &&usize| witnessed.get(**member).copied().unwrap_or(false);
                    members.iter().filter(has).count() >= *threshold
                }
            };
            witnessed.push(it);
        }
        witnessed.get(quorum).copied().unwrap_or(false)
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Policy {}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
