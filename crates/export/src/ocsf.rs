//! OCSF 1.3.0. One record is one event; what a class has no place for stays in `unmapped`, with the whole record.
//!
//! | record | class |
//! |---|---|
//! | intent, decision, outcome of tables and the like | 6005 Datastore Activity |
//! | intent, decision, outcome of anything else; issuance, refusal to issue, revocation, acts of administration, versions of the estate | 6003 API Activity |
//! | start and end of a session | 3002 Authentication |
//! | start and stop of a process | 6002 Application Lifecycle |
//! | everything else | 0 Base Event, `activity_id` 99 |
//!
//! No address of a client is recorded, so `src_endpoint` names the identity and the connection. An allowed access is
//! an intent with `action_id` 1 and an unknown status; its outcome is an event of its own, with the same
//! `metadata.correlation_uid`.

mod access;

use crate::event::Placed;
use ledger::body::{
    Admin, AssumeRefused, Decision, EstateVersion, Issuance, Revocation, SessionEnd, SessionStart,
    Start,
};
use ledger::{Record, RecordType};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Of the schema that the events are of.
const VERSION: &str = "1.3.0";

const INFORMATIONAL: u8 = 1;
const LOW: u8 = 2;
const MEDIUM: u8 = 3;

const SUCCESS: u8 = 1;
const FAILURE: u8 = 2;
const UNKNOWN: u8 = 0;

const OTHER: u32 = 99;

/// A class with the activity in it, and the attributes that the record fills.
struct Mapped {
    category: u32,
    class: u32,
    activity: u32,
    activity_name: String,
    severity: u8,
    status: Option<u8>,
    /// Whether a control allowed it: the profile `security_control`.
    allowed: Option<bool>,
    attributes: Map<String, Value>,
}

impl Mapped {
    fn new(class: u32, activity: u32, name: impl Into<String>) -> Self {
        Self {
            category: class / 1_000,
            class,
            activity,
            activity_name: name.into(),
            severity: INFORMATIONAL,
            status: None,
            allowed: None,
            attributes: Map::new(),
        }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.attributes.insert(name.to_owned(), value);
        self
    }

    const fn status(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    const fn allowed(mut self, allowed: bool) -> Self {
        self.allowed = Some(allowed);
        self.severity = if allowed { INFORMATIONAL } else { LOW };
        self
    }
}

#[derive(Serialize)]
struct Ocsf<'a> {
    metadata: Metadata,
    category_uid: u32,
    class_uid: u32,
    activity_id: u32,
    activity_name: &'a str,
    type_uid: u32,
    severity_id: u8,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_id: Option<u8>,
    #[serde(flatten)]
    attributes: &'a Map<String, Value>,
    unmapped: Unmapped,
}

#[derive(Serialize)]
struct Metadata {
    version: &'static str,
    product: Product,
    uid: String,
    log_name: String,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_uid: Option<String>,
    profiles: &'static [&'static str],
}

