//! The newest durable checkpoint, and waiting for the next one.

use ledger::Checkpoint;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A durable, signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub checkpoint: Checkpoint,
    /// The signed note; empty only in a mirror that holds nothing yet.
    pub note: Arc<str>,
}

/// Owned by the log; the committer sets it, everybody reads it.
pub(crate) struct HeadCell {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    head: Arc<Head>,
    closed: bool,
    wakers: Vec<Waker>,
}

impl HeadCell {
    pub(crate) fn new(head: Head) -> Self {
        Self {
            state: Mutex::new(State {
                head: Arc::new(head),
                closed: false,
                wakers: Vec::new(),
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> Arc<Head> {
        Arc::clone(&self.lock().head)
    }

    pub(crate) fn set(&self, head: Head) {
        let mut state = self.lock();
        state.head = Arc::new(head);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.wake(wakers);
    }

    /// No further head will come.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.wake(wakers);
    }

    fn wake(&self, wakers: Vec<Waker>) {
        self.changed.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }
}

/// New heads of a ledger. Each call yields the newest one after the last that was yielded; those
/// between are skipped. `None` once the ledger is closed or has failed.
pub struct Heads {
    cell: Arc<crate::log::Log>,
    seen: u64,
}

impl Heads {
    pub(crate) const fn new(cell: Arc<crate::log::Log>, seen: u64) -> Self {
        Self { cell, seen }
    }

    /// For tasks of any executor.
    pub async fn next(&mut self) -> Option<Arc<Head>> {
        let (cell, seen) = (&self.cell.heads, self.seen);
        let head = poll_fn(|context| {
            let mut state = cell.lock();
            if state.head.checkpoint.size > seen {
                return Poll::Ready(Some(Arc::clone(&state.head)));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            if !state
                .wakers
                .iter()
                .any(|held| held.will_wake(context.waker()))
            {
                state.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await?;
        self.seen = head.checkpoint.size;
        Some(head)
    }

    /// For threads.
    pub fn wait(&mut self) -> Option<Arc<Head>> {
        let cell = &self.cell.heads;
        let mut state = cell.lock();
        while state.head.checkpoint.size <= self.seen {
            if state.closed {
                return None;
            }
            state = cell
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.seen = state.head.checkpoint.size;
        Some(Arc::clone(&state.head))
    }
}
