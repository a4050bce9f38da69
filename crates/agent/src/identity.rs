//! The node's own identity: joined or loaded, renewed at half life, kept on disk.
//!
//! One task, [`Renewal::run`], owns the state file after start; the trust bundle reaches it through
//! [`Identity::bundle`].

use crate::config::{AgentConfig, JoinConfig};
use crate::enclave::Enclave;
use crate::join::{self, Before, Beside, JoinError, Node, refused};
use crate::measured::List;
use crate::node_state::{
    Blob, Kept, NodeState, Renewal as Pending, StateDir, StateError, StoredBundle,
};
use crate::receipts::Receipts;
use crate::sealed::{self, SealError, Sealing};
use crate::shared::Shared;
use crate::trust::{self, Current};
use crate::witnessed::Witnessing;
use attest::transcript;
use crypto::{KeyPair, Signer};
use facts::{Finding, Timestamp};
use ledger::LedgerKey;
use link::LinkError;
use proto::v1;
use proto::v1::node_client::NodeClient;
use spiffe_core::{Bundle, TrustDomain};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use svid_tls::{BundleSource, OwnSvid};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The longest sleep, so that a changed clock is noticed.
const NAP: Duration = Duration::from_secs(60);
/// However often the server asks for newer evidence.
const AT_MOST_EVERY_S: u64 = 10;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// The server's words for an SVID with which nothing can be renewed any more: only a new join helps.
const OVER: [&str; 4] = [
    "CALLER-REVOKED",
    "CALLER-EXPIRED",
    "CALLER-UNRECORDED",
    "AGENT-EVICTED",
];
/// Its words for a machine that is locked out, or whose state is dead.
const LOCKED: [&str; 3] = ["AGENT-LOCKED", "AGENT-STATE-LOCKED", "AGENT-STATE-DEAD"];
/// Nothing renews before there is an identity, and with it what SVIDs are checked with.
const UNCHECKED: JoinError = JoinError::Answer("there is nothing to check it with");
/// Its word for a machine that was readmitted and has to renew before anything else.
const RENEW_FIRST: &str = "AGENT-RENEW-FIRST";

