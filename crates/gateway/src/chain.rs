//! The chain of checkpoints of the server's ledger, each proven to extend the one before.
//!
//! INVARIANT 6: the head only grows, and every size that is known has one root for ever.

use facts::Finding;
use ledger::merkle::verify_consistency;
use ledger::{Checkpoint, CheckpointError, Code as _, Hash, LedgerKey};
use std::collections::{BTreeMap, BTreeSet};

/// Checkpoints that are remembered by size. An SVID carries the one of its issuance: this is more than are
/// published in the lifetime of an SVID at the measured rates of one server.
pub(crate) const REMEMBERED: usize = 1 << 16;
/// Forks that are remembered. Only who has the ledger's key makes one.
const FORKS: usize = 1 << 10;

/// Where a checkpoint stands with respect to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is one that was followed.
    On,
    /// The chain has another root at this size: somebody signs two histories.
    Forked,
    /// Larger than the head: it may arrive.
    Ahead,
    /// Smaller than the head and not remembered: ask for a proof.
    Unknown,
}

/// What is followed. The first checkpoint is believed because `key` signed it.
#[derive(Debug, Clone)]
pub struct Chain {
    key: LedgerKey,
    head: Option<(Checkpoint, String)>,
    known: BTreeMap<u64, Hash>,
    /// Checkpoints that are signed and proven not to lie on the chain.
    forks: BTreeSet<(u64, Hash)>,
}

impl Chain {
    #[must_use]
    pub const fn new(key: LedgerKey) -> Self {
        Self {
            key,
            head: None,
            known: BTreeMap::new(),
            forks: BTreeSet::new(),
        }
    }

    #[must_use]
    pub const fn key(&self) -> &LedgerKey {
        &self.key
    }

    /// Size and root of the head; zero and nothing before the first checkpoint.
    #[must_use]
    pub fn head(&self) -> (u64, Option<Hash>) {
        self.head
            .as_ref()
            .map_or((0, None), |(head, _)| (head.size, Some(head.root)))
    }

