//! `trilith witness`: keys from custody, the state, two listeners, until it is told to stop or cannot keep its
//! state any more.

use crate::config::{Config, Kind};
use crate::http::{self, Shared};
use crate::limits::Clients;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::store::StoreError;
use crate::witness::Witness;
use crypto::{Algorithm, Custody as _};
use custody::FileCustody;
use facts::Finding;
use ledger::Cosigner;
use ledger_store::{Disk as _, RealDisk, replace};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where the verifier keys stand, a line each, to be given to logs and readers.
const VERIFIER_KEYS: &str = "verifier-keys";
/// Those of the mirror.
const MIRROR_KEYS: &str = "mirror-verifier-keys";

#[derive(Debug, Error)]
pub enum RunError {
    #[error("{0}")]
    Refused(#[from] Finding),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the state of the witness")]
    State(#[from] StoreError),
}

impl RunError {
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::Refused(finding) => finding.clone(),
            Self::State(error) => error.finding(),
            Self::Listen { .. } => Finding::new("WITNESS-LISTEN", facts::with_causes(self))
                .next("end what listens there, or name another address in witness.toml"),
        }
    }
}

/// Runs until `stop`, or until the state can no longer be kept.
///
/// # Errors
/// Why it does not start, or has ended.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let logs = config.logs()?;
    let listener = bind(config.witness.listen).await?;
    let own = match config.witness.http_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let witness = Arc::new(open(&config, &logs)?);
    let mirror = match &config.mirror {
        Some(of) => Some(Arc::new(open_mirror(&config, of, &witness)?)),
        None => None,
    };
    let metrics = Arc::new(Metrics::default());
    for (origin, size) in witness.sizes() {
        metrics.stands(origin, size.unwrap_or(0));
    }
    for key in witness.keys() {
        tracing::info!(%key, "this witness signs as");
    }
    for key in mirror.iter().flat_map(|mirror| mirror.keys()) {
        tracing::info!(%key, "the mirror beside it signs as");
    }
    let address = listener.local_addr().ok();
    tracing::info!(?address, logs = logs.len(), "checkpoints are cosigned");
    let limits = config.limits.limits();
    let shared = Shared {
        witness: Arc::clone(&witness),
        clients: Arc::new(Clients::new(limits.client)),
        metrics,
        uploads: listen::Places::new(config.mirror.as_ref().map_or(1, |of| of.uploads.into())),
        mirror: mirror.clone(),
    };
    let stop = stop.child_token();
    let public = http::public(shared.clone());
    let serving = tokio::spawn(listen::serve_each(
        listener,
        move |source| public.clone().layer(axum::Extension(source)),
        stop.clone(),
    ));
    let watched =
        own.map(|own| tokio::spawn(listen::serve_http(own, http::own(shared), stop.clone())));
    let failure = tokio::select! {
        () = stop.cancelled() => None,
        failure = witness.ended() => failure,
        failure = ended(mirror.as_deref()) => failure,
    };
    stop.cancel();
    drop(serving.await);
    if let Some(watched) = watched {
        drop(watched.await);
    }
    match failure {
        Some(finding) => Err(RunError::Refused(Finding::clone(&finding))),
        None => Ok(()),
    }
}

/// Never, where there is no mirror.
async fn ended(mirror: Option<&Mirror>) -> Option<Arc<Finding>> {
    match mirror {
        Some(mirror) => mirror.ended().await,
        None => std::future::pending().await,
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| RunError::Listen { address, source })
}

/// The state first: there is a roster before there are keys, so that keys without one show that it was lost.
fn open(config: &Config, logs: &crate::Logs) -> Result<Witness, RunError> {
    let (disk, folder) = (RealDisk, config.witness.data_dir.as_path());
    let made = disk.create_dir_all(folder);
    made.map_err(|source| at(folder, source))?;
    let custody = FileCustody::open(&folder.join("keys"))
        .map_err(|error| keys(facts::with_causes(&error)))?;
    let kinds = &config.witness.keys;
    let mut old = false;
    // Of any kind: what was signed with one that is not named any more was signed.
    for kind in [Kind::MlDsa44, Kind::Ed25519] {
        let held = custody.load(kind.key());
        old |= held
            .map_err(|error| keys(facts::with_causes(&error)))?
            .is_some();
    }
    let opened = Witness::open(Arc::new(disk), &folder.join("state"), old)?;
    let cosigners = cosigners(&custody, &config.witness.name, kinds, Kind::key)?;
    publish(&cosigners, &folder.join(VERIFIER_KEYS))?;
    Ok(opened.witness(cosigners, logs, config.limits.limits())?)
}

fn open_mirror(
    config: &Config,
    of: &crate::MirrorConfig,
    witness: &Arc<Witness>,
) -> Result<Mirror, RunError> {
    let folder = config.witness.data_dir.as_path();
    let custody = FileCustody::open(&folder.join("keys"))
        .map_err(|error| keys(facts::with_causes(&error)))?;
    // "the same public key can't be used across multiple cosigners".
    let cosigners = cosigners(&custody, &of.name, &of.keys, Kind::mirror_key)?;
    publish(&cosigners, &folder.join(MIRROR_KEYS))?;
    let path = folder.join("mirror");
    let made = RealDisk.create_dir_all(&path);
    made.map_err(|source| at(&path, source))?;
    let disk: Arc<dyn ledger_store::Disk> = Arc::new(RealDisk);
    let spare = of.min_free_mib.saturating_mul(1 << 20);
    let mirrors = |origin: &str| of.mirrors(origin);
    let witness = Arc::clone(witness);
    Ok(Mirror::open(
        &disk, &path, witness, cosigners, spare, mirrors,
    )?)
}

fn cosigners(
    custody: &FileCustody,
    name: &str,
    kinds: &[Kind],
    key: impl Fn(Kind) -> &'static str,
) -> Result<Vec<Cosigner>, Finding> {
    let cosigners = kinds.iter().map(|kind| {
        let signer = custody.load_or_generate(key(*kind), kind.algorithm());
        let signer = signer.map_err(|error| keys(facts::with_causes(&error)))?;
        Cosigner::new(name, signer).map_err(|error| keys(error.to_string()))
    });
    cosigners.collect()
}

fn publish(cosigners: &[Cosigner], path: &Path) -> Result<(), StoreError> {
    let lines: String = cosigners
        .iter()
        .map(|one| format!("{}\n", one.key()))
        .collect();
    replace(&RealDisk, path, lines.as_bytes()).map_err(|source| at(path, source))
}

fn at(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        doing: "write",
        path: path.to_owned(),
        source: Arc::new(source),
    }
}

fn keys(what: String) -> Finding {
    Finding::new("WITNESS-KEYS", what)
        .next("let the witness's user, and nobody else, have `keys` in its data_dir")
}

impl Kind {
    /// Its name in custody.
    const fn key(self) -> &'static str {
        match self {
            Self::MlDsa44 => "witness-ml-dsa-44",
            Self::Ed25519 => "witness-ed25519",
        }
    }

    /// The mirror's.
    const fn mirror_key(self) -> &'static str {
        match self {
            Self::MlDsa44 => "mirror-ml-dsa-44",
            Self::Ed25519 => "mirror-ed25519",
        }
    }

    const fn algorithm(self) -> Algorithm {
        match self {
            Self::MlDsa44 => Algorithm::MlDsa44,
            Self::Ed25519 => Algorithm::Ed25519,
        }
    }
}
