//! A ledger that goes on as another log: under a new name and key, from a tree that the log before it had.
//!
//! The first records of the new log are those of the old one, so that one proof of consistency leads from a head of
//! the old log to a head of the new one, and every index stays what it was. What leads from key to key is a
//! [`Link`]: a statement that both keys have signed, kept as a `key-rotation` record. Whoever trusts one key of a
//! lineage learns the others from the links alone; who handed them over does not matter. Of a former key nothing
//! counts beyond its end, and up to it only what is shown to be of the tree that its log ended with. Two links that lead from one key to different logs are a fork of the lineage: nobody
//! takes either.

use crate::body::KeyRotation;
use crate::key::{End, Former};
use crate::scalar::{decode_hash, parse_decimal};
use crate::{Base64, Code, Hash, KeyError, LedgerKey, LedgerSigner};
use thiserror::Error;

/// What a `key-rotation` record says that it is about.
pub const WHAT: &str = "ledger";
/// What it says in the server's ledger, where a gateway's or decision point's ledger went on as a new log.
pub const WHAT_GATEWAY: &str = "gateway-ledger";
/// First line of a statement. Its second line is no number, so that it is nobody's checkpoint.
const CONTEXT: &str = "trilith-ledger-succession-v1";
/// Links of one lineage, at most.
pub const MAX_LINKS: usize = 256;

#[derive(Debug, Error)]
pub enum LineageError {
    #[error(
        "not the rotation of a ledger's key: a statement of five lines, two keys and their signatures"
    )]
    Format,
    #[error("a key in it")]
    Key(#[from] KeyError),
    #[error("{to} does not go on from {from}: it has another name, or a number that is not higher")]
    Order { from: String, to: String },
    #[error("the statement is not signed by {0}")]
    Signature(String),
    #[error("{from} goes on as {one} and as {other}: its key signed two successions")]
    Forked {
        from: String,
        one: String,
        other: String,
    },
    #[error("a lineage has at most {MAX_LINKS} links")]
    Many,
}

impl Code for LineageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Format | Self::Key(_) | Self::Order { .. } | Self::Many => "LEDGER-LINK-FORMAT",
            Self::Signature(_) => "LEDGER-LINK-SIGNATURE",
            Self::Forked { .. } => "LEDGER-LINEAGE-FORKED",
        }
    }
}

/// One log gives way to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Of the log that ends.
    pub from: LedgerKey,
    /// Of the log that goes on.
    pub to: LedgerKey,
    /// The tree that both share: all that the old log had, or what was left of it.
    pub size: u64,
    pub root: Hash,
}

impl Link {
    /// What both keys sign.
    #[must_use]
    pub fn statement(&self) -> String {
        let root = crypto::base64::encode(&self.root);
        format!(
            "{CONTEXT}\n{}\n{}\n{}\n{root}\n",
            self.from, self.to, self.size
        )
    }

    /// Signs that the log of `new` goes on from the first `size` records of `old`'s. Whoever calls has made sure
    /// that `old` has said so of no other log.
    pub fn sign(
        old: &LedgerSigner,
        new: &LedgerSigner,
        (size, root): (u64, Hash),
        reason: &str,
    ) -> Result<KeyRotation, LineageError> {
        let (from, to) = (old.key().clone(), new.key().clone());
        let link = Self {
            from,
            to,
            size,
            root,
        };
        link.in_order()?;
        let statement = link.statement();
        let spki = |key: &LedgerKey| Some(Base64(key.public_key().spki_der().to_vec()));
        Ok(KeyRotation {
            what: WHAT.to_owned(),
            old: spki(&link.from),
            new: spki(&link.to),
            old_signature: Some(Base64(old.sign_text(&statement)?)),
            new_signature: Some(Base64(new.sign_text(&statement)?)),
            reason: reason.to_owned(),
            statement: Some(statement),
        })
    }

    /// Reads a rotation of a ledger's key, and verifies both signatures.
    pub fn open(rotation: &KeyRotation) -> Result<Self, LineageError> {
        let link = Self::parse(rotation)?;
        link.in_order()?;
        let statement = link.statement();
        for (key, spki, signature) in [
            (&link.from, &rotation.old, &rotation.old_signature),
            (&link.to, &rotation.new, &rotation.new_signature),
        ] {
            let (Some(spki), Some(signature)) = (spki, signature) else {
                return Err(LineageError::Format);
            };
            if spki.0 != key.public_key().spki_der() {
                return Err(LineageError::Format);
            }
            if !key.verifies(&statement, &signature.0) {
                return Err(LineageError::Signature(key.to_string()));
            }
        }
        Ok(link)
    }

