//! The time that the state goes by: that of its records, never back. Nothing leaves the state before it has ended by it.
//!
//! While a server runs it records nothing by a clock that leaps ahead. At its start it cannot know: it may have stood still
//! for months, or begun with a clock that is wrong until it is set. Such a leap is taken once records of an hour have
//! gone on from it.
//!
//! INVARIANT: it follows from the records alone, as all of the state.

use ledger::{RecordType, Stamp};

/// Milliseconds that are no leap.
const SOON: u64 = 5 * 60 * 1000;
/// A leap is taken after so many.
const LONG: u64 = 60 * 60 * 1000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// Whole seconds, in Unix milliseconds.
    pub(super) wall: u64,
    /// The first record after a leap that is not taken yet.
    held: Option<Stamp>,
}

/// Whether such a record comes from a run that began with it, or from no run.
pub(super) const fn begins(kind: RecordType) -> bool {
    matches!(
        kind,
        RecordType::Start | RecordType::KeyRotation | RecordType::Snapshot | RecordType::Retention
    )
}

impl Clock {
    /// The row's value: the time, and where a leap is not taken yet the stamp of its first record.
    pub(super) fn read(value: &str) -> Self {
        let mut numbers = value.split(' ').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let wall = next().unwrap_or_default();
        let held = next().zip(next());
        Self {
            wall,
            held: held.map(|(wall, mono)| Stamp { wall, mono }),
        }
    }

    pub(super) fn row(&self) -> String {
        match self.held {
            None => self.wall.to_string(),
            Some(held) => format!("{} {} {}", self.wall, held.wall, held.mono),
        }
    }

    /// Whether a leap is not taken yet.
    pub(super) const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// After a record of `now`, which `begins` or goes on.
    pub(super) fn after(self, now: Stamp, begins: bool) -> Self {
        let wall = now.wall - now.wall % 1000;
        let taken = Self {
            wall: self.wall.max(wall),
            held: None,
        };
        // Before the first record there is nothing to be ahead of.
        let leap = match self.wall > 0 && wall > self.wall.saturating_add(SOON) {
            true => Self {
                held: Some(now),
                ..self
            },
            false => taken,
        };
        match self.held {
            None if begins => leap,
            None => taken,
            Some(_) if begins => leap,
            Some(since) => {
                let passed = now.mono.saturating_sub(since.mono) / 1_000_000;
                if now.wall.abs_diff(since.wall.saturating_add(passed)) > SOON {
                    // Set once more: what was shown before was wrong, and this may be.
                    leap
                } else if passed < LONG {
                    self
                } else {
                    taken
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_800_000_000_000;
    const MINUTE: u64 = 60_000;
    const DAY: u64 = 24 * 60 * MINUTE;

    /// A record `passed` milliseconds after the machine's start.
    const fn stamp(wall: u64, passed: u64) -> Stamp {
        Stamp {
            wall,
            mono: passed * 1_000_000,
        }
    }

    fn begun() -> Clock {
        let clock = Clock::default().after(stamp(T + 5, 900 * DAY), true);
        assert_eq!(clock, Clock::read(&T.to_string()));
        clock
    }

    #[test]
    fn a_run_goes_on_as_its_records_do_and_never_back() {
        let clock = begun().after(stamp(T + 40 * DAY, 0), false);
        assert_eq!((clock.wall, clock.is_held()), (T + 40 * DAY, false));
        assert_eq!(clock.after(stamp(T, 0), false), clock);
        assert_eq!(clock.after(stamp(T, 0), true), clock);
    }

    #[test]
    fn a_start_long_after_the_last_record_is_taken_once_an_hour_has_gone_on_from_it() {
        let clock = begun().after(stamp(T + 40 * DAY, 7), true);
        assert_eq!((clock.wall, clock.is_held()), (T, true));
        assert_eq!(Clock::read(&clock.row()), clock, "it outlives a restart");
        let soon = clock.after(stamp(T + 40 * DAY + 59 * MINUTE, 7 + 59 * MINUTE), false);
        assert_eq!(soon, clock);
        let later = soon.after(stamp(T + 40 * DAY + 61 * MINUTE, 7 + 61 * MINUTE), false);
        assert_eq!(
            later,
            Clock::read(&(T + 40 * DAY + 61 * MINUTE).to_string())
        );
        // A short stop is none.
        let soon = begun().after(stamp(T + 4 * MINUTE, 0), true);
        assert_eq!((soon.wall, soon.is_held()), (T + 4 * MINUTE, false));
    }

    #[test]
    fn a_start_with_a_wrong_clock_takes_nothing_away_once_it_is_right() {
        let wrong = begun().after(stamp(T + 400 * DAY, 7), true);
        let right = wrong.after(stamp(T + 2 * MINUTE, 7 + MINUTE), false);
        assert_eq!((right.wall, right.is_held()), (T + 2 * MINUTE, false));
        // The server had stood still for a while, or it is wrong again.
        let less = wrong.after(stamp(T + 2 * DAY, 7 + MINUTE), false);
        assert_eq!((less.wall, less.is_held()), (T, true));
        let settled = less.after(stamp(T + 2 * DAY + 70 * MINUTE, 7 + 71 * MINUTE), false);
        assert_eq!(settled.wall, T + 2 * DAY + 70 * MINUTE);
        // Started again, the hour begins anew.
        let again = less.after(stamp(T + 2 * DAY + 61 * MINUTE, 3), true);
        assert_eq!((again.wall, again.is_held()), (T, true));
    }
}
