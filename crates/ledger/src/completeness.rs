//! Whether the numbered events of a ledger are all there: a fold over its records, in order, that names what is
//! missing and says which record explains it.
//!
//! What is numbered: records by `seq`, the records of a connection by its counter, intents by their outcomes, runs by
//! `start` and `stop`. What was never numbered, because it went past whoever records, no record can show.
//!
//! INVARIANT: what is kept is in proportion to what is open, not to the ledger: connections whose records are all
//! there are forgotten when they end.

mod clock;
mod connections;

use crate::body::{Coverage, Decision, Gap, Intent, Outcome, Recovery, SessionEnd, Start};
use crate::{Hash, Record, RecordType};
use connections::Connections;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub use clock::Clock;

/// What is listed, at most; what is more is counted.
const MOST: usize = 10_000;

/// Milliseconds before a crash in which records that were waiting may have been lost: the flush interval of reads,
/// and a disk that took its time.
pub const FLUSHED_WITHIN: u64 = 1_000;

/// What is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A record says itself that something may be missing.
    Gap,
    /// A record says itself that records were given up.
    Recovery,
    /// The numbers of records leave some out, or go back.
    Sequence,
    /// A number of a connection is missing.
    Counter,
    /// A connection has a number twice.
    Repeated,
    /// A session has no end.
    Session,
    /// An intent has no outcome.
    Outcome,
    /// A run ended, and neither `stop` nor `gap` says how.
    Run,
    /// A start found another tree than the one that it stands on.
    Start,
    /// A record of another ledger.
    Origin,
    /// Bytes that this version cannot read.
    Unread,
    /// The server's ledger holds more of this ledger, or another one.
    Anchor,
    /// The server's ledger holds anchors of a ledger that is not here.
    Ledger,
    /// The clock was set while it ran, so times on both sides are not to be compared. Nothing is missing.
    Clock,
}

impl Cause {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Recovery => "recovery",
            Self::Sequence => "sequence",
            Self::Counter => "counter",
            Self::Repeated => "repeated",
            Self::Session => "session",
            Self::Outcome => "outcome",
            Self::Run => "run",
            Self::Start => "start",
            Self::Origin => "origin",
            Self::Unread => "unread",
            Self::Anchor => "anchor",
            Self::Ledger => "ledger",
            Self::Clock => "clock",
        }
    }
}

/// One thing that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub cause: Cause,
    /// A record of the ledger itself accounts for it.
    pub explained: bool,
    /// Index of the last record before it and of the first one after it, where there are such.
    pub after: Option<u64>,
    pub before: Option<u64>,
    /// Unix milliseconds.
    pub from: u64,
    pub to: u64,
    /// How many records, where that is known.
    pub lost: Option<u64>,
    pub detail: String,
}

/// What was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records of the whole ledger. All that follows is of the window alone.
    pub records: u64,
    pub starts: u64,
    pub stops: u64,
    pub sessions: u64,
    /// Intents and decisions, by how much of what they touch was known.
    pub complete: u64,
    pub parsed_only: u64,
    pub blind: u64,
    /// Outcomes that nobody knows: what was forwarded may have happened.
    pub unknown: u64,
    /// Sessions that a recorded gap cut short.
    pub cut_sessions: u64,
    /// Going on at the head.
    pub open_sessions: u64,
    pub open_intents: u64,
}

/// Where a record stands and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    index: u64,
    wall: u64,
}

/// Roots of the ledger's earlier trees.
pub trait Roots {
    type Error;

    /// Asked only for sizes that were folded already.
    fn root(&self, size: u64) -> Result<Hash, Self::Error>;
}