    /// INVARIANT: `parse(x)?.statement()` is the statement of `x`.
    fn parse(rotation: &KeyRotation) -> Result<Self, LineageError> {
        let statement = rotation.statement.as_deref().unwrap_or_default();
        let mut lines = statement.strip_suffix('\n').unwrap_or_default().split('\n');
        let (Some(CONTEXT), Some(from), Some(to), Some(size), Some(root), None) = (
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
        ) else {
            return Err(LineageError::Format);
        };
        let link = Self {
            from: from.parse()?,
            to: to.parse()?,
            size: parse_decimal(size).ok_or(LineageError::Format)?,
            root: decode_hash(root).ok_or(LineageError::Format)?,
        };
        let exact = rotation.what == WHAT && link.statement() == statement;
        exact.then_some(link).ok_or(LineageError::Format)
    }

    fn in_order(&self) -> Result<(), LineageError> {
        let (from, to) = (self.from.origin(), self.to.origin());
        let ((first, earlier), (same, later)) = (from.place(), to.place());
        if first == same && earlier < later && self.from.public_key() != self.to.public_key() {
            return Ok(());
        }
        let (from, to) = (from.to_string(), to.to_string());
        Err(LineageError::Order { from, to })
    }
}

/// True if a `key-rotation` is of a ledger's key.
#[must_use]
pub fn is_link(rotation: &KeyRotation) -> bool {
    rotation.what == WHAT
}

/// `link` as the server's ledger tells of it, when a gateway has shown it: the same statement and signatures. What
/// leads the server's own ledger from key to key is never taken for it.
#[must_use]
pub fn told(link: KeyRotation) -> KeyRotation {
    let what = WHAT_GATEWAY.to_owned();
    KeyRotation { what, ..link }
}

/// The link that a record of the server's ledger tells of, if it tells of one of a gateway's ledger.
#[must_use]
pub fn of_gateway(rotation: KeyRotation) -> Option<KeyRotation> {
    let what = WHAT.to_owned();
    (rotation.what == WHAT_GATEWAY).then_some(KeyRotation { what, ..rotation })
}

/// What is known of the lineage of `key`, the trusted one, by `rotations` and by what it knew before: the key of
/// the newest log that links lead to, with those before it. In any order; each has to verify, also one that leads
/// nowhere.
///
/// # Errors
/// [`LineageError`]; `Forked` if a log of the lineage goes on as two.
pub fn follow(key: &LedgerKey, rotations: &[KeyRotation]) -> Result<LedgerKey, LineageError> {
    if rotations.len() > MAX_LINKS {
        return Err(LineageError::Many);
    }
    let mut found: Vec<(Link, KeyRotation)> = Vec::new();
    for rotation in links(key).into_iter().chain(rotations.iter().cloned()) {
        let link = Link::open(&rotation)?;
        if found.iter().all(|(held, _)| *held != link) {
            found.push((link, rotation));
        }
    }
    let mut first = key.first();
    // Backwards: that a log goes on from another is what its own key says. Numbers fall, so that it ends.
    while let Some((link, _)) = found.iter().find(|(link, _)| link.to == *first) {
        first = &link.from;
    }
    let mut newest = first.bare();
    loop {
        let mut after = found.iter().filter(|(link, _)| link.from == newest);
        let Some((link, rotation)) = after.next() else {
            return Ok(newest);
        };
        if let Some((other, _)) = after.next() {
            return Err(LineageError::Forked {
                from: newest.to_string(),
                one: format!("{} from {} records", link.to, link.size),
                other: format!("{} from {} records", other.to, other.size),
            });
        }
        newest = link.to.after(Former {
            key: newest,
            end: End {
                size: link.size,
                root: link.root,
            },
            link: rotation.clone(),
        });
    }
}

/// The links that `key` knows, the oldest first: with them, whoever trusts one key of the lineage learns the others.
#[must_use]
pub fn links(key: &LedgerKey) -> Vec<KeyRotation> {
    let (mut links, mut key) = (Vec::new(), key);
    while let Some(former) = key.former() {
        links.push(former.link.clone());
        key = &former.key;
    }
    links.reverse();
    links
}

/// As they are kept in files and sent: a JSON list.
#[must_use]
pub fn to_json(links: &[KeyRotation]) -> String {
    serde_json::to_string(links).unwrap_or_default()
}

/// Reads what [`to_json`] wrote; nothing is verified.
pub fn from_json(text: &str) -> Result<Vec<KeyRotation>, LineageError> {
    serde_json::from_str(text).map_err(|_error| LineageError::Format)
}