/// The server's word for endorsements that are on their way.
const PENDING: &str = "TEE-ENDORSEMENT-PENDING";
const PENDING_PAUSE: Duration = Duration::from_secs(5);
/// A minute in all; then whoever starts the agent decides.
const PENDING_TRIES: u32 = 12;

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
    pub(crate) own: Arc<OwnSvid>,
    /// Rings when `own` has changed.
    pub(crate) renewed: Notify,
    /// Rung when the server wants newer evidence of this machine than it has, or a newer SVID.
    pub(crate) stale: Notify,
    directory: StateDir,
    sealing: Sealing,
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
        let by_token = matches!(config.join, JoinConfig::Token { .. });
        let directory = StateDir::open(&config.data_dir)?.vouched(!by_token);
        let loaded = directory.load()?;
        let sealed = matches!(loaded, Kept::Sealed(_));
        let kept = match loaded {
            Kept::Nothing => None,
            Kept::Plain(state) => Some(*state),
            Kept::Sealed(envelope) => {
                sealed::open(config, trust_domain, &directory, *envelope).await?
            }
        };
        let unopened = sealed && kept.is_none();
        let sealing = Sealing::of(config, trust_domain);
        if !sealing.is_on() {
            directory.sealed_by(None);
        }
        let Node {
            state,
            key,
            approvals,
        } = match kept {
            Some(state) => resume(config, trust_domain, &directory, state, sealed).await?,
            None => first_join(config, trust_domain, &directory).await?,
        };
        let receipts = Receipts::new(trust_domain, &state.ledger_key.0, &config.data_dir);
        let receipts = receipts.map_err(IdentityError::Refused)?;
        recorded_since(&receipts, config, trust_domain, &state).await?;
        // There is one identity in the life of a process.
        if let Some(witnesses) = &config.witnesses {
            let opened =
                Witnessing::open(witnesses, &config.data_dir, receipts.key().as_ref().clone());
            drop(
                shared
                    .witnessing
                    .set(opened.map_err(IdentityError::Refused)?),
            );
        }
        drop(shared.receipts.set(receipts));
        // INVARIANT: what does not open stays in its place until something that holds takes it.
        if unopened {
            let aside = directory.set_aside()?;
            tracing::warn!(aside = %aside.display(), "the sealed state is set aside");
        }
        directory.store(&state)?;
        directory.joined();
        let bundle = state.bundle.message(trust_domain.as_str());
        trust::take(shared, trust_domain, &bundle).map_err(IdentityError::Refused)?;
        let chain = state.chain.iter().map(|blob| blob.0.clone()).collect();
        let identity = Arc::new(Self {
            trust_domain: trust_domain.clone(),
            own: OwnSvid::new(chain, key)?,
            renewed: Notify::new(),
            stale: Notify::new(),
            directory,
            sealing,
            state: Mutex::new(state),
        });
        // What the chip does not do now is told again over the stream.
        identity.approvals(approvals).await;
        Ok(identity)
    }

    /// Seals the state, seals it anew, or keeps it in memory alone, as the server tells. What fails stands in
    /// the log: the node goes on with the key that it has. Returns what to try again, if that may help.
    pub(crate) async fn approvals(self: &Arc<Self>, told: Vec<u8>) -> Option<Vec<u8>> {
        if told.is_empty() {
            return None;
        }
        let identity = Arc::clone(self);
        let adopted = tokio::task::spawn_blocking(move || {
            let store = || identity.change(|_| {});
            let adopted = identity.sealing.adopt(&identity.directory, &told, store);
            (adopted, told)
        });
        match adopted.await {
            Ok((Ok(()), _)) => None,
            Ok((Err(error), told)) => {
                tracing::warn!(error = %facts::with_causes(&error), "the node's state is not sealed as told");
                (!matches!(error, SealError::Refused(_))).then_some(told)
            }
            Err(error) => {
                tracing::warn!(%error, "the node's state is not sealed as told");
                None
            }
        }
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

    pub(crate) fn node_id(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.node_id.clone()
    }

    /// When the SVID begins and ends.
    pub(crate) fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        validity(&self.trust_domain, &self.state())
    }
}

/// A first join, tried again while the server fetches what endorses this machine's hardware.
async fn first_join(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    directory: &StateDir,
) -> Result<Node, JoinError> {
    for _ in 0..PENDING_TRIES {
        match join::join(config, trust_domain, directory, None).await {
            Err(JoinError::Refused(finding)) if finding.code == PENDING => {
                tracing::info!(%finding, "joining again in a moment");
                tokio::time::sleep(PENDING_PAUSE).await;
            }
            ended => return ended,
        }
    }
    join::join(config, trust_domain, directory, None).await
}

/// A node that joined before: by its kept key while the SVID lasts, else it proves itself again. `sealed`: the
/// chip has opened `state`.
async fn resume(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    directory: &StateDir,
    mut state: NodeState,
    sealed: bool,
) -> Result<Node, IdentityError> {
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
    let anchored = doubted(config, &mut state, sealed);
    if lasts(trust_domain, &state) && has_its_keys(&state) {
        let key = Arc::new(KeyPair::from_pkcs8(&state.key.0)?);
        return Ok(Node {
            state,
            key,
            approvals: Vec::new(),
        });
    }
    if !config.can_join_again() {
        return Err(expired(&state));
    }
    let bundle = match anchored {
        true => {
            let message = state.bundle.message(trust_domain.as_str());
            let read = trust::read(trust_domain, &message);
            Some(read.map_err(IdentityError::Refused)?.0)
        }
        false => None,
    };
    asked(&mut state);
    directory.store(&state)?;
    let bundle = bundle.map(|bundle| Arc::new(bundle) as Arc<dyn BundleSource>);
    let before = before(&state, bundle);
    let mut node = join::join(config, trust_domain, directory, Some(before)).await?;
    newer_bundle(&mut node.state, &state);
    Ok(node)
}