#[derive(Serialize)]
struct Product {
    name: &'static str,
    vendor_name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Unmapped {
    leafhash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_base64: Option<String>,
}

pub(crate) fn json(placed: &Placed<'_>) -> String {
    let mapped = placed
        .record
        .as_ref()
        .and_then(|record| mapped(record, placed.intent.as_ref()))
        .unwrap_or_else(|| base(placed.record.as_ref()));
    let raw = placed.raw();
    let bytes = raw.is_none().then(|| crypto::base64::encode(placed.bytes));
    let event = Ocsf {
        metadata: Metadata {
            version: VERSION,
            product: Product {
                name: "Trilith",
                vendor_name: "Trilith",
                version: env!("CARGO_PKG_VERSION"),
            },
            uid: placed.id(),
            log_name: placed.origin.to_owned(),
            sequence: placed.index,
            event_code: placed.kind().map(RecordType::as_str),
            correlation_uid: correlation(placed),
            profiles: match mapped.allowed {
                Some(_) => &["security_control"],
                None => &[],
            },
        },
        category_uid: mapped.category,
        class_uid: mapped.class,
        activity_id: mapped.activity,
        activity_name: &mapped.activity_name,
        type_uid: mapped.class * 100 + mapped.activity,
        severity_id: mapped.severity,
        time: placed
            .record
            .as_ref()
            .map_or(0, |record| record.stamp().wall),
        status_id: mapped.status,
        action_id: mapped.allowed.map(|allowed| if allowed { 1 } else { 2 }),
        attributes: &mapped.attributes,
        unmapped: Unmapped {
            leafhash: placed.leaf(),
            record: raw,
            record_base64: bytes,
        },
    };
    // Strings, numbers and JSON that was parsed: there is nothing that could not be written.
    serde_json::to_string(&event).unwrap_or_default()
}

/// What the events of one access have in common: the intent's place.
fn correlation(placed: &Placed<'_>) -> Option<String> {
    match placed.kind()? {
        RecordType::Intent => Some(placed.id()),
        RecordType::Outcome => {
            let seq = crate::event::intent_of(placed.record.as_ref()?)?;
            Some(format!("{}:{seq}", placed.origin))
        }
        _ => None,
    }
}

/// Whether the record says that something was allowed.
pub(crate) fn allowed(record: &Record) -> bool {
    match record.kind() {
        RecordType::Decision => record
            .expect_body::<Decision>()
            .is_ok_and(|body| body.allow),
        RecordType::Admin => record.expect_body::<Admin>().is_ok_and(|body| body.allow),
        _ => true,
    }
}

/// The class of its own that a record has; none if its body is not what it should be.
fn mapped(record: &Record, intent: Option<&Record>) -> Option<Mapped> {
    match record.kind() {
        RecordType::Intent | RecordType::Decision => access::decided(record),
        RecordType::Outcome => access::outcome(record, intent),
        RecordType::SessionStart => {
            let body = record.expect_body::<SessionStart>().ok()?;
            let mapped = Mapped::new(3002, 1, "Logon").status(SUCCESS);
            Some(
                mapped
                    .with("user", user(&body.spiffe_id))
                    .with("service", json!({ "name": body.resource }))
                    .with("session", json!({ "uid": body.session }))
                    .with("auth_protocol_id", json!(OTHER))
                    .with("auth_protocol", json!("X.509-SVID over mutual TLS"))
                    .with("is_remote", json!(true))
                    .with("src_endpoint", endpoint(record)),
            )
        }
        RecordType::SessionEnd => {
            let body = record.expect_body::<SessionEnd>().ok()?;
            let mapped = Mapped::new(3002, 2, "Logoff").status(SUCCESS);
            Some(
                mapped
                    .with("user", user(record.actor()))
                    .with("service", json!({ "name": record.origin() }))
                    .with("session", json!({ "uid": body.session }))
                    .with("status_detail", json!(body.reason))
                    .with("src_endpoint", endpoint(record)),
            )
        }
        RecordType::Start => {
            let body = record.expect_body::<Start>().ok()?;
            let app =
                json!({ "name": body.program, "vendor_name": "Trilith", "version": body.version });
            Some(Mapped::new(6002, 3, "Start").with("app", app))
        }
        RecordType::Stop => {
            let app = json!({ "name": record.actor(), "vendor_name": "Trilith" });
            Some(Mapped::new(6002, 4, "Stop").with("app", app))
        }
        RecordType::Issuance => {
            let body = record.expect_body::<Issuance>().ok()?;
            Some(
                api(
                    record,
                    (1, "Create"),
                    "issue",
                    "identity",
                    &[body.spiffe_id],
                )
                .status(SUCCESS)
                .allowed(true),
            )
        }
        RecordType::AssumeRefused => {
            let body = record.expect_body::<AssumeRefused>().ok()?;
            Some(
                api(
                    record,
                    (1, "Create"),
                    "issue",
                    "identity",
                    body.spiffe_id.as_slice(),
                )
                .status(FAILURE)
                .allowed(false),
            )
        }
        RecordType::Revocation => {
            let body = record.expect_body::<Revocation>().ok()?;
            let mut mapped = api(
                record,
                (4, "Delete"),
                "revoke",
                "revoked",
                &[body.target.value],
            );
            mapped.severity = MEDIUM;
            Some(mapped.status(SUCCESS))
        }
        RecordType::EstateVersion => {
            let body = record.expect_body::<EstateVersion>().ok()?;
            Some(
                api(
                    record,
                    (3, "Update"),
                    "apply",
                    "estate",
                    &[body.version.to_string()],
                )
                .status(SUCCESS),
            )
        }
        RecordType::Admin => {
            let body = record.expect_body::<Admin>().ok()?;
            let status = if body.allow { SUCCESS } else { FAILURE };
            Some(
                api(
                    record,
                    (OTHER, &body.action),
                    &body.action,
                    "resource",
                    &[body.resource],
                )
                .status(status)
                .allowed(body.allow),
            )
        }
        _ => None,
    }
}

/// What no class of OCSF says honestly.
fn base(record: Option<&Record>) -> Mapped {
    let kind = record.map(Record::kind);
    let name = kind.map_or("unread", RecordType::as_str);
    let mut mapped = Mapped::new(0, OTHER, name);
    if matches!(
        kind,
        None | Some(
            RecordType::Gap
                | RecordType::Recovery
                | RecordType::JoinRefused
                | RecordType::Lock
                | RecordType::Misbehaviour
        )
    ) {
        mapped.severity = MEDIUM;
    }
    mapped.with("message", json!(format!("Trilith record `{name}`")))
}

fn api(
    record: &Record,
    (activity, name): (u32, &str),
    operation: &str,
    kind: &str,
    resources: &[String],
) -> Mapped {
    let resources: Vec<Value> = resources
        .iter()
        .map(|name| json!({ "name": name, "type": kind }))
        .collect();
    Mapped::new(6003, activity, name)
        .with("actor", actor(record))
        .with(
            "api",
            json!({ "operation": operation, "service": { "name": record.origin() } }),
        )
        .with("src_endpoint", endpoint(record))
        .with("resources", json!(resources))
}

/// SPIFFE IDs are of services and of people: OCSF has a word for neither.
fn user(id: &str) -> Value {
    json!({ "uid": id, "name": id, "type_id": OTHER })
}

fn actor(record: &Record) -> Value {
    let mut actor = json!({ "user": user(record.actor()) });
    if let (Value::Object(fields), Some(of)) = (&mut actor, record.connection()) {
        fields.insert("session".to_owned(), json!({ "uid": of.id }));
    }
    actor
}

/// Who asked, by name: no record has an address.
fn endpoint(record: &Record) -> Value {
    match record.connection() {
        Some(of) => json!({ "name": record.actor(), "uid": of.id }),
        None => json!({ "name": record.actor() }),
    }
}
