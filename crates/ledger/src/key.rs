//! A ledger's name and key, in the shape of C2SP signed-note keys. Custody of the private half is
//! elsewhere; [`LedgerSigner`] only asks it to sign.

use crate::body::KeyRotation;
use crate::scalar::{decode_base64, parse_decimal};
use crate::{Checkpoint, Code, Hash, LedgerKind, Note, NoteSignature, json};
use crypto::{Algorithm, PublicKey, Signer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

/// c2sp.org/signed-note, "Signature types": 0x01 is Ed25519 over the note text.
const ED25519: u8 = 0x01;

#[derive(Debug, Error)]
pub enum KeyError {
    #[error(
        "{0:?} is not a ledger's origin: 1 to 255 characters, no space, plus, quote or control"
    )]
    Origin(String),
    #[error("a ledger key is Ed25519")]
    Algorithm,
    #[error("not a ledger key of the form <origin>+<8 hex digits>+<base64>")]
    Format,
    #[error("the key id {found} is not that of the name and key, {expected}")]
    Id { expected: String, found: String },
    #[error("the key does not parse")]
    Key(#[source] crypto::Error),
    #[error("the custody of the ledger key did not sign")]
    Sign(#[source] crypto::Error),
}

impl Code for KeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Origin(_) => "LEDGER-ORIGIN",
            Self::Sign(_) => "LEDGER-SIGN",
            _ => "LEDGER-KEY",
        }
    }
}

