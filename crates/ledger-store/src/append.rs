//! What an append becomes: a future for whoever waits, and what was committed.

use crate::batch::{Batch, BatchBuilder};
use crate::oneshot::{self, Receiver};
use crate::{Head, StoreError};
use ledger::{Receipt, Record, RecordError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What the committer answers to one group of drafts.
pub(crate) struct Acked {
    pub(crate) batch: Arc<Batch>,
    pub(crate) at: usize,
    pub(crate) count: usize,
    pub(crate) first_seq: u64,
}

pub(crate) type Answer = Result<Acked, StoreError>;

/// A durable record. Keeps its whole commit in memory until it is dropped.
#[derive(Clone)]
pub struct Committed {
    batch: Arc<Batch>,
    at: usize,
    seq: u64,
}

impl Committed {
    /// Place in the ledger.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.batch.first() + self.at as u64
    }

    /// Number that the ledger gave the record.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.batch.record(self.at)
    }

    pub fn record(&self) -> Result<Record, RecordError> {
        Record::parse(self.bytes())
    }

    /// The checkpoint that made the record durable.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            checkpoint: self.batch.checkpoint.clone(),
            note: Arc::clone(&self.batch.note),
        }
    }

    /// The record with its proof and checkpoint. Made here, in the caller's thread.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.batch.receipt(self.at)
    }
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committed")
            .field("index", &self.index())
            .field("seq", &self.seq)
            .finish()
    }
}

/// One record on its way. Dropping it does not take the record back.
#[must_use = "nothing is durable before this resolves"]
pub struct Append(Receiver<Answer>);

/// Records on their way, all in one commit or none.
#[must_use = "nothing is durable before this resolves"]
pub struct AppendMany(Receiver<Answer>);

impl Append {
    pub(crate) const fn new(receiver: Receiver<Answer>) -> Self {
        Self(receiver)
    }

    /// Blocks this thread until the record is durable or refused.
    pub fn wait(self) -> Result<Committed, StoreError> {
        oneshot::block_on(self)
    }
}

impl AppendMany {
    pub(crate) const fn new(receiver: Receiver<Answer>) -> Self {
        Self(receiver)
    }

    /// Whether [`AppendMany::wait`] would return at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// Blocks this thread until the records are durable or refused.
    pub fn wait(self) -> Result<Vec<Committed>, StoreError> {
        oneshot::block_on(self)
    }
}

impl Future for Append {
    type Output = Result<Committed, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            let acked = answer.unwrap_or(Err(StoreError::Closed))?;
            acked.into_iter().next().ok_or(StoreError::Closed)
        })
    }
}

impl Future for AppendMany {
    type Output = Result<Vec<Committed>, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            let acked = answer.unwrap_or(Err(StoreError::Closed))?;
            Ok(acked.into_iter().collect())
        })
    }
}

impl Acked {
    /// Of no record.
    pub(crate) fn nothing(head: &Head) -> Self {
        let builder = BatchBuilder::new(ledger::Frontier::new(), 0);
        Self {
            batch: Arc::new(builder.finish(head.checkpoint.clone(), &head.note)),
            at: 0,
            count: 0,
            first_seq: 0,
        }
    }

    fn into_iter(self) -> impl Iterator<Item = Committed> {
        let (batch, first_seq) = (self.batch, self.first_seq);
        (self.at..self.at + self.count)
            .zip(first_seq..)
            .map(move |(at, seq)| Committed {
                batch: Arc::clone(&batch),
                at,
                seq,
            })
    }
}
