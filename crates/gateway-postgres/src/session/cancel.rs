//! Cancel requests. They come on a connection of their own, in cleartext from older clients, and carry
//! nothing but the random key that the session was given; so they are rate-limited and recorded as
//! unauthenticated, and they can only ever cancel.

use crate::upstream::Address;
use crate::wire::CancelKey;
use facts::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Requests that are looked at in one second, of all clients together.
const PER_SECOND: u32 = 20;

#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) key: CancelKey,
    /// The session, as records name it.
    pub(crate) session: String,
}

#[derive(Default)]
struct State {
    targets: HashMap<CancelKey, Target>,
    second: u64,
    seen: u32,
}

/// Keys of the open sessions.
#[derive(Default)]
pub(crate) struct Cancels(Mutex<State>);

/// Withdraws the key when the session ends.
pub(crate) struct Entry {
    cancels: Arc<Cancels>,
    key: CancelKey,
}

impl Cancels {
    /// A fresh key that cancels `target`.
    pub(crate) fn enter(self: &Arc<Self>, target: Target) -> (CancelKey, Entry) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = loop {
            let key = CancelKey {
                process: u32::from_be_bytes(crypto::random()) >> 1,
                secret: u32::from_be_bytes(crypto::random()),
            };
            if !state.targets.contains_key(&key) {
                break key;
            }
        };
        state.targets.insert(key, target);
        drop(state);
        (
            key,
            Entry {
                cancels: Arc::clone(self),
                key,
            },
        )
    }

    /// The session that `key` cancels. `Err` when there were too many requests in this second.
    pub(crate) fn find(&self, key: CancelKey, now: Timestamp) -> Result<Option<Target>, ()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.second != now.as_secs() {
            state.second = now.as_secs();
            state.seen = 0;
        }
        state.seen += 1;
        if state.seen > PER_SECOND {
            return Err(());
        }
        Ok(state.targets.get(&key).cloned())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self
            .cancels
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.targets.remove(&self.key);
    }
}