/// The name of a ledger: `example.org/server`. It is the checkpoint's first line, the key name of
/// its notes and the `origin` of its records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// c2sp.org/signed-note: key names "MUST be non-empty and MUST NOT contain any Unicode spaces
    /// or plus (U+002B) characters".
    pub fn new(name: &str) -> Result<Self, KeyError> {
        if is_key_name(name) {
            Ok(Self(name.into()))
        } else {
            Err(KeyError::Origin(name.to_owned()))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Origin {
    /// The name that the first log of the lineage has, and which log of it this is, from 1: `example.org/server@2`
    /// is the second. No identity's path has an `@`, so that no other ledger is called so.
    #[must_use]
    pub fn place(&self) -> (&str, u64) {
        place(&self.0)
    }

    /// The name of the log of that number in the same lineage.
    pub fn numbered(&self, number: u64) -> Result<Self, KeyError> {
        match (self.place().0, number) {
            (first, 0 | 1) => Self::new(first),
            (first, number) => Self::new(&format!("{first}@{number}")),
        }
    }

    /// Whether a record of `origin` may stand in this log: one of its own, or of a log that it goes on from, whose
    /// records are its first ones.
    #[must_use]
    pub fn holds(&self, origin: &str) -> bool {
        holds(&self.0, origin)
    }
}

/// As [`Origin::holds`].
pub(crate) fn holds(log: &str, origin: &str) -> bool {
    let ((ours, number), (theirs, earlier)) = (place(log), place(origin));
    origin == log || ours == theirs && earlier < number
}

/// The name that the first log of the lineage of `origin` has: what its ledger is known by, however often its key is
/// replaced.
#[must_use]
pub fn line(origin: &str) -> &str {
    place(origin).0
}

/// Whether somebody who says `name` means the ledger whose newest log is `origin`: by that, by a log that it goes on
/// from, or by the last part of either. Whoever says `server` means no gateway that took this name.
#[must_use]
pub fn is_called(origin: &str, name: &str) -> bool {
    let last = origin.rsplit('/').next().unwrap_or(origin);
    let by_last = line(last) != "server" || LedgerKind::of(origin) == LedgerKind::Server;
    !name.is_empty() && (holds(origin, name) || by_last && holds(last, name))
}

fn place(origin: &str) -> (&str, u64) {
    let numbered = origin.rsplit_once('@').and_then(|(first, number)| {
        let number = parse_decimal(number).filter(|number| *number > 1)?;
        // A lineage has a name: `@2` alone is one, and no second log of a ledger without one.
        (!first.is_empty()).then_some((first, number))
    });
    numbered.unwrap_or((origin, 1))
}

/// What checks a ledger's checkpoints. Written `<origin>+<id>+<base64>`, as C2SP tools do.
///
/// A ledger that went on as another log has the key of the newest, and knows those of the logs before it and where
/// each of them ended ([`crate::lineage`]). Two keys are the same if name and key are.
#[derive(Debug, Clone)]
pub struct LedgerKey {
    origin: Origin,
    id: u32,
    key: PublicKey,
    before: Option<Arc<Former>>,
}

/// The log that a log goes on from.
#[derive(Debug, Clone)]
pub(crate) struct Former {
    pub(crate) key: LedgerKey,
    /// What it ended with.
    pub(crate) end: End,
    /// What both keys signed.
    pub(crate) link: KeyRotation,
}

/// The tree that a log which ended shares with those that go on from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

impl PartialEq for LedgerKey {
    fn eq(&self, other: &Self) -> bool {
        self.origin == other.origin && self.key == other.key
    }
}

impl Eq for LedgerKey {}

impl LedgerKey {
    pub fn new(origin: &str, key: PublicKey) -> Result<Self, KeyError> {
        let origin = Origin::new(origin)?;
        let id = key_id(origin.as_str(), ED25519, &raw_ed25519(&key)?);
        Ok(Self {
            origin,
            id,
            key,
            before: None,
        })
    }

    /// This key, of a log that goes on from another. The caller has seen that both keys say so.
    pub(crate) fn after(&self, former: Former) -> Self {
        Self {
            before: Some(Arc::new(former)),
            ..self.clone()
        }
    }

    pub(crate) fn former(&self) -> Option<&Former> {
        self.before.as_deref()
    }

    /// The key of the log that this one goes on from, as far as it is known.
    #[must_use]
    pub fn before(&self) -> Option<&Self> {
        self.former().map(|former| &former.key)
    }

    /// The key alone, without the logs that its own goes on from.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            before: None,
            ..self.clone()
        }
    }

    /// The key of the first log that is known of this lineage.
    #[must_use]
    pub fn first(&self) -> &Self {
        self.former().map_or(self, |former| former.key.first())
    }

    /// Records with which the log of that name ended, as far as later logs have them; `None` if it is none of this
    /// lineage, or has not ended.
    #[must_use]
    pub fn end_of(&self, origin: &str) -> Option<u64> {
        let (_key, end) = self.of(origin)?;
        end.map(|end| end.size)
    }

    /// The trees that the log `origin` of this lineage goes on from, as links name them, the shortest first: size and
    /// root of what is left of each log before it. None, if it is none of this lineage.
    #[must_use]
    pub fn goes_on_from(&self, origin: &str) -> Vec<(u64, Hash)> {
        let mut trees: Vec<(u64, Hash)> = Vec::new();
        let (mut key, mut end, mut before) = (self, None::<End>, false);
        loop {
            before |= key.origin.as_str() == origin;
            let Some(former) = key.former() else { break };
            // What a later log gave up of an earlier one's is not in the tree.
            let later = end.filter(|later| later.size < former.end.size);
            let ended = later.unwrap_or(former.end);
            let tree = (ended.size, ended.root);
            if before && trees.last() != Some(&tree) {
                trees.push(tree);
            }
            (key, end) = (&former.key, Some(ended));
        }
        trees.reverse();
        trees
    }

    /// True if the key, under whatever name, is one that was replaced in this lineage.
    #[must_use]
    pub fn replaced(&self, key: &PublicKey) -> bool {
        let former = self.former().map(|former| &former.key);
        former.is_some_and(|former| former.key == *key || former.replaced(key))
    }

    /// The key that signed for `origin` in this lineage, and what its log ended with; it has not, if it is the newest.
    pub(crate) fn of(&self, origin: &str) -> Option<(&Self, Option<End>)> {
        let (mut key, mut end): (_, Option<End>) = (self, None);
        while key.origin.as_str() != origin {
            let former = key.former()?;
            // What a later log gave up of an earlier one's is not in the tree.
            let later = end.filter(|later| later.size <= former.end.size);
            (key, end) = (&former.key, later.or(Some(former.end)));
        }
        Some((key, end))
    }

    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// First four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key).
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    pub(crate) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        self.key.verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![ED25519];
        typed.extend_from_slice(&raw_ed25519(&self.key).unwrap_or_default());
        let key = crypto::base64::encode(&typed);
        write!(f, "{}+{:08x}+{key}", self.origin, self.id)
    }
}

