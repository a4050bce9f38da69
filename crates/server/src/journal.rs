//! The one way to change anything: records into the ledger, durable; then into the state; then out to
//! whoever follows.
//!
//! Callers hand records over in any order and from any task. One lock makes the order of the queue that
//! of the ledger; one thread waits for each commit in turn, folds its records into the state, hands the
//! changes to the store and publishes the checkpoint. When an append returns, its records are durable
//! and applied: who reads the state next sees them. What one commit made durable is applied at once.
//!
//! Lock order: `submit`, then nothing; the state's lock is taken by the thread alone for writing.

use crate::hub::{Hub, Published};
use crate::pool::{Job, Pool};
use crate::refusal::Refusal;
use crate::signing::Signing;
use crate::state::{FoldError, State};
use facts::Finding;
use ledger::body::Issuance;
use ledger::{Draft, RecordType, Stamp};
use ledger_store::{AppendMany, Committed, LedgerHandle, Reader, StoreError};
use proto::v1::{Delta, RecordDelta, Renewed, delta};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use store::{Change, Kept, Projector};
use tokio::sync::oneshot;

/// A record to be, with what is known of it already.
pub(crate) struct Entry {
    draft: Draft,
    known: Option<Box<KnownIssuance>>,
    /// What followers need beside the record.
    blob: Option<Arc<[u8]>>,
}

/// An issuance as it was built, so that the fold need not parse it again.
pub(crate) struct KnownIssuance {
    /// The draft's.
    pub(crate) stamp: Stamp,
    pub(crate) estate: Option<u64>,
    pub(crate) body: Issuance,
}

impl From<Draft> for Entry {
    fn from(draft: Draft) -> Self {
        Self {
            draft,
            known: None,
            blob: None,
        }
    }
}

impl Entry {
    /// INVARIANT: `known` says what `draft` says; a replay parses the record and must find the same.
    pub(crate) fn issuance(draft: Draft, known: KnownIssuance) -> Self {
        Self {
            draft,
            known: Some(Box::new(known)),
            blob: None,
        }
    }

    pub(crate) fn with_blob(draft: Draft, blob: Arc<[u8]>) -> Self {
        Self {
            draft,
            known: None,
            blob: Some(blob),
        }
    }
}

/// What the thread keeps of an entry.
struct Rest {
    known: Option<Box<KnownIssuance>>,
    blob: Option<Arc<[u8]>>,
}

/// What an append may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Ordinary,
    /// What is kept back for revocations; never refused for a full queue.
    Reserved,
}

pub(crate) type Outcome = Result<Vec<Committed>, Failure>;

struct Ticket {
    pending: AppendMany,
    rest: Vec<Rest>,
    done: Done,
}

/// Who is told.
enum Done {
    Waiter(oneshot::Sender<Outcome>),
    /// Work that goes on from there, on the pool.
    Work(Work),
}

type Work = Box<dyn FnOnce(Outcome) -> Reply + Send>;

/// What is left of a work when it is done: to tell whoever waits. Told together, the many who wait wake
/// once and not in between.
pub(crate) type Reply = Box<dyn FnOnce() + Send>;

/// Why records were not queued, and who is still to be told.
type NotQueued = (Failure, Done);

/// A ticket whose commit is over.
struct Settled {
    outcome: Outcome,
    rest: Vec<Rest>,
    done: Done,
}

impl Ticket {
    fn settle(self) -> Settled {
        Settled {
            outcome: self.pending.wait().map_err(Failure::Ledger),
            rest: self.rest,
            done: self.done,
        }
    }
}

/// Tickets that are applied together at most.
const TOGETHER: usize = 1_024;
/// Works of one job of the pool at most.
const WORKS: usize = 8;

/// Why records were not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the ledger did not take the records")]
    Ledger(#[source] StoreError),
    #[error("the state did not take the records: {0}")]
    Fold(Arc<str>),
    /// This ledger is behind what a peer has seen: nothing is signed.
    #[error("{0}")]
    Blocked(Finding),
    #[error("the journal has ended")]
    Ended,
}

