//! The gateway as a process runs it: core, databases, listener, until it is told to stop.

use crate::application::Applications;
use crate::config::Config;
use crate::database::Database;
use crate::pool::Pool;
use crate::session::{Cancels, Front, Shares, serve};
use crate::upstream::Roles;
use facts::Finding;
use gateway::{Core, CoreError};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use svid_tls::ClientAuth;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Refused(#[from] Finding),
    #[error("the gateway's core")]
    Core(#[from] CoreError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("TLS cannot be set up")]
    Tls(#[source] svid_tls::Error),
    #[error("records cannot be kept: {0}")]
    Recording(Arc<str>),
}

/// Runs until `shutdown` becomes true, or records can no longer be kept.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, shutdown: watch::Receiver<bool>) -> Result<(), RunError> {
    let address = config.listen.address;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })?;
    let core = Core::open(config.gateway.clone()).await?;
    run_with(&config, core, listener, shutdown).await
}

/// As [`run`], with a core and a listener that are open already.
///
/// # Errors
/// [`RunError`].
pub async fn run_with(
    config: &Config,
    core: Arc<Core>,
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    // Once, and a small file, before anybody is served.
    let applications = Applications::open(config.application_name, &config.gateway.data_dir)?;
    let following = core.following().clone();
    let mut databases = HashMap::new();
    let mut tasks = Vec::new();
    let pool = Arc::new(Pool::new());
    for listed in &config.databases {
        let trust_domain = core.trust_domain().as_str();
        let (wanted, limits) = (config.wanted(listed), config.limits.of_text());
        let roles = Roles::new(trust_domain, &config.gateway.name, &listed.database);
        let database = Database::new(listed, roles, wanted, Arc::clone(&pool), limits)?;
        let database = Arc::new(database);
        database.check_encoding().await?;
        tasks.push(tokio::spawn(
            Arc::clone(&database).maintain(following.clone()),
        ));
        databases.insert(listed.database.clone(), database);
    }
    // Whoever has a valid SVID completes the handshake; admission, which may have to wait for a
    // checkpoint, comes after it.
    let anyone = svid_tls::peer::any_member(core.trust_domain().clone());
    let bundles: Arc<dyn svid_tls::BundleSource> = Arc::new(following.clone());
    let tls = svid_tls::server(
        Arc::clone(&core.own().svid),
        ClientAuth::Required(bundles, anyone),
    )
    .map_err(RunError::Tls)?;
    let front = Arc::new(Front {
        core: Arc::clone(&core),
        databases,
        tls: TlsAcceptor::from(Arc::new(tls)),
        cancels: Arc::new(Cancels::default()),
        shares: Shares::new(config.listen.max_connections),
        members: listen::Places::new(config.listen.max_handshakes),
        limits: config.limits(),
        applications,
    });
    tracing::info!(address = ?listener.local_addr().ok(), "clients are served");

    let mut stopped = core.stopped();
    let (stop, stopping) = watch::channel(false);
    let mut serving = tokio::spawn(serve(Arc::clone(&front), listener, stopping));
    let failure = tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => None,
        failed = stopped.wait_for(Option::is_some) => failed.ok().and_then(|reason| reason.clone()),
        _ = &mut serving => None,
    };
    stop.send_replace(true);
    if tokio::time::timeout(Duration::from_secs(10), serving)
        .await
        .is_err()
    {
        tracing::warn!("the listener did not end in time");
    }
    for task in tasks {
        task.abort();
    }
    drop(front);
    match failure {
        Some(reason) => Err(RunError::Recording(reason)),
        None => Ok(core.close().await?),
    }
}
