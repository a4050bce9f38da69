//! Cosignatures, c2sp.org/tlog-cosignature: what a witness signs about a checkpoint, by Ed25519 and by
//! ML-DSA-44. Whether a checkpoint may be cosigned is the witness's business; how many cosignatures are enough
//! is that of [`crate::Policy`].

use crate::key::{is_key_name, key_id, vkey};
use crate::{CheckpointError, Code, ForeignCheckpoint, Note, NoteError, NoteSignature};
use crypto::{Algorithm, PublicKey, Signer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

/// "It MUST NOT exceed 2^63 - 1".
const LAST: u64 = i64::MAX.unsigned_abs();

#[derive(Debug, Error)]
pub enum CosignerError {
    #[error(
        "{0:?} is not a cosigner's name: 1 to 255 characters, no space, plus, quote or control"
    )]
    Name(String),
    #[error("not a cosigner's key of the form <name>+<8 hex digits>+<base64>")]
    Format,
    #[error(
        "a key of type {found:#04x}, and a cosigner's is 0x04 (Ed25519) or 0x06 (ML-DSA-44): ask the witness for its verifier key"
    )]
    Type { found: u8 },
    #[error("{0} keys do not cosign: make one of Ed25519 or ML-DSA-44")]
    Algorithm(Algorithm),
    #[error("the key id {found} is not that of the name and key, {expected}")]
    Id { expected: String, found: String },
    #[error("the key does not parse")]
    Key(#[source] crypto::Error),
    #[error("the origin {0:?} has more than 255 bytes, which no ML-DSA-44 cosignature can name")]
    Origin(String),
    #[error("{0} seconds since 1970 is not a time that a cosignature can state")]
    Time(u64),
    #[error("the custody of the cosigner's key did not sign")]
    Sign(#[source] crypto::Error),
}

impl Code for CosignerError {
    fn code(&self) -> &'static str {
        match self {
            Self::Origin(_) | Self::Time(_) | Self::Sign(_) => "LEDGER-COSIGN",
            _ => "LEDGER-COSIGNER-KEY",
        }
    }
}

/// A kind of cosignature, by the byte that stands in its key id and verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// 0x04. Signs the whole text of the checkpoint, and not the cosigner's name: one key, one cosigner.
    Ed25519,
    /// 0x06. Signs the cosigner's name, the origin, size and root; no extension line.
    MlDsa44,
}

impl Scheme {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x04,
            Self::MlDsa44 => 0x06,
        }
    }

    /// Of keys of that algorithm, if they cosign.
    #[must_use]
    pub const fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Ed25519 => Some(Self::Ed25519),
            Algorithm::MlDsa44 => Some(Self::MlDsa44),
            _ => None,
        }
    }

    /// As it is called in answers and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::MlDsa44 => "ml-dsa-44",
        }
    }
}

/// What checks a cosigner's lines. Written `<name>+<id>+<base64>`, as C2SP tools do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignerKey {
    name: Arc<str>,
    id: u32,
    scheme: Scheme,
    key: PublicKey,
}

/// A line that was verified: as of `time`, this cosigner had seen no other history of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    pub name: String,
    pub id: u32,
    pub scheme: Scheme,
    /// Seconds since 1970, by the cosigner's clock; 0 where an ML-DSA-44 cosigner states none.
    pub time: u64,
}

