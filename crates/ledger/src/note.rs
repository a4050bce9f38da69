//! Signed notes, c2sp.org/signed-note. Cosignatures and other unknown lines are kept, not judged.

use crate::{Code, LedgerKey, json, scalar};
use std::fmt;
use thiserror::Error;

/// Bytes of one note, and signatures on it. The specification asks for at least 16.
pub(crate) const MAX_NOTE: usize = 64 * 1024;
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
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Format)?;
        let signatures: Vec<_> = lines
            .split('\n')
            .map(|line| signature(line).ok_or(NoteError::Format))
            .collect::<Result<_, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::TooLarge);
        }
        let text = format!("{text}\n");
        Ok(Self { text, signatures })
    }

    /// "If the key name and ID match a known key, verifiers MUST verify the signature." Lines of
    /// other keys are ignored; two lines of this key are refused.
    pub fn verify(&self, key: &LedgerKey) -> Result<(), NoteError> {
        let expected = key.to_string();
        let mut ours = self
            .signatures
            .iter()
            .filter(|line| line.id == key.id() && line.name == key.origin().as_str());
        match (ours.next(), ours.next()) {
            (None, _) => Err(NoteError::Unsigned { expected }),
            (Some(line), None) if key.verifies(&self.text, &line.bytes) => Ok(()),
            _ => Err(NoteError::Signature { expected }),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            let mut typed = line.id.to_be_bytes().to_vec();
            typed.extend_from_slice(&line.bytes);
            writeln!(f, "— {} {}", line.name, crypto::base64::encode(&typed))?;
        }
        Ok(())
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
