//! What each chip has counted last, as a row of the state: by it a chip that was put back is known after the
//! server has started again, and after another chip of the same machine has answered. Not what it means:
//! that is `attest_tpm::Counted`'s.

use attest_tpm::{Clock, Counted};
use ledger::body;
use store::{Change, MetaRow};

/// One row a chip.
pub(super) fn key(chip: &str) -> String {
    format!("counted {chip}")
}

/// `at` is when it was shown; Unix milliseconds.
pub(super) fn row(now: &body::Counted, at: u64) -> Change {
    let (clock, firmware) = (now.clock.0, now.firmware.0);
    Change::Meta(MetaRow {
        key: key(&now.chip.to_string()),
        value: format!("{at} {} {} {clock} {firmware}", now.resets, now.restarts),
    })
}

/// When what the row says was shown.
pub(super) fn at(row: &str) -> Option<u64> {
    row.split(' ').next()?.parse().ok()
}

pub(super) fn read(row: &str) -> Option<Counted> {
    let mut words = row.split(' ').skip(1);
    let reset_count = words.next()?.parse().ok()?;
    let restart_count = words.next()?.parse().ok()?;
    let clock = Clock {
        clock: words.next()?.parse().ok()?,
        reset_count,
        restart_count,
        // Not kept, because nothing is compared by it.
        safe: false,
    };
    Some(Counted {
        clock,
        firmware: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use ledger::{Decimal, HexDigest};

    fn counted(chip: u8, clock: u64) -> body::Counted {
        body::Counted {
            chip: HexDigest([chip; 32]),
            resets: 7,
            restarts: 1,
            clock: Decimal(clock),
            firmware: Decimal(u64::MAX),
        }
    }

    fn attested(to: u64, counted: body::Counted) -> body::Attested {
        body::Attested {
            node: "m1".to_owned(),
            from: 0,
            to,
            answers: Decimal(1),
            resets: counted.resets,
            restarts: counted.restarts,
            pcrs: HexDigest([0; 32]),
            entries: None,
            estate: HexDigest([0; 32]),
            counted: Some(counted),
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_each_chip_has_its_own() {
        let mut state = State::default();
        for (chip, clock) in [(1, 5_000), (2, 10)] {
            state.absorb(&row(&counted(chip, clock), 99));
        }
        let read = state.counted(&"01".repeat(32)).unwrap();
        assert_eq!((read.clock.clock, read.firmware), (5_000, u64::MAX));
        assert_eq!((read.clock.reset_count, read.clock.restart_count), (7, 1));
        assert_eq!(state.counted(&"02".repeat(32)).unwrap().clock.clock, 10);
        assert!(state.counted(&"03".repeat(32)).is_none());
        for torn in ["", "99", "99 7 1 5000", "99 7 x 1 1"] {
            assert!(super::read(torn).is_none(), "{torn}");
        }
    }

    /// After a readmission a chip begins anew, and answers from before it may be recorded later.
    #[test]
    fn what_is_recorded_late_does_not_take_the_place_of_what_was_shown_since() {
        let mut state = State::default();
        let clock = |state: &State| state.counted(&"01".repeat(32)).unwrap().clock.clock;
        for (to, shows, stands) in [(10, 100, 100), (30, 50, 50), (20, 900, 50), (30, 60, 60)] {
            for change in state.attested(&attested(to, counted(1, shows))) {
                state.absorb(&change);
            }
            assert_eq!(clock(&state), stands, "at {to}");
        }
    }
}
