//! Accesses: what was decided, and what came of it.

use super::{FAILURE, MEDIUM, Mapped, OTHER, SUCCESS, UNKNOWN, actor, endpoint};
use ledger::body::{ActionOn, Decision, Intent, Outcome};
use ledger::{Record, RecordType};
use serde_json::{Value, json};

/// Kinds of resources that stand in a database, with OCSF's `type_id`.
const DATABASE: u32 = 1;
const TABLE: u32 = 3;

/// Intents and decisions.
pub(super) fn decided(record: &Record) -> Option<Mapped> {
    let (actions, policies, findings, allow) = if record.kind() == RecordType::Intent {
        let body = record.expect_body::<Intent>().ok()?;
        (body.actions, body.policies, Vec::new(), true)
    } else {
        let body = record.expect_body::<Decision>().ok()?;
        (body.actions, body.policies, body.findings, body.allow)
    };
    let mut mapped = touched(record, &actions).allowed(allow);
    // An intent says that something is about to happen.
    mapped = match (record.kind(), allow) {
        (RecordType::Intent, _) => mapped.status(UNKNOWN),
        (_, true) => mapped.status(SUCCESS),
        (_, false) => mapped.status(FAILURE),
    };
    if let [policy, ..] = policies.as_slice() {
        mapped = mapped.with("policy", json!({ "name": policy }));
    }
    if let [finding, ..] = findings.as_slice() {
        mapped = mapped
            .with("status_code", json!(finding))
            .with("status_detail", json!(findings.join(" ")));
    }
    Some(mapped)
}

/// With what its intent was about, where that can be read.
pub(super) fn outcome(record: &Record, intent: Option<&Record>) -> Option<Mapped> {
    let body = record.expect_body::<Outcome>().ok()?;
    let intent = intent?.expect_body::<Intent>().ok()?;
    let mut mapped = touched(record, &intent.actions);
    mapped = match body.result.as_str() {
        "ok" => mapped.status(SUCCESS),
        "error" | "undone" | "cut" => mapped.status(FAILURE),
        _ => {
            mapped.severity = MEDIUM;
            mapped.status(UNKNOWN)
        }
    };
    mapped = mapped.with("status_detail", json!(body.result));
    if let Some(code) = body.sqlstate {
        mapped = mapped.with("status_code", json!(code));
    }
    Some(mapped)
}

/// The class, the activity and the objects of what is touched.
fn touched(record: &Record, actions: &[ActionOn]) -> Mapped {
    let names: Vec<&str> = actions.iter().map(|one| one.action.as_str()).collect();
    let resources: Vec<&str> = actions
        .iter()
        .flat_map(|one| one.resources.iter().map(String::as_str))
        .collect();
    let stored = resources.iter().find_map(|uid| stored(uid));
    let Some((kind, path)) = stored else {
        return called(record, &names, &resources);
    };
    let (activity, name) = match names.as_slice() {
        [one] => datastore(one),
        _ => (OTHER, names.join(" ")),
    };
    let mut parts = path.splitn(3, '/');
    let database = parts.next().unwrap_or_default();
    let mut mapped = Mapped::new(6005, activity, name)
        .with("actor", actor(record))
        .with("src_endpoint", endpoint(record))
        .with(
            "database",
            json!({ "name": database, "uid": database, "type_id": 1 }),
        )
        .with("type_id", json!(kind));
    if kind == TABLE {
        mapped = mapped.with("table", json!({ "name": path, "uid": path }));
    }
    mapped
}

/// Not of a database: a tool, a route, or nothing.
fn called(record: &Record, names: &[&str], resources: &[&str]) -> Mapped {
    let resources: Vec<Value> = resources
        .iter()
        .map(|uid| match uid.split_once("::") {
            Some((kind, name)) => json!({ "name": name.trim_matches('"'), "type": kind }),
            None => json!({ "name": uid }),
        })
        .collect();
    // A statement that touches nothing has no action, and a call in OCSF has a name.
    let operation = match names {
        [] => record.kind().as_str().to_owned(),
        names => names.join(" "),
    };
    Mapped::new(6003, OTHER, operation.clone())
        .with("actor", actor(record))
        .with(
            "api",
            json!({ "operation": operation, "service": { "name": record.origin() } }),
        )
        .with("src_endpoint", endpoint(record))
        .with("resources", json!(resources))
}

/// `Table::"shop/public/orders"`: what it is in OCSF, and its path.
fn stored(uid: &str) -> Option<(u32, &str)> {
    let (kind, name) = uid.split_once("::")?;
    let kind = match kind {
        "Database" | "Schema" => DATABASE,
        "Table" => TABLE,
        "Function" => OTHER,
        _ => return None,
    };
    Some((kind, name.trim_matches('"')))
}

fn datastore(action: &str) -> (u32, String) {
    let (id, name) = match action {
        "select" => (1, "Read"),
        "update" => (2, "Update"),
        "insert" => (5, "Write"),
        "delete" | "truncate" => (7, "Delete"),
        "connect" => (3, "Connect"),
        other => (OTHER, other),
    };
    (id, name.to_owned())
}