    /// The head as it was signed.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.head.as_ref().map(|(_, note)| note.as_str())
    }

    /// Takes `note` as the new head if `consistency` proves that it extends the old one. One that is not
    /// larger must be one that is already followed, and changes nothing.
    ///
    /// # Errors
    /// `FOLLOW-CHECKPOINT`, `FOLLOW-FORKED`, `FOLLOW-ROLLED-BACK`, `FOLLOW-CONSISTENCY`.
    pub fn extend(
        &mut self,
        note: &str,
        old_size: u64,
        consistency: &[Hash],
    ) -> Result<(), Finding> {
        let next = Checkpoint::open(note, &self.key).map_err(|error| unsound(&error))?;
        let Some((head, _)) = &self.head else {
            next.shown_by(&self.key).map_err(|error| unsound(&error))?;
            self.remember(next, note);
            return Ok(());
        };
        if next.size <= head.size {
            return match self.place(&next) {
                Place::On => Ok(()),
                Place::Forked => Err(forked(&next)),
                Place::Ahead | Place::Unknown => Err(Finding::new(
                    "FOLLOW-ROLLED-BACK",
                    "the server presents a head that is older than the one already followed",
                )
                .expected(format!("at least {} records", head.size))
                .observed(format!("{} records", next.size))
                .next("if a backup was restored on purpose: trilith recover --reason TEXT, at the server")),
            };
        }
        if old_size != head.size {
            return Err(
                inconsistent(head.size, &next).observed(format!("a proof from size {old_size}"))
            );
        }
        // INVARIANT 6: a key that was replaced signs nothing new, also not below its end: what goes on from here need
        // not go on to where its log ended.
        next.shown_by(&self.key).map_err(|error| unsound(&error))?;
        verify_consistency(head.size, &head.root, next.size, &next.root, consistency)
            .map_err(|error| inconsistent(head.size, &next).observed(error.to_string()))?;
        self.remember(next, note);
        Ok(())
    }

    /// From now on `key` signs: of a log that goes on from this one, from what is followed or more.
    pub(crate) fn succeed(&mut self, key: LedgerKey) {
        self.key = key;
    }

    /// Gives the head up for `note`, which `key` signed, and with it all that was known above `stays`, which the recovery says
    /// both histories share. What was known below is asked about again. The caller has verified the step.
    ///
    /// # Errors
    /// `FOLLOW-CHECKPOINT`; then nothing is changed.
    pub(crate) fn step(&mut self, note: &str, stays: u64, key: LedgerKey) -> Result<(), Finding> {
        let mut next = Self::new(key);
        next.extend(note, 0, &[])?;
        next.forks = std::mem::take(&mut self.forks);
        let given_up = self.known.range(stays.saturating_add(1)..);
        for (size, root) in given_up.rev() {
            if next.forks.len() >= FORKS {
                break;
            }
            next.forks.insert((*size, *root));
        }
        *self = next;
        Ok(())
    }

    /// Takes up a chain that was followed before: its head, and what was known below it.
    ///
    /// # Errors
    /// `FOLLOW-CHECKPOINT`.
    pub fn restore(
        &mut self,
        note: &str,
        known: impl Iterator<Item = (u64, Hash)>,
    ) -> Result<(), Finding> {
        // It was followed, and so it counts under the key that signed it, also where that was replaced since.
        let kept = Checkpoint::open(note, &self.key).map_err(|error| unsound(&error))?;
        self.remember(kept, note);
        let head = self.head().0;
        for (size, root) in known.filter(|(size, _)| *size < head) {
            self.known.entry(size).or_insert(root);
        }
        while self.known.len() > REMEMBERED {
            self.known.pop_first();
        }
        Ok(())
    }

    #[must_use]
    pub fn place(&self, checkpoint: &Checkpoint) -> Place {
        let head = self.head().0;
        match self.known.get(&checkpoint.size) {
            Some(root) if *root == checkpoint.root => Place::On,
            Some(_) => Place::Forked,
            None if self.forks.contains(&(checkpoint.size, checkpoint.root)) => Place::Forked,
            None if checkpoint.size > head => Place::Ahead,
            None => Place::Unknown,
        }
    }

    /// Remembers a checkpoint that was missed, if `consistency` proves that the followed one of `new_size`
    /// extends it.
    ///
    /// # Errors
    /// `FOLLOW-FORKED` if it does not.
    pub fn prove(
        &mut self,
        missed: &Checkpoint,
        new_size: u64,
        consistency: &[Hash],
    ) -> Result<(), Finding> {
        let root = self.known.get(&new_size).ok_or_else(|| forked(missed))?;
        let proven = verify_consistency(missed.size, &missed.root, new_size, root, consistency);
        if let Err(error) = proven {
            if self.forks.len() < FORKS {
                self.forks.insert((missed.size, missed.root));
            }
            return Err(forked(missed).observed(error.to_string()));
        }
        self.known.insert(missed.size, missed.root);
        Ok(())
    }

    fn remember(&mut self, head: Checkpoint, note: &str) {
        self.known.insert(head.size, head.root);
        self.head = Some((head, note.to_owned()));
        while self.known.len() > REMEMBERED {
            self.known.pop_first();
        }
    }
}

fn unsound(error: &CheckpointError) -> Finding {
    Finding::new("FOLLOW-CHECKPOINT", "a checkpoint does not verify")
        .observed(format!("{}: {error}", error.code()))
        .next("nothing was taken from it; look at who answers at the server's address")
}

fn forked(checkpoint: &Checkpoint) -> Finding {
    Finding::new(
        "FOLLOW-FORKED",
        "a checkpoint is signed by the server's ledger key and not on the chain that this gateway follows",
    )
    .observed(format!(
        "size {}, root {}",
        checkpoint.size,
        crypto::base64::encode(&checkpoint.root)
    ))
    .next("keep both checkpoints: they prove that the key signed two histories. Treat the ledger key as stolen")
}

fn inconsistent(head: u64, next: &Checkpoint) -> Finding {
    Finding::new(
        "FOLLOW-CONSISTENCY",
        "a checkpoint is not proven to extend the one before it",
    )
    .expected(format!("a proof from size {head} to size {}", next.size))
}
