//! Cuts that are in force and not recorded yet, because the disk took no record of them or because
//! the server may sign none. While it runs they count like revocations of the state.

use ledger::Draft;
use ledger::body::TargetKind;
use proto::v1::Cut;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use store::SvidRow;

/// Kept at once. Each names something that exists, by an administrator's word or the server's own.
const MOST: usize = 65_536;

/// What is cut: a second cut of the same is the same.
pub(crate) type Key = (TargetKind, String);

struct Waiting {
    cut: Cut,
    record: Draft,
}

#[derive(Default)]
pub(crate) struct Unrecorded {
    waiting: Mutex<HashMap<Key, Waiting>>,
    /// Spares every request the lock while nothing waits.
    any: AtomicBool,
}

impl Unrecorded {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if too many wait.
    pub(crate) fn add(&self, kind: TargetKind, cut: Cut, record: Draft) -> bool {
        let mut waiting = self.lock();
        if waiting.len() >= MOST {
            return false;
        }
        let key = (kind, cut.value.clone());
        waiting.entry(key).or_insert(Waiting { cut, record });
        self.any.store(true, Ordering::SeqCst);
        true
    }

    /// One that waits, whichever.
    pub(crate) fn next(&self) -> Option<(Key, Draft)> {
        let waiting = self.lock();
        let (key, first) = waiting.iter().next()?;
        Some((key.clone(), first.record.clone()))
    }

    /// All that wait.
    pub(crate) fn all(&self) -> Vec<(Key, Draft)> {
        let waiting = self.lock();
        waiting
            .iter()
            .map(|(key, one)| (key.clone(), one.record.clone()))
            .collect()
    }

    pub(crate) fn done(&self, key: &Key) {
        let mut waiting = self.lock();
        waiting.remove(key);
        self.any.store(!waiting.is_empty(), Ordering::SeqCst);
    }

    pub(crate) fn count(&self) -> i64 {
        i64::try_from(self.lock().len()).unwrap_or(i64::MAX)
    }

    /// For gateways that connect now.
    pub(crate) fn cuts(&self) -> Vec<Cut> {
        let waiting = self.lock();
        waiting.values().map(|one| one.cut.clone()).collect()
    }

    pub(crate) fn holds(&self, kind: TargetKind, value: &str) -> bool {
        self.any.load(Ordering::SeqCst) && self.lock().contains_key(&(kind, value.to_owned()))
    }

    /// Whether the SVID, its identity or its machine is cut.
    pub(crate) fn covers(&self, svid: &SvidRow) -> bool {
        self.holds(TargetKind::Serial, &svid.serial)
            || self.holds(TargetKind::Identity, &svid.spiffe_id)
            || self.holds(TargetKind::Machine, &svid.node)
    }
}
