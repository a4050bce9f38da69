//! The node's own identity: joined or loaded, renewed at half life, kept on disk.
//!
//! One task, [`Renewal::run`], owns the state file after start; the trust bundle reaches it through
//! [`Identity::bundle`].

mod kept;
mod recorded;
mod renewal;

pub(crate) use self::renewal::Renewal;

use self::kept::{asked, before, doubted, has_its_keys, newer_bundle};
use self::recorded::recorded_since;
use crate::config::{AgentConfig, JoinConfig};
use crate::join::{self, JoinError, Node};
use crate::node_state::{Kept, NodeState, StateDir, StateError, StoredBundle};
use crate::receipts::Receipts;
use crate::sealed::{self, SealError, Sealing};
use crate::shared::Shared;
use crate::trust;
use crate::witnessed::Witnessing;
use crypto::KeyPair;
use facts::{Finding, Timestamp};
use link::LinkError;
use proto::v1;
use spiffe_core::{Bundle, TrustDomain};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use svid_tls::{BundleSource, OwnSvid};
use tokio::sync::Notify;

/// The server's words for an SVID with which nothing can be renewed any more: only a new join helps.
const OVER: [&str; 4] = [
    "CALLER-REVOKED",
    "CALLER-EXPIRED",
    "CALLER-UNRECORDED",
    "AGENT-EVICTED",
];
/// Its words for a machine that is locked out, or whose state is dead.
const LOCKED: [&str; 3] = ["AGENT-LOCKED", "AGENT-STATE-LOCKED", "AGENT-STATE-DEAD"];
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