impl FromStr for LedgerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, typed) = vkey(text).ok_or(KeyError::Format)?;
        let Some((&ED25519, raw)) = typed.split_first() else {
            return Err(KeyError::Algorithm);
        };
        let raw: [u8; 32] = raw.try_into().map_err(|_length| KeyError::Format)?;
        let key = PublicKey::from_ed25519_raw(raw).map_err(KeyError::Key)?;
        let parsed = Self::new(name, key)?;
        let expected = format!("{:08x}", parsed.id);
        if expected == id {
            Ok(parsed)
        } else {
            let found = id.to_owned();
            Err(KeyError::Id { expected, found })
        }
    }
}

/// Signs the checkpoints of one ledger.
#[derive(Clone)]
pub struct LedgerSigner {
    key: LedgerKey,
    signer: Arc<dyn Signer>,
}

impl LedgerSigner {
    pub fn new(origin: &str, signer: Arc<dyn Signer>) -> Result<Self, KeyError> {
        let key = LedgerKey::new(origin, signer.public_key().clone())?;
        Ok(Self { key, signer })
    }

    /// This signer, for a log that goes on from others. `key` is its own, with what is known of those.
    #[must_use]
    pub fn with_lineage(mut self, key: LedgerKey) -> Option<Self> {
        let same = key == self.key;
        self.key = key;
        same.then_some(self)
    }

    #[must_use]
    pub const fn key(&self) -> &LedgerKey {
        &self.key
    }

    /// Signs what is no checkpoint.
    pub(crate) fn sign_text(&self, text: &str) -> Result<Vec<u8>, KeyError> {
        self.signer.sign(text.as_bytes()).map_err(KeyError::Sign)
    }

    /// The signed note of `checkpoint`. Whoever calls has made sure that it extends every
    /// checkpoint that this key has signed before (c2sp.org/tlog-checkpoint, "Signatures").
    pub fn sign(&self, checkpoint: &Checkpoint) -> Result<String, KeyError> {
        let text = checkpoint.text();
        let bytes = self.signer.sign(text.as_bytes()).map_err(KeyError::Sign)?;
        let signature = NoteSignature {
            name: self.key.origin.to_string(),
            id: self.key.id,
            bytes,
        };
        let signatures = vec![signature];
        Ok(Note { text, signatures }.to_string())
    }
}

impl fmt::Debug for LedgerSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerSigner({})", self.key)
    }
}

/// The point of an Ed25519 key: the last 32 bytes of its SPKI (RFC 8410, section 4).
fn raw_ed25519(key: &PublicKey) -> Result<[u8; 32], KeyError> {
    if key.algorithm() != Algorithm::Ed25519 {
        return Err(KeyError::Algorithm);
    }
    let raw = key.spki_der().last_chunk::<32>();
    raw.copied().ok_or(KeyError::Algorithm)
}

/// The parts of a verifier key: its name, its key id as written, and the type byte with the key behind it.
pub(crate) fn vkey(text: &str) -> Option<(&str, &str, Vec<u8>)> {
    let mut parts = text.splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name, id, decode_base64(key)?))
}

/// What may stand in a signature line and in a verifier key; as long as a `cosigned_message` takes.
pub(crate) fn is_key_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && json::is_plain(name)
        && !name.chars().any(|c| c.is_whitespace() || c == '+')
}

/// First four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ key).
pub(crate) fn key_id(name: &str, kind: u8, raw: &[u8]) -> u32 {
    let mut hash = crypto::Sha256::new();
    hash.update(name.as_bytes());
    hash.update(&[b'\n', kind]);
    hash.update(raw);
    let [a, b, c, d, ..] = hash.finish();
    u32::from_be_bytes([a, b, c, d])
}
