//! Intents and outcomes into the gateway's own ledger.
//!
//! INVARIANT 5: what is not proven read-only waits until its intent is durable, and its result waits until
//! its outcome is. Reads are recorded in groups, a flush interval at most behind.

mod answers;
mod room;

pub use answers::Answered;

use crate::told::Behalf;
use crate::{Metrics, Principal, Told};
use arc_swap::ArcSwapOption;
use facts::Finding;
use ledger::body::{self, ActionOn, Body, Coverage};
use ledger::{Decimal, Draft, EstateRef, HexDigest, RecordBuilder};
use ledger_store::{Append, Committed, LedgerHandle, StoreError};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// At most this much of the reads may be lost in a crash.
const FLUSH: Duration = Duration::from_millis(20);
/// Reads that wait to be written; beyond it readers wait too.
const WAITING: usize = 16_384;
/// Records of one commit.
const GROUP: usize = 2_048;
/// Codes of findings in one decision.
const MOST_FINDINGS: usize = 32;
/// A disk that was full is tried again this often.
const RETRY: Duration = Duration::from_millis(100);

/// The id of a decision: `pg-1:42`, the ledger's short name and the index of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionId {
    pub ledger: Arc<str>,
    pub index: u64,
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ledger, self.index)
    }
}

/// Records cannot be kept: access stops.
#[derive(Debug, Clone, thiserror::Error)]
#[error("records cannot be kept, so access stops")]
pub struct RecordingStopped(#[source] Option<StoreError>);

impl RecordingStopped {
    #[must_use]
    pub fn finding(&self) -> Finding {
        Finding::new("GATEWAY-RECORDING-STOPPED", self.to_string())
            .observed(
                self.0
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string),
            )
            .next("look at the gateway's disk; access goes on when records can be kept again")
    }
}

impl From<StoreError> for RecordingStopped {
    fn from(error: StoreError) -> Self {
        Self(Some(error))
    }
}

/// What is about to be forwarded or was denied.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Fingerprint of the statement; never its text.
    pub statement: String,
    pub actions: Vec<ActionOn>,
    pub policies: Vec<String>,
    pub coverage: Coverage,
    /// Version (SHA-256 hex) and index of the estate that decided.
    pub estate: Option<(String, u64)>,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// `ok`, `error`, `undone`, `unknown`, `cut`.
    pub result: &'static str,
    pub sqlstate: Option<String>,
    pub rows: Option<u64>,
    pub tag: Option<String>,
    /// Of a write: `I`, `T` or `E`, as the database said after it.
    pub transaction: Option<&'static str>,
}

/// In the place of the transaction's state: another outcome follows.
pub(crate) const PENDING: &str = "pending";

/// An intent, from when it is handed over until its outcome is known. What it waits for is on its way even
/// if whoever waits is gone: somebody else who holds it may wait in its place.
#[must_use = "an intent without an outcome is `unknown` at the next start"]
pub struct IntentId(Place);

enum Place {
    /// On its way into the ledger.
    Coming(Append),
    /// Durable: number in the ledger.
    Durable(u64),
    /// On its way: number among the lazy ones.
    Lazy(u64),
    /// Its outcome is on its way.
    Concluding(Append),
    /// It has its outcome, or could not be recorded: there is nothing more to say.
    Over,
}

impl fmt::Debug for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Coming(_) => f.write_str("coming"),
            Place::Durable(seq) => write!(f, "durable {seq}"),
            Place::Lazy(number) => write!(f, "lazy {number}"),
            Place::Concluding(_) => f.write_str("concluding"),
            Place::Over => f.write_str("over"),
        }
    }
}

impl IntentId {
    /// Waits until the intent is durable, if it has to be.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then nothing may be forwarded.
    pub async fn settle(&mut self) -> Result<(), RecordingStopped> {
        let Place::Coming(append) = &mut self.0 else {
            return Ok(());
        };
        match append.await {
            Ok(committed) => {
                self.0 = Place::Durable(committed.seq());
                Ok(())
            }
            Err(error) => {
                self.0 = Place::Over;
                Err(error.into())
            }
        }
    }
}

