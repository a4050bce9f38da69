//! The node's own identity: joined or loaded, renewed at half life, kept on disk.
//!
//! One task, [`Renewal::run`], owns the state file after start; the trust bundle reaches it through
//! [`Identity::bundle`].

use crate::config::{AgentConfig, JoinConfig};
use crate::join::{self, JoinError, finding_of, refused};
use crate::node_state::{Blob, NodeState, Renewal as Pending, StateDir, StateError, StoredBundle};
use crate::shared::Shared;
use crate::trust::{self, Current};
use attest::transcript;
use crypto::{KeyPair, Signer};
use facts::{Finding, Timestamp};
use link::LinkError;
use proto::v1;
use proto::v1::node_client::NodeClient;
use spiffe_core::{Bundle, TrustDomain};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use svid_tls::OwnSvid;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// The longest sleep, so that a changed clock is noticed.
const NAP: Duration = Duration::from_secs(60);
/// However often the server asks for newer evidence.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the node's state")]
    State(#[from] StateError),
    #[error("joining")]
    Join(#[from] JoinError),
    #[error("connecting to renew")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Refused(Finding),
    #[error("the node's SVID does not fit its key")]
    Own(#[from] svid_tls::Error),
    #[error("the node's key")]
    Key(#[from] crypto::Error),
}

/// What the rest of the agent sees of the node's identity.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) node_id: String,
    pub(crate) own: Arc<OwnSvid>,
    /// Rings when `own` has changed.
    pub(crate) renewed: Notify,
    /// Rung when the server wants newer evidence of this machine than it has.
    pub(crate) stale: Notify,
    directory: StateDir,
    // Held while the file is written, so that two writes cannot cross. Never across an await.
    state: Mutex<NodeState>,
}

impl Identity {
    /// The identity of an earlier start if it still holds, else a new one by joining.
    pub(crate) async fn establish(
        config: &AgentConfig,
        trust_domain: &TrustDomain,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Self>, IdentityError> {
        let directory = StateDir::open(&config.data_dir)?;
        let (state, key) = match directory.load()? {
            Some(state) => resume(config, trust_domain, state).await?,
            None => {
                let node = join::join(config, trust_domain, None).await?;
                (node.state, node.key)
            }
        };
        directory.store(&state)?;
        let bundle = state.bundle.message(trust_domain.as_str());
        trust::take(shared, trust_domain, &bundle).map_err(IdentityError::Refused)?;
        let chain = state.chain.iter().map(|blob| blob.0.clone()).collect();
        Ok(Arc::new(Self {
            trust_domain: trust_domain.clone(),
            node_id: state.node_id.clone(),
            own: OwnSvid::new(chain, key)?,
            renewed: Notify::new(),
            stale: Notify::new(),
            directory,
            state: Mutex::new(state),
        }))
    }

    /// Keeps a bundle that was taken. Blocks.
    pub(crate) fn bundle(&self, bundle: &v1::Bundle) -> Result<(), StateError> {
        self.change(|state| state.bundle = StoredBundle::of(bundle))
    }

    fn change(&self, change: impl FnOnce(&mut NodeState)) -> Result<(), StateError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = state.clone();
        change(&mut next);
        self.directory.store(&next)?;
        *state = next;
        Ok(())
    }

    fn state(&self) -> NodeState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// When the SVID begins and ends.
    pub(crate) fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        validity(&self.trust_domain, &self.state())
    }
}

/// A node that joined before: by its kept key while the SVID lasts, else it proves itself again.
async fn resume(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    state: NodeState,
) -> Result<(NodeState, Arc<KeyPair>), IdentityError> {
    if state.trust_domain != config.trust_domain {
        return Err(IdentityError::Refused(
            Finding::new(
                "AGENT-STATE-DOMAIN",
                "this machine joined another trust domain",
            )
            .expected(config.trust_domain.clone())
            .observed(state.trust_domain.clone())
            .next(format!("remove {} to join anew", config.data_dir.display())),
        ));
    }
    let lasts = validity(trust_domain, &state).is_some_and(|(_, end)| end > Timestamp::now());
    if lasts && !state.key.0.is_empty() {
        let key = KeyPair::from_pkcs8(&state.key.0)?;
        return Ok((state, Arc::new(key)));
    }
    let can_join_again =
        matches!(config.join, JoinConfig::Tpm { .. }) || config.token_given.is_some();
    if !can_join_again {
        return Err(IdentityError::Refused(
            Finding::new("AGENT-SVID-EXPIRED", "the node's identity has expired")
                .observed(state.node_id.clone())
                .next("make a token with `trilith token create` and start with --token"),
        ));
    }
    let bundle = trust::read(trust_domain, &state.bundle.message(trust_domain.as_str()))
        .map_err(IdentityError::Refused)?
        .0;
    let known = (Arc::new(bundle) as Arc<_>, state.ledger_key.clone());
    let mut node = join::join(config, trust_domain, Some(known)).await?;
    // Never back to an older bundle than the one that was kept.
    if node.state.bundle.sequence < state.bundle.sequence {
        node.state.bundle = state.bundle.clone();
    }
    Ok((node.state, node.key))
}

fn validity(trust_domain: &TrustDomain, state: &NodeState) -> Option<(Timestamp, Timestamp)> {
    let chain: Vec<&[u8]> = state.chain.iter().map(|blob| blob.0.as_slice()).collect();
    let message = state.bundle.message(trust_domain.as_str());
    let (bundle, _): (Bundle, _) = trust::read(trust_domain, &message).ok()?;
    let svid = spiffe_core::X509Svid::parse(&chain).ok()?;
    let valid = svid.validate(&bundle, Timestamp::now()).ok()?;
    Some((valid.not_before, valid.not_after))
}

/// Renews the node's SVID for as long as the agent runs.
pub(crate) struct Renewal {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) shared: Arc<Shared>,
}

