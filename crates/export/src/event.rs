//! One record as an event: what every format and sink needs of it.

use crate::{cloudevents, ocsf};
use ledger::body::Outcome;
use ledger::{Record, RecordType};
use serde_json::value::RawValue;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// CloudEvents 1.0, structured JSON.
    CloudEvents,
    /// OCSF 1.3.0.
    Ocsf,
}

impl Format {
    pub const ALL: [Self; 2] = [Self::CloudEvents, Self::Ocsf];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::Ocsf => "ocsf",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

/// What is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `ORIGIN:INDEX`: the same each time that the record is exported.
    pub id: String,
    pub origin: String,
    /// Type of the record; `unread` of one that this version does not know.
    pub kind: &'static str,
    /// Unix milliseconds; 0 of what could not be read.
    pub time: u64,
    /// It was refused, or something may be missing: who looks at nothing else looks at this.
    pub notable: bool,
    /// One line of JSON, without the line's end.
    pub json: String,
}

/// A record where it stands.
pub(crate) struct Placed<'a> {
    pub(crate) origin: &'a str,
    pub(crate) index: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) record: Option<Record>,
    /// Of an outcome: its intent.
    pub(crate) intent: Option<Record>,
}

impl Placed<'_> {
    pub(crate) fn id(&self) -> String {
        format!("{}:{}", self.origin, self.index)
    }

    pub(crate) fn leaf(&self) -> String {
        crypto::base64::encode(&ledger::merkle::leaf_hash(self.bytes))
    }

    /// The record's own bytes, if they are JSON: as they stand, and not written anew.
    pub(crate) fn raw(&self) -> Option<Box<RawValue>> {
        let text = std::str::from_utf8(self.bytes).ok()?;
        // A record is one line. Something else that is JSON may not be.
        let one_line = !text.contains(['\n', '\r']);
        let raw = RawValue::from_string(text.to_owned()).ok()?;
        one_line.then_some(raw)
    }

    pub(crate) fn kind(&self) -> Option<RecordType> {
        self.record.as_ref().map(Record::kind)
    }

    pub(crate) fn event(&self, format: Format) -> Event {
        let json = match format {
            Format::CloudEvents => cloudevents::json(self),
            Format::Ocsf => ocsf::json(self),
        };
        let record = self.record.as_ref();
        Event {
            id: self.id(),
            origin: self.origin.to_owned(),
            kind: self.kind().map_or("unread", RecordType::as_str),
            time: record.map_or(0, |record| record.stamp().wall),
            notable: record.is_none_or(is_notable),
            json,
        }
    }
}

/// The number of the intent that `record` is the outcome of.
pub(crate) fn intent_of(record: &Record) -> Option<u64> {
    let outcome = record.expect_body::<Outcome>().ok()?;
    Some(outcome.intent.0)
}

fn is_notable(record: &Record) -> bool {
    use RecordType as Kind;
    match record.kind() {
        Kind::Gap
        | Kind::Recovery
        | Kind::JoinRefused
        | Kind::AssumeRefused
        | Kind::Lock
        | Kind::Revocation
        | Kind::Misbehaviour
        | Kind::Erasure => true,
        Kind::Decision | Kind::Admin => !ocsf::allowed(record),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// A record of a later version, or something that is not even text, is handed on as it is.
    #[test]
    fn what_cannot_be_read_is_handed_on_all_the_same() {
        let later = br#"{"v":2,"type":"later","x":[1, 2]}"#;
        for bytes in [&later[..], b"\xff\x00", b"{\n}", b""] {
            let placed = Placed {
                origin: "example.org/pg-1",
                index: 4,
                bytes,
                record: Record::parse(bytes).ok(),
                intent: None,
            };
            let encoded = crypto::base64::encode(bytes);
            for format in Format::ALL {
                let event = placed.event(format);
                assert_eq!((event.kind, event.notable), ("unread", true));
                assert!(!event.json.contains('\n'));
                let json: Value = serde_json::from_str(&event.json).unwrap();
                let (raw, encoded_at) = match format {
                    Format::CloudEvents => ("/data", "/data_base64"),
                    Format::Ocsf => ("/unmapped/record", "/unmapped/record_base64"),
                };
                if bytes == later {
                    assert!(event.json.contains(std::str::from_utf8(later).unwrap()));
                    assert!(json.pointer(raw).is_some());
                } else {
                    assert_eq!(json.pointer(encoded_at).unwrap(), &encoded);
                }
            }
        }
    }
}
