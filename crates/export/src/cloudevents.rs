//! CloudEvents 1.0 in structured JSON (cloudevents/spec, `spec.md` and `formats/json-format.md`).
//!
//! `id` and `source` together name a record for ever, so that whoever gets one twice can tell. Beside the required
//! attributes stand the documented extensions `sequence` (order within a source) and `partitionkey`, and `leafhash`,
//! what the ledger's tree has for the record.

use crate::event::Placed;
use facts::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    sequence: String,
    partitionkey: &'a str,
    leafhash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

pub(crate) fn json(placed: &Placed<'_>) -> String {
    let record = placed.record.as_ref();
    let raw = placed.raw();
    let bytes = raw.is_none().then(|| crypto::base64::encode(placed.bytes));
    let event = CloudEvent {
        specversion: "1.0",
        id: placed.id(),
        source: format!("trilith://{}", placed.origin),
        r#type: format!(
            "trilith.record.{}",
            placed.kind().map_or("unread", ledger::RecordType::as_str)
        ),
        // "MUST be a non-empty string" where it is present.
        subject: record
            .map(ledger::Record::actor)
            .filter(|actor| !actor.is_empty()),
        time: record.map(|record| Timestamp::from_millis(record.stamp().wall).to_string()),
        // Of one width, so that the order of the texts is that of the records.
        sequence: format!("{:020}", placed.index),
        partitionkey: placed.origin,
        leafhash: placed.leaf(),
        datacontenttype: raw.is_some().then_some("application/json"),
        data: raw,
        data_base64: bytes,
    };
    // Strings, numbers and JSON that was parsed: there is nothing that could not be written.
    serde_json::to_string(&event).unwrap_or_default()
}
