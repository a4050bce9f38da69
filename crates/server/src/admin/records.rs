//! Searching records: the server's, a gateway's as mirrored here, or all of them.

use crate::core::Core;
use crate::mirrors::Mirrors;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::pack::{Sessions, is_about, touches};
use ledger::{Record, RecordType};
use ledger_store::Reader;
use proto::v1::{RecordItem, RecordsRequest};
use serde_json::Value;
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
        let named = name == "*" || ledger::is_called(&row.origin, name);
        if named {
            found.push(Source {
                reader: Mirrors::of(core, &row)?.reader().clone(),
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

/// Blocks on the disk.
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
    let mut sessions = Sessions::default();
    let mut index = if filter.identity.is_some() { 0 } else { from };
    while *left > 0 {
        // Who asks for a record that is gone is told so; who looks for some is shown what is left.
        if index != from || from == 0 {
            index = source.reader.next_there(index);
        }
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
            if !filter.matches(&record, at, &mut sessions) || at < from || *left == 0 {
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

    fn matches(&self, record: &Record, index: u64, sessions: &mut Sessions) -> bool {
        let body: Value = if self.identity.is_some() || self.resource.is_some() {
            serde_json::from_str(record.body()).unwrap_or_default()
        } else {
            Value::Null
        };
        let about = self
            .identity
            .as_deref()
            .is_none_or(|identity| is_about(record, &body, identity, index, sessions));
        let touches = self
            .resource
            .as_deref()
            .is_none_or(|resource| touches(&body, resource));
        let typed = self.types.is_empty() || self.types.contains(&record.kind());
        about && touches && typed
    }
}
