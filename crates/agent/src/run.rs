//! The running agent: its parts, and the order in which they start and stop.

use crate::attestor::Attestor;
use crate::config::AgentConfig;
use crate::enforcing::Enforcer;
use crate::health;
use crate::helper_service::HelperService;
use crate::identity::{Identity, IdentityError, Renewal};
use crate::join::JoinError;
use crate::local::LocalCallers;
use crate::shared::Shared;
use crate::source::AgentSource;
use crate::sync::{self, Sync};
use crate::workloads::Workloads;
use facts::Finding;
use spiffe_core::TrustDomain;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use workload_api::{BindError, Calls, Incoming, Limits, Listener, WorkloadApi};

/// How long open calls may take to end when the agent stops. Streams of workloads never end by themselves.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Refused(Finding),
    #[error("the Workload API's socket")]
    Bind(#[from] BindError),
    #[error("the node's identity")]
    Identity(#[from] Box<IdentityError>),
    #[error("serving the Workload API")]
    Serve(#[from] tonic::transport::Error),
    #[error("looking at the agent's own executable")]
    Ended(#[source] tokio::task::JoinError),
    #[error("serving health and metrics on {address}")]
    Http {
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
}

impl RunError {
    /// As a user sees it: the refusal that is at the bottom of it, or what failed and why.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let finding =
            |code, next: &'static str| Finding::new(code, facts::with_causes(self)).next(next);
        match self {
            Self::Refused(finding) => finding.clone(),
            Self::Bind(error) => Finding::new(
                "AGENT-SOCKET",
                format!(
                    "cannot serve the Workload API: {}",
                    facts::with_causes(error)
                ),
            )
            .next("stop the other agent, or set workload_socket to a path in a folder of its own"),
            Self::Http { address, source } => Finding::new(
                "AGENT-LISTEN",
                format!("cannot listen on {address}: {source}"),
            )
            .next("free the port, or set http_listen to another"),
            Self::Identity(error) => match error.as_ref() {
                IdentityError::Refused(finding)
                | IdentityError::Join(JoinError::Refused(finding)) => finding.clone(),
                IdentityError::Join(JoinError::Config(error)) => error.finding(),
                IdentityError::Join(JoinError::Tpm { .. }) => finding(
                    "AGENT-TPM",
                    "check join.tpm and that the agent's user may open the device: trilith tpm show",
                ),
                IdentityError::State(_) => finding(
                    "AGENT-STATE",
                    "check data_dir and its owner, and that no other agent uses it",
                ),
                _ => finding(
                    "AGENT-JOIN",
                    "check `server` and `pin`, and the server's log",
                ),
            },
            Self::Serve(_) | Self::Ended(_) => finding("AGENT-SERVE", "start the agent again"),
        }
    }
}

/// A runtime of the size that an agent needs: two workers, few blocking threads, small stacks.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_stack_size(1 << 20)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
}

/// Joins or resumes, serves the Workload API, and keeps everything current until `shutdown`.
///
/// # Errors
/// [`RunError`] when the agent cannot start, or its socket fails. A server that is away after the node has
/// joined is not an error.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), RunError> {
    run_beside(config, shutdown, |_, _| async {}).await
}

/// As [`run`], with something beside it once the node has its identity: it may ask what is known of local callers,
/// is told to stop by its token, and is waited for. Its end is not the agent's.
///
/// # Errors
/// As [`run`].
pub async fn run_beside<F>(
    config: AgentConfig,
    shutdown: CancellationToken,
    beside: impl FnOnce(LocalCallers, CancellationToken) -> F,
) -> Result<(), RunError>
where
    F: Future<Output = ()> + Send + 'static,
{
    if config.decisions.is_some() {
        return Err(RunError::Refused(undecided()));
    }
    let trust_domain = TrustDomain::new(&config.trust_domain).map_err(|error| {
        RunError::Refused(
            Finding::new("AGENT-CONFIG", format!("trust_domain: {error}"))
                .observed(config.trust_domain.clone())
                .next("correct agent.toml"),
        )
    })?;
    let config = Arc::new(config);
    let shared = Shared::new(Workloads::new(u64::from_be_bytes(crypto::random())));
    // The socket comes first: a second agent is refused before it can touch the server.
    let listener = Listener::bind(&config.workload_socket)?;
    // Beside the join, which has no use for it: a large program is longer in hashing than a chip in answering.
    let attestor = tokio::task::spawn_blocking(Attestor::new);
    let identity = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        identity = Identity::establish(&config, &trust_domain, &shared) => identity.map_err(Box::new)?,
    };
    tracing::info!(node = %identity.node_id(), "SPIFFE_ENDPOINT_SOCKET={}", listener.uri());

    let attestor = attestor.await.map_err(RunError::Ended)?;
    let attestor = Arc::new(attestor);
    let enforcer = Enforcer::new(&config, attestor.own());
    let resuming = Arc::clone(&enforcer);
    // Beside the rest: a machine enforces what it did whether its server is there or not.
    drop(tokio::task::spawn_blocking(move || resuming.resume()));
    let stop = shutdown.child_token();
    let mut tasks = JoinSet::new();
    tasks.spawn(sync::tick(Arc::clone(&shared), stop.clone()));
    tasks.spawn(
        Renewal {
            config: Arc::clone(&config),
            identity: Arc::clone(&identity),
            shared: Arc::clone(&shared),
        }
        .run(stop.clone()),
    );
    tasks.spawn(
        Sync {
            config: Arc::clone(&config),
            identity: Arc::clone(&identity),
            shared: Arc::clone(&shared),
            attestor: Arc::clone(&attestor),
            enforcer,
        }
        .run(stop.clone()),
    );
    if let Some(address) = config.http_listen {
        let served = health::serve(address, Arc::clone(&shared), identity, stop.clone());
        let served = served
            .await
            .map_err(|source| RunError::Http { address, source })?;
        tasks.spawn(served);
    }
    let source = AgentSource::new(shared, attestor, config.jwt_receipt);
    tasks.spawn(beside(LocalCallers(Arc::clone(&source)), stop.clone()));
    let served = serve(listener, source, stop.clone()).await;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    served
}

