//! Taking records and checkpoints: what is checked before anything changes.

use super::store::Snapshot;
use super::witnessed::Unseen;
use super::{Current, Following, HeldEstate, off_chain};
use crate::revocations::same;
use crate::{Cut, CutReason, Place};
use estate::{Estate, EstateFiles};
use facts::{Finding, Timestamp};
use ledger::body::{self, Target, TargetKind};
use ledger::{Code as _, Hash, Receipt, Record, RecordType, VerifiedReceipt};
use spiffe_core::Bundle;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Seconds for which anything that has a serial lives, from the record of its revocation on: `node_s` is 30 days at most,
/// and clocks differ.
const LONGEST: u64 = 31 * 86_400;

impl Following {
    /// The next checkpoint of the server's ledger.
    ///
    /// # Errors
    /// The codes of [`Chain::extend`](crate::Chain::extend), and `FOLLOW-STORE`.
    pub fn take_checkpoint(
        &self,
        note: &str,
        old_size: u64,
        consistency: &[Hash],
    ) -> Result<(), Finding> {
        let before = self.head().0;
        let (size, root) = {
            let mut held = self.held();
            held.chain.extend(note, old_size, consistency)?;
            self.follows(&mut held, Timestamp::now());
            held.chain.head()
        };
        if let (true, Some(root)) = (size > before, root)
            && let Err(finding) = self.0.store.append_checkpoint(size, &root)
        {
            // A checkpoint that is not remembered costs a question to the server, no more.
            tracing::warn!(%finding, "a checkpoint is not remembered");
        }
        self.0.chain_changed.send_replace(size);
        Ok(())
    }

    /// A record that gateways act upon, and the blob that an estate's record names. Returns its index.
    /// It acts first and is kept then. CPU work: an estate is compiled here.
    ///
    /// # Errors
    /// `FOLLOW-RECORD`, `FOLLOW-FORKED`, `FOLLOW-BUNDLE`, `FOLLOW-ESTATE`, `FOLLOW-ESTATE-DIGEST`,
    /// `FOLLOW-STORE`.
    pub fn take_record(&self, receipt: &[u8], blob: &[u8]) -> Result<u64, Finding> {
        let index = self.act_on(receipt, blob)?;
        self.keep()?;
        Ok(index)
    }

    /// As [`Following::take_record`], kept by whoever calls [`Following::keep`] later.
    ///
    /// # Errors
    /// Those of [`Following::take_record`] but `FOLLOW-STORE`.
    pub(super) fn act_on(&self, receipt: &[u8], blob: &[u8]) -> Result<u64, Finding> {
        let receipt =
            Receipt::decode(receipt).map_err(|error| refused(error.code(), &error.to_string()))?;
        self.apply(receipt, blob)
    }

    fn apply(&self, receipt: Receipt, blob: &[u8]) -> Result<u64, Finding> {
        let key = self.ledger_key();
        let verified = receipt
            .verify(&key)
            .map_err(|error| refused(error.code(), &error.to_string()))?;
        match self.held().chain.place(&verified.checkpoint) {
            Place::On => {}
            Place::Forked => return Err(off_chain(&verified.checkpoint)),
            Place::Ahead | Place::Unknown => {
                return Err(refused(
                    "FOLLOW-CHECKPOINT-UNKNOWN",
                    "its checkpoint was not published before it",
                ));
            }
        }
        match verified.record.kind() {
            RecordType::Bundle => self.take_bundle(&verified, receipt)?,
            RecordType::EstateVersion => self.take_estate(&verified, receipt, blob)?,
            RecordType::Revocation => self.take_revocation(&verified, receipt)?,
            other => return Err(refused("FOLLOW-RECORD-TYPE", other.as_str())),
        }
        let mut held = self.held();
        held.applied = held.applied.max(verified.index);
        Ok(verified.index)
    }

    fn take_bundle(&self, verified: &VerifiedReceipt, receipt: Receipt) -> Result<(), Finding> {
        let body: body::Bundle = parse(&verified.record)?;
        let bundle = bundle(self, &body)?;
        {
            let mut held = self.held();
            if held
                .bundle
                .as_ref()
                .is_some_and(|held| held.index >= verified.index)
            {
                return Ok(());
            }
            held.bundle = Some(receipt);
        }
        self.0.bundle.store(Some(Arc::new(bundle)));
        Ok(())
    }

