//! The same questions to the records of a decision point that runs: asked over its socket, and told line by line as
//! they come.

use crate::arguments::{
    AccessesArguments, Global, HistoryArguments, ReplayArguments, SearchArguments, UnusedArguments,
};
use crate::commands::ask::policy_name;
use crate::commands::ledger::{path_of, summary};
use crate::{Failure, output};
use facts::{Finding, Timestamp};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use pdp::records::Kind;
use record_index::About;
use serde_json::{Map, Value, json};
use std::path::Path;
use tokio::net::UnixStream;

/// Bytes of a line: a record with its receipt, many times over.
const LONGEST: usize = 16 << 20;

pub(crate) async fn search(
    socket: &Path,
    arguments: &SearchArguments,
    global: &Global,
) -> Result<(), Failure> {
    if arguments.from > 0 {
        return Err(Failure::usage(
            "--from is asked of a server or folder: use --since or --cursor",
        ));
    }
    let mut body = Map::new();
    let texts = [
        ("ledger", Some(arguments.ledger.clone())),
        ("identity", arguments.identity.clone()),
        ("on_behalf_of", arguments.on_behalf_of.clone()),
        ("machine", arguments.machine.clone()),
        ("code", arguments.code.clone()),
        ("resource", arguments.resource.clone()),
        ("action", arguments.action.clone()),
        ("decision", arguments.decision.clone()),
        ("estate", arguments.estate_version.clone()),
        ("policy", arguments.policy.clone()),
        ("after", arguments.cursor.clone()),
    ];
    for (name, text) in texts {
        put(&mut body, name, text);
    }
    body.insert("types".to_owned(), json!(arguments.types));
    body.insert("receipts".to_owned(), json!(arguments.receipts));
    put(&mut body, "since", arguments.since.map(|moment| moment.0));
    put(&mut body, "until", arguments.until.map(|moment| moment.0));
    put(
        &mut body,
        "limit",
        (arguments.limit > 0).then_some(arguments.limit),
    );
    ask(socket, Kind::Search, body, global).await
}

pub(crate) async fn accesses(
    socket: &Path,
    arguments: &AccessesArguments,
    global: &Global,
) -> Result<(), Failure> {
    let mut body = Map::new();
    put(&mut body, "by", arguments.by.clone());
    put(&mut body, "of", arguments.of.clone());
    put(&mut body, "on_behalf_of", arguments.on_behalf_of.clone());
    put(&mut body, "since", arguments.since.map(|moment| moment.0));
    put(&mut body, "until", arguments.until.map(|moment| moment.0));
    body.insert("receipts".to_owned(), json!(arguments.receipts));
    ask(socket, Kind::Accesses, body, global).await
}

pub(crate) async fn history(
    socket: &Path,
    arguments: &HistoryArguments,
    global: &Global,
) -> Result<(), Failure> {
    let mut body = Map::new();
    match super::about(arguments)? {
        About::Access {
            principal,
            action,
            resource,
        } => {
            put(&mut body, "principal", Some(principal));
            put(&mut body, "action", Some(action.to_string()));
            put(&mut body, "resource", Some(resource.to_string()));
        }
        About::Principal(principal) => put(&mut body, "principal", Some(principal)),
        About::Resource(resource) => put(&mut body, "resource", Some(resource.to_string())),
        About::Policy(policy) => put(&mut body, "policy", Some(policy)),
    }
    body.insert("receipts".to_owned(), json!(arguments.receipts));
    ask(socket, Kind::History, body, global).await
}

pub(crate) async fn unused(
    socket: &Path,
    arguments: &UnusedArguments,
    global: &Global,
) -> Result<(), Failure> {
    let mut body = Map::new();
    put(&mut body, "since", Some(arguments.window.0));
    ask(socket, Kind::Unused, body, global).await
}

