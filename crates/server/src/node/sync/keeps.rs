//! What an agent keeps of the witnesses' checkpoints, and when it is told of the next.

use crate::core::Core;
use crate::cosign::{Witnessed, Witnesses};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An agent is told at most so often: ten thousand of them, each second, would be a flood of the same note.
const EVERY: Duration = Duration::from_secs(60);

/// Of one stream.
pub(super) struct Keeps {
    size: u64,
    told: Option<(Instant, u64)>,
}

impl Keeps {
    pub(super) const fn begin(size: u64) -> Self {
        Self { size, told: None }
    }

    /// What to tell now, and the size that it is to be proved from. A ledger that is shorter than what the agent keeps
    /// has nothing to tell it.
    pub(super) fn next(&mut self, core: &Core) -> Option<(Arc<Witnessed>, u64)> {
        let newest = core.witnesses.as_ref().and_then(Witnesses::newest)?;
        let due = self.told.is_none_or(|(at, time)| {
            at.elapsed() >= EVERY && (newest.size > self.size || newest.time > time)
        });
        if !due || newest.size < self.size {
            return None;
        }
        let known = std::mem::replace(&mut self.size, newest.size);
        self.told = Some((Instant::now(), newest.time));
        Some((newest, known))
    }
}