    fn take_estate(
        &self,
        verified: &VerifiedReceipt,
        receipt: Receipt,
        blob: &[u8],
    ) -> Result<(), Finding> {
        let body: body::EstateVersion = parse(&verified.record)?;
        // Against what is held, not what decides: after a recovery the estate that decides still is of the
        // history that was given up, and its index says nothing.
        let held = self.held().estate.as_ref().map(|held| held.receipt.index);
        if held.is_some_and(|held| held >= verified.index) {
            return Ok(());
        }
        if crypto::sha256(blob) != body.version.0 {
            return Err(Finding::new(
                "FOLLOW-ESTATE-DIGEST",
                "the estate is not the one that its record names",
            )
            .expected(body.version.to_string())
            .observed(crypto::hex::encode(&crypto::sha256(blob))));
        }
        let unusable = |what: String| {
            Finding::new(
                "FOLLOW-ESTATE",
                "the estate does not compile here; the one before stays",
            )
            .observed(what)
            .next("upgrade this gateway to the server's version")
        };
        let files =
            EstateFiles::from_blob(blob).map_err(|problem| unusable(problem.to_string()))?;
        let estate = Estate::compile_recorded(&files).map_err(|problems| {
            unusable(
                problems
                    .first()
                    .map_or_else(String::new, ToString::to_string),
            )
        })?;
        self.held().estate = Some(HeldEstate {
            receipt,
            blob: blob.into(),
        });
        self.0.current.store(Some(Arc::new(Current {
            estate,
            index: verified.index,
            floor: body.floor.0,
        })));
        self.0.estate_changed.send_replace(verified.index);
        self.cut_undeclared();
        Ok(())
    }

    /// Sessions of identities that the estate no longer declares end.
    fn cut_undeclared(&self) {
        let Some(current) = self.current() else {
            return;
        };
        let cut = Cut {
            reason: CutReason::Estate,
            detail: "the identity is no longer declared".to_owned(),
        };
        self.0.sessions.cut_where(&cut, |principal| {
            current.estate.identity(&principal.path).is_none()
        });
        // What a session is about to do is decided by the estate in force anyway; one that can do nothing more for
        // those it acts for has nothing to stay for.
        let cut = Cut {
            reason: CutReason::Delegation,
            detail: "the estate no longer grants the delegation that the session acts by"
                .to_owned(),
        };
        self.0.sessions.cut_acting(&cut, |told| {
            current.estate.may_delegate(told.chain()).is_err()
        });
    }

    fn take_revocation(&self, verified: &VerifiedReceipt, receipt: Receipt) -> Result<(), Finding> {
        let body: body::Revocation = parse(&verified.record)?;
        let cut = Cut {
            reason: CutReason::Revoked,
            detail: body.reason.clone(),
        };
        self.held().revocations.add(&body.target, verified.index);
        self.end_sessions(&body.target, &cut, verified.index);
        let mut held = self.held();
        match body.target.kind {
            TargetKind::Serial => {
                let recorded = Timestamp::from_millis(verified.record.stamp().wall);
                let until = recorded.plus_secs(LONGEST).as_millis();
                held.serials.add(body.target.value, verified.index, until);
            }
            TargetKind::Identity | TargetKind::Machine => {
                held.revoked.insert(verified.index, receipt);
            }
        }
        Ok(())
    }

    /// Forgets revocations that the server's state no longer has: they were lifted. Cuts that came ahead
    /// of their records stay.
    ///
    /// INVARIANT: nobody lifts the revocation of a serial. The server forgets it when what it hit has ended by the
    /// server's clock, which may have been wrong: it stays until that has ended at `now` as well.
    ///
    /// # Errors
    /// `FOLLOW-STORE`.
    pub fn keep_only(&self, standing: &BTreeSet<u64>, now: Timestamp) -> Result<(), Finding> {
        self.lift(|index| !standing.contains(&index));
        {
            let mut held = self.held();
            for value in held.serials.forget(standing, now) {
                let kind = TargetKind::Serial;
                let target = Target { kind, value };
                if !held.carried.iter().any(|it| same(&it.target, &target)) {
                    held.revocations.remove(&target);
                }
            }
        }
        self.settle();
        self.keep()
    }

