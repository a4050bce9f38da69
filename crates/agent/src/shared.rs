//! The core behind a lock, and the two bells that its owners ring.
//!
//! The lock is held for a few map operations, never across an await. The task in `sync` alone sends
//! what the core wants sent; everyone else rings.

use crate::attestor::Process;
use crate::receipts::Receipts;
use crate::witnessed::Witnessing;
use crate::workloads::Workloads;
use arc_swap::ArcSwapOption;
use spiffe_core::Bundle;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

pub(crate) type Core = Workloads<Arc<Process>>;

#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Something is to be sent, or somebody must ask.
    pub(crate) work: Notify,
    /// Something may be due earlier than it was.
    pub(crate) clock: Notify,
    /// What SVIDs are validated against.
    pub(crate) bundle: ArcSwapOption<Bundle>,
    /// Set once the node has an identity, before anything is served.
    pub(crate) receipts: OnceLock<Receipts>,
    /// Set with it, where the configuration names witnesses.
    pub(crate) witnessing: OnceLock<Witnessing>,
}

impl Shared {
    pub(crate) fn new(core: Core) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::new(core),
            work: Notify::new(),
            clock: Notify::new(),
            bundle: ArcSwapOption::empty(),
            receipts: OnceLock::new(),
            witnessing: OnceLock::new(),
        })
    }

    /// Runs `f` on the core and wakes whoever has something to do for it then.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.lock();
        let result = f(&mut core);
        let work = core.wants_to_send();
        drop(core);
        if work {
            self.work.notify_one();
        }
        self.clock.notify_one();
        result
    }

    /// As [`Shared::with`], for the tasks that would be woken: they look for themselves afterwards.
    pub(crate) fn quietly<T>(&self, f: impl FnOnce(&mut Core) -> T) -> T {
        f(&mut self.lock())
    }

    /// What SVIDs are checked with.
    pub(crate) fn trusted(&self) -> Option<(Arc<Bundle>, &Receipts)> {
        Some((self.bundle.load_full()?, self.receipts.get()?))
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic inside would have left one entry half changed; its next answer sets it right.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
