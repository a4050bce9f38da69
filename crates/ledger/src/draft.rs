//! A record before the ledger has given it a number. Built by whoever acts, sealed by the ledger.

use crate::json::{Cursor, is_plain, push_plain};
use crate::scalar::push_decimal;
use crate::{EstateRef, MAX_RECORD, Origin, Record, RecordError, RecordType, Stamp};
use serde::Serialize;

/// Longest actor, auth or connection id.
const MAX_FIELD: usize = 2048;
/// What a seal may add: `v`, the longest type, origin and numbers.
const SEAL_ROOM: usize = 512;

/// Collects the envelope of one record. `estate`, `engines` and `conn` that are not set are left out.
pub struct RecordBuilder {
    kind: RecordType,
    body: Result<Vec<u8>, serde_json::Error>,
    actor: String,
    auth: String,
    stamp: Option<Stamp>,
    estate: Option<EstateRef>,
    engines: Vec<(String, String)>,
    connection: Option<(String, u64)>,
}

impl RecordBuilder {
    pub(crate) fn new(kind: RecordType, body: &impl Serialize) -> Self {
        Self {
            kind,
            body: serde_json::to_vec(body),
            actor: String::new(),
            auth: String::new(),
            stamp: None,
            estate: None,
            engines: Vec::new(),
            connection: None,
        }
    }

    /// Who acts, and how that is known.
    #[must_use]
    pub fn actor(mut self, actor: &str, auth: &str) -> Self {
        actor.clone_into(&mut self.actor);
        auth.clone_into(&mut self.auth);
        self
    }

    /// When it happened. Left out, the ledger stamps the record when it takes it.
    #[must_use]
    pub const fn at(mut self, stamp: Stamp) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// The estate that the act was decided under.
    #[must_use]
    pub const fn estate(mut self, estate: EstateRef) -> Self {
        self.estate = Some(estate);
        self
    }

    /// An engine that took part, with its version: `cedar`, `4.14.1`.
    #[must_use]
    pub fn engine(mut self, name: &str, version: &str) -> Self {
        self.engines.push((name.to_owned(), version.to_owned()));
        self
    }

    /// The connection, and how many records it has made before.
    #[must_use]
    pub fn connection(mut self, id: &str, counter: u64) -> Self {
        self.connection = Some((id.to_owned(), counter));
        self
    }

    /// Checks everything that the ledger will not check again.
    pub fn draft(self) -> Result<Draft, RecordError> {
        let body = self.body.map_err(RecordError::Serialize)?;
        let mut cursor = Cursor::new(&body).map_err(RecordError::Body)?;
        cursor
            .object(1, |cursor, _key| cursor.value(2))
            .and_then(|()| cursor.end())
            .map_err(RecordError::Body)?;

        let mut tail = Vec::with_capacity(body.len() + self.actor.len() + self.auth.len() + 256);
        push_field(&mut tail, ",\"actor\":", "actor", &self.actor)?;
        push_field(&mut tail, ",\"auth\":", "auth", &self.auth)?;
        let time_at = tail.len();
        if let Some(estate) = self.estate {
            push_estate(&mut tail, estate);
        }
        if !self.engines.is_empty() {
            tail.extend_from_slice(b",\"engines\":{");
            push_engines(&mut tail, &self.engines)?;
            tail.push(b'}');
        }
        if let Some((id, counter)) = &self.connection {
            push_field(&mut tail, ",\"conn\":{\"id\":", "conn", id)?;
            tail.extend_from_slice(b",\"counter\":\"");
            push_decimal(&mut tail, *counter);
            tail.extend_from_slice(b"\"}");
        }
        tail.extend_from_slice(b",\"body\":");
        tail.extend_from_slice(&body);
        tail.push(b'}');
        if tail.len() > MAX_RECORD - SEAL_ROOM {
            let length = tail.len() + SEAL_ROOM;
            return Err(RecordError::TooLarge { length });
        }
        Ok(Draft {
            kind: self.kind,
            stamp: self.stamp,
            tail,
            time_at,
        })
    }

    /// Draft and seal in one step, for tests and for records that no ledger numbers.
    pub fn seal(self, origin: &Origin, seq: u64, now: Stamp) -> Result<Record, RecordError> {
        Record::from_vec(self.draft()?.seal(origin, seq, now))
    }
}

/// A checked record without origin, number and (unless set) time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    kind: RecordType,
    stamp: Option<Stamp>,
    /// `,"actor":…,"auth":…` up to `time_at`, then what follows the time to the closing brace.
    tail: Vec<u8>,
    time_at: usize,
}

impl Draft {
    #[must_use]
    pub const fn kind(&self) -> RecordType {
        self.kind
    }

    /// Bytes of the sealed record, at most.
    #[must_use]
    pub const fn max_len(&self) -> usize {
        self.tail.len() + SEAL_ROOM
    }

    /// Sets the time unless the builder did.
    pub fn stamp(&mut self, now: Stamp) {
        self.stamp.get_or_insert(now);
    }

    /// Appends the bytes of the record to `out`; `now` counts only if no time was set.
    pub fn seal_into(&self, out: &mut Vec<u8>, origin: &Origin, seq: u64, now: Stamp) {
        let (before, after) = self.tail.split_at_checked(self.time_at).unwrap_or_default();
        let stamp = self.stamp.unwrap_or(now);
        out.extend_from_slice(b"{\"v\":1,\"type\":\"");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.extend_from_slice(b"\",\"origin\":\"");
        out.extend_from_slice(origin.as_str().as_bytes());
        out.extend_from_slice(b"\",\"seq\":\"");
        push_decimal(out, seq);
        out.push(b'"');
        out.extend_from_slice(before);
        out.extend_from_slice(b",\"time\":{\"wall\":\"");
        push_decimal(out, stamp.wall);
        out.extend_from_slice(b"\",\"mono\":\"");
        push_decimal(out, stamp.mono);
        out.extend_from_slice(b"\"}");
        out.extend_from_slice(after);
    }

    /// As [`Draft::seal_into`], into a vector of its own.
    #[must_use]
    pub fn seal(&self, origin: &Origin, seq: u64, now: Stamp) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.max_len());
        self.seal_into(&mut out, origin, seq, now);
        out
    }
}

fn push_field(
    out: &mut Vec<u8>,
    literal: &str,
    field: &'static str,
    text: &str,
) -> Result<(), RecordError> {
    if text.len() > MAX_FIELD || !is_plain(text) {
        return Err(RecordError::Field { field });
    }
    out.extend_from_slice(literal.as_bytes());
    push_plain(out, text);
    Ok(())
}

fn push_estate(out: &mut Vec<u8>, estate: EstateRef) {
    out.extend_from_slice(b",\"estate\":{\"version\":");
    push_plain(out, &crypto::base64::encode(&estate.version.0));
    out.extend_from_slice(b",\"index\":\"");
    push_decimal(out, estate.index);
    out.extend_from_slice(b"\"}");
}

fn push_engines(out: &mut Vec<u8>, engines: &[(String, String)]) -> Result<(), RecordError> {
    let field = "engines";
    for (at, (name, version)) in engines.iter().enumerate() {
        let earlier = engines.iter().take(at);
        if earlier.clone().any(|(other, _)| other == name) {
            return Err(RecordError::Field { field });
        }
        if at > 0 {
            out.push(b',');
        }
        push_field(out, "", field, name)?;
        push_field(out, ":", field, version)?;
    }
    Ok(())
}
