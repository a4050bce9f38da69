//! The server's ledger goes on as a new log: by links that both keys have signed, and by nothing else.
//!
//! Where the new log has all that is followed here, its key takes over at once. Where it goes on from less, what is
//! followed is given up only by the record of a recovery ([`super::recover`]); until then nothing changes.

use super::{Following, Held};
use facts::Finding;
use ledger::body::KeyRotation;
use ledger::{Code as _, LedgerKey, lineage};

impl Following {
    /// What the server says of the logs that its ledger went on as: a JSON list of links.
    ///
    /// # Errors
    /// `FOLLOW-LINEAGE` if they do not verify, `FOLLOW-LINEAGE-FORKED` if a log goes on as two; then nothing is
    /// changed.
    pub fn succeed(&self, links: &str) -> Result<(), Finding> {
        let links = lineage::from_json(links).map_err(|error| unsound(&error))?;
        let changed = {
            let mut held = self.held();
            let key = followed(held.chain.key(), &links)?;
            let head = held.chain.head().0;
            match key.end_of(held.chain.key().origin().as_str()) {
                None => {
                    held.next = None;
                    false
                }
                Some(end) if head <= end => {
                    tracing::warn!(newest = %key, end, "the server's ledger goes on as a new log");
                    held.chain.succeed(key);
                    held.next = None;
                    true
                }
                Some(_) => {
                    held.next = Some(key);
                    false
                }
            }
        };
        // INVARIANT 6: no start goes back to a key that was replaced.
        if changed { self.keep() } else { Ok(()) }
    }

    /// How the server's ledger is known here to have gone on, for the server to hear: it may have been restored to
    /// what it was before. Empty if it is of one log.
    pub(super) fn lineage(&self) -> String {
        match lineage::links(&self.held().newest_key()) {
            links if links.is_empty() => String::new(),
            links => lineage::to_json(&links),
        }
    }

    /// Takes up the lineage that an earlier start had taken.
    pub(super) fn succeed_before(&self, links: &[KeyRotation]) -> Result<(), Finding> {
        let mut held = self.held();
        let key = followed(held.chain.key(), links)?;
        held.chain.succeed(key);
        Ok(())
    }
}

impl Held {
    /// The key that signs now, also where what is followed is not given up yet.
    pub(super) fn newest_key(&self) -> LedgerKey {
        self.next
            .as_ref()
            .unwrap_or_else(|| self.chain.key())
            .clone()
    }
}

fn followed(key: &LedgerKey, links: &[KeyRotation]) -> Result<LedgerKey, Finding> {
    lineage::follow(key, links).map_err(|error| match error {
        lineage::LineageError::Forked { .. } => Finding::new(
            "FOLLOW-LINEAGE-FORKED",
            "a log of the server's ledger goes on as two: one key has signed two successions",
        )
        .expected(format!("one lineage that leads on from {key}"))
        .observed(error.to_string())
        .next("keep this gateway's folder as evidence, treat the key as stolen, and find out which log the server's operator began"),
        error => unsound(&error),
    })
}

fn unsound(error: &lineage::LineageError) -> Finding {
    Finding::new(
        "FOLLOW-LINEAGE",
        "what leads to the key that signs the server's ledger now does not verify",
    )
    .expected("links that the key of the log which ended and the key of the one which goes on have signed")
    .observed(format!("{}: {error}", error.code()))
    .next("nothing was taken from it; look at who answers at the server's address")
}