impl Renewal {
    pub(crate) async fn run(self, stop: CancellationToken) {
        // What was begun before a crash is finished first.
        let mut at = match self.identity.state().renewal {
            Some(_) => Timestamp::now(),
            None => self.half_life(),
        };
        let mut retry = FIRST_RETRY;
        let mut renewed = Instant::now();
        loop {
            let wait = at.since(Timestamp::now()).min(NAP);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.identity.stale.notified(), if renewed.elapsed() > AT_MOST_EVERY => {
                    at = Timestamp::now();
                }
            }
            if Timestamp::now() < at {
                continue;
            }
            match self.renew().await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    renewed = Instant::now();
                    at = self.half_life();
                    tracing::info!(node = %self.identity.node_id, next = %at, "the node's identity was renewed");
                }
                Err(error) => {
                    self.failed(&error);
                    at = later(retry);
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// Half of the SVID's life, a tenth of it earlier or later.
    fn half_life(&self) -> Timestamp {
        let Some((begin, end)) = self.identity.validity() else {
            return Timestamp::now();
        };
        let life = end.as_millis().saturating_sub(begin.as_millis());
        let spread = (life / 10).max(1);
        let jitter = u64::from_be_bytes(crypto::random()) % spread;
        Timestamp::from_millis(begin.as_millis() + life / 2 - spread / 2 + jitter)
    }

    fn failed(&self, error: &IdentityError) {
        let mut chain = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            chain.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        tracing::warn!(error = %chain, "the node's identity was not renewed");
        if let IdentityError::Refused(finding) = error
            && is_lock(finding)
        {
            lock(&self.shared, finding);
        }
    }

    async fn renew(&self) -> Result<(), IdentityError> {
        let identity = &self.identity;
        let (pending, key) = self.begin()?;
        let state = identity.state();
        let bundles = Arc::new(Current(Arc::clone(&self.shared)));
        let link = link::authenticated(
            &self.config.server,
            &identity.trust_domain,
            Arc::clone(&identity.own),
            Arc::<Current>::clone(&bundles),
        )
        .await?;
        let spki = key.public_key().spki_der();
        let signed = transcript::renewal(
            identity.trust_domain.as_str(),
            &link.exporter,
            &pending.id.0,
            &state.join_state.0,
            spki,
        );
        let tpm = match &self.config.join {
            JoinConfig::Token { .. } => None,
            JoinConfig::Tpm { tpm } => Some(
                join::tpm_evidence(tpm, &identity.trust_domain, &link, bundles.as_ref(), &key)
                    .await?,
            ),
        };
        let request = v1::RenewRequest {
            public_key: spki.to_vec(),
            join_state: state.join_state.0.clone(),
            generation: state.generation,
            renewal_id: pending.id.0.clone(),
            proof: key.sign(&signed)?,
            tpm,
        };
        let joined = NodeClient::new(link.channel)
            .renew(request)
            .await
            .map_err(|status| match refused("Node.Renew", &status) {
                JoinError::Refused(finding) => IdentityError::Refused(finding),
                other => IdentityError::Join(other),
            })?
            .into_inner();
        self.finish(joined, key)
    }

    /// The renewal to make: the one begun before, or a new one, which is durable before its first try.
    fn begin(&self) -> Result<(Pending, Arc<KeyPair>), IdentityError> {
        let keeps_keys = matches!(self.config.join, JoinConfig::Token { .. });
        if let Some(pending) = self.identity.state().renewal
            && !pending.key.0.is_empty()
        {
            let key = Arc::new(KeyPair::from_pkcs8(&pending.key.0)?);
            return Ok((pending, key));
        }
        let key = Arc::new(KeyPair::generate(crypto::Algorithm::EcdsaP256)?);
        let pending = Pending {
            id: Blob(crypto::random::<16>().to_vec()),
            key: if keeps_keys {
                Blob(key.to_pkcs8()?.to_vec())
            } else {
                Blob::default()
            },
        };
        if keeps_keys {
            self.identity
                .change(|state| state.renewal = Some(pending.clone()))?;
        }
        Ok((pending, key))
    }

    fn finish(&self, joined: v1::Joined, key: Arc<KeyPair>) -> Result<(), IdentityError> {
        if joined.certificate_chain.is_empty() {
            return Err(JoinError::Answer("it has no certificate").into());
        }
        let chain = joined.certificate_chain.clone();
        if let Some(bundle) = &joined.bundle {
            let taken = trust::take(&self.shared, &self.identity.trust_domain, bundle);
            if taken.map_err(IdentityError::Refused)? {
                self.identity.bundle(bundle)?;
            }
        }
        self.identity.change(|state| {
            state.chain = joined.certificate_chain.into_iter().map(Blob).collect();
            state.join_state = Blob(joined.join_state);
            state.generation = joined.generation;
            if let Some(renewal) = state.renewal.take() {
                state.key = renewal.key;
            }
        })?;
        self.identity.own.set(chain, key)?;
        self.identity.renewed.notify_one();
        Ok(())
    }
}

fn later(wait: Duration) -> Timestamp {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let jitter = u64::from_be_bytes(crypto::random()) % (millis / 2).max(1);
    Timestamp::from_millis(Timestamp::now().as_millis() + millis / 2 + jitter)
}

/// Whether the server says that this node is locked: its state was seen in two places.
pub(crate) fn is_lock(finding: &Finding) -> bool {
    finding.code.ends_with("-LOCKED")
}

/// Stops issuing on this machine until the server accepts it again.
pub(crate) fn lock(shared: &Shared, seen: &Finding) {
    let finding = Finding::new(
        "AGENT-LOCKED",
        "the server has locked this machine: its state was used in two places",
    )
    .observed(seen.to_string())
    .next("find the copy, then run `trilith agent readmit` on the server");
    tracing::error!(%finding, "locked");
    shared.with(|core| core.lock(finding));
}

/// The finding in `status`, if it says that this node is locked.
pub(crate) fn lock_in(status: &tonic::Status) -> Option<Finding> {
    matches!(
        status.code(),
        Code::PermissionDenied | Code::FailedPrecondition
    )
    .then(|| finding_of(status))
    .flatten()
    .filter(is_lock)
}
