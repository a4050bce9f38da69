//! Searching records: the server's, a gateway's as mirrored here, or all of them.

use crate::core::Core;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::{Record, RecordType};
use ledger_store::Reader;
use proto::v1::{RecordItem, RecordsRequest};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Records read at once.
const BATCH: u64 = 4_096;
/// How the server's own ledger is called in questions and answers.
pub(super) const SERVER: &str = "server";

/// A ledger by the name that answers give it.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) reader: Reader,
}

/// The ledgers that `name` means: empty or `server` the server's, `*` every one, else a gateway's
/// origin or its last part.
pub(super) fn sources(core: &Core, name: &str) -> Result<Vec<Source>, Refusal> {
    let own = || Source {
        name: SERVER.to_owned(),
        reader: core.journal.reader().clone(),
    };
    let mut found = Vec::new();
    if name.is_empty() || name == "*" || name == SERVER || name == core.ledger_key.origin().as_str()
    {
        found.push(own());
    }
    let gateways: Vec<_> = core.state().gateways().cloned().collect();
    for row in gateways {
        let named = name == "*"
            || name == row.origin
            || row.origin.rsplit('/').next() == Some(name) && !name.is_empty();
        if named {
            found.push(Source {
                reader: core.mirrors.of(&row)?.reader().clone(),
                name: row.origin,
            });
        }
    }
    if found.is_empty() {
        return Err(Refusal::Unknown(
            Finding::new("LEDGER-UNKNOWN", "no ledger of that name is kept here")
                .observed(name.to_owned())
                .next("`trilith status` lists them"),
        ));
    }
    Ok(found)
}

