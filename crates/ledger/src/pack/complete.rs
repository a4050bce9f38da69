//! Whether a pack holds everything that answers its question. What can be seen to be missing is refused;
//! what nothing in the pack rules out is a [`Doubt`].

use super::container::Section;
use super::stated::Stated;
use super::verify::{Anchors, Failure, PackRecord, Sections};
use super::{Answers, Question, Trust, grounds, stated};
use crate::body::{self, Anchor, Begin, Erasure, Issuance, KeyRotation, Misbehaviour};
use crate::{Checkpoint, HexDigest, Record, RecordType, lineage};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// What of one ledger the pack shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// True if no record of this ledger that answers is missing, up to the checkpoint's last.
    pub complete: bool,
    /// True if the pack has all entries up to the checkpoint's last.
    pub entries: bool,
    /// Records that answer in the pack, with the sessions and intents that those belong to.
    pub answers: u64,
    /// Records that answer in the ledger, where `entries` show it: more only if the question asks for the
    /// newest.
    pub matching: Option<u64>,
    /// When the checkpoint was: the time of the anchor that states it, for the server's that of its last
    /// record if the entries are there. Unix milliseconds, by the server's clock.
    pub until: Option<u64>,
}

/// Why a pack is not shown to be complete.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Doubt {
    #[error(
        "the entries of {origin} are not in the pack, so that records and gateways may be left out"
    )]
    NoServerEntries { origin: String },
    #[error("the entries of {origin} are not in the pack, so that records may be left out")]
    NoEntries { origin: String },
    #[error(
        "of {origin} the pack has the first {size} records, and {newest} were anchored (server's record {anchor})"
    )]
    Early {
        origin: String,
        size: u64,
        newest: u64,
        anchor: u64,
    },
    #[error(
        "record {index} of {origin} is a gap: what was done before it and not yet recorded may be missing"
    )]
    Gap { origin: String, index: u64 },
    #[error("record {index} of {origin} cannot be read: it may be an answer")]
    Unreadable { origin: String, index: u64 },
    #[error(
        "the server's record {index} proves that a key of {origin} signed two histories that do not belong together"
    )]
    Misbehaved { origin: String, index: u64 },
    #[error(
        "record {index} of {origin} is a recovery: the ledger went on from an older copy, and what was recorded after that is not in it"
    )]
    Recovered { origin: String, index: u64 },
    #[error(
        "record {index} of {origin} rests on the server's record {names}, which the checkpoint does not reach"
    )]
    Beyond {
        origin: String,
        index: u64,
        names: u64,
    },
    #[error("record {index} of {origin} rests on the blob {sha256}, which is not in the pack")]
    NoBlob {
        origin: String,
        index: u64,
        sha256: HexDigest,
    },
    #[error(
        "the checkpoint of {origin} is cosigned by {cosigned} of the trust file's witnesses, which is not its quorum, so that others may be shown another ledger"
    )]
    NotWitnessed { origin: String, cosigned: usize },
}

impl Doubt {
    /// The ledger of which something may be missing.
    #[must_use]
    pub fn origin(&self) -> &str {
        match self {
            Self::NoServerEntries { origin }
            | Self::NoEntries { origin }
            | Self::Early { origin, .. }
            | Self::Gap { origin, .. }
            | Self::Unreadable { origin, .. }
            | Self::Misbehaved { origin, .. }
            | Self::Recovered { origin, .. }
            | Self::Beyond { origin, .. }
            | Self::NoBlob { origin, .. }
            | Self::NotWitnessed { origin, .. } => origin,
        }
    }
}

/// An entry of the server's ledger: what it is, and when it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated {
    pub index: u64,
    pub kind: RecordType,
    /// By the server's clock, in Unix milliseconds.
    pub wall: u64,
}

/// What a record of the pack names and the pack does not have, because the server has it no more: its ledger says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// The ledger of the record that names it, and the record's place.
    pub origin: String,
    pub index: u64,
    pub sha256: HexDigest,
    /// Index of the erasure in the server's ledger; it is later than the record, and in the pack.
    pub by_record: u64,
    /// By the server's clock, in Unix milliseconds.
    pub at: u64,
    /// Who erased it, and why.
    pub by: String,
    pub reason: String,
}

/// A pack whose records, checkpoints and tiles were verified each by itself.
pub(super) struct Verified<'a> {
    pub(super) question: &'a Question,
    pub(super) trust: &'a Trust,
    pub(super) sections: &'a Sections<'a>,
    pub(super) checkpoints: &'a [Checkpoint],
    pub(super) records: &'a [PackRecord],
    pub(super) anchors: &'a Anchors,
    /// Numbers of the checkpoints whose entries are there.
    pub(super) entries: &'a BTreeSet<u64>,
}

