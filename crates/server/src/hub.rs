//! What is pushed to gateways: deltas in ledger order to every follower, cuts ahead of the ledger.
//!
//! INVARIANT: whoever subscribes gets the newest published checkpoint and, from then on, every later
//! one, each with the proof that it extends the one before. The journal's thread is the only publisher
//! of checkpoints; cuts come from anybody.

use crate::cosign::Witnessed;
use facts::{Finding, Timestamp};
use proto::v1::{CheckpointDelta, Cut, Delta, delta};
use std::collections::BTreeMap;
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
    /// Gateways whose ledger was not taken when they connected last, by SPIFFE ID: why, and when.
    refused: Mutex<BTreeMap<String, (Finding, Timestamp)>>,
}

impl Hub {
    pub(crate) fn new(published: Published) -> Self {
        Self {
            sender: broadcast::Sender::new(LAG),
            published: Mutex::new(published),
            refused: Mutex::default(),
        }
    }

    /// The ledger of `gateway` was refused, or taken.
    pub(crate) fn met(&self, gateway: &str, refused: Option<&Finding>, now: Timestamp) {
        let mut held = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused {
            Some(finding) => held.insert(gateway.to_owned(), (finding.clone(), now)),
            None => held.remove(gateway),
        };
    }

    /// Why the ledger of `gateway` was not taken when it connected last, and when that was.
    pub(crate) fn refused(&self, gateway: &str) -> Option<(Finding, Timestamp)> {
        let held = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(gateway).cloned()
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
        if self.sender.receiver_count() == 0 {
            *published = next;
            return;
        }
        // INVARIANT: a checkpoint that followers were not told of is not the published one; the next
        // is then proven from the one that they know.
        let Some(consistency) = consistency(published.size, next.size) else {
            tracing::error!(
                size = next.size,
                "a checkpoint without a proof is not published"
            );
            return;
        };
        let checkpoint = CheckpointDelta {
            checkpoint: next.note.as_ref().to_owned(),
            old_size: published.size,
            consistency,
        };
        *published = next;
        self.send(vec![Delta {
            delta: Some(delta::Delta::Checkpoint(checkpoint)),
        }]);
    }

    /// Tells followers what witnesses have cosigned, with the proof that the published checkpoint extends it. Whoever
    /// subscribes later is told with what it begins with.
    pub(crate) fn witnessed(
        &self,
        witnessed: &Witnessed,
        consistency: impl FnOnce(u64, u64) -> Option<Vec<Vec<u8>>>,
    ) {
        let published = self.lock();
        if self.sender.receiver_count() == 0 {
            return;
        }
        if let Some(delta) = witnessed_delta(witnessed, published.size, consistency) {
            // Under the lock: the checkpoint that the proof leads to has been sent, and none after it.
            self.send(vec![Delta { delta: Some(delta) }]);
        }
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

/// For whoever knows the published checkpoint of `known` records.
pub(crate) fn witnessed_delta(
    witnessed: &Witnessed,
    known: u64,
    consistency: impl FnOnce(u64, u64) -> Option<Vec<Vec<u8>>>,
) -> Option<delta::Delta> {
    Some(delta::Delta::Witnessed(proto::v1::Witnessed {
        checkpoint: witnessed.note.as_ref().to_owned(),
        known_size: known,
        consistency: consistency(witnessed.size, known)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(size: u64) -> Published {
        Published {
            size,
            note: size.to_string().into(),
        }
    }

    #[tokio::test]
    async fn a_checkpoint_whose_proof_failed_leaves_no_hole_in_the_chain() {
        let hub = Hub::new(published(1));
        let (from, mut deltas) = hub.subscribe();
        hub.publish(published(2), |_, _| None);
        assert_eq!(hub.published(), from, "nobody was told of 2");
        hub.publish(published(3), |old, new| {
            Some(vec![old.to_be_bytes().to_vec(), new.to_be_bytes().to_vec()])
        });
        let batch = deltas.recv().await.unwrap();
        let Some(delta::Delta::Checkpoint(checkpoint)) = &batch[0].delta else {
            panic!("{batch:?}");
        };
        assert_eq!(
            (checkpoint.old_size, checkpoint.checkpoint.as_str()),
            (1, "3")
        );
        assert_eq!(
            checkpoint.consistency,
            [1_u64.to_be_bytes(), 3_u64.to_be_bytes()]
        );
    }
}
