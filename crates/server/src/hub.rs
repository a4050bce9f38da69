//! What is pushed to gateways: deltas in ledger order to every follower, cuts ahead of the ledger.
//!
//! INVARIANT: whoever subscribes gets the newest published checkpoint and, from then on, every later
//! one, each with the proof that it extends the one before. The journal's thread is the only publisher
//! of checkpoints; cuts come from anybody.

use proto::v1::{CheckpointDelta, Cut, Delta, delta};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Batches that a slow follower may lag behind before it has to connect again.
const LAG: usize = 4_096;

/// Deltas that belong together, in order.
pub(crate) type Batch = Arc<Vec<Delta>>;

/// A checkpoint that followers know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Published {
    pub(crate) size: u64,
    pub(crate) note: Arc<str>,
}

pub(crate) struct Hub {
    sender: broadcast::Sender<Batch>,
    /// Held while a batch is sent, so that a subscription falls between two.
    published: Mutex<Published>,
}

impl Hub {
    pub(crate) fn new(published: Published) -> Self {
        Self {
            sender: broadcast::Sender::new(LAG),
            published: Mutex::new(published),
        }
    }

    /// The newest published checkpoint and all that follows it.
    pub(crate) fn subscribe(&self) -> (Published, broadcast::Receiver<Batch>) {
        let published = self.lock();
        (published.clone(), self.sender.subscribe())
    }

    pub(crate) fn published(&self) -> Published {
        self.lock().clone()
    }

    pub(crate) fn followers(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Publishes `next` with `consistency` from the checkpoint before it.
    pub(crate) fn publish(
        &self,
        next: Published,
        consistency: impl FnOnce(u64, u64) -> Option<Vec<Vec<u8>>>,
    ) {
        let mut published = self.lock();
        if next.size <= published.size {
            return;
        }
        let note = next.note.as_ref().to_owned();
        let new_size = next.size;
        let old_size = std::mem::replace(&mut *published, next).size;
        if self.sender.receiver_count() == 0 {
            return;
        }
        let Some(consistency) = consistency(old_size, new_size) else {
            return;
        };
        let checkpoint = CheckpointDelta {
            checkpoint: note,
            old_size,
            consistency,
        };
        self.send(vec![Delta {
            delta: Some(delta::Delta::Checkpoint(checkpoint)),
        }]);
    }

    /// A revocation acts first: gateways cut now, the record follows.
    pub(crate) fn cut(&self, cut: Cut) {
        self.send(vec![Delta {
            delta: Some(delta::Delta::Cut(cut)),
        }]);
    }

    /// To every follower, after all that was published before.
    pub(crate) fn send(&self, batch: Vec<Delta>) {
        if batch.is_empty() {
            return;
        }
        // No follower is no failure: the next one starts from the state.
        drop(self.sender.send(Arc::new(batch)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
