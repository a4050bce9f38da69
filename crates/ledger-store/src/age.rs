//! Which of the oldest records were made before a moment. Each says when it was made, by a clock that somebody may have
//! set; nobody sets the order they stand in, nor the clock by which a process counts its own time.
//!
//! So a record is old if one that stands behind it, or it itself, is of before the moment and later than all before it:
//! where times run backwards, it is the next record that goes on which counts. Where the clock was set forward in a run
//! over the moment, its records count by how long before the step they were made. A clock that stood wrong for a whole
//! run, and later than every run before, shows in nothing that is looked at here.

use crate::{Reader, StoreError};
use ledger::completeness::Clock;
use ledger::{Record, RecordType, Stamp};
use std::ops::Range;

/// Records looked at together.
const CHUNK: u64 = 4_096;
/// Records of one commit may be in another order than they were stamped in.
const DISORDER_MS: u64 = 60_000;
/// The first of January of 2026: what is of before it was made under a clock that nobody had set, as nothing wrote
/// records then.
pub const EARLIEST_MS: u64 = 1_767_225_600_000;

/// Of a ledger's first records, counted from the first one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Old {
    /// Those that were made before the moment.
    pub records: u64,
    /// Those that say so themselves: of the ones beyond `records` it is not known.
    pub stamped: u64,
}

impl Reader {
    /// How many of the first `most` records are all of before `before`, Unix milliseconds. One that this version cannot
    /// read is not.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn older(&self, most: u64, before: u64) -> Result<Old, StoreError> {
        let from = self.pruned().map_or(0, |pruned| pruned.minimum);
        let mut order = Order {
            old: from,
            run: from,
            ..Order::default()
        };
        if from > 0 {
            order.latest = self.record(0)?.stamp().wall;
        }
        let mut at = from;
        let old = |records: u64, stamped: u64| {
            let (records, stamped) = (records.min(most), stamped.min(most));
            Ok(Old { records, stamped })
        };
        loop {
            let records = self.read(at..at.saturating_add(CHUNK))?;
            if records.is_empty() {
                return old(order.old, at);
            }
            for bytes in records {
                let Ok(record) = Record::parse(&bytes) else {
                    return old(order.old, at);
                };
                let begins = matches!(record.kind(), RecordType::Begin | RecordType::Start);
                let (stamp, stepped) = (record.stamp(), order.stepped(at, &record, begins));
                if stamp.wall >= before {
                    // What the step shows of those before it, of the same run.
                    let shown = match stepped {
                        true => self.by_run(order.run..at, stamp, before)?,
                        false => at,
                    };
                    return old(order.old.min(shown), at);
                }
                order.take(at, stamp);
                at = at.saturating_add(1);
            }
        }
    }

    /// The first record of `run` that was not made before `before`, if `later`, which a record of the same process has
    /// behind it, is right.
    fn by_run(&self, run: Range<u64>, later: Stamp, before: u64) -> Result<u64, StoreError> {
        let since = later.wall.saturating_sub(before).saturating_mul(1_000_000);
        let mut at = run.start;
        while at < run.end {
            let records = self.read(at..run.end.min(at.saturating_add(CHUNK)))?;
            if records.is_empty() {
                break;
            }
            for bytes in records {
                let ago = |stamp: Stamp| later.mono.saturating_sub(stamp.mono);
                match Record::parse(&bytes) {
                    Ok(record) if ago(record.stamp()) > since => at = at.saturating_add(1),
                    _ => return Ok(at),
                }
            }
        }
        Ok(at)
    }
}

/// What was seen so far.
#[derive(Default)]
struct Order {
    /// Records below it are old.
    old: u64,
    /// The latest time that a record had.
    latest: u64,
    /// Where the run began.
    run: u64,
    clock: Clock,
}

impl Order {
    /// Whether the clock was set before this record.
    fn stepped(&mut self, at: u64, record: &Record, begins: bool) -> bool {
        if begins {
            self.run = at;
        }
        self.clock.take(record.stamp(), begins).is_some()
    }

    /// A record of before the moment.
    fn take(&mut self, at: u64, stamp: Stamp) {
        let goes_on = stamp.wall.saturating_add(DISORDER_MS) >= self.latest;
        if goes_on && stamp.wall >= EARLIEST_MS {
            self.old = at.saturating_add(1);
            self.latest = self.latest.max(stamp.wall);
        }
    }
}
