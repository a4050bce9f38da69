//! `trilith.v1.Helper` on the Workload API's socket: what helpers ask beside the Workload API.

use crate::source::AgentSource;
use crate::workloads::Description;
use device::process::Caller;
use proto::v1;
use proto::v1::helper_server::{Helper, HelperServer};
use std::path::PathBuf;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use workload_api::{Calls, Limits, Message, Subscription, Updates, View};

#[derive(Debug)]
pub(crate) struct HelperService {
    source: Arc<AgentSource>,
    calls: Calls,
}

impl HelperService {
    pub(crate) fn service(
        source: Arc<AgentSource>,
        calls: Calls,
        limits: &Limits,
    ) -> HelperServer<Self> {
        HelperServer::new(Self { source, calls }).max_decoding_message_size(limits.request_bytes)
    }
}

/// A message of its own, for a stream of its own.
#[derive(Debug)]
pub(crate) struct Answer(v1::HelperX509Response);

impl Message for Answer {
    fn of(view: &View) -> Self {
        let message = proto::workload::X509svidResponse::of(view);
        let svids = message.svids.into_iter().map(|svid| v1::HelperX509Svid {
            spiffe_id: svid.spiffe_id,
            x509_svid: svid.x509_svid,
            x509_svid_key: svid.x509_svid_key,
            bundle: svid.bundle,
            hint: svid.hint,
        });
        Self(v1::HelperX509Response {
            svids: svids.collect(),
            crl: message.crl,
        })
    }

    fn same(old: &View, new: &View) -> bool {
        proto::workload::X509svidResponse::same(old, new)
    }
}

type Answers = tokio_stream::adapters::Map<
    Updates<Answer>,
    fn(Result<Answer, Status>) -> Result<v1::HelperX509Response, Status>,
>;

#[tonic::async_trait]
impl Helper for HelperService {
    type FetchX509SVIDStream = Answers;

    async fn status(
        &self,
        request: Request<v1::HelperStatusRequest>,
    ) -> Result<Response<v1::HelperStatus>, Status> {
        let (caller, _call) = self.calls.admit::<Caller, _>(&request)?;
        let program = request.into_inner().program;
        let program = (!program.is_empty()).then(|| PathBuf::from(program));
        let described = self.source.describe(caller, program).await;
        let json = match described {
            Ok(description) => document(&description),
            Err(refusal) => serde_json::json!({ "v": 1, "refused": refusal.to_string() }),
        };
        Ok(Response::new(v1::HelperStatus {
            json: json.to_string().into_bytes(),
        }))
    }

    async fn fetch_x509svid(
        &self,
        request: Request<v1::HelperX509Request>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let (caller, call) = self.calls.admit::<Caller, _>(&request)?;
        let program = request.into_inner().program;
        if program.is_empty() {
            return Err(Status::invalid_argument("program must be specified"));
        }
        let attached = self
            .source
            .attach(caller, Some(PathBuf::from(program)))
            .await
            .map_err(|refusal| refusal.status())?;
        let subscription = Subscription {
            states: attached.states,
            held: Box::new(()),
        };
        let updates = call.stream::<Answer>(subscription).await?.into_inner();
        let unwrap: fn(Result<Answer, Status>) -> Result<v1::HelperX509Response, Status> =
            |answer| answer.map(|answer| answer.0);
        Ok(Response::new(tokio_stream::StreamExt::map(updates, unwrap)))
    }
}

/// `docs/reference/helper-status.md`. Fields are only ever added.
fn document(description: &Description) -> serde_json::Value {
    let identities: Vec<_> = description
        .identities
        .iter()
        .map(|(spiffe_id, serial, not_after)| {
            serde_json::json!({
                "spiffe_id": spiffe_id,
                "serial": serial,
                "not_after": not_after.to_string(),
            })
        })
        .collect();
    let refused: Vec<_> = description
        .refused
        .iter()
        .map(|(spiffe_id, findings)| {
            serde_json::json!({ "spiffe_id": spiffe_id, "findings": findings })
        })
        .collect();
    serde_json::json!({
        "v": 1,
        "facts": description.facts,
        "notes": description.notes,
        "identities": identities,
        "refused_identities": refused,
    })
}
