//! What witnesses have cosigned of the followed ledger, and how long ago. The newest is kept across restarts: a
//! history without it is not the one that others see.

use super::Following;
use crate::Place;
use facts::{Finding, Timestamp};
use ledger::{Checkpoint, Code as _, Hash, LedgerKey, Note, Policy};
use std::time::{Duration, Instant};

/// Who has to have seen the ledger, and how lately.
#[derive(Debug, Clone)]
pub struct Watch {
    pub policy: Policy,
    pub longest: Duration,
}

/// The newest that enough of them have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Witnessed {
    pub(super) checkpoint: Checkpoint,
    pub(super) note: String,
    /// When a quorum had seen it, by the witnesses' clocks.
    pub(super) time: Timestamp,
    /// When it was taken, by a clock that nobody sets; none when that was before this start.
    pub(super) taken: Option<Instant>,
}

impl Witnessed {
    /// How long ago that was, by whichever clock says longer: neither a clock here that is set back nor a witness's
    /// that is ahead makes it fresh for longer.
    fn age(&self, now: Timestamp) -> Duration {
        match self.taken {
            Some(taken) => now.since(self.time).max(taken.elapsed()),
            None if self.time > now => Duration::MAX,
            None => now.since(self.time),
        }
    }
}

impl Watch {
    fn read(&self, note: &str, key: &LedgerKey) -> Result<Witnessed, Finding> {
        let refused = |observed: String| {
            Finding::new(
                "FOLLOW-WITNESSED",
                "what the server says that its witnesses cosigned does not count",
            )
            .expected("a checkpoint with the lines of enough witnesses of this gateway's policy")
            .observed(observed)
            .next(
                "compare the policies of gateway and server; look at the witnesses: trilith status",
            )
        };
        let failed = |error: ledger::CheckpointError| {
            refused(format!("{}: {}", error.code(), facts::with_causes(&error)))
        };
        let parsed = Note::parse(note).map_err(|error| failed(error.into()))?;
        let checkpoint = Checkpoint::open(note, key).map_err(failed)?;
        let quorum = self.policy.judge(&parsed).map_err(failed)?;
        let (few, all) = (quorum.cosignatures.len(), self.policy.witnesses().len());
        let few = || refused(format!("{few} of {all} witnesses"));
        let time = quorum.time.filter(|_| quorum.reached).ok_or_else(few)?;
        Ok(Witnessed {
            checkpoint,
            note: note.to_owned(),
            time: Timestamp::from_millis(time.saturating_mul(1_000)),
            taken: None,
        })
    }
}

impl Following {
    /// What the server says that its witnesses have cosigned. `proof` shows that the followed checkpoint of
    /// `known_size` extends it. Without a policy here it says nothing, and is not looked at.
    ///
    /// # Errors
    /// `FOLLOW-WITNESSED`; `FOLLOW-FORKED` if it is not on the followed chain: then two histories are signed, and the
    /// witnesses have seen the other.
    pub fn take_witnessed(
        &self,
        note: &str,
        known_size: u64,
        proof: &[Hash],
        now: Timestamp,
    ) -> Result<(), Finding> {
        let Some(watch) = &self.0.watch else {
            return Ok(());
        };
        let mut held = self.held();
        let mut witnessed = watch.read(note, held.chain.key())?;
        witnessed.taken = Some(Instant::now());
        if held.chain.place(&witnessed.checkpoint) != Place::On {
            held.chain.prove(&witnessed.checkpoint, known_size, proof)?;
        }
        let newer = held.witnessed.as_ref().is_none_or(|known| {
            (known.checkpoint.size, known.time.min(now))
                < (witnessed.checkpoint.size, witnessed.time)
        });
        if newer {
            held.witnessed = Some(witnessed);
        }
        Ok(())
    }

    /// Takes up what was kept. A policy that asks for others since then begins without.
    pub(super) fn witnessed_before(&self, note: &str) {
        let Some(watch) = &self.0.watch else {
            return;
        };
        let mut held = self.held();
        match watch.read(note, held.chain.key()) {
            Ok(witnessed) => held.witnessed = Some(witnessed),
            Err(finding) => {
                tracing::warn!(%finding, "what was witnessed before the start counts no more")
            }
        }
    }

    /// Size of the newest cosigned checkpoint, and when its quorum had seen it.
    #[must_use]
    pub fn witnessed(&self) -> Option<(u64, Timestamp)> {
        let held = self.held();
        let witnessed = held.witnessed.as_ref();
        witnessed.map(|it| (it.checkpoint.size, it.time))
    }

    /// Refuses when too few witnesses have looked for too long: what is followed may be shown to this gateway alone.
    ///
    /// # Errors
    /// `GATEWAY-UNWITNESSED`.
    pub fn seen_by_others(&self, now: Timestamp) -> Result<(), Finding> {
        let Some(watch) = &self.0.watch else {
            return Ok(());
        };
        let newest = self
            .held()
            .witnessed
            .as_ref()
            .map(|it| (it.checkpoint.size, it.age(now)));
        let age = newest.map(|(_, age)| age);
        if age.is_some_and(|age| age <= watch.longest) {
            return Ok(());
        }
        Err(Finding::new(
            "GATEWAY-UNWITNESSED",
            "too few witnesses have looked at the ledger that is followed here: others may be shown another one",
        )
        .expected(format!(
            "a cosigned checkpoint of the last {} s (max_unwitnessed_s)",
            watch.longest.as_secs()
        ))
        .observed(match newest {
            Some((size, Duration::MAX)) => {
                format!("the newest is of {size} records, of a time that has not come yet")
            }
            Some((size, age)) => format!("the newest is of {size} records, {} s ago", age.as_secs()),
            None => "none".to_owned(),
        })
        .next("look at the server's witnesses: trilith status. If they are well and the server says that they cosign, treat its keys as stolen"))
    }
}
