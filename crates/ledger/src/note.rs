//! Signed notes, c2sp.org/signed-note. Lines of other keys are kept, not judged: `cosignature` judges those
//! of witnesses.

use crate::{Code, LedgerKey, json, scalar};
use std::fmt;
use thiserror::Error;

/// Bytes of one note: 64 lines of ML-DSA-44 fit.
pub(crate) const MAX_NOTE: usize = 256 * 1024;
/// Signatures on one note. The specification asks for at least 16.
const MAX_SIGNATURES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    #[error("a note has at most {MAX_NOTE} bytes and {MAX_SIGNATURES} signatures")]
    TooLarge,
    #[error("not a signed note: text, an empty line, signature lines")]
    Format,
    #[error("no signature by {expected}")]
    Unsigned { expected: String },
    #[error("the signature by {expected} does not verify")]
    Signature { expected: String },
}

impl Code for NoteError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooLarge | Self::Format => "LEDGER-NOTE-FORMAT",
            Self::Unsigned { .. } => "LEDGER-NOTE-UNSIGNED",
            Self::Signature { .. } => "LEDGER-NOTE-SIGNATURE",
        }
    }
}

/// One signature line: `— <name> base64(id ‖ bytes)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    pub name: String,
    pub id: u32,
    pub bytes: Vec<u8>,
}

/// A text and its signatures, none of them verified. `Display` gives the same bytes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Ends in a newline.
    pub text: String,
    pub signatures: Vec<NoteSignature>,
}

impl Note {
    /// Reads a note. INVARIANT: `parse(x)?.to_string() == x`.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::TooLarge);
        }
        // "MUST NOT contain any ASCII control characters (those below U+0020) other than newline."
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Format);
        }
        // "the text is separated from the signatures by the last empty line in the note."
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Format)?;
        let signatures = NoteSignature::parse_lines(lines)?;
        let text = format!("{text}\n");
        Ok(Self { text, signatures })
    }

    /// Adds signature lines; one of a key that has a line already takes its place. Nothing is verified, and
    /// nothing is changed where the note would be too large.
    pub fn merge(&mut self, lines: Vec<NoteSignature>) -> Result<(), NoteError> {
        let mut merged = self.clone();
        for line in lines {
            let known = merged
                .signatures
                .iter_mut()
                .find(|held| held.is_by(&line.name, line.id));
            match known {
                Some(held) => *held = line,
                None => merged.signatures.push(line),
            }
        }
        if merged.signatures.len() > MAX_SIGNATURES || merged.to_string().len() > MAX_NOTE {
            return Err(NoteError::TooLarge);
        }
        *self = merged;
        Ok(())
    }

    /// The note with the lines of `key` alone: what receipts and anchors carry. A line of a post-quantum
    /// witness is larger than many records.
    #[must_use]
    pub fn strip(&self, key: &LedgerKey) -> Self {
        let lines = self.signatures.iter();
        let ours = lines.filter(|line| line.is_by(key.origin().as_str(), key.id()));
        Self {
            text: self.text.clone(),
            signatures: ours.cloned().collect(),
        }
    }

    /// "If the key name and ID match a known key, verifiers MUST verify the signature." Lines of
    /// other keys are ignored; two lines of this key are refused.
    pub fn verify(&self, key: &LedgerKey) -> Result<(), NoteError> {
        let expected = key.to_string();
        match self.only_line(key.origin().as_str(), key.id()) {
            Ok(None) => Err(NoteError::Unsigned { expected }),
            Ok(Some(line)) if key.verifies(&self.text, &line.bytes) => Ok(()),
            _ => Err(NoteError::Signature { expected }),
        }
    }

    /// The line of that key, if there is one. Two of them are an error.
    pub(crate) fn only_line(&self, name: &str, id: u32) -> Result<Option<&NoteSignature>, Twice> {
        let mut lines = self.signatures.iter().filter(|line| line.is_by(name, id));
        match (lines.next(), lines.next()) {
            (line, None) => Ok(line),
            _ => Err(Twice),
        }
    }
}

/// A key has signed one note twice.
pub(crate) struct Twice;

impl NoteSignature {
    /// Reads signature lines, each with its newline and at least one: the end of a note, and what a witness
    /// answers.
    pub fn parse_lines(lines: &str) -> Result<Vec<Self>, NoteError> {
        if lines.len() > MAX_NOTE {
            return Err(NoteError::TooLarge);
        }
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Format)?;
        let lines: Vec<&str> = lines.split('\n').collect();
        if lines.len() > MAX_SIGNATURES {
            return Err(NoteError::TooLarge);
        }
        let lines = lines.into_iter();
        lines
            .map(|line| signature(line).ok_or(NoteError::Format))
            .collect()
    }

    /// True if the line says that it is by that key. The id is 32 bits: it shows which key to try, no more.
    #[must_use]
    pub fn is_by(&self, name: &str, id: u32) -> bool {
        self.id == id && self.name == name
    }
}

/// The line without its newline.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = self.id.to_be_bytes().to_vec();
        typed.extend_from_slice(&self.bytes);
        write!(f, "— {} {}", self.name, crypto::base64::encode(&typed))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        let mut lines = self.signatures.iter();
        lines.try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn signature(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    let named = !name.is_empty()
        && json::is_plain(name)
        && !name.chars().any(|c| c.is_whitespace() || c == '+');
    let typed = scalar::decode_base64(encoded)?;
    let (id, bytes) = typed.split_first_chunk::<4>()?;
    (named && !bytes.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        id: u32::from_be_bytes(*id),
        bytes: bytes.to_vec(),
    })
}
