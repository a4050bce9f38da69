//! A gateway's core: opened once, shared by whatever speaks a protocol.

use crate::follow::Client;
use crate::lineage::{self, KEYS, LEDGER};
use crate::recovery::{self, RecoveryError};
use crate::{Config, Cut, CutReason, Following, Metrics, OwnIdentity, Recorder, own};
use custody::{FileCustodyError, LedgerKeys};
use facts::{Finding, Timestamp};
use ledger::LedgerKey;
use ledger_store::{Disk, Ledger, Options, Reader, RealDisk, StoreError};
use rustls_pki_types::CertificateDer;
use spiffe_core::TrustDomain;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use svid_tls::pin::{Anchors, PinnedAnchors};
use tokio::sync::watch;

pub(crate) const PROGRAM: &str = "trilith gateway";
/// Staleness is looked at this often.
const STALE_EVERY: Duration = Duration::from_millis(250);
/// Records of reads have this long to become durable when the gateway stops.
const LAST_RECORDS: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    #[error("{0}")]
    Refused(#[from] Finding),
    #[error("cannot use {path}")]
    Data {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the key of the gateway's ledger")]
    Custody(#[from] FileCustodyError),
    #[error("the key of the gateway's ledger")]
    Key(#[from] crypto::Error),
    #[error("the gateway's ledger")]
    Ledger(#[from] StoreError),
    #[error("taking up where the last run ended")]
    Recovery(#[from] RecoveryError),
    #[error("first contact with the server")]
    Anchors(#[from] link::AnchorsError),
    #[error("the server's ledger key")]
    LedgerKey(#[from] ledger::KeyError),
    #[error("what was read last could not be recorded; the next start records the gap")]
    Unrecorded,
    #[error("cannot listen on the metrics address")]
    Metrics(#[source] io::Error),
}

/// Everything between a connection and its protocol.
pub struct Core {
    config: Config,
    trust_domain: TrustDomain,
    following: Following,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    own: OwnIdentity,
    ledger: Ledger,
    /// INVARIANT: held for as long as anything is signed.
    _keys: LedgerKeys,
    reader: Reader,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    stopped: watch::Receiver<Option<Arc<str>>>,
}

impl Core {
    /// Opens ledger and state, takes up where the last run ended, and begins to follow the server.
    ///
    /// # Errors
    /// [`CoreError`]. With a server that cannot be reached it opens from what was followed before.
    pub async fn open(config: Config) -> Result<Arc<Self>, CoreError> {
        Self::open_on(config, Arc::new(RealDisk)).await
    }

    /// As [`Core::open`], with the gateway's ledger on `disk`.
    ///
    /// # Errors
    /// [`CoreError`].
    pub async fn open_on(config: Config, disk: Arc<dyn Disk>) -> Result<Arc<Self>, CoreError> {
        let trust_domain = config.check()?;
        directory(&config.data_dir)?;
        let keys = lineage::keys(&config.data_dir.join(KEYS), &config.origin(), true)?;
        let (failed, stopped) = watch::channel(None);
        let options = Options {
            on_failure: Some(Arc::new(move |error: &StoreError| {
                failed.send_replace(Some(error.to_string().into()));
            })),
            disk,
            ..Options::default()
        };
        let ledger_dir = config.data_dir.join(LEDGER);
        let ledger = Ledger::open_signed(&ledger_dir, keys.signer().clone(), &options)?;
        lineage::have_begun(&keys, ledger.reader())?;
        // Who reads the folder from outside has no key but what is told there.
        ledger_store::keep_lineage(&ledger_dir, keys.signer().key())?;
        let handle = ledger.handle();
        let reader = handle.reader().clone();
        let anchors = anchors(&config, &trust_domain).await?;
        let key = LedgerKey::new(
            &format!("{trust_domain}/server"),
            anchors.ledger_key.clone(),
        )?;
        let followed = config.data_dir.join("followed");
        directory(&followed)?;
        let watch = config.witnesses.as_ref();
        let watch = watch.map(crate::Witnesses::read).transpose()?;
        let (following, questions) =
            Following::open_watched(trust_domain.clone(), key, &followed, watch)?;

        let metrics = Arc::new(Metrics::default());
        let id = trust_domain
            .identity(&config.identity)
            .map_err(|error| Finding::new("GATEWAY-CONFIG", error.to_string()))?;
        let mut listening = None;
        if let Some(address) = config.http_listen {
            let ready = {
                let following = following.clone();
                move || {
                    let now = Timestamp::now();
                    following.fresh(now).is_ok() && following.seen_by_others(now).is_ok()
                }
            };
            let served = Arc::clone(&metrics).serve(address, ready).await;
            listening = Some(served.map_err(CoreError::Metrics)?);
        }
        let noted = config.data_dir.join(recovery::NOTED);
        // What depends on others has not failed: a start that never becomes a run leaves no record.
        let open = {
            let (handle, reader) = (handle.clone(), reader.clone());
            let domain = config.trust_domain.clone();
            let now = Timestamp::now().as_millis();
            let noted = noted.clone();
            tokio::task::spawn_blocking(move || {
                recovery::recover(&handle, &reader, &noted, &domain, PROGRAM, now)
            })
        };
        let open = open
            .await
            .map_err(|error| Finding::new("GATEWAY-TASK", error.to_string()))??;
        if open > 0 {
            tracing::warn!(open, "operations of the last run have an unknown outcome");
        }

        let (own, renewing) = own::follow(&config.workload_socket, id);
        let client = Client {
            server: config.server.clone(),
            anchors,
            own: own.clone(),
            following: following.clone(),
            ledger: handle.clone(),
            reader: reader.clone(),
            metrics: Arc::clone(&metrics),
            anchored: config.data_dir.join(crate::retention::ANCHORED),
            questions,
        };
        let mut tasks = vec![
            renewing,
            tokio::spawn(client.run()),
            tokio::spawn(watch_staleness(following.clone(), Arc::clone(&metrics))),
            tokio::spawn(watch_ledger(following.clone(), stopped.clone())),
            tokio::spawn(recovery::settle(reader.clone(), noted)),
        ];
        tasks.extend(listening);
        Ok(Arc::new(Self {
            recorder: Recorder::start(handle, &config.name, Arc::clone(&metrics)),
            trust_domain,
            following,
            metrics,
            own,
            ledger,
            _keys: keys,
            reader,
            tasks,
            stopped,
            config,
        }))
    }

    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    #[must_use]
    pub const fn following(&self) -> &Following {
        &self.following
    }

    #[must_use]
    pub const fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    #[must_use]
    pub const fn own(&self) -> &OwnIdentity {
        &self.own
    }

    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Who the peer that presented `chain` is, and that it may come in.
    ///
    /// # Errors
    /// As [`Following::admit`].
    pub async fn admit(&self, chain: &[CertificateDer<'_>]) -> Result<crate::Principal, Finding> {
        let admitted = self.following.admit(chain, Timestamp::now()).await;
        if admitted.is_err() {
            self.metrics.refused.inc();
        }
        admitted
    }

    /// Becomes something once records can no longer be kept: the process must stop.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.stopped.clone()
    }

    /// Ends every session, records that the run ended in order, and closes the ledger. The caller has let
    /// its sessions write their ends.
    ///
    /// # Errors
    /// [`CoreError`].
    pub async fn close(self: Arc<Self>) -> Result<(), CoreError> {
        for task in &self.tasks {
            task.abort();
        }
        self.following.keep()?;
        // INVARIANT: nothing is recorded after `stop`, which says that nothing is missing.
        let flushed = tokio::time::timeout(LAST_RECORDS, self.recorder.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            return Err(CoreError::Unrecorded);
        }
        let handle = self.ledger.handle();
        tokio::task::spawn_blocking(move || recovery::stop(&handle, PROGRAM))
            .await
            .map_err(|error| Finding::new("GATEWAY-TASK", error.to_string()))??;
        Ok(())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The pinned anchors: from first contact, later from disk, so that a start needs no server.
async fn anchors(config: &Config, trust_domain: &TrustDomain) -> Result<PinnedAnchors, CoreError> {
    let path = config.data_dir.join("anchors.json");
    match fs::read(&path) {
        Ok(bytes) => {
            let stored: (String, Vec<String>, String) = serde_json::from_slice(&bytes)
                .map_err(|error| unusable(&path, &error.to_string()))?;
            let decode = |text: &String| {
                crypto::base64::decode(text).map_err(|error| unusable(&path, &error.to_string()))
            };
            let anchors = Anchors {
                trust_domain: stored.0,
                roots: stored.1.iter().map(decode).collect::<Result<_, _>>()?,
                ledger_key: decode(&stored.2)?,
            };
            Ok(anchors.check(&config.pin)?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (anchors, pinned) =
                link::anchors(&config.server, trust_domain, &config.pin).await?;
            let roots: Vec<String> = anchors
                .roots
                .iter()
                .map(|root| crypto::base64::encode(root))
                .collect();
            let stored = (
                anchors.trust_domain,
                roots,
                crypto::base64::encode(&anchors.ledger_key),
            );
            let bytes =
                serde_json::to_vec(&stored).map_err(|error| unusable(&path, &error.to_string()))?;
            write(&path, &bytes).map_err(|source| CoreError::Data { path, source })?;
            Ok(pinned)
        }
        Err(source) => Err(CoreError::Data { path, source }),
    }
}

fn unusable(path: &Path, what: &str) -> Finding {
    Finding::new("GATEWAY-ANCHORS", format!("{} is damaged", path.display()))
        .observed(what)
        .next("remove it: first contact checks the pin again")
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn directory(path: &Path) -> Result<(), CoreError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| CoreError::Data {
            path: path.to_owned(),
            source,
        })
}

/// INVARIANT 7: after `max_staleness` of silence sessions end.
async fn watch_staleness(following: Following, metrics: Arc<Metrics>) {
    let mut every = tokio::time::interval(STALE_EVERY);
    loop {
        every.tick().await;
        if following.sessions().is_empty() {
            continue;
        }
        if let Err(finding) = following.fresh(Timestamp::now()) {
            let cut = Cut {
                reason: CutReason::Stale,
                detail: finding.to_string(),
            };
            let count = following.sessions().cut_where(&cut, |_| true);
            metrics.cuts.inc_by(count as u64);
        }
    }
}

/// INVARIANT 5: when records cannot be kept, access stops.
async fn watch_ledger(following: Following, mut stopped: watch::Receiver<Option<Arc<str>>>) {
    let Ok(failure) = stopped.wait_for(Option::is_some).await else {
        return;
    };
    let detail = failure.clone().unwrap_or_default();
    drop(failure);
    tracing::error!(%detail, "the ledger has failed; every session ends");
    let cut = Cut {
        reason: CutReason::Recording,
        detail: detail.as_ref().to_owned(),
    };
    following.sessions().cut_where(&cut, |_| true);
}
