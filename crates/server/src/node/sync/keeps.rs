//! What an agent keeps of the witnesses' checkpoints, and when it is told of the next.

use crate::core::Core;
use crate::cosign::{Witnessed, Witnesses};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An agent is told at most so often: ten thousand of them, each second, would be a flood of the same note.
const EVERY: Duration = Duration::from_secs(60);
/// And at most so often however often it says anew what it keeps: each proof is read from the disk.
const AGAIN: Duration = Duration::from_secs(1);

/// Of one stream.
pub(super) struct Keeps {
    size: u64,
    told: Option<(Instant, u64)>,
    /// When it was told last, whatever it has said since.
    last: Option<Instant>,
}

impl Keeps {
    pub(super) const fn begin(size: u64) -> Self {
        Self {
            size,
            told: None,
            last: None,
        }
    }

    /// As the agent says anew: it is told at once, but for [`AGAIN`].
    pub(super) fn again(&mut self, size: u64) {
        (self.size, self.told) = (size, None);
    }

    fn is_early(&self) -> bool {
        self.last.is_some_and(|at| at.elapsed() < AGAIN)
    }

    /// What to tell now, and the size that it is to be proved from. A ledger that is shorter than what the agent keeps
    /// has nothing to tell it.
    pub(super) fn next(&mut self, core: &Core) -> Option<(Arc<Witnessed>, u64)> {
        let newest = core.witnesses.as_ref().and_then(Witnesses::newest)?;
        let due = self.told.is_none_or(|(at, time)| {
            at.elapsed() >= EVERY && (newest.size > self.size || newest.time > time)
        });
        if !due || newest.size < self.size || self.is_early() {
            return None;
        }
        let known = std::mem::replace(&mut self.size, newest.size);
        let now = Instant::now();
        (self.told, self.last) = (Some((now, newest.time)), Some(now));
        Some((newest, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each message was a proof from the disk, in a thread of its own: one machine kept a core busy.
    #[test]
    fn who_says_again_and_again_what_it_keeps_is_told_once_a_second() {
        let mut keeps = Keeps::begin(3);
        assert!(!keeps.is_early());
        keeps.last = Some(Instant::now());
        keeps.again(0);
        assert!(keeps.is_early() && keeps.told.is_none());
        keeps.last = Instant::now().checked_sub(AGAIN);
        assert!(!keeps.is_early());
    }
}