#[derive(Default)]
pub(super) struct Shown {
    pub(super) extents: Vec<Extent>,
    /// Checkpoint and index.
    pub(super) answers: BTreeSet<(u64, u64)>,
    pub(super) doubts: Vec<Doubt>,
    pub(super) erased: Vec<Erased>,
    pub(super) dated: Vec<Dated>,
    /// All anchors of the server's entries, in order.
    anchors: Vec<Stated>,
}

const MISSING: &str = "PACK-RECORD-MISSING";
/// Of misbehaviour: beyond the end of a log.
const ENDED: &str = "ended";

impl Verified<'_> {
    pub(super) fn check(&self) -> Result<Shown, Failure> {
        self.ledgers()?;
        let mut shown = Shown::default();
        for (number, under) in (0..).zip(self.checkpoints) {
            let extent = self.ledger(number, under, &mut shown)?;
            shown.extents.push(extent);
        }
        self.gateways(&mut shown)?;
        self.rest(&mut shown)?;
        for (extent, under) in shown.extents.iter_mut().zip(self.checkpoints) {
            let of_it = |doubt: &Doubt| doubt.origin() == under.origin.as_str();
            extent.complete = !shown.doubts.iter().any(of_it);
        }
        Ok(shown)
    }

    /// One checkpoint of each ledger that is asked about, and of the server's.
    fn ledgers(&self) -> Result<(), Failure> {
        let mut origins = BTreeSet::new();
        for (number, under) in (0..).zip(self.checkpoints) {
            let section = Section::Checkpoint(number);
            let origin = under.origin.as_str();
            // However often its key was replaced.
            if !origins.insert(crate::line(origin)) {
                let message = "another checkpoint of the pack is of the same ledger";
                return Err(Failure::at(&section, "PACK-CHECKPOINT", message));
            }
            if number > 0 && !self.question.is_about(origin, false) {
                let message = "the question is not about this ledger";
                return Err(Failure::at(&section, "PACK-CHECKPOINT", message));
            }
        }
        let mut ledgers = (0..).zip(self.checkpoints);
        if ledgers.any(|(number, under)| self.is_about(number, under)) {
            return Ok(());
        }
        match self.question.is_named() {
            true => {
                let message = "the pack does not have the ledger that it is about";
                Err(Failure::at(&Section::Question, MISSING, message))
            }
            false => Ok(()),
        }
    }

    fn is_about(&self, number: u64, under: &Checkpoint) -> bool {
        self.question.is_about(under.origin.as_str(), number == 0)
    }

    fn held(&self, number: u64) -> impl Iterator<Item = &PackRecord> {
        let of_it = move |item: &&PackRecord| item.checkpoint == number;
        self.records.iter().filter(of_it)
    }

    /// Whether a gap of this ledger may be the place of an answer. Of a session it is one itself.
    fn misses_by_gaps(&self, number: u64, under: &Checkpoint) -> bool {
        matches!(self.question, Question::Access { .. }) && self.is_about(number, under)
    }

    /// Finds the answers in one ledger: among all of its entries, or among what the pack has.
    fn ledger(
        &self,
        number: u64,
        under: &Checkpoint,
        shown: &mut Shown,
    ) -> Result<Extent, Failure> {
        let server = number == 0;
        let origin = under.origin.as_str();
        let domain = &self.trust.trust_domain;
        let mut answers = Answers::new(self.question, domain, origin, server);
        let mut until = self.anchors.time(number, self.records);
        let entries = self.entries.contains(&number);
        if entries {
            for (index, bytes) in self.sections.entries(number, under) {
                let record = Record::parse(bytes).ok();
                if let Some(record) = record.as_ref().filter(|_| server) {
                    let (kind, wall) = (record.kind(), record.stamp().wall);
                    shown.dated.push(Dated { index, kind, wall });
                }
                // INVARIANT: what this version does not read to the end is passed over by nobody: it may be an answer.
                let record = record.filter(|record| body::check(record).is_ok());
                let Some(record) = record else {
                    let origin = origin.to_owned();
                    shown.doubts.push(Doubt::Unreadable { origin, index });
                    continue;
                };
                answers.see_checked(index, &record);
                if record.kind() == RecordType::Gap && self.misses_by_gaps(number, under) {
                    let origin = origin.to_owned();
                    shown.doubts.push(Doubt::Gap { origin, index });
                }
                if server {
                    until = Some(record.stamp().wall);
                    self.of_server(index, &record, shown)?;
                }
            }
        } else {
            for item in self.held(number) {
                answers.see_checked(item.index, &item.record);
            }
        }
        let about = self.is_about(number, under);
        let asked_for = self.question.places().filter(|_| about);
        let asked_for = asked_for.into_iter().flatten();
        let expected: BTreeSet<u64> = answers.indices().into_iter().chain(asked_for).collect();
        let held: BTreeSet<u64> = self.held(number).map(|item| item.index).collect();
        if let Some(index) = expected.difference(&held).next().copied() {
            let section = record(number, index);
            let message = "it answers the question and is not among the records of the pack";
            return Err(Failure::at(&section, MISSING, message));
        }
        if !server && let Some(index) = held.difference(&expected).next().copied() {
            return Err(stray(number, index));
        }
        if let Question::Verdict { index } = self.question {
            self.is_verdict(number, *index)?;
        }
        let places = expected.iter().map(|index| (number, *index));
        shown.answers.extend(places);
        Ok(Extent {
            complete: false,
            entries,
            answers: u64::try_from(expected.len()).unwrap_or(u64::MAX),
            matching: entries.then(|| answers.total()),
            until,
        })
    }

    /// Whoever asks for a verdict is not shown another record in its place.
    fn is_verdict(&self, number: u64, index: u64) -> Result<(), Failure> {
        let mut held = self.held(number);
        match held.find(|item| (number, item.index) == (0, index)) {
            Some(item) if item.record.kind() != RecordType::Verdict => {
                let message = "the question is about a verdict, and this record is none";
                Err(Failure::at(&record(number, index), MISSING, message))
            }
            _ => Ok(()),
        }
    }

    /// What the server's entries say of the ledger itself and of gateways'.
    fn of_server(&self, index: u64, entry: &Record, shown: &mut Shown) -> Result<(), Failure> {
        if let Ok(begin) = entry.expect_body::<Begin>() {
            super::verify::begins_as_trusted(index, &begin, self.trust)?;
        }
        if let Ok(anchor) = entry.expect_body::<Anchor>() {
            shown.anchors.push(Stated::new(index, anchor));
        }
        if let Ok(misbehaviour) = entry.expect_body::<Misbehaviour>() {
            self.of_misbehaviour(index, &misbehaviour, shown);
        }
        if entry.kind() == RecordType::Recovery
            && let Some(under) = self.checkpoints.first()
            && self.question.needs_entries(under.origin.as_str(), true)
        {
            let origin = under.origin.to_string();
            shown.doubts.push(Doubt::Recovered { origin, index });
        }
        Ok(())
    }

    /// Of a ledger of the pack whose key signed another history too nobody can say that this one is all. Where it ended
    /// both keys have said what it was, and what the former one signs later takes nothing from that.
    fn of_misbehaviour(&self, index: u64, told: &Misbehaviour, shown: &mut Shown) {
        if !told.proved || told.kind == ENDED {
            return;
        }
        let line = crate::line(&told.origin);
        let mut under = self.checkpoints.iter();
        let under = under.find(|under| crate::line(under.origin.as_str()) == line);
        if let Some(under) = under {
            let origin = under.origin.to_string();
            shown.doubts.push(Doubt::Misbehaved { origin, index });
        }
    }

    /// Compares the ledgers of the pack with those that the server's entries name.
    fn gateways(&self, shown: &mut Shown) -> Result<(), Failure> {
        for (number, under) in (0..).zip(self.checkpoints) {
            let origin = || under.origin.to_string();
            let needed = self
                .question
                .needs_entries(under.origin.as_str(), number == 0);
            if !needed || self.entries.contains(&number) {
                continue;
            }
            shown.doubts.push(match number {
                0 => Doubt::NoServerEntries { origin: origin() },
                _ => Doubt::NoEntries { origin: origin() },
            });
        }
        if !self.question.is_followed() {
            return Ok(());
        }
        let own = self.checkpoints.first().map(|under| under.origin.as_str());
        let about = |anchor: &&Stated| self.question.is_about(&anchor.origin, false);
        let newest = stated::newest(shown.anchors.iter().filter(about), self.trees())?;
        for (line, stated) in newest.iter() {
            let under = self.checkpoints.iter();
            // INVARIANT: a later log of the line stands for it only with the links that lead to it: `Anchors::open`.
            let mut under = under.skip(1);
            let under = under.find(|under| crate::line(under.origin.as_str()) == line);
            match under {
                None if own == Some(stated.origin.as_str()) => {}
                None => {
                    let message = format!(
                        "it anchors {}, a ledger that the question is about and the pack does not have",
                        stated.origin
                    );
                    return Err(Failure::at(
                        &record(0, stated.index),
                        "PACK-LEDGER-MISSING",
                        message,
                    ));
                }
                Some(under) if under.size < stated.size => shown.doubts.push(Doubt::Early {
                    origin: under.origin.to_string(),
                    size: under.size,
                    newest: stated.size,
                    anchor: stated.index,
                }),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The gateways' ledgers whose entries are there, by the names of their first logs.
    fn trees(&self) -> BTreeMap<&str, stated::Tree<'_>> {
        let gateways = (0..).zip(self.checkpoints).skip(1);
        let there = gateways.filter(|(number, _)| self.entries.contains(number));
        let trees = there.map(|(number, under)| {
            let entries = self.sections.entries(number, under).map(|(_, bytes)| bytes);
            let line = crate::line(under.origin.as_str());
            (line, stated::Tree::new(under.size, Box::new(entries)))
        });
        trees.collect()
    }

    /// What the server's records of the pack say to be gone, in their order.
    fn erasures(&self) -> Vec<(&PackRecord, HexDigest, Erasure)> {
        let erasures = self.held(0).filter_map(|item| {
            let erasure: Erasure = item.record.expect_body().ok()?;
            Some((item, erasure))
        });
        let each = erasures.flat_map(|(item, erasure)| {
            let gone: Vec<HexDigest> = erasure.erased.iter().map(|one| one.sha256).collect();
            gone.into_iter()
                .map(move |sha256| (item, sha256, erasure.clone()))
        });
        each.collect()
    }

    /// Everything that the answers rest on is there or was erased, and nothing else.
    fn rest(&self, shown: &mut Shown) -> Result<(), Failure> {
        let reach = self.checkpoints.first().map_or(0, |server| server.size);
        let own: BTreeMap<u64, &PackRecord> = self.held(0).map(|item| (item.index, item)).collect();
        let mut needed: BTreeSet<u64> = self.anchors.used().collect();
        // Every pack may say how the server's ledger went on as a new log: the checkpoint rests on it.
        // And how those of gateways did that it has checkpoints of.
        let links = self.held(0).filter(|item| {
            let rotation = item.record.expect_body::<KeyRotation>();
            rotation.is_ok_and(|rotation| {
                lineage::is_link(&rotation) || self.anchors.leads(&rotation, self.checkpoints)
            })
        });
        needed.extend(links.map(|item| item.index));
        let answers = shown.answers.iter();
        needed.extend(answers.filter_map(|(number, index)| (*number == 0).then_some(*index)));
        let mut open: Vec<&PackRecord> = needed
            .iter()
            .filter_map(|at| own.get(at).copied())
            .collect();
        open.extend(self.records.iter().filter(|item| item.checkpoint > 0));
        let erasures = self.erasures();
        while let Some(item) = open.pop() {
            let origin = item.record.origin();
            let place = record(item.checkpoint, item.index);
            let grounds =
                grounds(&item.record).map_err(|error| Failure::because(&place, &error))?;
            for names in grounds.records {
                if names >= reach {
                    shown.doubts.push(Doubt::Beyond {
                        origin: origin.to_owned(),
                        index: item.index,
                        names,
                    });
                } else if needed.insert(names) {
                    let Some(named) = own.get(&names).copied() else {
                        let message = format!("record {} of {origin} rests on it", item.index);
                        return Err(Failure::at(&record(0, names), MISSING, message));
                    };
                    open.push(named);
                }
            }
            let opening = opening(&item.record);
            let rests_on = grounds.blobs.into_iter().map(|sha256| (sha256, true));
            for (sha256, needs) in rests_on.chain(opening.map(|sha256| (sha256, false))) {
                if self.sections.has_blob(sha256) {
                    continue;
                }
                // INVARIANT: what was named after an erasure was not erased by it.
                let mut later = erasures.iter().filter(|(by, gone, _)| {
                    *gone == sha256 && (item.checkpoint > 0 || by.index > item.index)
                });
                let (origin, index) = (origin.to_owned(), item.index);
                match later.next() {
                    Some((by, _, erasure)) => {
                        shown.erased.push(Erased {
                            origin,
                            index,
                            sha256,
                            by_record: by.index,
                            at: by.record.stamp().wall,
                            by: erasure.by.clone(),
                            reason: erasure.reason.clone(),
                        });
                        if needed.insert(by.index) {
                            open.push(by);
                        }
                    }
                    None if needs => shown.doubts.push(Doubt::NoBlob {
                        origin,
                        index,
                        sha256,
                    }),
                    None => {}
                }
            }
        }
        match own.keys().find(|index| !needed.contains(index)) {
            None => Ok(()),
            Some(index) => Err(stray(0, *index)),
        }
    }
}

/// What an issuance commits to. Nothing rests on it, and whoever decides again asks for it.
fn opening(record: &Record) -> Option<HexDigest> {
    let issuance: Issuance = record.expect_body().ok()?;
    Some(HexDigest(issuance.commit.0.0))
}

const fn record(checkpoint: u64, index: u64) -> Section {
    Section::Record { checkpoint, index }
}

fn stray(number: u64, index: u64) -> Failure {
    let message = "it does not answer the question, and nothing that does rests on it";
    Failure::at(&record(number, index), "PACK-RECORD-STRAY", message)
}
