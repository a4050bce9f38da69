//! What a witness writes down, as bytes: of each log the last checkpoint that it cosigned, and the list of logs
//! of which it has one. Both begin with a digest of the rest, so that what is torn is seen.

use ledger::witness::origin_hash;
use ledger::{ForeignCheckpoint, HexDigest, Note};
use std::collections::BTreeSet;
use std::sync::Arc;
use thiserror::Error;

/// Bytes of a state file, at most: the largest note, and the lines before it.
pub(crate) const MAX_STATE: usize = ledger::witness::MAX_REQUEST;
/// Bytes of the roster, at most: the logs of a witness, of 65 bytes each, many times over.
pub(crate) const MAX_ROSTER: usize = 16 << 20;

const STATE: &str = "trilith-witness-state v1\n";
const ROSTER: &str = "trilith-witness-roster v1\n";

/// Why a file of a witness cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unreadable {
    #[error("it does not begin as such a file does")]
    Kind,
    #[error("it is not what was written: the digest in it is of something else")]
    Digest,
    #[error("it does not hold a time and a checkpoint")]
    Content,
    #[error("it is of another log than its name says")]
    Name,
    #[error("it does not hold a list of logs in order")]
    List,
    #[error("a line that says it is by a key of this witness does not verify")]
    Signature,
}

/// The last checkpoint of a log that was cosigned, with the lines of the log and of this witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub checkpoint: ForeignCheckpoint,
    pub note: Note,
    /// Seconds since 1970: what the cosignatures state.
    pub time: u64,
    /// The note as it is served.
    pub(crate) served: Arc<str>,
}

impl Standing {
    /// `note` is of a checkpoint; `None` otherwise.
    #[must_use]
    pub fn new(note: Note, time: u64) -> Option<Self> {
        Some(Self {
            checkpoint: ForeignCheckpoint::parse(&note.text).ok()?,
            served: note.to_string().into(),
            note,
            time,
        })
    }

    /// The file of this state. INVARIANT: `parse(x)?.file() == x`.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        sealed(STATE, &format!("time {}\n{}", self.time, self.served))
    }

    /// Reads the state of the log that has this hash.
    ///
    /// # Errors
    /// If it is not, byte for byte, what was written of that log.
    pub fn parse(file: &[u8], log: HexDigest) -> Result<Self, Unreadable> {
        let body = opened(STATE, file)?;
        let (time, note) = body
            .strip_prefix("time ")
            .and_then(|rest| rest.split_once('\n'))
            .ok_or(Unreadable::Content)?;
        let spelled = time
            .parse()
            .ok()
            .filter(|read: &u64| read.to_string() == time);
        let time = spelled.ok_or(Unreadable::Content)?;
        let note = Note::parse(note).map_err(|_| Unreadable::Content)?;
        let standing = Self::new(note, time).ok_or(Unreadable::Content)?;
        if origin_hash(&standing.checkpoint.origin) == log {
            Ok(standing)
        } else {
            Err(Unreadable::Name)
        }
    }
}

/// The logs of which there has to be a state file, by the hash of their origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster(pub BTreeSet<HexDigest>);

impl Roster {
    /// The file of this list. INVARIANT: `parse(x)?.file() == x`.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        let lines: String = self.0.iter().map(|log| format!("{log}\n")).collect();
        sealed(ROSTER, &lines)
    }

    /// # Errors
    /// If it is not, byte for byte, what was written.
    pub fn parse(file: &[u8]) -> Result<Self, Unreadable> {
        let mut logs = BTreeSet::new();
        for line in opened(ROSTER, file)?.split_inclusive('\n') {
            let log = line.strip_suffix('\n').and_then(|hash| hash.parse().ok());
            let log: HexDigest = log.ok_or(Unreadable::List)?;
            if logs.last().is_some_and(|last| *last >= log) {
                return Err(Unreadable::List);
            }
            logs.insert(log);
        }
        Ok(Self(logs))
    }
}

fn sealed(kind: &str, body: &str) -> Vec<u8> {
    let digest = HexDigest::of(body.as_bytes());
    format!("{kind}sha256 {digest}\n{body}").into_bytes()
}

fn opened<'a>(kind: &str, file: &'a [u8]) -> Result<&'a str, Unreadable> {
    let text = std::str::from_utf8(file).map_err(|_| Unreadable::Kind)?;
    let (digest, body) = text
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix("sha256 "))
        .and_then(|rest| rest.split_once('\n'))
        .ok_or(Unreadable::Kind)?;
    if digest == HexDigest::of(body.as_bytes()).to_string() {
        Ok(body)
    } else {
        Err(Unreadable::Digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        let root = crypto::base64::encode(&[7; 32]);
        let line = format!(
            "\u{2014} a.example/log {}",
            crypto::base64::encode(&[1; 68])
        );
        let note = format!("a.example/log\n5\n{root}\n\n{line}\n");
        Standing::new(Note::parse(&note).unwrap(), 1_795_312_969).unwrap()
    }

    #[test]
    fn a_state_reads_back_and_no_changed_byte_does() {
        let (standing, log) = (standing(), origin_hash("a.example/log"));
        let file = standing.file();
        assert_eq!(Standing::parse(&file, log).unwrap(), standing);
        assert_eq!(
            Standing::parse(&file, origin_hash("b")),
            Err(Unreadable::Name)
        );
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(Standing::parse(&changed, log).is_err(), "byte {at}");
            assert!(Standing::parse(&file[..at], log).is_err(), "cut at {at}");
        }
        assert!(Standing::parse(&[&file[..], b"\n"].concat(), log).is_err());
        // What is sealed has to be a state.
        for body in [
            "",
            "time 05\n",
            "time 5\n",
            "time x\na\n",
            "time 5\na\n\nb\n",
        ] {
            assert_eq!(
                Standing::parse(&sealed(STATE, body), log),
                Err(Unreadable::Content)
            );
        }
        assert_eq!(
            Standing::parse(&Roster::default().file(), log),
            Err(Unreadable::Kind)
        );
    }

    #[test]
    fn a_roster_reads_back_in_its_one_order() {
        let logs: BTreeSet<HexDigest> = ["a", "b", "c"].map(origin_hash).into();
        for roster in [Roster::default(), Roster(logs.clone())] {
            assert_eq!(Roster::parse(&roster.file()).unwrap(), roster);
        }
        let backwards: String = logs.iter().rev().map(|log| format!("{log}\n")).collect();
        let twice = format!("{0}\n{0}\n", origin_hash("a"));
        for body in [&*backwards, &twice, "x\n", twice.trim_end()] {
            assert_eq!(Roster::parse(&sealed(ROSTER, body)), Err(Unreadable::List));
        }
    }
}
