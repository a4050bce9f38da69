//! Whether what was written lasts: outcomes of writes wait for what the server says of their
//! transaction, and what a later error took back does not look as if it had lasted.

use super::Finished;
use crate::sql::Effect;
use gateway::{Ending, IntentId};

/// A write that is done, in a transaction that is not known to be.
pub(super) struct Pending {
    pub(super) intent: IntentId,
    pub(super) ending: Ending,
    /// It is recorded that it is done.
    pub(super) told: bool,
    fate: Option<Fate>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A COMMIT after it succeeded.
    Lasts,
    /// A ROLLBACK after it succeeded.
    Undone,
    /// It does not depend on what follows.
    Settled,
}

/// The transaction that the session is in, as far as the server has said.
pub(super) struct Transaction {
    /// `I`, `T` or `E`, as the server last said.
    state: u8,
    /// Something in it was a write, or will be.
    pub(super) wrote: bool,
    pub(super) pending: Vec<Pending>,
    /// SQLSTATE of an error since the server last was ready.
    failed: Option<String>,
    /// A procedure ran since then, which may commit by itself.
    called: bool,
}

impl Default for Transaction {
    fn default() -> Self {
        Self {
            state: b'I',
            wrote: false,
            pending: Vec::new(),
            failed: None,
            called: false,
        }
    }
}

impl Transaction {
    /// A statement is done; `ending.tag` is the first word of its command tag. What needs no waiting is
    /// added to `finished`.
    pub(super) fn finish(
        &mut self,
        (verb, effect): (&str, Effect),
        intent: Option<IntentId>,
        ending: Ending,
        finished: &mut Finished,
    ) {
        let mut fate = None;
        match (verb, ending.tag.as_deref()) {
            ("COMMIT", Some("COMMIT")) => {
                self.settle(Fate::Lasts);
                fate = Some(Fate::Lasts);
            }
            // COMMIT of a failed transaction answers ROLLBACK.
            ("COMMIT" | "ROLLBACK", _) => {
                self.settle(Fate::Undone);
                fate = Some(Fate::Settled);
            }
            ("ROLLBACK TO", _) => fate = Some(Fate::Settled),
            ("CALL", _) => self.called = true,
            _ => {}
        }
        let Some(intent) = intent else { return };
        if effect < Effect::Commit {
            finished.push((intent, ending));
            return;
        }
        self.pending.push(Pending {
            intent,
            ending,
            told: false,
            fate,
        });
    }

    fn settle(&mut self, fate: Fate) {
        for pending in &mut self.pending {
            pending.fate.get_or_insert(fate);
        }
    }

    pub(super) fn fail(&mut self, sqlstate: &str) {
        self.failed.get_or_insert_with(|| sqlstate.to_owned());
    }

    /// The server is ready for the next query, in `state`.
    pub(super) fn ready(&mut self, state: u8, finished: &mut Finished) {
        self.state = state;
        let failed = self.failed.take();
        let called = std::mem::take(&mut self.called);
        let word = match state {
            b'I' => "I",
            b'T' => "T",
            _ => "E",
        };
        for pending in self.pending.drain(..) {
            let mut ending = pending.ending;
            ending.transaction = Some(word);
            match (pending.fate, &failed) {
                (Some(Fate::Lasts), _) => ending.transaction = Some("I"),
                (Some(Fate::Settled), _) | (None, None) => {}
                (Some(Fate::Undone), _) => ending.result = "undone",
                // A transaction that was opened stays open in state E; one that was not is over.
                (None, Some(sqlstate)) if state == b'I' => {
                    ending.result = if called { "unknown" } else { "undone" };
                    ending.sqlstate = Some(sqlstate.clone());
                }
                (None, Some(_)) => {}
            }
            finished.push((pending.intent, ending));
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.state != b'I'
    }

    /// Whether an answer waits that nothing recorded stands behind yet.
    pub(super) fn is_untold(&self) -> bool {
        self.pending.iter().any(|pending| !pending.told)
    }

    /// The conversation is over: nobody knows whether what is done lasts.
    pub(super) fn cut(&mut self, open: &mut Finished) {
        for pending in self.pending.drain(..) {
            let result = match pending.fate {
                None => "unknown",
                Some(Fate::Undone) => "undone",
                Some(_) => pending.ending.result,
            };
            let ending = Ending {
                result,
                transaction: (pending.fate == Some(Fate::Lasts)).then_some("I"),
                ..pending.ending
            };
            open.push((pending.intent, ending));
        }
    }
}
