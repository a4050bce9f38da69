//! A machine that is asked because somebody wants to know now.

use super::watch::{ANSWER_S, Over};
use super::{ask, is_evicted};
use crate::core::Core;
use crate::refusal::Refusal;
use facts::{Finding, names};
use std::sync::Arc;
use std::time::Duration;

/// Between two tries to ask a machine that is being asked already, or was a moment ago.
const AGAIN: Duration = Duration::from_millis(100);

/// Between two looks at a machine that has been asked.
const LOOK: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its answer was good; so many entries of its list are verified.
    Passed { entries: Option<u64> },
    /// Its answer was not, or what it says is good no more.
    Evicted,
}

/// Asks the machine `name` on its agent's stream and waits for what comes of it.
///
/// # Errors
/// `ATTEST-NOT-ASKED` of a machine that cannot be asked; `ATTEST-UNANSWERED` if nothing comes back in time.
pub(crate) async fn demand(core: &Arc<Core>, name: &str) -> Result<Outcome, Refusal> {
    let node = core.state().node(name).cloned();
    let node = node.ok_or_else(|| not_asked("no machine of this name has joined"))?;
    if node.locked.is_some() {
        return Err(not_asked("it is locked or evicted"));
    }
    if core.machine_facts(&node)?.text(names::MACHINE_JOIN) != Some("tpm") {
        return Err(not_asked("it did not join by TPM"));
    }
    let mut moved = core.watched.moved.subscribe();
    let waiting = async {
        // An answer to a question that was asked before says nothing of now.
        let mut asked_at = None;
        loop {
            moved.mark_unchanged();
            if asked_at.is_none() {
                let Some(stream) = core.workloads.connection(name) else {
                    return Err(not_asked("its node agent is not connected"));
                };
                let over = Over {
                    stream: Some(stream),
                    proved: true,
                };
                core.watched.lock().wanted(name, core.now());
                let passes = core.watched.lock().passes(name);
                if let Some(question) = ask(core, name, over) {
                    core.workloads.send(name, crate::node::update(question));
                    asked_at = Some(passes);
                }
            }
            let passes = core.watched.lock().passes(name);
            if asked_at.is_some_and(|before| passes > before) {
                let entries = super::verified_entries(core, name);
                return Ok(Outcome::Passed { entries });
            }
            let now = core.state().node(name).cloned();
            match now {
                Some(node) if is_evicted(&node) => return Ok(Outcome::Evicted),
                Some(node) if node.locked.is_none() => {}
                _ => return Err(not_asked("it was locked meanwhile")),
            }
            match asked_at {
                // It may be evicted for something else than an answer, which tells nobody here.
                Some(_) => drop(tokio::time::timeout(LOOK, moved.changed()).await),
                None => tokio::time::sleep(AGAIN).await,
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(ANSWER_S), waiting).await;
    waited.unwrap_or_else(|_| {
        Err(Refusal::Unavailable(
            Finding::new("ATTEST-UNANSWERED", "the machine has not answered")
                .expected(format!("an answer within {ANSWER_S} s"))
                .observed("none")
                .next("look at the node agent's log; a machine that stays silent is evicted"),
        ))
    })
}

fn not_asked(why: &str) -> Refusal {
    Refusal::Precondition(
        Finding::new("ATTEST-NOT-ASKED", "the machine cannot be asked")
            .expected(
                "a machine that joined by TPM, is not locked, and whose node agent is connected",
            )
            .observed(why)
            .next("trilith agent list"),
    )
}