/// Takes out of `state` what its form does not vouch for; whether its anchors stay.
///
/// INVARIANT: on a machine with a TPM no key is used that comes from the disk in the clear, because this agent
/// leaves none there: somebody else has put it there. Such a state, and one for another pin than the configured,
/// says what the node has asked for and nothing of whom to trust.
fn doubted(config: &AgentConfig, state: &mut NodeState, sealed: bool) -> bool {
    let enclave = match config.join {
        JoinConfig::Token { .. } => return true,
        JoinConfig::Tpm { .. } => false,
        // Whatever an enclave finds on a disk its host may have put there: the pin in what was measured decides.
        JoinConfig::Enclave { .. } => true,
    };
    let anchored = !enclave && state.pin == config.pin && (sealed || state.key.0.is_empty());
    if !sealed || !anchored {
        state.key = Blob::default();
        if let Some(renewal) = &mut state.renewal {
            renewal.key = Blob::default();
        }
    }
    if !anchored {
        // No later start takes them either, until the node has joined.
        state.pin = String::new();
        state.ledger_key = Blob::default();
        state.bundle = StoredBundle::default();
    }
    anchored
}

/// INVARIANT: what was begun with a key that is gone is repeated by a join with its id, and by nothing else:
/// another renewal would look like a second machine.
fn has_its_keys(state: &NodeState) -> bool {
    let pending = state.renewal.as_ref();
    !state.key.0.is_empty() && pending.is_none_or(|pending| !pending.key.0.is_empty())
}

/// Makes sure that `state` names what is asked for next. An answer that was lost is known by it.
fn asked(state: &mut NodeState) {
    state.renewal.get_or_insert_with(|| Pending {
        id: Blob(crypto::random::<16>().to_vec()),
        key: Blob::default(),
    });
}

/// What a new join needs of `state`.
fn before(state: &NodeState, bundles: Option<Arc<dyn BundleSource>>) -> Before {
    let renewal = state.renewal.as_ref();
    Before {
        anchors: bundles.map(|bundles| (bundles, state.ledger_key.clone())),
        join_state: state.join_state.clone(),
        renewal_id: renewal
            .map(|renewal| renewal.id.clone())
            .unwrap_or_default(),
    }
}

/// Never back to an older bundle than the one that was kept.
fn newer_bundle(state: &mut NodeState, kept: &NodeState) {
    if state.bundle.sequence < kept.bundle.sequence {
        state.bundle = kept.bundle.clone();
    }
}

fn expired(state: &NodeState) -> IdentityError {
    IdentityError::Refused(
        Finding::new(
            "AGENT-SVID-EXPIRED",
            "the node's identity has expired or was revoked, and there is no token to join again",
        )
        .observed(state.node_id.clone())
        .next(
            "make a token on the server: trilith token create --node NODE --pool POOL; \
             put it into join.token_file, or start the agent with TRILITH_JOIN_TOKEN",
        ),
    )
}

/// The node's own SVID must have been recorded like any other.
fn recorded(
    receipts: &Receipts,
    trust_domain: &TrustDomain,
    state: &NodeState,
) -> Result<(), IdentityError> {
    let message = state.bundle.message(trust_domain.as_str());
    let (bundle, _) = trust::read(trust_domain, &message).map_err(IdentityError::Refused)?;
    let chain: Vec<&[u8]> = state.chain.iter().map(|blob| blob.0.as_slice()).collect();
    receipts
        .x509(&bundle, &chain, Timestamp::now())
        .map(drop)
        .map_err(IdentityError::Refused)
}

/// As [`recorded`], of an SVID that was issued just now: under the newest key that is known here.
fn recorded_now(
    receipts: &Receipts,
    trust_domain: &TrustDomain,
    state: &NodeState,
) -> Result<(), IdentityError> {
    let message = state.bundle.message(trust_domain.as_str());
    let (bundle, _) = trust::read(trust_domain, &message).map_err(IdentityError::Refused)?;
    let chain: Vec<&[u8]> = state.chain.iter().map(|blob| blob.0.as_slice()).collect();
    receipts
        .x509_new(&bundle, &chain, Timestamp::now())
        .map(drop)
        .map_err(IdentityError::Refused)
}

