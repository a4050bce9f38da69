//! The seven calls of `SpiffeWorkloadAPI`: checks of the request, then the [`Source`].

use crate::limits::{Slot, Slots};
use crate::updates::Message;
use crate::{JwtQuery, Limits, Peer, Refusal, Source, State, Subscription, Updates, claims};
use proto::workload as wire;
use proto::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Endpoint spec, section 6: "workload.spiffe.io" with the value "true", case-sensitive.
pub const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// How long a call waits for the first answer of the source before it is told to try again.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

const MAX_AUDIENCES: usize = 64;

/// A server with the limits of this endpoint and small buffers: 100 open streams cost little memory.
#[must_use]
pub fn server(limits: &Limits) -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(limits.calls_per_connection)
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .max_frame_size(16_384)
        .http2_max_header_list_size(16 << 10)
        .http2_max_pending_accept_reset_streams(Some(32))
}

/// Who made `request`, if it carries the security header.
///
/// # Errors
/// `InvalidArgument` without the header, which a client should not retry (endpoint spec, section 6).
pub fn peer_of<C: Send + Sync + 'static, R>(request: &Request<R>) -> Result<Peer<C>, Status> {
    let (name, value) = SECURITY_HEADER;
    if request
        .metadata()
        .get(name)
        .is_none_or(|seen| seen != value)
    {
        return Err(Status::invalid_argument(format!(
            "security header missing from request: expected {name}: {value}"
        )));
    }
    request
        .extensions()
        .get::<Peer<C>>()
        .cloned()
        .ok_or_else(|| Status::unavailable("the connection has no identified caller"))
}

/// Admission of calls, shared by every service on the socket.
#[derive(Debug, Clone)]
pub struct Calls {
    slots: Arc<Slots>,
}

/// One call under way.
#[derive(Debug)]
pub struct Call {
    slot: Slot,
}

impl Calls {
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            slots: Slots::new(usize::MAX, limits.calls_per_uid),
        }
    }

    /// The caller of `request`, if it carries the security header and its user has calls left.
    ///
    /// # Errors
    /// `InvalidArgument` without the header, `Unavailable` beyond the limit.
    pub fn admit<C, R>(&self, request: &Request<R>) -> Result<(Arc<C>, Call), Status>
    where
        C: Send + Sync + 'static,
    {
        let peer = peer_of::<C, R>(request)?;
        let slot = self.slots.take(peer.uid).ok_or_else(|| {
            Refusal::unavailable(
                "WORKLOAD-API-BUSY",
                "this user has too many calls under way",
            )
            .status()
        })?;
        Ok((peer.caller, Call { slot }))
    }
}

impl Call {
    /// Answers with the states of `subscription`, once there is something to show.
    ///
    /// # Errors
    /// The refusal's status, or `Unavailable` if nothing is known in time.
    pub async fn stream<M: Message>(
        self,
        mut subscription: Subscription,
    ) -> Result<Response<Updates<M>>, Status> {
        first_answer(&mut subscription).await?;
        Ok(Response::new(Updates::new(subscription, self.slot)))
    }
}

/// The Workload API over a [`Source`].
#[derive(Debug)]
pub struct WorkloadApi<S> {
    source: Arc<S>,
    calls: Calls,
}

impl<S: Source> WorkloadApi<S> {
    /// The service for a [`server`].
    #[must_use]
    pub fn service(source: Arc<S>, calls: Calls, limits: &Limits) -> SpiffeWorkloadApiServer<Self> {
        SpiffeWorkloadApiServer::new(Self { source, calls })
            .max_decoding_message_size(limits.request_bytes)
    }

    async fn stream<R, M: Message>(
        &self,
        request: Request<R>,
    ) -> Result<Response<Updates<M>>, Status> {
        let (caller, call) = self.calls.admit(&request)?;
        let subscribed = self.source.subscribe(caller).await;
        call.stream(subscribed.map_err(|refusal| refusal.status())?)
            .await
    }
}

