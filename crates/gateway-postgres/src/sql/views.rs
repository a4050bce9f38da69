//! What views stand for, worked out once for all sessions.
//!
//! It follows from the catalogue and from what the estate declares: whoever holds a snapshot of the one
//! keeps one of these for each version of the other. Views refer to views, as often as they like: each
//! definition is walked twice at most, and no view is walked inside the walk of another.

use super::access::Resolved;
use super::resolve::{Environment, Walked, Work, definition};
use facts::Finding;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

type Known = Result<Arc<Resolved>, Finding>;

/// Shared by all sessions that decide by one catalogue and one estate.
#[derive(Debug, Default)]
pub struct Views {
    /// By OID; or why the view cannot be resolved.
    known: RwLock<HashMap<u32, Known>>,
    steps: AtomicUsize,
}

impl Views {
    pub(super) fn find(&self, oid: u32) -> Option<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&oid).cloned()
    }

    fn knows(&self, oid: u32) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.contains_key(&oid)
    }

    fn keep(&self, oid: u32, view: Known) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(oid, view);
    }

    /// Steps that all of it has taken.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }

    /// Works out `view` and every view that it needs.
    pub(super) fn work_out(&self, view: u32, environment: Environment<'_>) {
        // Those that wait for others below them in `open`.
        let mut waiting = HashSet::new();
        let mut open = vec![view];
        while let Some(oid) = open.last().copied() {
            if self.knows(oid) {
                open.pop();
                continue;
            }
            let mut work = Work::full();
            let walked = definition(oid, environment, &mut work);
            self.steps.fetch_add(work.spent(), Ordering::Relaxed);
            let known = match walked {
                Ok(Walked { missing, resolved }) if missing.is_empty() => Ok(Arc::new(resolved)),
                Ok(Walked { missing, .. }) => {
                    waiting.insert(oid);
                    if missing.is_disjoint(&waiting) {
                        open.extend(missing);
                        continue;
                    }
                    Err(Finding::new(
                        "SQL-VIEW",
                        "the definition of a view refers to itself",
                    ))
                }
                Err(finding) => Err(finding),
            };
            waiting.remove(&oid);
            self.keep(oid, known);
        }
    }
}
