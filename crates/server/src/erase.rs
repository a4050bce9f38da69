//! Erasing: the one order in which what records name by commitment or digest goes.
//!
//! ```text
//! marked ──→ looked at again ──→ record, durable ──→ files removed ──→ caches forget
//! ```
//! INVARIANT: nothing is removed before a record says so, and what a record says to be gone is removed by the next
//! start at the latest. Which contents go, and whether they may, is decided in `admin::erasing`.

use crate::core::Core;
use crate::refusal::Refusal;
use crate::state::State;
use facts::{Finding, Timestamp};
use ledger::body::Erasure;
use ledger::{Commitment, HexDigest};
use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

/// Contents that nothing new commits to while it lives.
pub(crate) struct Marked<'a> {
    core: &'a Core,
    contents: Vec<HexDigest>,
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        let mut erasing = self.core.marked();
        for sha256 in &self.contents {
            erasing.remove(sha256);
        }
    }
}

impl Core {
    fn marked(&self) -> MutexGuard<'_, HashSet<HexDigest>> {
        self.erasing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks `contents`. INVARIANT: what is issued on one of them from here on is not signed, and what was issued
    /// before is in the state: who looks there now sees whether somebody lives by it.
    pub(crate) fn mark(&self, contents: Vec<HexDigest>) -> Marked<'_> {
        self.marked().extend(contents.iter().copied());
        self.forget_openings();
        Marked {
            core: self,
            contents,
        }
    }

    /// Whether the content of this digest is gone, or about to go.
    pub(crate) fn is_erased(&self, sha256: &HexDigest) -> bool {
        // Neither lock is held while the other is waited for.
        let marked = self.marked().contains(sha256);
        marked || self.state().erased(sha256).is_some()
    }

    /// As [`Core::is_erased`], by whoever holds the state.
    pub(crate) fn is_erased_in(&self, state: &State, sha256: &HexDigest) -> bool {
        state.erased(sha256).is_some() || self.marked().contains(sha256)
    }

    fn forget_openings(&self) {
        if let Ok(mut known) = self.committed.write() {
            known.clear();
        }
    }

    pub(crate) fn forget_commitment(&self, commit: &Commitment) {
        if let Ok(mut known) = self.committed.write() {
            known.retain(|_, other| other != commit);
        }
    }
}

/// Removes what records say to be gone. Waits for the disk: blocks.
pub(crate) fn remove(core: &Core, erased: &[HexDigest]) -> Result<u64, Refusal> {
    let removed = core.blobs.remove_all(erased).map_err(|error| {
        Refusal::Unavailable(
            Finding::new(
                "ERASE-UNFINISHED",
                "what the record says to be gone is not removed yet",
            )
            .observed(facts::with_causes(&error))
            .next("mend the disk and start the server again: each start removes what is left"),
        )
    })?;
    core.forget_openings();
    if let Ok(mut machines) = core.machines.write() {
        machines.clear();
    }
    Ok(removed)
}

/// That a content is gone, and by which record; `None` if no record says so. Reads the ledger.
pub(crate) fn told(core: &Core, sha256: &HexDigest) -> Option<Refusal> {
    let index = core.state().erased(sha256)?;
    let record = core.journal.reader().record(index).ok()?;
    let erasure: Erasure = record.expect_body().ok()?;
    let at = Timestamp::from_millis(record.stamp().wall);
    Some(Refusal::Unknown(
        Finding::new("LEDGER-ERASED", "what the record names was erased")
            .expected(format!("content {sha256}"))
            .observed(format!(
                "erased by record {index} on {at}, by {}: {}",
                erasure.by, erasure.reason
            ))
            .next("what the records say themselves stands; nothing brings the rest back"),
    ))
}
