//! How a ledger is opened. Each default has its reason beside it.

use crate::{Disk, RealDisk, StoreError};
use ledger::{Hash, Stamp};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Called once, with the error after which the ledger refuses everything.
pub type OnFailure = Arc<dyn Fn(&StoreError) + Send + Sync>;

#[derive(Clone)]
pub struct Options {
    /// A new segment begins after this many bytes. 64 MiB: replayed within a second at start.
    pub segment_bytes: u64,
    /// Bytes of one commit, at most. 4 MiB: some 20 ms on a slow disk, which bounds the wait.
    pub commit_bytes: usize,
    /// Bytes that may wait for the disk before appends are refused with `LEDGER-BUSY`.
    pub queue_bytes: usize,
    /// Disk space kept back for revocations. 16 MiB: more than 10,000 of them.
    pub reserve_bytes: u64,
    /// The highest checkpoint that anybody remembers; an older ledger does not open.
    pub expected_at_least: Option<(u64, Hash)>,
    /// Tells the shell to stop the process (DESIGN, invariant 8).
    pub on_failure: Option<OnFailure>,
    pub clock: fn() -> Stamp,
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            commit_bytes: 4 << 20,
            queue_bytes: 64 << 20,
            reserve_bytes: 16 << 20,
            expected_at_least: None,
            on_failure: None,
            clock: system_clock,
            disk: Arc::new(RealDisk),
        }
    }
}

/// Unix time, and the monotonic clock of the system.
#[must_use]
pub fn system_clock() -> Stamp {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = wall.unwrap_or(Duration::ZERO).as_millis();
    let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(mono.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(mono.tv_nsec).unwrap_or_default();
    Stamp {
        wall: u64::try_from(wall).unwrap_or(u64::MAX),
        mono: seconds.saturating_mul(1_000_000_000) + nanoseconds,
    }
}
