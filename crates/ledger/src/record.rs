//! The record: envelope v1, parsed strictly, kept verbatim. What stands in a body is in `body`.
//!
//! ```json
//! {"v":1,"type":"issuance","origin":"example.org/server","seq":"17","actor":"spiffe://…","auth":"…",
//!  "time":{"wall":"<unix ms>","mono":"<ns>"},"estate":{"version":"<sha256 base64>","index":"3"},
//!  "engines":{"cedar":"4.14.1"},"conn":{"id":"…","counter":"4"},"body":{…}}
//! ```
//! In this order, on one line; `estate`, `engines` and `conn` stand there only when they are set. INVARIANT: a record's bytes are
//! what was parsed or sealed; nothing is ever serialised again.

use crate::draft::RecordBuilder;
use crate::json::{Cursor, JsonError};
use crate::{Code, Digest, Hash, HexDigest, merkle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Range;
use thiserror::Error;

/// Bytes of one record, at most (DESIGN, section 9).
pub const MAX_RECORD: usize = 16 * 1024;

/// Why bytes are not a record, or a record not what was asked for.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("a record has at most {MAX_RECORD} bytes, this one {length}")]
    TooLarge { length: usize },
    #[error("not a record envelope of version 1")]
    Envelope(#[source] JsonError),
    #[error("the record type {0:?} is not known to this version")]
    UnknownType(String),
    #[error("the envelope field {field} has a character that must not stand there, or is too long")]
    Field { field: &'static str },
    #[error("the body does not serialise to JSON")]
    Serialize(#[source] serde_json::Error),
    #[error("the body is not strict I-JSON")]
    Body(#[source] JsonError),
    #[error("the body does not have the shape of the type {kind}")]
    Shape {
        kind: RecordType,
        source: serde_json::Error,
    },
    #[error("the body of this {kind} record is not in its canonical form")]
    NotCanonical { kind: RecordType },
    #[error("expected a record of type {expected}, this is of type {found}")]
    Type {
        expected: RecordType,
        found: RecordType,
    },
}

impl Code for RecordError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "LEDGER-RECORD-SIZE",
            Self::Envelope(_) | Self::Field { .. } => "LEDGER-RECORD-ENVELOPE",
            Self::UnknownType(_) | Self::Type { .. } => "LEDGER-RECORD-TYPE",
            Self::Serialize(_) | Self::Body(_) => "LEDGER-RECORD-BODY",
            Self::Shape { .. } | Self::NotCanonical { .. } => "LEDGER-RECORD-SHAPE",
        }
    }
}

macro_rules! record_types {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// What a record says. The set is part of format v1; it grows, names never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RecordType {
            $($(#[$doc])* $name,)*
        }

        impl RecordType {
            /// Every type of this version, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in the envelope.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

record_types! {
    /// The first record of a ledger: whose it is and which key signs it.
    Begin = "begin",
    Start = "start",
    Stop = "stop",
    /// What may be missing, and why: after a crash, or while records could not be kept.
    Gap = "gap",
    Bundle = "bundle",
    KeyRotation = "key-rotation",
    EstateVersion = "estate-version",
    Proof = "proof",
    Verdict = "verdict",
    /// A machine went on proving itself.
    Attested = "attested",
    JoinRefused = "join-refused",
    Issuance = "issuance",
    AssumeRefused = "assume-refused",
    TokenCreated = "token-created",
    TokenSpent = "token-spent",
    NodeState = "node-state",
    Lock = "lock",
    Readmit = "readmit",
    Revocation = "revocation",
    /// An access that is about to be forwarded.
    Intent = "intent",
    /// What became of an intent.
    Outcome = "outcome",
    /// An access that was denied, or answered without being forwarded.
    Decision = "decision",
    SessionStart = "session-start",
    SessionEnd = "session-end",
    /// A gateway's checkpoint in the server's ledger.
    Anchor = "anchor",
    Admin = "admin",
    Snapshot = "snapshot",
    Retention = "retention",
    /// A restored ledger goes on, although somebody has seen more of it.
    Recovery = "recovery",
    /// A boot in which the machines of a ring may open what they have sealed.
    SealApproval = "seal-approval",
    /// Two authors answer for an invariant that is weakened, removed or not proved.
    InvariantApproval = "invariant-approval",
    /// Somebody lets another act for them.
    Delegation = "delegation",
    /// A ledger's key signed what cannot be of one ledger that only grows.
    Misbehaviour = "misbehaviour",
    /// What records name by commitment or digest is gone.
    Erasure = "erasure",
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a record was made: Unix milliseconds, and nanoseconds of a clock that never goes back
/// while its process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    pub wall: u64,
    pub mono: u64,
}

/// The estate under which a record was made: its digest and the index of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstateRef {
    pub version: HexDigest,
    pub index: u64,
}

/// A connection and how many records it has made before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionRef<'a> {
    pub id: &'a str,
    pub counter: u64,
}

/// One ledger entry. Cheap accessors; the body is read with [`Record::body_as`].
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Vec<u8>,
    kind: RecordType,
    seq: u64,
    stamp: Stamp,
    estate: Option<EstateRef>,
    connection_counter: Option<u64>,
    origin: Range<usize>,
    actor: Range<usize>,
    auth: Range<usize>,
    engines: Range<usize>,
    connection_id: Range<usize>,
    body: Range<usize>,
}

impl Record {
    /// Begins a record. `body` is serialised at once; an error surfaces when the draft is made.
    pub fn builder(kind: RecordType, body: impl Serialize) -> RecordBuilder {
        RecordBuilder::new(kind, &body)
    }

    /// Reads one record; every other spelling of the same content is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::from_vec(bytes.to_vec())
    }

    /// As [`Record::parse`], keeping the vector.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD {
            let length = bytes.len();
            return Err(RecordError::TooLarge { length });
        }
        let parts = Parts::read(&bytes)?;
        Ok(Self {
            kind: parts.kind,
            seq: parts.seq,
            stamp: parts.stamp,
            estate: parts.estate,
            connection_counter: parts.connection_counter,
            origin: parts.origin,
            actor: parts.actor,
            auth: parts.auth,
            engines: parts.engines,
            connection_id: parts.connection_id,
            body: parts.body,
            bytes,
        })
    }

    /// What the ledger holds and the leaf hash covers.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// RFC 6962, section 2.1: SHA-256(0x00 ‖ bytes).
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        merkle::leaf_hash(&self.bytes)
    }

    #[must_use]
    pub const fn kind(&self) -> RecordType {
        self.kind
    }

    /// The ledger that the record was made for.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.text(&self.origin)
    }

    /// Number of the record at its origin; without gaps, in ledger order.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Who acted: a SPIFFE ID, `uid:0`, or the program itself.
    #[must_use]
    pub fn actor(&self) -> &str {
        self.text(&self.actor)
    }

    /// How the actor was known: `x509:<serial>`, `peercred`, `self`.
    #[must_use]
    pub fn auth(&self) -> &str {
        self.text(&self.auth)
    }

    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    #[must_use]
    pub const fn estate(&self) -> Option<EstateRef> {
        self.estate
    }

    #[must_use]
    pub fn connection(&self) -> Option<ConnectionRef<'_>> {
        let counter = self.connection_counter?;
        let id = self.text(&self.connection_id);
        Some(ConnectionRef { id, counter })
    }

    /// Versions of the engines that took part, as a JSON object of strings.
    #[must_use]
    pub fn engines(&self) -> &str {
        match self.text(&self.engines) {
            "" => "{}",
            engines => engines,
        }
    }

    /// The body as JSON text.
    #[must_use]
    pub fn body(&self) -> &str {
        self.text(&self.body)
    }

    /// The body as one of the structs of [`crate::body`] (or any other shape).
    pub fn body_as<T: DeserializeOwned>(&self) -> Result<T, RecordError> {
        let kind = self.kind;
        serde_json::from_str(self.body()).map_err(|source| RecordError::Shape { kind, source })
    }

    /// As [`Record::body_as`], for a struct that knows its own type.
    pub fn expect_body<T: crate::body::Body>(&self) -> Result<T, RecordError> {
        if T::KIND == self.kind {
            self.body_as()
        } else {
            Err(RecordError::Type {
                expected: T::KIND,
                found: self.kind,
            })
        }
    }

    fn text(&self, range: &Range<usize>) -> &str {
        let bytes = self.bytes.get(range.clone()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

struct Parts {
    kind: RecordType,
    seq: u64,
    stamp: Stamp,
    estate: Option<EstateRef>,
    connection_counter: Option<u64>,
    origin: Range<usize>,
    actor: Range<usize>,
    auth: Range<usize>,
    engines: Range<usize>,
    connection_id: Range<usize>,
    body: Range<usize>,
}

impl Parts {
    fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        use RecordError::Envelope;
        let mut cursor = Cursor::new(bytes).map_err(Envelope)?;
        let cursor = &mut cursor;
        cursor.literal("{\"v\":1,\"type\":").map_err(Envelope)?;
        let name = cursor.plain_string().map_err(Envelope)?;
        let kind =
            RecordType::from_name(name).ok_or_else(|| RecordError::UnknownType(name.to_owned()))?;
        let origin = field(cursor, ",\"origin\":").map_err(Envelope)?;
        let parts = Self::rest(cursor, kind, origin).map_err(Envelope)?;
        cursor.end().map_err(Envelope)?;
        Ok(parts)
    }

    fn rest(
        cursor: &mut Cursor<'_>,
        kind: RecordType,
        origin: Range<usize>,
    ) -> Result<Self, JsonError> {
        cursor.literal(",\"seq\":")?;
        let seq = cursor.decimal()?;
        let actor = field(cursor, ",\"actor\":")?;
        let auth = field(cursor, ",\"auth\":")?;
        cursor.literal(",\"time\":{\"wall\":")?;
        let wall = cursor.decimal()?;
        cursor.literal(",\"mono\":")?;
        let mono = cursor.decimal()?;
        cursor.literal("}")?;
        // One spelling: what is not set does not stand there.
        let estate = match cursor.take(",\"estate\":") {
            true => Some(estate(cursor)?),
            false => None,
        };
        let engines = match cursor.take(",\"engines\":") {
            true => engines(cursor)?,
            false => 0..0,
        };
        let (connection_id, connection_counter) = match cursor.take(",\"conn\":") {
            true => connection(cursor)?,
            false => (0..0, None),
        };
        cursor.literal(",\"body\":")?;
        let body_from = cursor.at();
        cursor.object(1, |cursor, _key| cursor.value(2))?;
        let body = body_from..cursor.at();
        cursor.literal("}")?;
        Ok(Self {
            kind,
            seq,
            stamp: Stamp { wall, mono },
            estate,
            connection_counter,
            origin,
            actor,
            auth,
            engines,
            connection_id,
            body,
        })
    }
}

fn field(cursor: &mut Cursor<'_>, name: &'static str) -> Result<Range<usize>, JsonError> {
    cursor.literal(name)?;
    let from = cursor.at() + 1;
    cursor.plain_string()?;
    Ok(from..cursor.at() - 1)
}

fn estate(cursor: &mut Cursor<'_>) -> Result<EstateRef, JsonError> {
    cursor.literal("{\"version\":")?;
    let at = cursor.at();
    let version = cursor.plain_string()?.parse::<Digest>();
    let version = version.map_err(|expected| JsonError::Unexpected { at, expected })?;
    let version = HexDigest(version.0);
    cursor.literal(",\"index\":")?;
    let index = cursor.decimal()?;
    cursor.literal("}")?;
    Ok(EstateRef { version, index })
}

fn engines(cursor: &mut Cursor<'_>) -> Result<Range<usize>, JsonError> {
    let from = cursor.at();
    let mut count = 0;
    cursor.object(1, |cursor, _key| {
        count += 1;
        cursor.plain_string().map(drop)
    })?;
    if count == 0 {
        let expected = "an engine";
        return Err(JsonError::Unexpected { at: from, expected });
    }
    Ok(from..cursor.at())
}

fn connection(cursor: &mut Cursor<'_>) -> Result<(Range<usize>, Option<u64>), JsonError> {
    let id = field(cursor, "{\"id\":")?;
    cursor.literal(",\"counter\":")?;
    let counter = cursor.decimal()?;
    cursor.literal("}")?;
    Ok((id, Some(counter)))
}
