//! The time that this server goes by: the system's, for as long as that passes as time does.
//!
//! A clock that jumps ahead, for seconds and by a mistake, would have revocations forgotten and keys end that are good, and
//! what follows from records stays so. Nothing is signed or recorded by it. One that goes back is followed: nothing ends
//! by it, and once it has stood there for minutes the next leap is judged from there.
//!
//! What it is at a start nobody here can know: a server may have stood still for months. The state takes such a leap only
//! after a while (`state/clock.rs`). So a leap that stands for minutes ends the process: what starts it again believes it.

use facts::{Finding, Timestamp};
use ledger::Stamp;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What the clocks of a machine show.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// For records.
    pub stamp: Stamp,
    /// Since the machine was started, also while it slept: by a clock that nobody sets.
    pub up: Duration,
}

/// How they are read.
pub type ReadClock = fn() -> Reading;

/// Milliseconds by which the clock may be ahead of what has passed: it is set by little at times.
pub(crate) const AHEAD: u64 = 5 * 60 * 1000;
/// What it was set by is taken for passed, once in so many milliseconds: many small steps are no leap.
const AGAIN: u64 = 60 * 60 * 1000;
/// A leap that the clock has gone on from for so long, as time does, ends the server: it was set right, it seems, and at a
/// start it is believed.
const STOOD: u64 = 2 * 60 * 1000;
/// Nothing was recorded before. A machine without a battery begins in 1970.
const WRITTEN: u64 = ledger_store::EARLIEST_MS;

/// The clocks of this machine.
#[must_use]
pub fn system_clock() -> Reading {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(up.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(up.tv_nsec).unwrap_or_default();
    Reading {
        stamp: ledger_store::system_clock(),
        up: Duration::new(seconds, nanoseconds),
    }
}

/// A moment by both clocks, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Known {
    wall: u64,
    up: u64,
}

impl Known {
    /// What the wall should show.
    const fn passed(self, up: u64) -> u64 {
        self.wall.saturating_add(up.saturating_sub(self.up))
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Of the first look, and of the last step that was taken.
    known: Option<Known>,
    /// Of the first look at a step back that it has gone on from since.
    back: Option<Known>,
    /// Of the first look at a leap that it has gone on from since.
    leapt: Option<Known>,
    /// Milliseconds for which it has.
    stood: u64,
}

#[derive(Debug)]
pub(crate) struct Clock {
    read: ReadClock,
    seen: Mutex<Seen>,
}

impl Clock {
    /// It is believed at its first look.
    pub(crate) const fn by(read: ReadClock) -> Self {
        Self {
            read,
            seen: Mutex::new(Seen {
                known: None,
                back: None,
                leapt: None,
                stood: 0,
            }),
        }
    }

    /// Now; what has passed, where the clock shows something else.
    pub(crate) fn stamp(&self) -> Stamp {
        let (shown, believed) = self.look();
        Stamp {
            wall: believed.unwrap_or(shown.wall),
            ..shown
        }
    }

    /// As [`Clock::stamp`], without the time for records.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.stamp().wall)
    }

    /// The stamp of a record of now.
    ///
    /// # Errors
    /// `SERVER-CLOCK`: the clock has leapt ahead, or was never set.
    pub(crate) fn check(&self) -> Result<Stamp, Finding> {
        let (shown, believed) = self.look();
        let Some(believed) = believed else {
            return Ok(shown);
        };
        let time = |millis| Timestamp::from_millis(millis).to_string();
        Err(Finding::new(
            "SERVER-CLOCK",
            "this server's clock is not what it can be: by it what is revoked would be forgotten and keys would end, so that \
             nothing is signed or recorded",
        )
        .expected(match believed < WRITTEN {
            true => "2026 or later".to_owned(),
            false => format!("about {}, by the time that has passed", time(believed)),
        })
        .observed(time(shown.wall))
        .next(
            "set the clock of this machine, and the server goes on by itself; if it was wrong before and is right now, or \
             the machine stood still, start the server again, which ends by itself after two minutes",
        ))
    }