pub(crate) async fn replay(
    socket: &Path,
    arguments: &ReplayArguments,
    global: &Global,
) -> Result<(), Failure> {
    let mut body = Map::new();
    let files = crate::commands::estate::read(&arguments.estate)?;
    put(&mut body, "files", Some(files.0));
    put(&mut body, "since", Some(arguments.since.0));
    put(&mut body, "until", arguments.until.map(|moment| moment.0));
    ask(socket, Kind::Replay, body, global).await
}

fn put<T: serde::Serialize>(body: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), json!(value));
    }
}

/// Every line is printed before the next is read.
async fn ask(
    socket: &Path,
    kind: Kind,
    body: Map<String, Value>,
    global: &Global,
) -> Result<(), Failure> {
    let response = sent(socket, kind, &Value::Object(body))
        .await
        .map_err(|error| Failure::from(unreachable(socket, &error)))?;
    let status = response.status();
    let mut body = response.into_body();
    let mut waiting: Vec<u8> = Vec::new();
    let mut end = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::from(unreachable(socket, &error)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        waiting.extend_from_slice(&data);
        if waiting.len() > LONGEST {
            return Err(cut_short().into());
        }
        if !status.is_success() {
            continue;
        }
        while let Some(at) = waiting.iter().position(|byte| *byte == b'\n') {
            let rest = waiting.split_off(at + 1);
            let line = std::mem::replace(&mut waiting, rest);
            let line: Value = serde_json::from_slice(&line).map_err(|_| cut_short())?;
            if line.get("end").is_some() {
                end = Some(line);
            } else if global.json {
                output::json(&line);
            } else {
                told(&line);
            }
        }
    }
    if !status.is_success() {
        return Err(refusal(&String::from_utf8_lossy(&waiting)).into());
    }
    let end = end.ok_or_else(cut_short)?;
    if global.json {
        output::json(&end);
    } else {
        ended(&end);
    }
    Ok(())
}

async fn sent(
    socket: &Path,
    kind: Kind,
    body: &Value,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(kind.path())
        .header(header::HOST, "pdp")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/x-ndjson")
        .body(Full::new(Bytes::from(body.to_string())))?;
    Ok(sender.send_request(request).await?)
}

fn unreachable(socket: &Path, error: &dyn std::fmt::Display) -> Finding {
    Finding::new("PDP-UNREACHABLE", "the decision point cannot be asked")
        .expected(format!("its socket at {}", socket.display()))
        .observed(error.to_string())
        .next("name its `listen.socket` with --pdp, or ask its folder with --folder")
}

fn cut_short() -> Finding {
    Finding::new(
        "PDP-ANSWER-CUT",
        "the answer does not come to its end: what was printed is not all",
    )
    .next("ask again; the log of trilith pdp says what happened")
}

/// What it said, by its own code.
fn refusal(said: &str) -> Finding {
    let said = said.trim();
    let (code, message) = said.split_once(": ").unwrap_or(("PDP-REFUSED", said));
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
    if code.is_empty() || !code.bytes().all(plain) {
        return Finding::new("PDP-REFUSED", output::value(said));
    }
    Finding {
        code: code.to_owned().into(),
        ..Finding::new("PDP-REFUSED", output::value(message))
    }
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => output::value(text),
        Some(other) => other.to_string(),
    }
}

fn time(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_u64).map_or_else(
        || "never".to_owned(),
        |millis| Timestamp::from_millis(millis).to_string(),
    )
}

fn others(access: &Value) -> String {
    let names = |field: &str| -> Vec<String> {
        let all = access.get(field).and_then(Value::as_array);
        let ids = all.into_iter().flatten().filter_map(Value::as_str);
        ids.map(|id| path_of(id).to_owned()).collect()
    };
    let (proven, told) = (names("on_behalf_of"), names("claimed_on_behalf_of"));
    match (proven.is_empty(), told.is_empty()) {
        (false, _) => format!(" for {}", proven.join(", ")),
        (true, false) => format!(" for {} (told)", told.join(", ")),
        (true, true) => String::new(),
    }
}