/// As [`recorded`]. If it was not, the ledger may have gone on as a new log since the key was pinned: then the key that
/// signs now, which is kept only if the SVID was recorded under it.
async fn recorded_since(
    receipts: &Receipts,
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    state: &NodeState,
) -> Result<Option<Arc<LedgerKey>>, IdentityError> {
    let Err(unrecorded) = recorded(receipts, trust_domain, state) else {
        return Ok(None);
    };
    let message = state.bundle.message(trust_domain.as_str());
    let (bundle, _) = trust::read(trust_domain, &message).map_err(IdentityError::Refused)?;
    let bundle = Arc::new(bundle);
    let links = match join::lineage(config, trust_domain, Arc::<Bundle>::clone(&bundle)).await {
        Ok(links) if links.is_empty() => return Err(unrecorded),
        Ok(links) => links,
        Err(error) => {
            tracing::warn!(error = %facts::with_causes(&error), "the server is not asked how its ledger went on");
            return Err(unrecorded);
        }
    };
    let chain: Vec<&[u8]> = state.chain.iter().map(|blob| blob.0.as_slice()).collect();
    receipts
        .succeed_by(&links, &bundle, &chain, Timestamp::now())
        .map_err(IdentityError::Refused)
}

fn lasts(trust_domain: &TrustDomain, state: &NodeState) -> bool {
    validity(trust_domain, state).is_some_and(|(_, end)| end > Timestamp::now())
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
        let mut tried = Timestamp::from_millis(0);
        loop {
            let wait = at.since(Timestamp::now()).min(NAP);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.identity.stale.notified() => {
                    at = at.min(tried.plus_secs(AT_MOST_EVERY_S));
                }
            }
            if Timestamp::now() < at {
                continue;
            }
            tried = Timestamp::now();
            match self.renew().await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    at = self.half_life();
                    tracing::info!(node = %self.identity.node_id(), next = %at, "the node's identity was renewed");
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
        match finding(error) {
            Some(finding) if is_lock(finding) => lock(&self.shared, finding),
            Some(finding) => {
                let finding = finding.clone();
                self.shared.quietly(|core| core.turned_away(finding));
            }
            None => {}
        }
    }

    /// By the SVID that the node has. When that is over, it proves itself anew.
    async fn renew(&self) -> Result<(), IdentityError> {
        if !lasts(&self.identity.trust_domain, &self.identity.state()) {
            return self.join_again().await;
        }
        match self.renew_by_svid().await {
            Err(error) if finding(&error).is_some_and(|finding| OVER.contains(&&*finding.code)) => {
                tracing::warn!(%error, "the node's identity is over; joining again");
                self.join_again().await
            }
            renewed => renewed,
        }
    }

    async fn join_again(&self) -> Result<(), IdentityError> {
        let identity = &self.identity;
        if !self.config.can_join_again() {
            return Err(expired(&identity.state()));
        }
        identity.change(asked)?;
        let bundles = Arc::new(Current(Arc::clone(&self.shared)));
        let before = before(&identity.state(), Some(bundles));
        let node = join::join(
            &self.config,
            &identity.trust_domain,
            &identity.directory,
            Some(before),
        )
        .await?;
        let (_, receipts) = self.shared.trusted().ok_or(UNCHECKED)?;
        let mut joined = node.state;
        newer_bundle(&mut joined, &identity.state());
        let learned = recorded_since(receipts, &self.config, &identity.trust_domain, &joined);
        if let (Some(key), Some(witnessing)) = (learned.await?, self.shared.witnessing.get()) {
            witnessing.succeed(key);
        }
        recorded_now(receipts, &identity.trust_domain, &joined)?;
        let bundle = joined.bundle.message(identity.trust_domain.as_str());
        trust::take(&self.shared, &identity.trust_domain, &bundle)
            .map_err(IdentityError::Refused)?;
        let chain = joined.chain.iter().map(|blob| blob.0.clone()).collect();
        identity.change(|state| {
            newer_bundle(&mut joined, state);
            *state = joined;
        })?;
        identity.directory.joined();
        identity.own.set(chain, node.key)?;
        identity.renewed.notify_one();
        Ok(())
    }

    async fn renew_by_svid(&self) -> Result<(), IdentityError> {
        let (pending, key) = self.begin()?;
        let identity = &self.identity;
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
            JoinConfig::Token { .. } | JoinConfig::Enclave { .. } => None,
            JoinConfig::Tpm {
                tpm,
                ima_list,
                event_log,
                tee,
            } => {
                let beside = Beside {
                    list: List::of(tpm, ima_list.as_deref()),
                    tee: tee.clone(),
                };
                let domain = &identity.trust_domain;
                let evidence =
                    join::tpm_evidence(tpm, beside, domain, &link, bundles.as_ref(), &key);
                let mut evidence = evidence.await?;
                join::named_log(event_log.as_deref(), &mut evidence).await?;
                Some(evidence)
            }
        };
        let enclave = match Enclave::of(&self.config.join) {
            None => None,
            Some(enclave) => {
                let (domain, instance) = (&identity.trust_domain, identity.directory.instance());
                let evidence = enclave.evidence(domain, &link, bundles.as_ref(), instance, &key);
                Some(evidence.await?)
            }
        };
        let request = v1::RenewRequest {
            public_key: spki.to_vec(),
            join_state: state.join_state.0.clone(),
            generation: state.generation,
            renewal_id: pending.id.0.clone(),
            proof: key.sign(&signed)?,
            tpm,
            enclave,
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
    /// A key that a TPM vouches for stays in memory unless the state is sealed: after a restart there is a new
    /// join with the same id then.
    fn begin(&self) -> Result<(Pending, Arc<KeyPair>), IdentityError> {
        if let Some(pending) = self.identity.state().renewal
            && !pending.key.0.is_empty()
        {
            let key = Arc::new(KeyPair::from_pkcs8(&pending.key.0)?);
            return Ok((pending, key));
        }
        let key = Arc::new(KeyPair::generate(crypto::Algorithm::EcdsaP256)?);
        let pending = Pending {
            id: Blob(crypto::random::<16>().to_vec()),
            key: Blob(key.to_pkcs8()?.to_vec()),
        };
        self.identity
            .change(|state| state.renewal = Some(pending.clone()))?;
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
        let (bundle, receipts) = self.shared.trusted().ok_or(UNCHECKED)?;
        receipts
            .x509_new(&bundle, &chain, Timestamp::now())
            .map_err(IdentityError::Refused)?;
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

/// What the server, or a check of what it sent, says.
fn finding(error: &IdentityError) -> Option<&Finding> {
    match error {
        IdentityError::Refused(finding) | IdentityError::Join(JoinError::Refused(finding)) => {
            Some(finding)
        }
        _ => None,
    }
}

/// Whether the server says that this node is locked: its state was seen in two places.
pub(crate) fn is_lock(finding: &Finding) -> bool {
    LOCKED.contains(&&*finding.code)
}

/// Whether the server wants a newer SVID of this node than the one that it came with.
pub(crate) fn is_over(finding: &Finding) -> bool {
    OVER.contains(&&*finding.code) || finding.code == RENEW_FIRST
}

/// Stops issuing on this machine until the server accepts it again.
pub(crate) fn lock(shared: &Shared, seen: &Finding) {
    let finding = Finding::new(
        "AGENT-LOCKED",
        "the server has locked this machine: its state was used in two places",
    )
    .observed(seen.to_string())
    .next("find the copy, then on the server: trilith agent readmit NODE --reason TEXT");
    tracing::error!(%finding, "locked");
    shared.with(|core| core.lock(finding));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody had put a key, an SVID and anchors of their own on the disk, and the agent went on with them.
    #[test]
    fn a_state_that_was_put_there_gives_neither_key_nor_anchors() {
        let config = |join: &str| {
            let pin = format!("tl1:{}", "0".repeat(64));
            let text = format!(
                "trust_domain = \"example.org\"\nserver = \"localhost:1\"\npin = \"{pin}\"\n[join]\n{join}"
            );
            AgentConfig::parse(&text, std::path::Path::new("agent.toml")).unwrap()
        };
        let tpm = config("method = \"tpm\"\ntpm = \"/dev/tpmrm0\"");
        let put = NodeState {
            v: 1,
            trust_domain: "example.org".to_owned(),
            pin: tpm.pin.clone(),
            ledger_key: Blob(vec![1]),
            node_id: "spiffe://example.org/trilith/node/a".to_owned(),
            key: Blob(vec![2; 32]),
            chain: vec![Blob(vec![3])],
            join_state: Blob(vec![4]),
            generation: 5,
            bundle: StoredBundle {
                sequence: u64::MAX,
                x509_authorities: vec![Blob(vec![6])],
                ..StoredBundle::default()
            },
            renewal: Some(Pending {
                id: Blob(vec![7; 16]),
                key: Blob(vec![8; 32]),
            }),
        };
        let mut without_key = put.clone();
        without_key.key = Blob::default();
        let mut other_pin = put.clone();
        other_pin.pin = format!("tl1:{}", "1".repeat(64));
        let left = |state: &NodeState, sealed| {
            let mut state = state.clone();
            let anchored = doubted(&tpm, &mut state, sealed);
            // What the server knows a repetition and a copy by.
            assert_eq!(state.join_state, put.join_state);
            assert_eq!(state.generation, put.generation);
            assert_eq!(state.renewal.as_ref().unwrap().id.0, [7; 16]);
            let anchors = !state.ledger_key.0.is_empty()
                && state.bundle == put.bundle
                && state.pin == tpm.pin;
            assert_eq!(anchors, anchored);
            if !anchors {
                assert!(state.ledger_key.0.is_empty() && state.pin.is_empty());
                assert_eq!(state.bundle, StoredBundle::default());
                assert!(
                    !doubted(&tpm, &mut state.clone(), sealed),
                    "nor at the next start"
                );
            }
            let renewal = &state.renewal.as_ref().unwrap().key;
            (has_its_keys(&state) && !renewal.0.is_empty(), anchors)
        };
        // Key and anchors of what the chip has opened; the anchors of what this agent keeps without a seal.
        assert_eq!(left(&put, true), (true, true));
        assert_eq!(left(&without_key, false), (false, true));
        assert_eq!(left(&put, false), (false, false), "a key in the clear");
        assert_eq!(left(&other_pin, true), (false, false), "another pin");
        assert_eq!(left(&other_pin, false), (false, false));

        // An enclave takes nothing of what its host may have put there but what the server knows it by.
        let enclave = config("method = \"enclave\"\nenclave = \"nitro\"");
        for kept in [&put, &without_key] {
            let mut state = kept.clone();
            assert!(!doubted(&enclave, &mut state, false));
            assert!(state.key.0.is_empty() && state.ledger_key.0.is_empty());
            assert_eq!(state.bundle, StoredBundle::default());
            assert_eq!(state.join_state, put.join_state);
        }

        // Without a chip the disk is all there is.
        let token = config("method = \"token\"");
        let mut state = other_pin.clone();
        assert!(doubted(&token, &mut state, false));
        assert_eq!(state, other_pin);
    }

    /// A join whose answer was lost, and a sealed key from before it: a renewal under another id would have
    /// locked the machine.
    #[test]
    fn a_join_that_was_begun_is_repeated_although_a_key_is_there() {
        let mut state = NodeState {
            v: 1,
            trust_domain: "example.org".to_owned(),
            pin: String::new(),
            ledger_key: Blob::default(),
            node_id: String::new(),
            key: Blob(vec![1]),
            chain: Vec::new(),
            join_state: Blob(vec![2]),
            generation: 1,
            bundle: StoredBundle::default(),
            renewal: None,
        };
        assert!(has_its_keys(&state));
        asked(&mut state);
        assert!(!has_its_keys(&state), "its id is all that is left of it");
        state.renewal.as_mut().unwrap().key = Blob(vec![3]);
        assert!(has_its_keys(&state), "a renewal is repeated as it was");
        state.key = Blob::default();
        assert!(!has_its_keys(&state));
    }
}
