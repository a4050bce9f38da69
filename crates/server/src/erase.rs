//! Erasing: the one order in which what records name by commitment or digest goes.
//!
//! ```text
//! marked ──→ looked at again ──→ record, durable ──→ files removed ──→ caches forget
//! ```
//! Whoever names contents again, as joins and evictions do, holds them from before they are kept until the record stands:
//! of each content, it is being erased or being named.
//! INVARIANT: nothing is removed before a record says so, and what a record says to be gone is removed by the next
//! start at the latest. Which contents go, and whether they may, is decided in `admin::erasing`.

use crate::core::Core;
use crate::refusal::Refusal;
use crate::state::State;
use facts::{Finding, Timestamp};
use ledger::body::Erasure;
use ledger::{Commitment, HexDigest};
use ledger_store::Intended;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// How long whoever names what is being erased waits before it looks again.
const AGAIN: Duration = Duration::from_millis(10);

/// What is under way with contents. INVARIANT: none is in both.
#[derive(Default)]
pub(crate) struct Contents {
    erasing: HashSet<HexDigest>,
    /// How many acts name each.
    naming: HashMap<HexDigest, usize>,
}

impl Contents {
    /// True if none of these is being erased: from then on they are being named.
    fn name(&mut self, contents: &[HexDigest]) -> bool {
        if contents.iter().any(|one| self.erasing.contains(one)) {
            return false;
        }
        for sha256 in contents {
            *self.naming.entry(*sha256).or_default() += 1;
        }
        true
    }

    fn named(&mut self, contents: &[HexDigest]) {
        for sha256 in contents {
            let left = self.naming.get(sha256).copied().unwrap_or_default();
            match left.checked_sub(1) {
                Some(left @ 1..) => drop(self.naming.insert(*sha256, left)),
                _ => drop(self.naming.remove(sha256)),
            }
        }
    }

    /// Those that nobody is naming: from then on they are being erased.
    fn mark(&mut self, mut contents: Vec<HexDigest>) -> Vec<HexDigest> {
        contents.retain(|sha256| !self.naming.contains_key(sha256));
        self.erasing.extend(contents.iter().copied());
        contents
    }
}

/// Contents that a record is about to name: while it lives, they are neither erased nor removed.
pub(crate) struct Naming {
    core: Arc<Core>,
    contents: Vec<HexDigest>,
    /// What of them was not there before.
    intended: Vec<Intended>,
}

impl Naming {
    /// Keeps `many`, which have to be among what it holds. If no record comes to name them, the next start removes them.
    pub(crate) async fn keep(&mut self, many: Vec<Vec<u8>>) -> Result<(), Refusal> {
        let intended = self.core.put_all_intended(many).await?;
        self.intended.extend(intended);
        Ok(())
    }

    /// The record that names them stands.
    pub(crate) async fn recorded(mut self) {
        let intended = std::mem::take(&mut self.intended);
        if !intended.is_empty() {
            self.core.named(intended).await;
        }
    }
}

impl Drop for Naming {
    fn drop(&mut self) {
        self.core.contents().named(&self.contents);
    }
}

/// Holds `contents` until the record that names them stands. Waits for an erasure that has marked one of them.
pub(crate) async fn naming(core: &Arc<Core>, contents: Vec<HexDigest>) -> Naming {
    while !core.contents().name(&contents) {
        tokio::time::sleep(AGAIN).await;
    }
    Naming {
        core: Arc::clone(core),
        contents,
        intended: Vec::new(),
    }
}

/// Contents that nothing new commits to while it lives.
pub(crate) struct Marked {
    core: Arc<Core>,
    contents: Vec<HexDigest>,
}

impl Marked {
    /// Whether this content was free when it was marked; one that somebody was naming is not marked.
    pub(crate) fn has(&self, sha256: &HexDigest) -> bool {
        self.contents.contains(sha256)
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let mut contents = self.core.contents();
        for sha256 in &self.contents {
            contents.erasing.remove(sha256);
        }
    }
}

impl Core {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.erasing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the content of this digest is gone, or about to go.
    pub(crate) fn is_erased(&self, sha256: &HexDigest) -> bool {
        // Neither lock is held while the other is waited for.
        let marked = self.contents().erasing.contains(sha256);
        marked || self.state().erased(sha256).is_some()
    }

    /// As [`Core::is_erased`], by whoever holds the state.
    pub(crate) fn is_erased_in(&self, state: &State, sha256: &HexDigest) -> bool {
        state.erased(sha256).is_some() || self.contents().erasing.contains(sha256)
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

/// Marks `contents`, but for those that somebody is about to name. INVARIANT: what is issued on one of them from here on
/// is not signed, and what was issued or named before is in the state: who looks there now sees whether somebody lives
/// by it.
pub(crate) fn mark(core: &Arc<Core>, contents: Vec<HexDigest>) -> Marked {
    let contents = core.contents().mark(contents);
    core.forget_openings();
    Marked {
        core: Arc::clone(core),
        contents,
    }
}

/// What was removed.
pub(crate) struct Removed {
    pub(crate) contents: u64,
    /// Certificates of what was issued on openings that are gone.
    pub(crate) certificates: u64,
}

/// Removes what records say to be gone, as far as the last word on it is that it is, with the certificates of the
/// issuances at `places`, or wherever, that commit to it. Waits for the disk: blocks.
pub(crate) fn remove(
    core: &Core,
    erased: &[HexDigest],
    places: Option<Vec<u64>>,
) -> Result<Removed, Refusal> {
    let gone: Vec<HexDigest> = {
        let state = core.state();
        let gone = erased.iter().filter(|sha256| state.is_gone(sha256));
        gone.copied().collect()
    };
    let unfinished = |error: &dyn std::error::Error| {
        Refusal::Unavailable(
            Finding::new(
                "ERASE-UNFINISHED",
                "what the record says to be gone is not removed yet",
            )
            .observed(facts::with_causes(error))
            .next("mend the disk and start the server again: each start removes what is left"),
        )
    };
    // INVARIANT: certificates first. A start that finds an opening looks for what goes with it.
    let certificates = core.certificates.erase(&gone, places);
    let certificates = certificates.map_err(|error| unfinished(&error))?;
    let contents = core.blobs.remove_all(&gone);
    let contents = contents.map_err(|error| unfinished(&error))?;
    core.forget_openings();
    if let Ok(mut machines) = core.machines.write() {
        machines.clear();
    }
    Ok(Removed {
        contents,
        certificates,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Kept for a verdict that is not recorded yet, and removed by an erasure of before: the verdict's evidence would
    /// be gone, and no record would say so.
    #[test]
    fn what_is_named_is_not_erased_and_what_is_erased_is_not_named() {
        let [log, key] = [&b"log"[..], b"key"].map(HexDigest::of);
        let mut contents = Contents::default();
        assert!(contents.name(&[log]) && contents.name(&[log]));
        assert_eq!(contents.mark(vec![log, key]), [key]);
        assert!(!contents.name(&[log, key]) && contents.name(&[log]));
        for _ in 0..3 {
            assert!(contents.mark(vec![log]).is_empty());
            contents.named(&[log]);
        }
        assert_eq!(contents.mark(vec![log]), [log]);
        assert!(!contents.name(&[log]));
    }
}