/// A line for people.
fn told(line: &Value) {
    let shown = if let Some(hit) = line.get("record") {
        let index = hit.get("index").and_then(Value::as_u64).unwrap_or_default();
        let record = hit.get("record").unwrap_or(&Value::Null);
        output::value(&summary(&text(hit, "/ledger"), index, record))
    } else if let Some(access) = line.get("access") {
        let allowed = access.get("allowed").and_then(Value::as_bool) == Some(true);
        format!(
            "{}{}  {}  {} {}  {} times, {} ok, {} failed; last {} ({}:{})",
            path_of(&text(access, "/identity")),
            others(access),
            if allowed {
                text(access, "/kind")
            } else {
                "denied".to_owned()
            },
            text(access, "/action"),
            text(access, "/resource"),
            text(access, "/count"),
            text(access, "/succeeded"),
            text(access, "/failed"),
            time(access, "/last/1"),
            text(access, "/ledger"),
            text(access, "/last/0"),
        )
    } else if let Some(change) = line.get("change") {
        let mut whole = format!(
            "server:{}  {}  by {}: {}  (estate {})",
            text(change, "/record"),
            time(change, "/time"),
            text(change, "/author"),
            text(change, "/message"),
            text(change, "/version"),
        );
        for (mark, field) in [("+", "gained"), ("-", "lost"), ("~", "changed")] {
            let lines = change.get(field).and_then(Value::as_array);
            for line in lines.into_iter().flatten().filter_map(Value::as_str) {
                whole.push_str(&format!("\n  {mark} {}", output::value(line)));
            }
        }
        whole
    } else if let Some(policy) = line.get("policy") {
        format!(
            "policy {}: last {}",
            output::value(&policy.get("policy").map_or_else(String::new, policy_name)),
            time(policy, "/last/0"),
        )
    } else if let Some(grant) = line.get("grant") {
        format!(
            "grant {} {} {}: last {}",
            text(grant, "/identity"),
            text(grant, "/action"),
            text(grant, "/resource"),
            time(grant, "/last/0"),
        )
    } else if let Some(changed) = line.get("changed") {
        let policies = changed.get("decided_by").and_then(Value::as_array);
        let policies: Vec<String> = policies.into_iter().flatten().map(policy_name).collect();
        let because = match policies.is_empty() {
            true => String::new(),
            false => format!(", because of {}", output::value(&policies.join("; "))),
        };
        format!(
            "would be {}: {}{} {} {}  {} times; last {}{because}",
            text(changed, "/change"),
            path_of(&text(changed, "/identity")),
            others(changed),
            text(changed, "/action"),
            text(changed, "/resource"),
            text(changed, "/count"),
            time(changed, "/last/1"),
        )
    } else if let Some(not) = line.get("not_replayed") {
        format!(
            "not decided again: {}{} {} {}: {}",
            path_of(&text(not, "/identity")),
            others(not),
            text(not, "/action"),
            text(not, "/resource"),
            text(not, "/why"),
        )
    } else {
        output::value(&line.to_string())
    };
    output::line(shown);
}

/// What is said once of the whole.
fn ended(end: &Value) {
    let now = end.pointer("/end/summary/now").and_then(Value::as_array);
    for line in now.into_iter().flatten().filter_map(Value::as_str) {
        output::line(format_args!("now: {}", output::value(line)));
    }
    let gone = end.pointer("/end/summary/gone").and_then(Value::as_array);
    for line in gone.into_iter().flatten().filter_map(Value::as_str) {
        output::note(format_args!("note: {}", output::value(line)));
    }
    output::note(format_args!("{} lines", text(end, "/end/count")));
    let heads = end.pointer("/end/searched").and_then(Value::as_array);
    for head in heads.into_iter().flatten() {
        output::note(format_args!(
            "searched {} up to {} records",
            text(head, "/ledger"),
            text(head, "/size")
        ));
    }
    if let Some(next) = end.pointer("/end/next").and_then(Value::as_str) {
        output::note(format_args!("there is more: --cursor {next}"));
    }
}