/// INVARIANT: what was asked for and is not served is not passed over.
fn undecided() -> Finding {
    Finding::new(
        "AGENT-DECISIONS",
        "agent.toml asks for decisions, and this program makes none",
    )
    .expected("no [decisions]")
    .next("run `trilith agent`, which makes them; or remove the section")
}

async fn serve(
    listener: Listener,
    source: Arc<AgentSource>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let limits = Limits::default();
    let calls = Calls::new(&limits);
    let incoming = Incoming::new(listener, Arc::clone(&source), &limits);
    let serving = workload_api::server(&limits)
        .add_service(WorkloadApi::service(
            Arc::clone(&source),
            calls.clone(),
            &limits,
        ))
        .add_service(HelperService::service(source, calls, &limits))
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let grace = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = grace => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The slim agent runs so, and so does whoever forgets to take the section out.
    #[tokio::test]
    async fn decisions_that_this_program_does_not_make_are_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let text = format!(
            "trust_domain = \"example.org\"\nserver = \"127.0.0.1:1\"\npin = \"tl1:{}\"\n\
             data_dir = \"{at}/data\"\nworkload_socket = \"{at}/run/workload.sock\"\n\
             [join]\nmethod = \"token\"\n[decisions]\nname = \"m1\"\n",
            "0".repeat(64)
        );
        let config = AgentConfig::parse(&text, Path::new("agent.toml")).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let refused = run(config, stop).await.unwrap_err();
        assert_eq!(refused.finding().code, "AGENT-DECISIONS");
        assert!(!folder.path().join("run").exists(), "nothing was touched");
    }
}
