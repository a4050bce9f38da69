//! The stream to the server: carries out what the core wants sent, and brings what the server says to it.
//!
//! One task. It alone takes asks and the outbox from the core; attestation and key making run beside it.

use crate::attesting::{Answered, Attesting};
use crate::attestor::{Attestor, Process};
use crate::config::AgentConfig;
use crate::enforcing::Enforcer;
use crate::identity::{Identity, is_lock, is_over, lock};
use crate::join::finding_of;
use crate::receipts::Receipts;
use crate::shared::Shared;
use crate::trust::{self, Current};
use crate::witnessed::ELSEWHERE;
use crate::workloads::{FreshKey, Subject};
use facts::{Finding, Timestamp};
use link::{LinkError, MAX_MESSAGE};
use proto::v1;
use proto::v1::node_client::NodeClient;
use proto::v1::node_update::Update;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use workload_api::Refusal;

/// Workloads looked at beside one another.
const ASKING: usize = 32;
/// Messages on their way; a server that does not read for [`STUCK`] is left.
const OUTGOING: usize = 64;
const STUCK: Duration = Duration::from_secs(15);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// After a chip that did not seal: somebody else may have been using it.
const SEAL_AGAIN: Duration = Duration::from_secs(10);

/// The server's word for evidence of this machine that is too old.
const STALE: &str = "EVIDENCE-STALE";

#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the server ended the stream: {0}")]
    Ended(Box<tonic::Status>),
    #[error("the server ended the stream")]
    Closed,
    #[error("the server does not read")]
    Stuck,
    #[error("{0}")]
    Forked(Finding),
}

impl From<tonic::Status> for SyncError {
    fn from(status: tonic::Status) -> Self {
        Self::Ended(Box::new(status))
    }
}

pub(crate) struct Sync {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) attestor: Arc<Attestor>,
    pub(crate) enforcer: Arc<Enforcer>,
}

type Asked = (
    String,
    Result<(Subject<Arc<Process>>, Vec<FreshKey>), Refusal>,
);