/// Waits until there is something to show, so that a refusal is the answer to the call itself.
async fn first_answer(subscription: &mut Subscription) -> Result<(), Status> {
    let known = subscription
        .states
        .wait_for(|state| !matches!(state, State::Pending));
    match tokio::time::timeout(FIRST_ANSWER, known).await {
        Ok(Ok(state)) => match &*state {
            State::Refused(refusal) => Err(refusal.status()),
            State::Pending | State::Current(_) => Ok(()),
        },
        Ok(Err(_)) => Err(Status::unavailable("the agent is stopping")),
        Err(_) => Err(Refusal::unavailable(
            "WORKLOAD-API-WAIT",
            "the server has not answered yet; try again",
        )
        .status()),
    }
}

#[tonic::async_trait]
impl<S: Source> SpiffeWorkloadApi for WorkloadApi<S> {
    type FetchX509SVIDStream = Updates<wire::X509svidResponse>;
    type FetchX509BundlesStream = Updates<wire::X509BundlesResponse>;
    type FetchJWTBundlesStream = Updates<wire::JwtBundlesResponse>;
    type FetchWITSVIDStream = tokio_stream::Empty<Result<wire::WitsvidResponse, Status>>;
    type FetchWITBundlesStream = tokio_stream::Empty<Result<wire::WitBundlesResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<wire::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.stream(request).await
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<wire::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.stream(request).await
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<wire::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.stream(request).await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<wire::JwtsvidRequest>,
    ) -> Result<Response<wire::JwtsvidResponse>, Status> {
        let (caller, _call) = self.calls.admit(&request)?;
        let query = query(request.into_inner()).map_err(|refusal| refusal.status())?;
        let answer = self.source.jwt(caller, query);
        let svids = tokio::time::timeout(FIRST_ANSWER, answer)
            .await
            .map_err(|_| Status::unavailable("the server has not answered yet; try again"))?
            .map_err(|refusal| refusal.status())?;
        if svids.is_empty() {
            return Err(Refusal::Denied(Vec::new()).status());
        }
        let svids = svids.into_iter().map(|svid| wire::Jwtsvid {
            spiffe_id: svid.spiffe_id,
            svid: svid.token,
            hint: svid.hint,
        });
        Ok(Response::new(wire::JwtsvidResponse {
            svids: svids.collect(),
        }))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<wire::ValidateJwtsvidRequest>,
    ) -> Result<Response<wire::ValidateJwtsvidResponse>, Status> {
        let (caller, _call) = self.calls.admit(&request)?;
        let wire::ValidateJwtsvidRequest { audience, svid } = request.into_inner();
        // API spec, section 6.2.5: both fields are mandatory.
        if audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        if svid.is_empty() {
            return Err(Status::invalid_argument("svid must be specified"));
        }
        let validated = self
            .source
            .validate(caller, audience, svid)
            .await
            .map_err(|refusal| refusal.status())?;
        Ok(Response::new(wire::ValidateJwtsvidResponse {
            spiffe_id: validated.spiffe_id,
            claims: Some(claims::structure(validated.claims)),
        }))
    }

    async fn fetch_witsvid(
        &self,
        request: Request<wire::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        let _peer: Peer<S::Caller> = peer_of(&request)?;
        Err(Status::unimplemented("the WIT profile is not offered"))
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<wire::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        let _peer: Peer<S::Caller> = peer_of(&request)?;
        Err(Status::unimplemented("the WIT profile is not offered"))
    }
}

/// API spec, section 6.2.2: the audience is mandatory; an empty `spiffe_id` asks for all.
fn query(request: wire::JwtsvidRequest) -> Result<JwtQuery, Refusal> {
    let wire::JwtsvidRequest {
        audience,
        spiffe_id,
    } = request;
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        return Err(Refusal::invalid(
            "JWT-AUDIENCE",
            "audience must be specified",
        ));
    }
    if audience.len() > MAX_AUDIENCES {
        return Err(Refusal::invalid("JWT-AUDIENCE", "too many audiences"));
    }
    Ok(JwtQuery {
        audience,
        spiffe_id: Some(spiffe_id).filter(|id| !id.is_empty()),
    })
}