impl Failure {
    /// Whether a cut that could not be recorded stands and waits: nothing is wrong with this server that
    /// room on the disk or a recovery does not mend.
    pub(crate) const fn waits(&self) -> bool {
        match self {
            Self::Ledger(error) => !error.is_fatal(),
            Self::Blocked(_) => true,
            Self::Fold(_) | Self::Ended => false,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match &failure {
            Failure::Ledger(StoreError::DiskFull) => Self::disk_full(),
            Failure::Ledger(error) => Self::Unavailable(
                Finding::new("SERVER-LEDGER", "the ledger did not take the record")
                    .observed(error.to_string())
                    .next("nothing was done; try again, and look at the server's disk"),
            ),
            Failure::Blocked(finding) => Self::Unavailable(finding.clone()),
            Failure::Fold(_) | Failure::Ended => Self::Unavailable(
                Finding::new("SERVER-STOPPING", "the server is stopping").next("try again"),
            ),
        }
    }
}

/// Called once, when the fold fails: the process must stop.
pub(crate) type OnFailure = Arc<dyn Fn(&str) + Send + Sync>;

pub(crate) struct Journal {
    submit: Mutex<Option<mpsc::Sender<Ticket>>>,
    signing: Arc<Signing>,
    handle: LedgerHandle,
    reader: Reader,
    state: Arc<RwLock<State>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// `state` has applied every record that `handle`'s ledger holds; `kept` is its database.
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, where all of them are made"
    )]
    pub(crate) fn start(
        handle: LedgerHandle,
        reader: Reader,
        state: State,
        kept: Kept,
        hub: Arc<Hub>,
        signing: Arc<Signing>,
        pool: Pool,
        on_failure: OnFailure,
    ) -> std::io::Result<Self> {
        let (submit, tickets) = mpsc::channel();
        let state = Arc::new(RwLock::new(state));
        let whole = Arc::clone(&state);
        let whole = Box::new(move || {
            let state = whole.read().unwrap_or_else(PoisonError::into_inner);
            (state.applied(), state.snapshot())
        });
        let projector = Projector::start(kept, whole)?;
        let applier = Applier {
            state: Arc::clone(&state),
            projector,
            hub,
            reader: reader.clone(),
            pool,
            on_failure,
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || applier.run(&tickets))?;
        Ok(Self {
            submit: Mutex::new(Some(submit)),
            signing,
            handle,
            reader,
            state,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Appends `entries` in one commit; returns when they are durable and applied.
    pub(crate) async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Committed>, Failure> {
        self.append_in(entries, Space::Ordinary).await
    }

    /// As [`Journal::append`], although nothing may be signed: the records of a recovery.
    pub(crate) async fn append_recovery(
        &self,
        entries: Vec<Entry>,
    ) -> Result<Vec<Committed>, Failure> {
        let (done, wait) = oneshot::channel();
        self.queue(entries, Space::Reserved, Done::Waiter(done))
            .map_err(|(failure, _)| failure)?;
        wait.await.map_err(|_| Failure::Ended)?
    }

    /// As [`Journal::append`], for one record.
    pub(crate) async fn append_one(&self, entry: impl Into<Entry>) -> Result<Committed, Failure> {
        let committed = self.append(vec![entry.into()]).await?;
        committed.into_iter().next().ok_or(Failure::Ended)
    }

    /// As [`Journal::append`], into the space that is kept back for revocations and for the few
    /// records that the server needs to go on.
    pub(crate) async fn append_reserved(
        &self,
        entries: Vec<Entry>,
    ) -> Result<Vec<Committed>, Failure> {
        self.append_in(entries, Space::Reserved).await
    }

    pub(crate) async fn append_in(
        &self,
        entries: Vec<Entry>,
        space: Space,
    ) -> Result<Vec<Committed>, Failure> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.submitted(entries, space)?
            .await
            .map_err(|_| Failure::Ended)?
    }

    /// As [`Journal::append_reserved`], for threads that are not async.
    pub(crate) fn append_reserved_blocking(
        &self,
        entries: Vec<Entry>,
    ) -> Result<Vec<Committed>, Failure> {
        self.submitted(entries, Space::Reserved)?
            .blocking_recv()
            .map_err(|_| Failure::Ended)?
    }

    /// Queues `entries`, for one commit, and returns. Once they are durable and applied, or refused, `then`
    /// goes on with them on the pool; what was never queued is refused to it here.
    pub(crate) fn append_then(
        &self,
        entries: Vec<Entry>,
        space: Space,
        then: impl FnOnce(Outcome) -> Reply + Send + 'static,
    ) {
        let then = Box::new(then);
        if let Err((failure, Done::Work(then))) = self.submit(entries, space, Done::Work(then)) {
            then(Err(failure))();
        }
    }

    fn submitted(
        &self,
        entries: Vec<Entry>,
        space: Space,
    ) -> Result<oneshot::Receiver<Outcome>, Failure> {
        let (done, wait) = oneshot::channel();
        self.submit(entries, space, Done::Waiter(done))
            .map_err(|(failure, _)| failure)?;
        Ok(wait)
    }

    fn submit(&self, entries: Vec<Entry>, space: Space, done: Done) -> Result<(), NotQueued> {
        // INVARIANT: held until the records are queued, so that nothing is queued after a block.
        match self.signing.open() {
            Ok(_open) => self.queue(entries, space, done),
            Err(finding) => Err((Failure::Blocked(finding), done)),
        }
    }

    fn queue(&self, entries: Vec<Entry>, space: Space, done: Done) -> Result<(), NotQueued> {
        let mut submit = self.lock();
        let Some(sender) = submit.as_mut() else {
            return Err((Failure::Ended, done));
        };
        // INVARIANT: no record is of a time that has not come: the state forgets by it. A recovery's neither.
        let now = match self.signing.clock().check() {
            Ok(now) => now,
            Err(finding) => return Err((Failure::Blocked(finding), done)),
        };
        let (drafts, rest): (Vec<Draft>, Vec<Rest>) = entries
            .into_iter()
            .map(|mut entry| {
                entry.draft.stamp(now);
                let rest = Rest {
                    known: entry.known,
                    blob: entry.blob,
                };
                (entry.draft, rest)
            })
            .unzip();
        let pending = match space {
            Space::Ordinary => self.handle.append_many(drafts),
            Space::Reserved => self.handle.append_many_reserved(drafts),
        };
        let ticket = Ticket {
            pending,
            rest,
            done,
        };
        sender
            .send(ticket)
            .map_err(|lost| (Failure::Ended, lost.0.done))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Ticket>>> {
        self.submit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes nothing more, waits for what was taken, and writes the state.
    pub(crate) fn finish(&self) {
        drop(self.lock().take());
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

/// Owns the way from the ledger to state, store and followers.
struct Applier {
    state: Arc<RwLock<State>>,
    projector: Projector,
    hub: Arc<Hub>,
    reader: Reader,
    pool: Pool,
    on_failure: OnFailure,
}

impl Applier {
    fn run(self, tickets: &mpsc::Receiver<Ticket>) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| tickets.recv().ok()) {
            let mut settled = vec![first.settle()];
            while settled.len() < TOGETHER
                && let Ok(ticket) = tickets.try_recv()
            {
                if !ticket.pending.is_ready() {
                    next = Some(ticket);
                    break;
                }
                settled.push(ticket.settle());
            }
            if let Err(failure) = self.take(&settled) {
                (self.on_failure)(&failure.to_string());
                for ticket in &mut settled {
                    ticket.outcome = Err(failure.clone());
                }
                self.tell(settled);
                return;
            }
            self.tell(settled);
        }
    }

    fn take(&self, settled: &[Settled]) -> Result<(), Failure> {
        let records: Vec<(&Committed, &Rest)> = settled
            .iter()
            .filter_map(|ticket| Some((ticket.outcome.as_ref().ok()?, &ticket.rest)))
            .flat_map(|(committed, rest)| committed.iter().zip(rest))
            .collect();
        let Some((last, _)) = records.last() else {
            return Ok(());
        };
        let (applied, changes) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let mut changes = Vec::with_capacity(records.len() + 1);
            for (record, rest) in &records {
                let more = fold(&mut state, record, rest.known.as_deref())
                    .map_err(|error| Failure::Fold(error.to_string().into()))?;
                changes.extend(more);
            }
            (state.applied(), changes)
        };
        self.publish(last);
        self.follow(&records);
        self.projector
            .absorb(applied, changes)
            .map_err(|error| Failure::Fold(error.to_string().into()))
    }

    fn publish(&self, last: &Committed) {
        if last.index() < self.hub.published().size {
            return;
        }
        let head = last.head();
        let next = Published {
            size: head.checkpoint.size,
            note: head.note,
        };
        self.hub.publish(next, |old, new| {
            let proof = self.reader.consistency(old, new).ok()?;
            Some(proof.iter().map(|hash| hash.to_vec()).collect())
        });
    }

    fn follow(&self, records: &[(&Committed, &Rest)]) {
        if self.hub.followers() == 0 {
            return;
        }
        let deltas = records
            .iter()
            .filter_map(|(record, rest)| delta(record, rest))
            .map(|delta| Delta { delta: Some(delta) })
            .collect();
        self.hub.send(deltas);
    }

    /// A caller that went away wants no answer; what it asked for is recorded all the same.
    fn tell(&self, settled: Vec<Settled>) {
        let mut works = Vec::with_capacity(settled.len());
        for Settled { outcome, done, .. } in settled {
            match done {
                Done::Waiter(waiter) => drop(waiter.send(outcome)),
                Done::Work(work) => works.push((work, outcome)),
            }
        }
        let each = works.len().div_ceil(self.pool.threads()).clamp(1, WORKS);
        let mut jobs: Vec<Job> = Vec::with_capacity(works.len().div_ceil(each));
        while !works.is_empty() {
            let some = works.split_off(works.len().saturating_sub(each));
            jobs.push(Box::new(move || together(some)));
        }
        // They were cut off from the end.
        jobs.reverse();
        self.pool.spawn(jobs);
    }
}

/// A work that panics leaves its caller without an answer, and nobody else.
fn together(works: Vec<(Work, Outcome)>) {
    let mut replies = Vec::with_capacity(works.len());
    for (work, outcome) in works {
        match catch_unwind(AssertUnwindSafe(|| work(outcome))) {
            Ok(reply) => replies.push(reply),
            Err(_) => tracing::error!("a work panicked; its caller is told that it was not done"),
        }
    }
    for reply in replies {
        reply();
    }
}

fn fold(
    state: &mut State,
    record: &Committed,
    known: Option<&KnownIssuance>,
) -> Result<Vec<Change>, FoldError> {
    let index = record.index();
    match known {
        Some(known) => state.apply_issuance(index, known.stamp, known.estate, &known.body),
        None => {
            let parsed = record
                .record()
                .map_err(|source| FoldError::Record { index, source })?;
            state.apply(index, &parsed)
        }
    }
}

/// What followers are told of a record: those that they act upon, and renewals.
fn delta(record: &Committed, rest: &Rest) -> Option<delta::Delta> {
    if let Some(known) = &rest.known {
        return Some(delta::Delta::Renewed(Renewed {
            serial: known.body.replaces.clone()?,
            successor: known.body.serial.clone(),
            not_after: known.body.not_after.saturating_mul(1000),
            spiffe_id: known.body.spiffe_id.clone(),
            facts: serde_json::to_vec(&known.body.facts).ok()?,
        }));
    }
    let parsed = record.record().ok()?;
    if !is_followed(parsed.kind()) {
        return None;
    }
    Some(delta::Delta::Record(RecordDelta {
        receipt: record.receipt().encode().ok()?,
        blob: rest.blob.as_deref().map(<[u8]>::to_vec).unwrap_or_default(),
        initial: false,
    }))
}

/// The records that gateways act upon.
pub(crate) const fn is_followed(kind: RecordType) -> bool {
    matches!(
        kind,
        RecordType::Bundle | RecordType::EstateVersion | RecordType::Revocation
    )
}