impl Sync {
    /// Connects, and connects again, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        while !stop.is_cancelled() {
            let since = Instant::now();
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = self.session() => ended,
            };
            if let Err(SyncError::Ended(status)) = &ended
                && let Some(finding) = finding_of(status)
            {
                self.shared.quietly(|core| core.turned_away(finding));
            }
            self.shared.with(|core| core.disconnected());
            match ended {
                // The identity was renewed: on again at once.
                Ok(()) => {
                    retry = FIRST_RETRY;
                    continue;
                }
                Err(SyncError::Ended(status)) => {
                    match finding_of(&status) {
                        Some(finding) if is_lock(&finding) => {
                            lock(&self.shared, &finding);
                            retry = LAST_RETRY;
                        }
                        Some(finding) if is_over(&finding) => self.identity.stale.notify_one(),
                        Some(_) | None => {}
                    }
                    tracing::warn!(code = ?status.code(), message = status.message(), "the server ended the stream");
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "the server cannot be reached");
                }
            }
            if since.elapsed() > GOOD {
                retry = FIRST_RETRY;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(jittered(retry)) => {}
                () = self.identity.renewed.notified() => {
                    retry = FIRST_RETRY;
                    continue;
                }
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// One connection. `Ok` when the node's identity has changed and a new handshake must show it.
    async fn session(&self) -> Result<(), SyncError> {
        let link = link::authenticated(
            &self.config.server,
            &self.identity.trust_domain,
            Arc::clone(&self.identity.own),
            Arc::new(Current(Arc::clone(&self.shared))),
        )
        .await?;
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        let attesting = Attesting::of(&self.config.join, &self.enforcer);
        let hello = v1::NodeHello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bundle_sequence: self.shared.quietly(|core| core.trust_sequence()),
            attests: attesting.is_some(),
            enforces: self.enforcer.installs(),
            lineage: self
                .shared
                .receipts
                .get()
                .map(Receipts::links)
                .unwrap_or_default(),
        };
        send(&sender, v1::node_message::Message::Hello(hello)).await?;
        if let Some(witnessing) = self.shared.witnessing.get() {
            let keeps = v1::Keeps {
                size: witnessing.size(),
            };
            send(&sender, v1::node_message::Message::Keeps(keeps)).await?;
        }
        // Before anything is asked for that is decided by it.
        let enforced = self.enforcer.reported().await;
        let message = v1::node_message::Message::Enforcement(enforced.clone());
        send(&sender, message).await?;
        let mut updates = NodeClient::new(link.channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .sync(ReceiverStream::new(outgoing))
            .await?
            .into_inner();
        tracing::info!(server = %self.config.server, "connected");
        self.shared.quietly(|core| core.connected());
        let mut asking: JoinSet<Asked> = JoinSet::new();
        let mut answering: JoinSet<Answered> = JoinSet::new();
        // How long the IMA list is, and was when it was last answered for.
        let (marks, mut mark) = watch::channel(None);
        let mut told = None;
        let mut looking = JoinSet::new();
        // The chip takes its time to seal: one set after the other, and of those that wait the last.
        let mut sealing: JoinSet<Option<Vec<u8>>> = JoinSet::new();
        let mut approvals = None;
        if let Some(attesting) = attesting.clone() {
            looking.spawn(attesting.look(marks));
        }
        let (reports, mut report) = watch::channel(enforced);
        looking.spawn(Arc::clone(&self.enforcer).look(reports));
        loop {
            self.start_asking(&mut asking);
            if sealing.is_empty()
                && let Some(told) = approvals.take()
            {
                let identity = Arc::clone(&self.identity);
                sealing.spawn(async move {
                    let again = identity.approvals(told).await?;
                    tokio::time::sleep(SEAL_AGAIN).await;
                    Some(again)
                });
            }
            // What is being answered says by itself how far it went.
            let now = *mark.borrow();
            if told.is_some() && now > told && answering.is_empty() {
                told = now;
                let wanted = v1::node_message::Message::Wanted(v1::AttestWanted {});
                send(&sender, wanted).await?;
            }
            for message in self.shared.quietly(|core| core.take_outbox()) {
                if let Some(message) = message.message {
                    send(&sender, message).await?;
                }
            }
            tokio::select! {
                update = updates.message() => match update? {
                    Some(v1::NodeUpdate { update: Some(Update::Attest(asked)) }) => {
                        if let Some(attesting) = attesting.clone() {
                            answering.spawn(attesting.answer(asked));
                        }
                    }
                    Some(v1::NodeUpdate { update: Some(Update::Approvals(told)) }) => {
                        approvals = Some(told.set);
                    }
                    Some(v1::NodeUpdate { update: Some(Update::Enforce(sent)) }) => {
                        let enforcer = Arc::clone(&self.enforcer);
                        // What comes of it is told like any change.
                        drop(tokio::task::spawn_blocking(move || enforcer.take(&sent)));
                    }
                    Some(v1::NodeUpdate { update: Some(Update::Witnessed(sent)) }) => {
                        if let Some(keeps) = self.witnessed(sent).await? {
                            send(&sender, v1::node_message::Message::Keeps(keeps)).await?;
                        }
                    }
                    Some(v1::NodeUpdate { update: Some(Update::Lineage(sent)) }) => {
                        self.lineage(sent).await?;
                    }
                    Some(update) => self.take(update).await,
                    None => return Err(SyncError::Closed),
                },
                Some(asked) = asking.join_next() => {
                    if let Ok((name, result)) = asked {
                        self.asked(&name, result);
                    }
                }
                Some(answered) = answering.join_next() => match answered {
                    Ok(Answered::Answer(answer, before)) => {
                        told = before;
                        send(&sender, v1::node_message::Message::Attestation(*answer)).await?;
                    }
                    Ok(Answered::OtherBoot) => self.identity.stale.notify_one(),
                    Ok(Answered::Failed) | Err(_) => {}
                },
                Ok(()) = mark.changed() => {}
                Some(sealed) = sealing.join_next() => {
                    let again = sealed.ok().flatten();
                    approvals = approvals.or(again);
                }
                Ok(()) = report.changed() => {
                    let enforced = report.borrow_and_update().clone();
                    send(&sender, v1::node_message::Message::Enforcement(enforced)).await?;
                }
                () = self.shared.work.notified() => {}
                () = self.identity.renewed.notified() => return Ok(()),
            }
        }
    }

    fn start_asking(&self, asking: &mut JoinSet<Asked>) {
        let room = ASKING.saturating_sub(asking.len());
        for (name, process, keys) in self.shared.quietly(|core| core.take_asks(room)) {
            let attestor = Arc::clone(&self.attestor);
            asking.spawn(async move { (name, attestor.attest(process, keys).await) });
        }
    }

    fn asked(&self, name: &str, result: Result<(Subject<Arc<Process>>, Vec<FreshKey>), Refusal>) {
        let now = Timestamp::now();
        self.shared.quietly(|core| match result {
            Ok((seen, keys)) => core.ask(name, &seen, keys, now),
            Err(Refusal::Unavailable(finding)) => core.ask_failed(name, finding, now),
            Err(refusal) => core.refuse(name, &refusal),
        });
    }

    async fn take(&self, update: v1::NodeUpdate) {
        let now = Timestamp::now();
        match update.update {
            Some(Update::Issued(mut issued)) => {
                self.check(&mut issued, now);
                self.shared.quietly(|core| core.issued(issued, now));
            }
            Some(Update::Jwt(issued)) => match self.check_jwt(&issued, now) {
                Ok(()) => self.shared.quietly(|core| core.jwt_issued(issued, now)),
                Err(finding) => {
                    tracing::error!(%finding, "a token from the server was not taken");
                    self.shared
                        .quietly(|core| core.refused(issued.request, finding, now));
                }
            },
            Some(Update::Bundle(bundle)) => self.take_bundle(bundle).await,
            Some(Update::Reconsider(reconsider)) => self
                .shared
                .quietly(|core| core.reconsider(reconsider.workloads)),
            Some(Update::Withdrawn(withdrawn)) => {
                tracing::info!(identity = %withdrawn.spiffe_id, reason = %withdrawn.reason, "withdrawn");
                self.shared.quietly(|core| core.withdrawn(&withdrawn));
            }
            Some(Update::Refused(refused)) => {
                let finding: Finding =
                    serde_json::from_slice(&refused.finding).unwrap_or_else(|_| {
                        Finding::new("AGENT-FINDINGS", "the server's finding could not be read")
                    });
                tracing::warn!(%finding, "a request was refused");
                if finding.code == STALE {
                    self.identity.stale.notify_one();
                }
                self.shared
                    .quietly(|core| core.refused(refused.request, finding, now));
            }
            Some(
                Update::Heartbeat(_)
                | Update::Attest(_)
                | Update::Approvals(_)
                | Update::Enforce(_)
                | Update::Witnessed(_)
                | Update::Lineage(_),
            )
            | None => {}
        }
        // Expiries may be nearer now.
        self.shared.clock.notify_one();
    }

    /// The server's ledger went on as a new log: what was handed out before is asked for again, since gateways know
    /// no more of it than the new log has. A server that shows two lineages is left.
    async fn lineage(&self, sent: v1::Lineage) -> Result<(), SyncError> {
        let shared = Arc::clone(&self.shared);
        let taken = tokio::task::spawn_blocking(move || {
            let key = shared.receipts.get()?.succeed(&sent.links);
            if let (Ok(Some(key)), Some(witnessing)) = (&key, shared.witnessing.get()) {
                witnessing.succeed(Arc::clone(key));
            }
            Some(key)
        });
        match taken.await {
            Ok(Some(Ok(Some(_)))) => self.shared.with(|core| core.reconsider(Vec::new())),
            Ok(Some(Err(finding))) => {
                tracing::error!(%finding, "the server is not believed");
                return Err(SyncError::Forked(finding));
            }
            _ => {}
        }
        Ok(())
    }

    /// What witnesses have cosigned. A server that shows another history is left, and nothing more is taken of it.
    /// What to say where it has another idea of what is kept here.
    async fn witnessed(&self, sent: v1::Witnessed) -> Result<Option<v1::Keeps>, SyncError> {
        let shared = Arc::clone(&self.shared);
        let taken = tokio::task::spawn_blocking(move || {
            let witnessing = shared.witnessing.get()?;
            let taken = witnessing.take(&sent, Timestamp::now());
            Some((taken, witnessing.size()))
        });
        let Ok(Some((taken, size))) = taken.await else {
            return Ok(None);
        };
        match taken {
            // What was refused for want of it is asked for again.
            Ok(true) => self.shared.with(|core| core.reconsider(Vec::new())),
            Ok(false) => {}
            Err(finding) if finding.code == ELSEWHERE => return Ok(Some(v1::Keeps { size })),
            Err(finding) if finding.code == "AGENT-LEDGER-FORKED" => {
                tracing::error!(%finding, "the server is not believed");
                return Err(SyncError::Forked(finding));
            }
            Err(finding) => tracing::warn!(%finding, "not witnessed"),
        }
        Ok(None)
    }

    /// What was not recorded, or is not what was asked for, is handed to nobody.
    fn check(&self, issued: &mut v1::Issued, now: Timestamp) {
        let trusted = self.shared.trusted();
        let refused = &mut issued.refused;
        issued.svids.retain(|svid| {
            let checked = match &trusted {
                Some((bundle, receipts)) => {
                    receipts.issued(bundle, svid, self.shared.witnessing.get(), now)
                }
                None => Err(Finding::new("AGENT-OFFLINE", "no trust bundle is known yet")),
            };
            let Err(finding) = checked else { return true };
            tracing::error!(%finding, identity = %svid.spiffe_id, "an SVID from the server was not taken");
            refused.push(v1::RefusedIdentity {
                spiffe_id: svid.spiffe_id.clone(),
                findings: serde_json::to_vec(&[finding]).unwrap_or_default(),
            });
            false
        });
    }

    /// Where this site's tokens carry receipts, each has a good one; and where witnesses are asked for, they have looked.
    fn check_jwt(&self, issued: &v1::JwtIssued, now: Timestamp) -> Result<(), Finding> {
        let witnessing = self.shared.witnessing.get();
        let asked = self
            .shared
            .quietly(|core| core.jwt_audience(issued.request));
        let (true, Some(audience), Some((bundle, receipts))) =
            (self.config.jwt_receipt, asked, self.shared.trusted())
        else {
            return witnessing.map_or(Ok(()), |witnessing| witnessing.check_age(now));
        };
        for svid in &issued.svids {
            receipts.jwt_issued(&bundle, &svid.token, &audience, witnessing, now)?;
        }
        Ok(())
    }

    async fn take_bundle(&self, bundle: v1::Bundle) {
        match trust::take(&self.shared, &self.identity.trust_domain, &bundle) {
            Ok(true) => {
                let identity = Arc::clone(&self.identity);
                let stored = tokio::task::spawn_blocking(move || identity.bundle(&bundle)).await;
                if let Ok(Err(error)) = stored {
                    tracing::error!(%error, "the trust bundle could not be kept");
                }
            }
            Ok(false) => tracing::warn!(
                sequence = bundle.sequence,
                "an older trust bundle was not taken"
            ),
            Err(finding) => tracing::error!(%finding, "the trust bundle was not taken"),
        }
    }
}

async fn send(
    sender: &mpsc::Sender<v1::NodeMessage>,
    message: v1::node_message::Message,
) -> Result<(), SyncError> {
    let message = v1::NodeMessage {
        message: Some(message),
    };
    match sender.send_timeout(message, STUCK).await {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(SyncError::Stuck),
        Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(SyncError::Closed),
    }
}

/// Between half of `wait` and all of it.
fn jittered(wait: Duration) -> Duration {
    let random = u32::from_be_bytes(crypto::random());
    wait / 2 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Lets the core act when something is due.
pub(crate) async fn tick(shared: Arc<Shared>, stop: CancellationToken) {
    /// The longest sleep, so that a changed clock is noticed.
    const NAP: Duration = Duration::from_secs(30);
    loop {
        let now = Timestamp::now();
        let due = shared.quietly(|core| core.due());
        let wait = due.map_or(NAP, |due| due.since(now).min(NAP));
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.clock.notified() => {}
            () = tokio::time::sleep(wait) => {
                shared.with(|core| core.tick(Timestamp::now()));
            }
        }
    }
}