impl CosignerKey {
    /// The scheme follows from the key's algorithm.
    pub fn new(name: &str, key: PublicKey) -> Result<Self, CosignerError> {
        if !is_key_name(name) {
            return Err(CosignerError::Name(name.to_owned()));
        }
        let algorithm = key.algorithm();
        let scheme = Scheme::of(algorithm).ok_or(CosignerError::Algorithm(algorithm))?;
        Ok(Self {
            name: name.into(),
            id: key_id(name, scheme.byte(), key.raw()),
            scheme,
            key,
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// First four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ key).
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// This cosigner's line in `note`, verified, or `None` where it has none.
    ///
    /// "If the key name and ID match a known key, verifiers MUST verify the signature": one that does not
    /// verify, or a second one, is an error.
    pub fn verify(&self, note: &Note) -> Result<Option<Cosignature>, CheckpointError> {
        let twice = |_twice| CheckpointError::from(self.refused());
        let line = note.only_line(&self.name, self.id).map_err(twice)?;
        line.map(|line| self.verify_line(&note.text, line))
            .transpose()
    }

    /// Checks one line over a checkpoint's text.
    pub fn verify_line(
        &self,
        text: &str,
        line: &NoteSignature,
    ) -> Result<Cosignature, CheckpointError> {
        let refused = || CheckpointError::from(self.refused());
        let checkpoint = ForeignCheckpoint::parse(text)?;
        let (time, signature) = line.bytes.split_first_chunk::<8>().ok_or_else(refused)?;
        let time = u64::from_be_bytes(*time);
        let message = self
            .message(&checkpoint, time)
            .map_err(|_error| refused())?;
        let named = line.is_by(&self.name, self.id);
        if !named || self.key.verify(&message, signature).is_err() {
            return Err(refused());
        }
        Ok(Cosignature {
            name: self.name.to_string(),
            id: self.id,
            scheme: self.scheme,
            time,
        })
    }

    /// Of the lines that a witness answered, those of this cosigner over `text`. Lines of keys that are not
    /// known are ignored; one of this key that does not verify is an error, and so is one without a time: "The
    /// cosignature MUST NOT omit the timestamp".
    pub fn accept(
        &self,
        text: &str,
        answered: &[NoteSignature],
    ) -> Result<Vec<NoteSignature>, CheckpointError> {
        let ours = answered
            .iter()
            .filter(|line| line.is_by(&self.name, self.id));
        ours.map(|line| match self.verify_line(text, line)?.time {
            0 => Err(self.refused().into()),
            _ => Ok(line.clone()),
        })
        .collect()
    }

    /// What is signed.
    fn message(&self, checkpoint: &ForeignCheckpoint, time: u64) -> Result<Vec<u8>, CosignerError> {
        if time > LAST {
            return Err(CosignerError::Time(time));
        }
        match self.scheme {
            // "two newline terminated lines (one header line and one timestamp line) followed by the whole
            // note body of the cosigned checkpoint".
            Scheme::Ed25519 => {
                let text = checkpoint.text();
                Ok(format!("cosignature/v1\ntime {time}\n{text}").into_bytes())
            }
            Scheme::MlDsa44 => cosigned_message(&self.name, checkpoint, time)
                .ok_or_else(|| CosignerError::Origin(checkpoint.origin.clone())),
        }
    }

    fn refused(&self) -> NoteError {
        NoteError::Signature {
            expected: format!("{}+{:08x}", self.name, self.id),
        }
    }
}

/// `cosigned_message` of a whole tree: `start` is zero. Lengths are one byte.
fn cosigned_message(name: &str, checkpoint: &ForeignCheckpoint, time: u64) -> Option<Vec<u8>> {
    let mut message = b"subtree/v1\n\0".to_vec();
    message.push(u8::try_from(name.len()).ok()?);
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(&time.to_be_bytes());
    message.push(u8::try_from(checkpoint.origin.len()).ok()?);
    message.extend_from_slice(checkpoint.origin.as_bytes());
    message.extend_from_slice(&0_u64.to_be_bytes());
    message.extend_from_slice(&checkpoint.size.to_be_bytes());
    message.extend_from_slice(&checkpoint.root);
    Some(message)
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![self.scheme.byte()];
        typed.extend_from_slice(self.key.raw());
        let key = crypto::base64::encode(&typed);
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

impl FromStr for CosignerKey {
    type Err = CosignerError;

    /// INVARIANT: `parse(x)?.to_string() == x`.
    fn from_str(text: &str) -> Result<Self, CosignerError> {
        let (name, id, typed) = vkey(text).ok_or(CosignerError::Format)?;
        let (kind, raw) = typed.split_first().ok_or(CosignerError::Format)?;
        let key = match *kind {
            0x04 => raw.try_into().map(PublicKey::from_ed25519_raw),
            0x06 => raw
                .try_into()
                .map(|raw| PublicKey::from_ml_dsa_44_raw(&raw)),
            found => return Err(CosignerError::Type { found }),
        };
        let key = key.map_err(|_length| CosignerError::Format)?;
        let parsed = Self::new(name, key.map_err(CosignerError::Key)?)?;
        let expected = format!("{:08x}", parsed.id);
        if expected == id {
            Ok(parsed)
        } else {
            let found = id.to_owned();
            Err(CosignerError::Id { expected, found })
        }
    }
}

/// Cosigns for one witness. It signs what it is given: whoever calls has made sure that the checkpoint extends
/// every one of its log that was cosigned before, and has made that durable.
#[derive(Clone)]
pub struct Cosigner {
    key: CosignerKey,
    signer: Arc<dyn Signer>,
}

impl Cosigner {
    pub fn new(name: &str, signer: Arc<dyn Signer>) -> Result<Self, CosignerError> {
        let key = CosignerKey::new(name, signer.public_key().clone())?;
        Ok(Self { key, signer })
    }

    #[must_use]
    pub const fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// The line over `checkpoint` as of `time`, in seconds since 1970.
    pub fn cosign(
        &self,
        checkpoint: &ForeignCheckpoint,
        time: u64,
    ) -> Result<NoteSignature, CosignerError> {
        let message = self.key.message(checkpoint, time)?;
        let signature = self.signer.sign(&message).map_err(CosignerError::Sign)?;
        Ok(NoteSignature {
            name: self.key.name.to_string(),
            id: self.key.id,
            bytes: [&time.to_be_bytes(), signature.as_slice()].concat(),
        })
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({}+{:08x})", self.key.name, self.key.id)
    }
}