/// The fold. [`Fold::take`] each record from the first on, then [`Fold::finish`].
pub struct Fold {
    origin: String,
    /// Runs, connections and intents are those of an enforcement point. A server keeps each record before it acts.
    point: bool,
    window: RangeInclusive<u64>,
    index: u64,
    last: Option<Place>,
    next_seq: u64,
    clock: Clock,
    /// A step of the clock, before records that the next run writes ahead of its start.
    step: Option<Missing>,
    run: Run,
    counts: Counts,
    found: Vec<Missing>,
    more: u64,
}

/// What a fold came to.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    pub counts: Counts,
    pub missing: Vec<Missing>,
    /// Not listed, because there are too many.
    pub more: u64,
}

#[derive(Default)]
struct Run {
    begun: bool,
    stopped: bool,
    /// Somebody connected before its start or after its stop.
    outside: bool,
    epoch: u64,
    /// From when on records may be missing, as a record of the run's end says.
    gap: Option<u64>,
    connections: Connections,
    /// Intents without an outcome, by number.
    open: BTreeMap<u64, Place>,
}

impl Fold {
    /// Of the ledger `origin`. What lies wholly outside of `window`, in Unix milliseconds, is not told.
    #[must_use]
    pub fn new(origin: &str, point: bool, window: RangeInclusive<u64>) -> Self {
        Self {
            origin: origin.to_owned(),
            point,
            window,
            index: 0,
            last: None,
            next_seq: 0,
            clock: Clock::default(),
            step: None,
            run: Run::default(),
            counts: Counts::default(),
            found: Vec::new(),
            more: 0,
        }
    }

    /// The next record; hands it back if it is one. Never fails for what it says.
    pub fn take<R: Roots>(&mut self, bytes: &[u8], roots: &R) -> Result<Option<Record>, R::Error> {
        let record = Record::parse(bytes);
        let place = Place {
            index: self.index,
            wall: match &record {
                Ok(record) => record.stamp().wall,
                Err(_) => self.last.unwrap_or_default().wall,
            },
        };
        let record = match record {
            Ok(record) => {
                self.numbered(&record, place);
                self.timed(&record, place);
                self.judge(&record, place, roots)?;
                Some(record)
            }
            Err(error) => {
                self.here(Cause::Unread, place, error.to_string());
                self.next_seq = self.next_seq.saturating_add(1);
                None
            }
        };
        self.counts.records += 1;
        self.index += 1;
        self.last = Some(place);
        Ok(record)
    }

    /// At the head: what goes on is not missing.
    #[must_use]
    pub fn finish(mut self) -> Outlook {
        if let Some(step) = self.step.take() {
            self.add(step);
        }
        let over = self.run.stopped || !self.run.begun;
        if over || !self.point {
            self.end_run(None);
        } else {
            let now = self.last.unwrap_or_default().wall;
            self.counts.open_intents = count(self.run.open.len());
            self.counts.open_sessions = self.run.connections.open();
            let holes = self.run.connections.holes(Some(now));
            // What may still come is not missing yet.
            for hole in holes.into_iter().filter(|hole| !hole.explained) {
                self.add(hole);
            }
        }
        Outlook {
            counts: self.counts,
            missing: self.found,
            more: self.more,
        }
    }

    fn numbered(&mut self, record: &Record, place: Place) {
        if !crate::key::holds(&self.origin, record.origin()) {
            self.here(
                Cause::Origin,
                place,
                format!("a record of {}", record.origin()),
            );
        }
        if place.index == 0 && record.kind() != RecordType::Begin {
            self.here(
                Cause::Sequence,
                place,
                format!("the ledger begins with {}", record.kind()),
            );
        }
        let (seq, expected) = (record.seq(), self.next_seq);
        if seq != expected {
            let lost = seq.checked_sub(expected);
            let what = match lost {
                Some(_) => format!("the numbers {expected} to {} are missing", seq - 1),
                None => format!("number {seq} stands where {expected} should"),
            };
            let before = self.last;
            self.between(Cause::Sequence, before, place, lost, what);
        }
        self.next_seq = seq.saturating_add(1);
    }

