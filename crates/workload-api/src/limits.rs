//! How much one caller, and all together, may ask of the endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A socket that anybody may connect to needs a share for each uid, so that no user can starve another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all callers. Each costs about 20 KiB.
    pub connections: usize,
    pub connections_per_uid: usize,
    /// Calls under way, open streams among them, of one uid over all of its connections.
    pub calls_per_uid: usize,
    /// Calls under way in one connection (HTTP/2 `MAX_CONCURRENT_STREAMS`).
    pub calls_per_connection: u32,
    /// Bytes of one request message. The largest is a JWT-SVID to validate.
    pub request_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            connections_per_uid: 512,
            calls_per_uid: 1024,
            calls_per_connection: 64,
            request_bytes: 80 << 10,
        }
    }
}

/// Counts by uid, with a limit for each and one for all.
#[derive(Debug)]
pub(crate) struct Slots {
    total: usize,
    each: usize,
    // Owned by the slots: taken in `take`, given back in `Slot::drop`. Held for no I/O.
    used: Mutex<HashMap<u32, usize>>,
}

impl Slots {
    pub(crate) fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            each,
            used: Mutex::default(),
        })
    }

    /// `None` when `uid` or all together have as many as they may.
    pub(crate) fn take(self: &Arc<Self>, uid: u32) -> Option<Slot> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.values().sum::<usize>() >= self.total {
            return None;
        }
        let mine = used.entry(uid).or_default();
        if *mine >= self.each {
            return None;
        }
        *mine += 1;
        Some(Slot {
            of: Arc::clone(self),
            uid,
        })
    }
}

/// One place taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    of: Arc<Slots>,
    uid: u32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self.of.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = used.get_mut(&self.uid) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                used.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_cannot_take_the_places_of_another() {
        let slots = Slots::new(3, 2);
        let first = slots.take(1).unwrap();
        let _second = slots.take(1).unwrap();
        assert!(slots.take(1).is_none(), "its share is used");
        let _other = slots.take(2).unwrap();
        assert!(slots.take(3).is_none(), "all are used");
        drop(first);
        assert!(slots.take(3).is_some());
    }
}
