//! Whether a machine has proved itself over the stream that it asks on.
//!
//! The SVID of a machine that joined by TPM says which chip it has, and nothing of the boot that it is in by
//! now: what is sealed on its disk opens in every approved boot. The facts of its last verdict are of the boot
//! that it joined or renewed in, so that nothing is issued by them before a quote that was asked for on this
//! very stream says that it is the same one. A join or a renewal before the stream says it of an earlier
//! moment, and does not count.

use super::Caller;
use crate::core::Core;
use crate::refusal::Refusal;
use facts::{Finding, names};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// A request waits so long for the quote: a slow chip takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests of one stream that wait. Fewer than its places, so that the answer finds one.
const WAITING: usize = 64;

/// Of one stream.
#[derive(Debug)]
pub(crate) struct Proof {
    proved: watch::Sender<bool>,
    waiting: Semaphore,
    /// Some request was refused for want of it.
    refused: AtomicBool,
}

impl Default for Proof {
    fn default() -> Self {
        Self {
            proved: watch::Sender::new(false),
            waiting: Semaphore::new(WAITING),
            refused: AtomicBool::new(false),
        }
    }
}

impl Proof {
    /// A quote that was asked for on this stream was good. Whether requests were refused before.
    pub(crate) fn proved(&self) -> bool {
        self.proved.send_replace(true);
        self.refused.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn is_proved(&self) -> bool {
        *self.proved.borrow()
    }

    async fn wait(&self) -> bool {
        let mut proved = self.proved.subscribe();
        // Whoever finds no place is refused at once, and asks again.
        let Ok(_place) = self.waiting.try_acquire() else {
            return self.is_proved();
        };
        let waited = tokio::time::timeout(PATIENCE, proved.wait_for(|proved| *proved)).await;
        waited.is_ok()
    }
}

/// Waits until the machine of `caller` has proved itself over its stream, if it joined by TPM.
///
/// # Errors
/// `ATTEST-AWAITED`; `CALLER-REVOKED` and the like if the SVID has been taken away meanwhile.
pub(crate) async fn proved(core: &Core, caller: &Caller) -> Result<(), Refusal> {
    let proof = &caller.proof;
    if proof.is_proved() {
        return Ok(());
    }
    let node = core.state().node(&caller.node.name).cloned();
    let node = node.unwrap_or_else(|| caller.node.clone());
    if core.machine_facts(&node)?.text(names::MACHINE_JOIN) != Some("tpm") {
        return Ok(());
    }
    if proof.wait().await {
        core.goes_on(&caller.svid)?;
        return Ok(());
    }
    proof.refused.store(true, Ordering::Release);
    // It may have come in between.
    if proof.is_proved() {
        return Ok(());
    }
    Err(Refusal::Denied(
        Finding::new(
            "ATTEST-AWAITED",
            "the machine has not proved itself since it connected",
        )
        .expected("a quote that answers the question on this stream")
        .observed("none yet")
        .next("let the node agent answer; if it cannot, look at its log and at the TPM"),
    ))
}
