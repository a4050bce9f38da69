//! Stepping over to what a server goes on from after a restored backup: by the record that says so, and only
//! from the very head that the record gives up.
//!
//! What was issued in the history that was given up is refused from then on: its checkpoints are not on the
//! chain. What was revoked in it stays revoked for all that was issued before the two histories part.

use super::Following;
use super::apply::{parse, refused, target};
use super::store::Carried;
use crate::revocations::same;
use crate::{Cut, CutReason};
use facts::{Finding, Timestamp};
use ledger::body::{Recovery, Target};
use ledger::merkle::verify_consistency;
use ledger::{Code as _, Hash, LedgerKey, Receipt, RecordType};

/// A verified step; nothing has changed yet.
#[derive(Debug, Clone)]
pub struct Step {
    /// For the gateway's own ledger: what is given up, with its signed checkpoint, and the record obeyed.
    pub recovery: Recovery,
    /// The checkpoint to be followed from now on.
    note: String,
    /// What signed it: the key that was followed, or that of a log which goes on from before its head.
    key: LedgerKey,
}

impl Following {
    /// What the record in `receipt` lets this gateway do. `consistency` proves that the receipt's checkpoint
    /// extends the tree that stays.
    ///
    /// # Errors
    /// `FOLLOW-RECOVERY`: it gives up another head than the one that is followed here, or does not verify.
    pub fn recovery(&self, receipt: &[u8], consistency: &[Hash]) -> Result<Step, Finding> {
        let receipt =
            Receipt::decode(receipt).map_err(|error| refused(error.code(), &error.to_string()))?;
        let key = self.held().newest_key();
        let verified = receipt
            .verify(&key)
            .map_err(|error| refused(error.code(), &error.to_string()))?;
        // INVARIANT 6: the tree that stays is what the record says, so that nothing else holds a replaced key to its end.
        verified
            .checkpoint
            .shown_by(&key)
            .map_err(|error| refused(error.code(), &error.to_string()))?;
        if verified.record.kind() != RecordType::Recovery {
            return Err(refused(
                "FOLLOW-RECORD-TYPE",
                verified.record.kind().as_str(),
            ));
        }
        let mut body: Recovery = parse(&verified.record)?;
        let held = self.held();
        let (size, root) = held.chain.head();
        if body.obeyed.is_some() || (body.old_size.0, Some(body.old_root.0)) != (size, root) {
            return Err(not_ours(format!(
                "it gives up the head of {} records",
                body.old_size.0
            ))
            .expected(format!(
                "a recovery from exactly the followed head of {size} records"
            )));
        }
        let next = &verified.checkpoint;
        if body.new_size.0 == 0 || verified.index < body.new_size.0 {
            return Err(not_ours(
                "a record older than the tree that stays".to_owned(),
            ));
        }
        verify_consistency(
            body.new_size.0,
            &body.new_root.0,
            next.size,
            &next.root,
            consistency,
        )
        .map_err(|error| not_ours(error.to_string()))?;
        // INVARIANT 6: what witnesses have cosigned is given up by no log under its own name. By a new one, which both
        // keys have signed, it can be: its own witnesses have to see it before anybody is let in.
        let ended = key.end_of(held.chain.key().origin().as_str());
        if let Some(witnessed) = &held.witnessed
            && witnessed.checkpoint.size > body.new_size.0
            && ended.is_none_or(|end| end > body.new_size.0)
        {
            return Err(not_ours(format!(
                "it goes on from {} records, and witnesses have cosigned {}",
                body.new_size.0, witnessed.checkpoint.size
            )));
        }
        body.old_checkpoint = held.chain.note().map(str::to_owned);
        body.obeyed = Some(verified.index.into());
        Ok(Step {
            recovery: body,
            note: receipt.checkpoint,
            key,
        })
    }

    /// Takes the step, which the gateway's own ledger has recorded. What decides goes on deciding until the
    /// server has sent its state; sessions that rest on what was given up end.
    ///
    /// # Errors
    /// `FOLLOW-RECOVERY` if the head has moved since, `FOLLOW-STORE`.
    pub fn recover(&self, step: &Step) -> Result<(), Finding> {
        let Recovery {
            old_size, new_size, ..
        } = &step.recovery;
        let (old_size, stays) = (old_size.0, new_size.0);
        // Before the new head is kept: what is read below it at a start has to be of its history.
        self.0.store.forget_checkpoints()?;
        {
            let mut held = self.held();
            if held.chain.head() != (old_size, Some(step.recovery.old_root.0)) {
                return Err(not_ours("the followed head has moved since".to_owned()));
            }
            held.chain.step(&step.note, stays, step.key.clone())?;
            held.next = None;
            if held
                .witnessed
                .as_ref()
                .is_some_and(|held| held.checkpoint.size > stays)
            {
                held.witnessed = None;
            }
            let (head, _) = held.chain.head();
            held.unseen.give_up(head);
            self.follows(&mut held, Timestamp::now());
            // Receipts of the old history verify no longer; the server sends those of what stands.
            let revoked = std::mem::take(&mut held.revoked);
            for (index, receipt) in revoked {
                let Some(target) = target(&receipt) else {
                    continue;
                };
                if index < stays {
                    held.unsettled.push(target);
                } else {
                    held.carried.push(Carried {
                        target,
                        before: stays,
                    });
                }
            }
            // Of an earlier recovery, beyond what stays of this one.
            for carried in &mut held.carried {
                carried.before = carried.before.min(stays);
            }
            held.serials.limit(stays);
            held.revocations.limit(stays);
            held.bundle = None;
            held.estate = None;
            held.applied = 0;
        }
        let (size, root) = self.head();
        self.0.chain_changed.send_replace(size);
        let cut = Cut {
            reason: CutReason::Revoked,
            detail: "the history that its SVID is recorded in was given up by a recovery"
                .to_owned(),
        };
        let count = self.0.sessions.abandon(&cut, stays);
        tracing::warn!(
            old_size,
            stays,
            size,
            count,
            "stepped over to what the server goes on from"
        );
        self.keep()?;
        if let Some(root) = root
            && let Err(finding) = self.0.store.append_checkpoint(size, &root)
        {
            tracing::warn!(%finding, "a checkpoint is not remembered");
        }
        Ok(())
    }

    /// The server has said what stands after a recovery: what it lifted is lifted, and an estate that the
    /// history which stayed does not have decides no longer.
    pub(super) fn settle(&self) {
        let mut held = self.held();
        let standing: Vec<Target> = held.revoked.values().filter_map(target).collect();
        for target in std::mem::take(&mut held.unsettled) {
            let stands = standing
                .iter()
                .chain(held.carried.iter().map(|carried| &carried.target))
                .any(|standing| same(standing, &target));
            if !stands {
                held.revocations.remove(&target);
            }
        }
        if held.estate.is_none() {
            self.0.current.store(None);
        }
    }
}

fn not_ours(observed: String) -> Finding {
    Finding::new(
        "FOLLOW-RECOVERY",
        "the server's recovery is not one that this gateway may obey",
    )
    .observed(observed)
    .next("keep this gateway's folder as evidence, and look at who has restored the server")
}