    fn timed(&mut self, record: &Record, place: Place) {
        let begins = matches!(record.kind(), RecordType::Begin | RecordType::Start);
        // Another process wrote these, or another machine, with another clock.
        let ahead = matches!(
            record.kind(),
            RecordType::Outcome | RecordType::Gap | RecordType::Recovery | RecordType::KeyRotation
        );
        match self.step.take() {
            Some(step) if ahead => self.step = Some(step),
            Some(step) if !begins => self.add(step),
            _ => {}
        }
        let Some(detail) = self.clock.take(record.stamp(), begins) else {
            return;
        };
        let step = Missing {
            cause: Cause::Clock,
            explained: true,
            after: place.index.checked_sub(1),
            before: Some(place.index),
            from: self.last.unwrap_or(place).wall,
            to: place.wall,
            lost: None,
            detail,
        };
        if ahead && self.step.is_none() {
            self.step = Some(step);
        } else {
            self.add(step);
        }
    }

    fn judge<R: Roots>(
        &mut self,
        record: &Record,
        place: Place,
        roots: &R,
    ) -> Result<(), R::Error> {
        let counted = self.window.contains(&place.wall);
        if self.point {
            self.connected(record, place);
        }
        match record.kind() {
            RecordType::Start => {
                self.counts.starts += u64::from(counted);
                self.start(record, place, roots)?;
            }
            RecordType::Stop => {
                self.counts.stops += u64::from(counted);
                self.run.stopped = true;
            }
            RecordType::Gap => self.gap(record, place),
            RecordType::Recovery => self.recovery(record, place),
            RecordType::SessionStart => self.counts.sessions += u64::from(counted),
            RecordType::Intent => {
                self.run.open.insert(record.seq(), place);
                let body = record.body_as::<Intent>().map(|body| body.coverage);
                self.covered(body.ok(), counted);
            }
            RecordType::Decision => {
                let body = record.body_as::<Decision>().map(|body| body.coverage);
                self.covered(body.ok(), counted);
            }
            RecordType::Outcome => {
                if let Ok(body) = record.expect_body::<Outcome>() {
                    self.counts.unknown += u64::from(counted && body.result == "unknown");
                    if body.transaction.as_deref() != Some("pending") {
                        self.run.open.remove(&body.intent.0);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    const fn covered(&mut self, coverage: Option<Coverage>, counted: bool) {
        let count = match coverage {
            _ if !counted => return,
            Some(Coverage::Complete) => &mut self.counts.complete,
            Some(Coverage::ParsedOnly) => &mut self.counts.parsed_only,
            // What does not say how much was seen is taken for nothing seen.
            Some(Coverage::Blind) | None => &mut self.counts.blind,
        };
        *count += 1;
    }

    fn connected(&mut self, record: &Record, place: Place) {
        let Some(of) = record.connection() else {
            return;
        };
        if (!self.run.begun || self.run.stopped) && !self.run.outside {
            self.run.outside = true;
            let what = "a record of a connection before a start, or after a stop".to_owned();
            self.here(Cause::Run, place, what);
        }
        let connections = &mut self.run.connections;
        let begins = record.kind() == RecordType::SessionStart;
        let ends = record
            .expect_body::<SessionEnd>()
            .ok()
            .map(|end| end.operations.0);
        if !connections.take(of.id, of.counter, place, begins, ends) {
            let what = format!("connection {} has number {} twice", of.id, of.counter);
            self.here(Cause::Repeated, place, what);
        }
    }

    fn start<R: Roots>(
        &mut self,
        record: &Record,
        place: Place,
        roots: &R,
    ) -> Result<(), R::Error> {
        self.end_run(Some(place));
        let Ok(start) = record.expect_body::<Start>() else {
            self.here(
                Cause::Unread,
                place,
                "a start without its fields".to_owned(),
            );
            self.run.begun = true;
            return Ok(());
        };
        if start.epoch.0 <= self.run.epoch && self.run.epoch > 0 {
            let what = format!("epoch {} after {}", start.epoch, self.run.epoch);
            self.here(Cause::Start, place, what);
        }
        let found = match start.size.0 <= place.index {
            true => Some(roots.root(start.size.0)?),
            false => None,
        };
        if found != Some(start.root.0) {
            let what = format!(
                "it found {} records that are not the first {} of these",
                start.size, start.size
            );
            self.here(Cause::Start, place, what);
        }
        self.run = Run {
            begun: true,
            epoch: start.epoch.0,
            ..Run::default()
        };
        Ok(())
    }

    fn gap(&mut self, record: &Record, place: Place) {
        let Ok(gap) = record.expect_body::<Gap>() else {
            return self.here(Cause::Unread, place, "a gap without its fields".to_owned());
        };
        let from = self.run.gap.map_or(gap.from, |known| known.min(gap.from));
        self.run.gap = Some(from);
        self.add(Missing {
            cause: Cause::Gap,
            explained: true,
            after: place.index.checked_sub(1),
            before: Some(place.index),
            from: gap.from,
            to: gap.to,
            lost: gap.lost.map(|lost| lost.0),
            detail: format!("{}: {}", gap.cause, gap.detail),
        });
    }

    fn recovery(&mut self, record: &Record, place: Place) {
        let Ok(recovery) = record.expect_body::<Recovery>() else {
            let what = "a recovery without its fields".to_owned();
            return self.here(Cause::Unread, place, what);
        };
        let from = self.last.unwrap_or(place).wall;
        self.run.gap.get_or_insert(from);
        self.add(Missing {
            cause: Cause::Recovery,
            explained: true,
            after: place.index.checked_sub(1),
            before: Some(place.index),
            from,
            to: place.wall,
            lost: recovery.old_size.0.checked_sub(recovery.new_size.0),
            detail: format!("by {}: {}", recovery.by, recovery.reason),
        });
    }

    /// `next` is the start of the run that follows, or nothing at the head after a stop.
    fn end_run(&mut self, next: Option<Place>) {
        let run = std::mem::take(&mut self.run);
        self.run.epoch = run.epoch;
        if !self.point {
            return;
        }
        let at = next.or(self.last).unwrap_or_default();
        if run.begun && !run.stopped && run.gap.is_none() {
            let what = "the run before has neither stop nor gap".to_owned();
            self.between(Cause::Run, self.last, at, None, what);
        }
        for (seq, intent) in &run.open {
            let what = format!("intent {seq} has no outcome");
            self.between(Cause::Outcome, Some(*intent), at, None, what);
        }
        for (id, place) in run.connections.without_end() {
            if run.gap.is_some() {
                self.counts.cut_sessions += u64::from(self.window.contains(&place.wall));
            } else {
                let what = format!("session {id} has no end");
                self.between(Cause::Session, Some(place), at, None, what);
            }
        }
        for hole in run.connections.holes(run.gap) {
            self.add(hole);
        }
    }

    fn here(&mut self, cause: Cause, place: Place, detail: String) {
        let last = self.last;
        self.between(cause, last, place, None, detail);
    }

    fn between(
        &mut self,
        cause: Cause,
        after: Option<Place>,
        before: Place,
        lost: Option<u64>,
        detail: String,
    ) {
        self.add(Missing {
            cause,
            explained: false,
            after: after.map(|place| place.index),
            before: Some(before.index),
            from: after.map_or(before.wall, |place| place.wall),
            to: before.wall,
            lost,
            detail,
        });
    }

    fn add(&mut self, missing: Missing) {
        let (from, to) = (missing.from.min(missing.to), missing.from.max(missing.to));
        if to < *self.window.start() || from > *self.window.end() {
            return;
        }
        if self.found.len() < MOST {
            self.found.push(missing);
        } else {
            self.more += 1;
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