    /// Takes back the recorded revocations that `lifted` names; whoever is revoked by another stays so.
    fn lift(&self, lifted: impl Fn(u64) -> bool) {
        let mut held = self.held();
        let mut targets = Vec::new();
        held.revoked.retain(|index, receipt| {
            let target = target(receipt).filter(|_| lifted(*index));
            let stays = target.is_none();
            targets.extend(target);
            stays
        });
        let carried = held.carried.iter().map(|carried| carried.target.clone());
        let standing = held.revoked.values().filter_map(target);
        let standing: Vec<Target> = standing.chain(carried).collect();
        targets.retain(|lifted| !standing.iter().any(|standing| same(standing, lifted)));
        for target in targets {
            held.revocations.remove(&target);
        }
    }

    /// Writes down what is held, and when the server was last heard, for the next start.
    ///
    /// # Errors
    /// `FOLLOW-STORE`.
    pub fn keep(&self) -> Result<(), Finding> {
        self.0.store.keep(|| {
            let heard = self.last_heard();
            Snapshot::of(&self.held(), heard.as_millis())
        })
    }

    /// Takes what was held before the last stop, and writes nothing: a crash in the middle of a start loses
    /// nothing. A receipt that does not verify any more stops the start.
    pub(super) fn restore(&self) -> Result<(), Finding> {
        let Some(stored) = self.0.store.load()? else {
            return Ok(());
        };
        self.succeed_before(&stored.lineage)?;
        self.held()
            .chain
            .restore(&stored.checkpoint, stored.known.into_iter())?;
        for (receipt, blob) in stored.records {
            self.apply(receipt, &blob)?;
        }
        {
            let mut held = self.held();
            for carried in &stored.carried {
                held.revocations.add(&carried.target, carried.before);
            }
            held.carried = stored.carried;
            for (value, before, until) in stored.serials {
                let kind = TargetKind::Serial;
                let target = Target { kind, value };
                held.revocations.add(&target, before);
                held.serials.add(target.value, before, until);
            }
        }
        if let Some(note) = &stored.witnessed {
            self.witnessed_before(note);
        }
        {
            let mut held = self.held();
            held.unseen = Unseen::before(stored.unseen);
            self.follows(&mut held, Timestamp::now());
        }
        self.heard_before(Timestamp::from_millis(stored.heard));
        Ok(())
    }
}

/// Whom a held revocation revokes.
pub(super) fn target(receipt: &Receipt) -> Option<Target> {
    let record = Record::parse(&receipt.record).ok()?;
    Some(record.expect_body::<body::Revocation>().ok()?.target)
}

fn bundle(following: &Following, body: &body::Bundle) -> Result<Bundle, Finding> {
    let unusable =
        |what: String| Finding::new("FOLLOW-BUNDLE", "the bundle is not usable").observed(what);
    let mut bundle = Bundle::new(following.trust_domain().clone()).with_sequence(body.sequence.0);
    for authority in &body.x509_authorities {
        bundle
            .add_x509_authority(&authority.0)
            .map_err(|error| unusable(error.to_string()))?;
    }
    for authority in &body.jwt_authorities {
        let key = crypto::PublicKey::from_spki_der(&authority.spki.0)
            .map_err(|error| unusable(error.to_string()))?;
        bundle
            .add_jwt_authority(&authority.kid, &key)
            .map_err(|error| unusable(error.to_string()))?;
    }
    Ok(bundle)
}

pub(super) fn parse<T: body::Body>(record: &Record) -> Result<T, Finding> {
    record
        .expect_body()
        .map_err(|error| refused(error.code(), &error.to_string()))
}

pub(super) fn refused(code: &str, what: &str) -> Finding {
    Finding::new("FOLLOW-RECORD", "a record from the server was not taken")
        .observed(format!("{code}: {what}"))
}