pub(super) fn stream(
    core: &Arc<Core>,
    request: &RecordsRequest,
) -> Result<ReceiverStream<Result<RecordItem, Status>>, Refusal> {
    let sources = sources(core, &request.ledger)?;
    let filter = Filter::new(core, request)?;
    let (sender, receiver) = mpsc::channel(64);
    let (from, limit) = (request.from_index, request.limit);
    tokio::task::spawn_blocking(move || {
        let mut left = match limit {
            0 => u64::MAX,
            limit => limit,
        };
        for source in sources {
            if let Err(status) = search(&source, &filter, from, &mut left, &sender) {
                drop(sender.blocking_send(Err(status)));
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

fn search(
    source: &Source,
    filter: &Filter,
    from: u64,
    left: &mut u64,
    sender: &mpsc::Sender<Result<RecordItem, Status>>,
) -> Result<(), Status> {
    // The sessions of an identity are known from their beginning on.
    let mut sessions = HashSet::new();
    let mut index = if filter.identity.is_some() { 0 } else { from };
    while *left > 0 {
        let records = source
            .reader
            .read(index..index.saturating_add(BATCH))
            .map_err(|error| Refusal::internal("reading records", &error))?;
        if records.is_empty() {
            return Ok(());
        }
        for bytes in records {
            let at = index;
            index += 1;
            let Ok(record) = Record::parse(&bytes) else {
                continue;
            };
            if !filter.matches(&record, &mut sessions) || at < from || *left == 0 {
                continue;
            }
            *left -= 1;
            let item = RecordItem {
                ledger: source.name.clone(),
                index: at,
                record: bytes,
            };
            if sender.blocking_send(Ok(item)).is_err() {
                *left = 0;
            }
        }
    }
    Ok(())
}

struct Filter {
    types: Vec<RecordType>,
    /// The whole SPIFFE ID.
    identity: Option<String>,
    resource: Option<String>,
}

impl Filter {
    fn new(core: &Core, request: &RecordsRequest) -> Result<Self, Refusal> {
        let types: Result<Vec<RecordType>, Refusal> = request
            .types
            .iter()
            .map(|name| {
                RecordType::from_name(name).ok_or_else(|| {
                    Refusal::Invalid(
                        Finding::new("RECORD-TYPE", "there is no such type of record")
                            .expected(
                                RecordType::ALL
                                    .iter()
                                    .map(|known| known.as_str())
                                    .collect::<Vec<_>>()
                                    .join(", "),
                            )
                            .observed(name.clone())
                            .next("search for one of these with --type"),
                    )
                })
            })
            .collect();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            types: types?,
            identity: some(&request.identity).map(|identity| {
                if identity.starts_with("spiffe://") {
                    identity
                } else {
                    format!("spiffe://{}/{identity}", core.trust_domain)
                }
            }),
            resource: some(&request.resource),
        })
    }

    fn matches(&self, record: &Record, sessions: &mut HashSet<String>) -> bool {
        let body: Value = if self.identity.is_some() || self.resource.is_some() {
            serde_json::from_str(record.body()).unwrap_or_default()
        } else {
            Value::Null
        };
        let about = self
            .identity
            .as_deref()
            .is_none_or(|identity| is_about(record, &body, identity, sessions));
        let touches = self
            .resource
            .as_deref()
            .is_none_or(|resource| touches(&body, resource));
        let typed = self.types.is_empty() || self.types.contains(&record.kind());
        about && touches && typed
    }
}

/// It acted, it was acted upon, or it happened in a session of its.
fn is_about(record: &Record, body: &Value, identity: &str, sessions: &mut HashSet<String>) -> bool {
    let text = |path: &str| body.pointer(path).and_then(Value::as_str);
    if record.kind() == RecordType::SessionStart && text("/spiffe_id") == Some(identity) {
        sessions.extend(text("/session").map(str::to_owned));
    }
    record.actor() == identity
        || text("/spiffe_id") == Some(identity)
        || text("/target/value") == Some(identity)
        || text("/session").is_some_and(|session| sessions.contains(session))
}

fn touches(body: &Value, resource: &str) -> bool {
    let actions = body.get("actions").and_then(Value::as_array);
    let actions = || actions.into_iter().flatten();
    // A list that was cut may have held it.
    if actions().any(|action| action.get("more").is_some()) {
        return true;
    }
    let named = actions()
        .filter_map(|action| action.get("resources")?.as_array())
        .flatten()
        .filter_map(Value::as_str);
    let quoted = format!("\"{resource}\"");
    named
        .chain(body.get("resource").and_then(Value::as_str))
        .any(|name| name == resource || name.contains(&quoted))
}

/// Places in a gateway's ledger: the sessions of `identity`, its operations (on `resource`, if one is
/// named) and their outcomes, in order.
pub(super) fn of_identity(
    source: &Source,
    identity: &str,
    resource: Option<&str>,
) -> Result<Vec<u64>, Refusal> {
    let mut sessions = HashSet::new();
    let mut intents = HashSet::new();
    let mut found = Vec::new();
    let mut index = 0;
    loop {
        let records = source
            .reader
            .read(index..index + BATCH)
            .map_err(|error| Refusal::internal("reading records", &error))?;
        if records.is_empty() {
            return Ok(found);
        }
        for bytes in records {
            let at = index;
            index += 1;
            let Ok(record) = Record::from_vec(bytes) else {
                continue;
            };
            let body: Value = serde_json::from_str(record.body()).unwrap_or_default();
            let wanted = match record.kind() {
                RecordType::SessionStart | RecordType::SessionEnd => {
                    is_about(&record, &body, identity, &mut sessions)
                }
                RecordType::Intent | RecordType::Decision => {
                    is_about(&record, &body, identity, &mut sessions)
                        && resource.is_none_or(|resource| touches(&body, resource))
                }
                RecordType::Outcome => body
                    .get("intent")
                    .and_then(Value::as_str)
                    .and_then(|seq| seq.parse::<u64>().ok())
                    .is_some_and(|seq| intents.contains(&seq)),
                _ => false,
            };
            if wanted {
                if record.kind() == RecordType::Intent {
                    intents.insert(record.seq());
                }
                found.push(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_that_was_cut_may_have_held_what_is_searched_for() {
        let mut body =
            json!({"actions": [{"action": "select", "resources": ["Table::\"shop/public/a\""]}]});
        assert!(touches(&body, "shop/public/a") && !touches(&body, "shop/public/b"));
        body["actions"][0]["more"] = json!({"count": "9", "sha256": ""});
        assert!(touches(&body, "shop/public/b"));
    }
}
