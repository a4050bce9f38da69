//! `trilith pdp`: a gateway's core with nothing behind it, and two listeners.

use crate::config::Config;
use crate::front;
use crate::local::Attest;
use crate::service::Plane;
use facts::Finding;
use gateway::{Core, CoreError};
use std::net::SocketAddr;
use std::sync::Arc;
use svid_tls::ClientAuth;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use workload_api::{BindError, Listener};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Refused(#[from] Finding),
    #[error("the core of the decision point")]
    Core(#[from] CoreError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot listen on the Unix socket")]
    Socket(#[from] BindError),
    #[error("TLS cannot be set up")]
    Tls(#[source] svid_tls::Error),
    #[error("records cannot be kept: {0}")]
    Recording(Arc<str>),
}

impl RunError {
    /// Whether it may go away by itself: the server could not be reached for the first contact.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Core(CoreError::Anchors(_)))
    }
}

/// Runs until `shutdown` becomes true, or records can no longer be kept.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, shutdown: watch::Receiver<bool>) -> Result<(), RunError> {
    let tcp = match config.listen.address {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|source| RunError::Listen { address, source })?,
        ),
    };
    // Its metrics are served here, with this crate's.
    let core = Core::open(gateway::Config {
        http_listen: None,
        ..config.pdp.clone()
    })
    .await?;
    run_with(config, core, tcp, shutdown).await
}

/// As [`run`], with a core and a TCP listener that are open already.
///
/// # Errors
/// [`RunError`].
pub async fn run_with(
    config: Config,
    core: Arc<Core>,
    tcp: Option<TcpListener>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let plane = Plane::new(config, Arc::clone(&core), None)?;
    serve(plane, core, tcp, shutdown).await
}

/// In the process of a node agent, for its local callers, whom it attests. `config` is what
/// [`LocalConfig::beside`](crate::LocalConfig::beside) made.
///
/// # Errors
/// [`RunError`].
pub async fn run_beside(
    config: Config,
    attest: Arc<dyn Attest>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let core = Core::open(gateway::Config {
        http_listen: None,
        ..config.pdp.clone()
    })
    .await?;
    run_beside_with(config, core, attest, shutdown).await
}

/// As [`run_beside`], with a core that is open already.
///
/// # Errors
/// [`RunError`].
pub async fn run_beside_with(
    config: Config,
    core: Arc<Core>,
    attest: Arc<dyn Attest>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let plane = Plane::new(config, Arc::clone(&core), Some(attest))?;
    serve(plane, core, None, shutdown).await
}

async fn serve(
    plane: Arc<Plane>,
    core: Arc<Core>,
    tcp: Option<TcpListener>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let metrics = match plane.config.pdp.http_listen {
        None => None,
        Some(address) => Some(
            Arc::clone(&plane.metrics)
                .serve(address, Arc::clone(&core))
                .await
                .map_err(|source| RunError::Listen { address, source })?,
        ),
    };
    let stop = CancellationToken::new();
    let mut serving = JoinSet::new();
    if let Some(listener) = tcp {
        // Whoever has a valid SVID completes the handshake; admission comes after it.
        let anyone = svid_tls::peer::any_member(core.trust_domain().clone());
        let bundles: Arc<dyn svid_tls::BundleSource> = Arc::new(core.following().clone());
        let own = Arc::clone(&core.own().svid);
        let mut tls =
            svid_tls::server(own, ClientAuth::Required(bundles, anyone)).map_err(RunError::Tls)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tracing::info!(address = ?listener.local_addr().ok(), "questions are answered");
        let tls = TlsAcceptor::from(Arc::new(tls));
        serving.spawn(front::tcp(Arc::clone(&plane), listener, tls, stop.clone()));
    }
    if let Some(path) = &plane.config.listen.socket {
        let listener = Listener::bind(path)?;
        tracing::info!(socket = %path.display(), "questions are answered");
        serving.spawn(front::unix(Arc::clone(&plane), listener, stop.clone()));
    }
    let mut stopped = core.stopped();
    let failure = tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => None,
        failed = stopped.wait_for(Option::is_some) => failed.ok().and_then(|reason| reason.clone()),
    };
    stop.cancel();
    while serving.join_next().await.is_some() {}
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    drop(plane);
    match failure {
        Some(reason) => Err(RunError::Recording(reason)),
        None => Ok(core.close().await?),
    }
}