enum Lazy {
    Intent(u64, Draft),
    Outcome(u64, Ending, Envelope),
    /// Answered once all that came before is durable.
    Flush(oneshot::Sender<()>),
}

/// What the envelope of an outcome repeats.
#[derive(Debug, Clone)]
struct Envelope {
    session: Arc<SessionIdentity>,
    counter: u64,
}

#[derive(Debug)]
struct SessionIdentity {
    id: String,
    actor: String,
    auth: String,
    behalf: Behalf,
}

/// Writes for all sessions of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    ledger: LedgerHandle,
    name: Arc<str>,
    lazy: mpsc::Sender<Lazy>,
    /// Why reads cannot be recorded at the moment: then there are none.
    stalled: Arc<ArcSwapOption<StoreError>>,
    next_lazy: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl Recorder {
    /// `name` is the ledger's short name. Starts the task that writes reads.
    #[must_use]
    pub fn start(ledger: LedgerHandle, name: &str, metrics: Arc<Metrics>) -> Self {
        let (lazy, waiting) = mpsc::channel(WAITING);
        let stalled = Arc::new(ArcSwapOption::empty());
        let writer = LazyWriter {
            ledger: ledger.clone(),
            stalled: Arc::clone(&stalled),
            numbers: HashMap::new(),
        };
        tokio::spawn(writer.run(waiting));
        Self {
            ledger,
            name: name.into(),
            lazy,
            stalled,
            next_lazy: Arc::default(),
            metrics,
        }
    }

    /// A session's own recorder. `id` is unique; `auth` says how the peer was authenticated.
    #[must_use]
    pub fn session(&self, id: &str, principal: &Principal) -> SessionRecorder {
        self.session_for(id, principal, None)
    }

    /// As [`Self::session`], of one that acts for others: each of its records says for whom.
    #[must_use]
    pub fn session_for(
        &self,
        id: &str,
        principal: &Principal,
        told: Option<&Told>,
    ) -> SessionRecorder {
        SessionRecorder {
            recorder: self.clone(),
            identity: Arc::new(SessionIdentity {
                id: id.to_owned(),
                actor: principal.spiffe_id.to_string(),
                auth: auth(principal),
                behalf: Behalf::of(told, principal),
            }),
            counter: AtomicU64::new(0),
        }
    }

    /// Somebody asks to cancel what `session` does; `by` is nobody known in cleartext. Durable when this
    /// returns.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then nothing is cancelled.
    pub async fn cancel(
        &self,
        session: &str,
        by: Option<&Principal>,
        allow: bool,
    ) -> Result<(), RecordingStopped> {
        let number = crypto::hex::encode(&crypto::random::<8>());
        let finding = match (by, allow) {
            (None, _) => Some("GATEWAY-CANCEL-UNAUTHENTICATED".to_owned()),
            (Some(_), false) => Some("GATEWAY-CANCEL-PRINCIPAL".to_owned()),
            (Some(_), true) => None,
        };
        let decision = body::Decision {
            session: session.to_owned(),
            statement: "cancel".to_owned(),
            actions: Vec::new(),
            decision: format!("cancel.{number}"),
            allow,
            policies: Vec::new(),
            findings: finding.into_iter().collect(),
            coverage: Coverage::Complete,
            more_policies: None,
            about: None,
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        let (actor, auth) = by.map_or_else(
            || ("unauthenticated".to_owned(), "cancel-key".to_owned()),
            |principal| (principal.spiffe_id.to_string(), auth(principal)),
        );
        let draft = decision.record().actor(&actor, &auth).draft();
        let draft = draft.map_err(|error| unrecordable(&error))?;
        self.ledger.append(draft).await?;
        Ok(())
    }

    /// Waits until everything that sessions have handed over is durable.
    ///
    /// # Errors
    /// [`RecordingStopped`].
    pub async fn flush(&self) -> Result<(), RecordingStopped> {
        let (done, flushed) = oneshot::channel();
        self.hand_over(Lazy::Flush(done)).await?;
        flushed.await.map_err(|_| self.stopped())
    }

    async fn hand_over(&self, lazy: Lazy) -> Result<(), RecordingStopped> {
        self.lazy.send(lazy).await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> RecordingStopped {
        RecordingStopped(self.ledger.failure())
    }

    /// Refuses while reads cannot be recorded.
    fn check(&self) -> Result<(), RecordingStopped> {
        let stalled = self.stalled.load();
        match stalled
            .as_deref()
            .cloned()
            .or_else(|| self.ledger.failure())
        {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    #[must_use]
    pub const fn ledger(&self) -> &LedgerHandle {
        &self.ledger
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Writes for one session and counts what it wrote.
pub struct SessionRecorder {
    recorder: Recorder,
    identity: Arc<SessionIdentity>,
    counter: AtomicU64,
}

impl SessionRecorder {
    #[must_use]
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// How many records it made.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.counter.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`RecordingStopped`].
    pub async fn session_start(
        &self,
        mut start: body::SessionStart,
    ) -> Result<(), RecordingStopped> {
        let Behalf { claimed, proven } = self.identity.behalf.clone();
        start.claimed_on_behalf_of = claimed;
        start.on_behalf_of = proven;
        let draft = self.draft(&start, None)?;
        self.recorder.ledger.append(draft).await?;
        Ok(())
    }

    /// # Errors
    /// [`RecordingStopped`].
    pub async fn session_end(&self, reason: &str, detail: &str) -> Result<(), RecordingStopped> {
        let end = body::SessionEnd {
            session: self.identity.id.clone(),
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            operations: self.operations().into(),
        };
        let draft = self.draft(&end, None)?;
        self.recorder.ledger.append(draft).await?;
        Ok(())
    }

    /// The intent of an operation that is allowed. With `durable` it returns once the intent is.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then nothing may be forwarded.
    pub async fn intent(
        &self,
        operation: &Operation,
        durable: bool,
    ) -> Result<IntentId, RecordingStopped> {
        let mut intent = self.hand_over(operation, durable).await?;
        intent.settle().await?;
        Ok(intent)
    }

    /// As [`Self::intent`], without waiting for it to be durable: [`IntentId::settle`] does. If this is
    /// dropped before it returns, there is no intent.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then nothing may be forwarded.
    pub async fn hand_over(
        &self,
        operation: &Operation,
        durable: bool,
    ) -> Result<IntentId, RecordingStopped> {
        // INVARIANT: what is refused, or given up while it waits for a place, takes no number of the session: its
        // numbers have no gaps.
        let place = if durable {
            None
        } else {
            self.recorder.check()?;
            let place = self.recorder.lazy.reserve().await;
            Some(place.map_err(|_| self.recorder.stopped())?)
        };
        let number = self.counter.load(Ordering::Relaxed);
        let (policies, more_policies) = room::policies(&operation.policies);
        let behalf = self.identity.behalf.clone();
        let intent = body::Intent {
            session: self.identity.id.clone(),
            statement: operation.statement.clone(),
            actions: room::actions(&operation.actions),
            decision: format!("{}.{number}", self.identity.id),
            policies,
            coverage: operation.coverage,
            more_policies,
            claimed_on_behalf_of: behalf.claimed,
            on_behalf_of: behalf.proven,
        };
        let draft = self.draft(&intent, operation.estate.as_ref())?;
        self.recorder.metrics.operations.inc();
        // INVARIANT: nothing is waited for after this, so that whoever called holds what is on its way.
        let Some(place) = place else {
            return Ok(IntentId(Place::Coming(self.recorder.ledger.append(draft))));
        };
        let lazy = self.recorder.next_lazy.fetch_add(1, Ordering::Relaxed);
        place.send(Lazy::Intent(lazy, draft));
        Ok(IntentId(Place::Lazy(lazy)))
    }

    /// The outcome of `intent`. Of a durable intent the outcome is durable when this returns.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then the result may not be released.
    pub async fn outcome(
        &self,
        mut intent: IntentId,
        result: Ending,
    ) -> Result<(), RecordingStopped> {
        self.conclude(&mut intent, &result).await
    }

    /// As [`Self::outcome`]. May be dropped at any moment and called again: the intent gets one outcome, the
    /// first that was on its way.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then the result may not be released.
    pub async fn conclude(
        &self,
        intent: &mut IntentId,
        result: &Ending,
    ) -> Result<(), RecordingStopped> {
        intent.settle().await?;
        match intent.0 {
            Place::Durable(seq) => {
                let draft = outcome(result, seq, &self.envelope())?;
                intent.0 = Place::Concluding(self.recorder.ledger.append(draft));
            }
            Place::Lazy(number) => {
                let place = self.recorder.lazy.reserve().await;
                let place = place.map_err(|_| self.recorder.stopped())?;
                place.send(Lazy::Outcome(number, result.clone(), self.envelope()));
                intent.0 = Place::Over;
            }
            Place::Coming(_) | Place::Concluding(_) | Place::Over => {}
        }
        if let Place::Concluding(append) = &mut intent.0 {
            let done = append.await;
            intent.0 = Place::Over;
            done?;
        }
        Ok(())
    }

    /// What is known of `intent` before its transaction's state is: its outcome proper follows. Durable
    /// when this returns, if the intent is.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then the result may not be released.
    pub async fn pending(
        &self,
        intent: &IntentId,
        so_far: &Ending,
    ) -> Result<(), RecordingStopped> {
        let Place::Durable(seq) = intent.0 else {
            return Ok(());
        };
        let so_far = Ending {
            transaction: Some(PENDING),
            ..so_far.clone()
        };
        let draft = outcome(&so_far, seq, &self.envelope())?;
        self.recorder.ledger.append(draft).await?;
        Ok(())
    }

    /// An operation that was denied, or answered without being forwarded. Durable when this returns: the
    /// client learns the id.
    ///
    /// # Errors
    /// [`RecordingStopped`].
    pub async fn decided(
        &self,
        operation: &Operation,
        allow: bool,
        findings: Vec<String>,
    ) -> Result<DecisionId, RecordingStopped> {
        let decision = self.decision(operation, allow, findings);
        let draft = self.draft(&decision, operation.estate.as_ref())?;
        if !allow {
            self.recorder.metrics.denials.inc();
        }
        let committed = self.recorder.ledger.append(draft).await?;
        Ok(DecisionId {
            ledger: Arc::clone(&self.recorder.name),
            index: committed.index(),
        })
    }

    /// What was decided of an operation of this connection.
    fn decision(
        &self,
        operation: &Operation,
        allow: bool,
        mut findings: Vec<String>,
    ) -> body::Decision {
        findings.dedup();
        findings.truncate(MOST_FINDINGS);
        let (policies, more_policies) = room::policies(&operation.policies);
        let number = self.counter.load(Ordering::Relaxed);
        let behalf = self.identity.behalf.clone();
        body::Decision {
            session: self.identity.id.clone(),
            statement: operation.statement.clone(),
            actions: room::actions(&operation.actions),
            decision: format!("{}.{number}", self.identity.id),
            allow,
            policies,
            findings,
            coverage: operation.coverage,
            more_policies,
            about: None,
            claimed_on_behalf_of: behalf.claimed,
            on_behalf_of: behalf.proven,
        }
    }

    fn draft(
        &self,
        body: &impl Body,
        estate: Option<&(String, u64)>,
    ) -> Result<Draft, RecordingStopped> {
        let mut builder = envelope(body.record(), &self.envelope());
        if let Some((version, index)) = estate
            && let Ok(version) = version.parse::<HexDigest>()
        {
            builder = builder.estate(EstateRef {
                version,
                index: *index,
            });
        }
        builder.draft().map_err(|error| unrecordable(&error))
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            session: Arc::clone(&self.identity),
            counter: self.counter.fetch_add(1, Ordering::Relaxed),
        }
    }
}

fn auth(principal: &Principal) -> String {
    format!("x509-svid:{}", principal.serial)
}

fn envelope(builder: RecordBuilder, envelope: &Envelope) -> RecordBuilder {
    builder
        .actor(&envelope.session.actor, &envelope.session.auth)
        .connection(&envelope.session.id, envelope.counter)
}

fn outcome(result: &Ending, seq: u64, of: &Envelope) -> Result<Draft, RecordingStopped> {
    let body = body::Outcome {
        intent: seq.into(),
        result: result.result.to_owned(),
        sqlstate: result.sqlstate.clone(),
        rows: result.rows.map(Decimal::from),
        tag: result.tag.clone(),
        transaction: result.transaction.map(str::to_owned),
    };
    envelope(body.record(), of)
        .draft()
        .map_err(|error| unrecordable(&error))
}

/// An operation that no record can hold is not forwarded.
fn unrecordable(error: &ledger::RecordError) -> RecordingStopped {
    tracing::error!(%error, "an operation cannot be recorded");
    RecordingStopped(None)
}

/// Writes what waits, every flush interval or when there is much: intents first, so that outcomes can
/// name them.
struct LazyWriter {
    ledger: LedgerHandle,
    stalled: Arc<ArcSwapOption<StoreError>>,
    /// Numbers in the ledger of intents that have no outcome yet.
    numbers: HashMap<u64, u64>,
}

impl LazyWriter {
    /// Ends when the recorder is gone or the ledger has failed; then every sender sees it.
    async fn run(mut self, mut waiting: mpsc::Receiver<Lazy>) {
        let mut taken = Vec::new();
        while waiting.recv_many(&mut taken, GROUP).await > 0 {
            let at_once = taken.iter().any(|lazy| matches!(lazy, Lazy::Flush(_)));
            if taken.len() < GROUP && !at_once {
                tokio::time::sleep(FLUSH).await;
                while taken.len() < GROUP
                    && let Ok(lazy) = waiting.try_recv()
                {
                    taken.push(lazy);
                }
            }
            if let Err(error) = self.write(std::mem::take(&mut taken)).await {
                tracing::error!(%error, "records cannot be kept; access stops");
                return;
            }
        }
    }

    async fn write(&mut self, group: Vec<Lazy>) -> Result<(), RecordingStopped> {
        let (mut ids, mut intents, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        let mut flushes = Vec::new();
        for lazy in group {
            match lazy {
                Lazy::Intent(number, draft) => {
                    ids.push(number);
                    intents.push(draft);
                }
                Lazy::Outcome(number, result, envelope) => {
                    outcomes.push((number, result, envelope));
                }
                Lazy::Flush(done) => flushes.push(done),
            }
        }
        let committed = self.append(intents).await?;
        let numbers = committed.iter().map(Committed::seq);
        self.numbers.extend(ids.into_iter().zip(numbers));
        let mut drafts = Vec::with_capacity(outcomes.len());
        for (number, result, envelope) in outcomes {
            // INVARIANT: an intent is handed over before its outcome, by the same task.
            if let Some(seq) = self.numbers.remove(&number) {
                drafts.push(outcome(&result, seq, &envelope)?);
            }
        }
        self.append(drafts).await?;
        for done in flushes {
            // Whoever asked may be gone.
            let _gone = done.send(());
        }
        Ok(())
    }

    /// Waits for space on the disk; meanwhile reads are refused. Fails when the ledger has.
    async fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Committed>, StoreError> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        loop {
            match self.ledger.append_many(drafts.clone()).await {
                Ok(committed) => {
                    self.stalled.store(None);
                    return Ok(committed);
                }
                Err(error @ (StoreError::DiskFull | StoreError::Busy { .. })) => {
                    tracing::warn!(%error, "reads cannot be recorded and are refused");
                    self.stalled.store(Some(Arc::new(error)));
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
