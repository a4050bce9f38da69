//! The agent as a `workload_api::Source`: attest at each call, then follow the core's entry.

use crate::attestor::{Attestor, Process};
use crate::shared::Shared;
use crate::workloads::{Attached, Description, JwtAnswer};
use device::process::{BootTime, Caller};
use facts::Timestamp;
use rustix::fd::{AsRawFd, RawFd};
use spiffe_core::{JwtSvid as Token, SpiffeId};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use workload_api::{JwtQuery, JwtSvid, Refusal, Source, Subscription, Validated};

#[derive(Debug)]
pub(crate) struct AgentSource {
    shared: Arc<Shared>,
    attestor: Arc<Attestor>,
    jwt_receipt: bool,
}

impl AgentSource {
    pub(crate) fn new(
        shared: Arc<Shared>,
        attestor: Arc<Attestor>,
        jwt_receipt: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            attestor,
            jwt_receipt,
        })
    }

    /// Attests `caller`, or the program it is about to execute, and follows what may be held.
    pub(crate) async fn attach(
        &self,
        caller: Arc<Caller>,
        program: Option<PathBuf>,
    ) -> Result<Attached, Refusal> {
        let process = Arc::new(Process { caller, program });
        let (subject, _) = self.attestor.attest(Arc::clone(&process), 0).await?;
        let mut attached = self
            .shared
            .with(|core| core.attested(&subject, Timestamp::now()))?;
        if let Some(ended) = attached.watch.take() {
            watch(&self.shared, process, attached.name.clone(), ended)
                .map_err(|error| Refusal::unavailable("AGENT-WATCH", error.to_string()))?;
        }
        Ok(attached)
    }

    /// What is known of the caller, once the server has answered for it or refused it.
    pub(crate) async fn describe(
        &self,
        caller: Arc<Caller>,
        program: Option<PathBuf>,
    ) -> Result<Description, Refusal> {
        let mut attached = self.attach(caller, program).await?;
        let known = attached
            .states
            .wait_for(|state| !matches!(state, workload_api::State::Pending));
        // Without an answer in time the facts alone are described.
        drop(tokio::time::timeout(std::time::Duration::from_secs(5), known).await);
        self.shared
            .with(|core| core.describe(&attached.name))
            .ok_or_else(|| Refusal::unavailable("AGENT-CHANGED", "the caller changed; try again"))
    }
}

impl Source for AgentSource {
    type Caller = Caller;

    fn identify(&self, connection: &UnixStream) -> io::Result<Caller> {
        Caller::of(connection, BootTime::now()).map_err(io::Error::other)
    }

    async fn subscribe(&self, caller: Arc<Caller>) -> Result<Subscription, Refusal> {
        let attached = self.attach(caller, None).await?;
        Ok(Subscription {
            states: attached.states,
            held: Box::new(()),
        })
    }

    async fn jwt(&self, caller: Arc<Caller>, query: JwtQuery) -> Result<Vec<JwtSvid>, Refusal> {
        if let Some(id) = &query.spiffe_id {
            id.parse::<SpiffeId>()
                .map_err(|error| Refusal::invalid("JWT-SPIFFE-ID", error.to_string()))?;
        }
        let mut attached = self.attach(caller, None).await?;
        // The server must know the workload before it can be asked for its tokens.
        let known = attached
            .states
            .wait_for(|state| !matches!(state, workload_api::State::Pending))
            .await
            .map(|state| state.clone());
        if let Ok(workload_api::State::Refused(refusal)) = known {
            return Err((*refusal).clone());
        }
        let answer = self
            .shared
            .with(|core| core.jwt(&attached.name, &query, !self.jwt_receipt, Timestamp::now()))?;
        match answer {
            JwtAnswer::Now(svids) => Ok(svids),
            JwtAnswer::Later(reply) => reply
                .await
                .map_err(|_| Refusal::unavailable("AGENT-OFFLINE", "the agent is stopping"))?,
        }
    }

    /// Only tokens of the own trust domain: no other domain's keys are held yet. Where this site's tokens
    /// carry receipts, one without was signed by nobody who recorded it.
    async fn validate(
        &self,
        caller: Arc<Caller>,
        audience: String,
        token: String,
    ) -> Result<Validated, Refusal> {
        let process = Arc::new(Process {
            caller,
            program: None,
        });
        self.attestor.attest(process, 0).await?;
        let (bundle, receipts) = self
            .shared
            .trusted()
            .ok_or_else(|| Refusal::unavailable("AGENT-OFFLINE", "no trust bundle is known yet"))?;
        let now = Timestamp::now();
        let valid = if self.jwt_receipt {
            receipts.jwt(&bundle, &token, &audience, now)
        } else {
            Token::parse(&token).and_then(|token| token.validate(&bundle, &audience, now))
        };
        let valid = valid.map_err(Refusal::Invalid)?;
        Ok(Validated {
            spiffe_id: valid.spiffe_id.to_string(),
            claims: valid.claims,
        })
    }
}

/// Owned by the watching task; the descriptor lives in the caller.
struct Watched(Arc<Process>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.caller.pidfd().as_raw_fd()
    }
}

/// Drops the entry `name` when its process ends; stops when the entry has ended otherwise.
fn watch(
    shared: &Arc<Shared>,
    process: Arc<Process>,
    name: String,
    ended: oneshot::Receiver<()>,
) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe; `Watched` owns its caller, whose pidfd never changes"
    )]
    let pidfd = AsyncFd::with_interest(Watched(process), Interest::READABLE)?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::select! {
            _ = pidfd.readable() => shared.with(|core| core.gone(&name)),
            _ = ended => {}
        }
    });
    Ok(())
}