    /// Why this process is to end, for one that believes the clock: it has leapt ahead, and has gone on from there for a
    /// while. It was behind at the start and is set now, or the machine stood still.
    pub(crate) fn stood(&self) -> Option<Finding> {
        let finding = self.check().err()?;
        let stood = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stood;
        (stood >= STOOD).then(|| {
            finding.next(
                "start the server again, as a service manager does by itself: at a start the clock is believed; if it is \
                 wrong now, set it first",
            )
        })
    }

    /// What is shown, and what is to be believed instead.
    fn look(&self) -> (Stamp, Option<u64>) {
        let Reading { stamp, up } = (self.read)();
        let up = u64::try_from(up.as_millis()).unwrap_or(u64::MAX);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = Known {
            wall: stamp.wall,
            up,
        };
        let before = *seen.known.get_or_insert(shown);
        let passed = before.passed(up);
        let goes_on = |since: &Known| stamp.wall.abs_diff(since.passed(up)) <= AHEAD;
        if stamp.wall > passed.saturating_add(AHEAD) || stamp.wall < WRITTEN {
            seen.back = None;
            let since = seen.leapt.filter(goes_on).unwrap_or(shown);
            seen.leapt = (stamp.wall >= WRITTEN).then_some(since);
            seen.stood = seen.leapt.map_or(0, |since| up.saturating_sub(since.up));
            return (stamp, Some(passed));
        }
        (seen.leapt, seen.stood) = (None, 0);
        // It was ahead at the first look, and is set: from here on the next leap is judged.
        let behind = passed > stamp.wall.saturating_add(AHEAD);
        let since = seen.back.filter(goes_on).unwrap_or(shown);
        seen.back = behind.then_some(since);
        let settled = behind && up.saturating_sub(since.up) >= STOOD;
        let stepped = stamp.wall > passed && up.saturating_sub(before.up) >= AGAIN;
        if settled || stepped {
            (seen.known, seen.back) = (Some(shown), None);
        }
        (stamp, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const START: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;

    thread_local! {
        /// Wall and passed, in milliseconds.
        static SHOWN: Cell<(u64, u64)> = const { Cell::new((START, 7)) };
    }

    fn shown() -> Reading {
        let (wall, up) = SHOWN.get();
        Reading {
            stamp: Stamp { wall, mono: 0 },
            up: Duration::from_millis(up),
        }
    }

    /// Whether it is believed at `up` that it is `wall`, and what it is if not.
    fn at(clock: &Clock, wall: u64, up: u64) -> Result<(), u64> {
        SHOWN.set((wall, up));
        match clock.check() {
            Ok(stamp) => {
                assert_eq!((stamp.wall, clock.now().as_millis()), (wall, wall));
                Ok(())
            }
            Err(finding) => {
                assert_eq!(finding.code, "SERVER-CLOCK");
                Err(clock.now().as_millis())
            }
        }
    }

    #[test]
    fn a_clock_that_leaps_ahead_is_not_believed_and_comes_back_by_itself() {
        let clock = Clock::by(shown);
        assert_eq!(at(&clock, START, 7), Ok(()));
        assert_eq!(at(&clock, START + 2 * HOUR, 2 * HOUR + 7), Ok(()));
        for leap in [2 * HOUR, 400 * 24 * HOUR, AHEAD + 1] {
            let wrong = at(&clock, START + 2 * HOUR + 500 + leap, 2 * HOUR + 507);
            assert_eq!(wrong, Err(START + 2 * HOUR + 500), "{leap}");
            assert_eq!(at(&clock, START + 2 * HOUR + 900, 2 * HOUR + 907), Ok(()));
        }
    }

    #[test]
    fn small_steps_are_taken_and_many_of_them_in_a_row_are_not() {
        let clock = Clock::by(shown);
        let (mut wall, mut up) = (START, 7);
        assert_eq!(at(&clock, wall, up), Ok(()));
        for _ in 0..24 {
            (wall, up) = (wall + HOUR + AHEAD, up + HOUR);
            assert_eq!(at(&clock, wall, up), Ok(()));
        }
        assert_eq!(at(&clock, wall + AHEAD, up), Ok(()));
        let twice = at(&clock, wall + 2 * AHEAD, up);
        assert_eq!(twice, Err(wall));
    }

    #[test]
    fn a_clock_that_goes_back_is_followed_and_makes_no_room_for_a_leap() {
        let clock = Clock::by(shown);
        assert_eq!(at(&clock, START, 7), Ok(()));
        assert_eq!(at(&clock, START - HOUR, 8), Ok(()));
        assert_eq!(at(&clock, START, 9), Ok(()));
        assert_eq!(at(&clock, START + HOUR, 10), Err(START + 3));
    }

    /// A clock that was ahead at the start left room for the next leap, once it was set.
    #[test]
    fn a_clock_that_stays_back_is_what_the_next_leap_is_judged_by() {
        let clock = Clock::by(shown);
        let right = |up: u64| START + up;
        assert_eq!(at(&clock, right(0) + 2 * HOUR, 0), Ok(()));
        for up in [1, STOOD, STOOD + 1] {
            assert_eq!(at(&clock, right(up), up), Ok(()));
        }
        let up = STOOD + 2;
        assert_eq!(at(&clock, right(up) + HOUR, up), Err(right(up)));
        assert_eq!(at(&clock, right(up + 1), up + 1), Ok(()));
        // One that is back for a moment again and again is not set.
        let clock = Clock::by(shown);
        assert_eq!(at(&clock, right(0), 0), Ok(()));
        for up in [1, STOOD + 2, 2 * STOOD] {
            assert_eq!(at(&clock, right(up) - HOUR, up), Ok(()));
            assert_eq!(at(&clock, right(up + 1), up + 1), Ok(()));
        }
    }

    /// A clock that was behind at the start and was set stopped the server until somebody came.
    #[test]
    fn a_leap_that_stands_ends_the_process_and_one_that_does_not_is_over() {
        let clock = Clock::by(shown);
        let stood = |wall, up| {
            assert_eq!(at(&clock, wall, up).is_err(), wall > START + 2 * up);
            clock.stood()
        };
        assert!(stood(START, 0).is_none());
        // Ahead for less, right again, ahead anew, and then elsewhere.
        assert!(stood(START + HOUR, 1).is_none());
        assert!(stood(START + HOUR + STOOD - 1, STOOD).is_none());
        assert!(stood(START + STOOD + 1, STOOD + 1).is_none());
        assert!(stood(START + HOUR + STOOD + 2, STOOD + 2).is_none());
        assert!(stood(START + 9 * HOUR, 2 * STOOD + 2).is_none());
        assert!(stood(START + 9 * HOUR + STOOD - 1, 3 * STOOD + 1).is_none());
        let ends = stood(START + 9 * HOUR + STOOD, 3 * STOOD + 2).unwrap();
        assert_eq!(ends.code, "SERVER-CLOCK");
        assert!(ends.next.unwrap().contains("start the server again"));
        // It would not start by such a one.
        let clock = Clock::by(shown);
        assert_eq!(at(&clock, START, 0), Ok(()));
        for up in [1, STOOD + 1, 2 * STOOD] {
            at(&clock, 60_000 + up, up).unwrap_err();
            assert!(clock.stood().is_none());
        }
    }

    #[test]
    fn a_clock_that_was_never_set_is_not_believed() {
        assert_eq!(at(&Clock::by(shown), 60_000, 7), Err(60_000));
        let clock = Clock::by(shown);
        assert_eq!(at(&clock, START, 7), Ok(()));
        assert_eq!(at(&clock, 60_000, 8), Err(START + 1));
    }
}
