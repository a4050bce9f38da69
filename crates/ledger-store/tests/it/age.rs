//! Which records are old, whatever their clock was set to.

use crate::support::{ORIGIN, draft, options, signer};
use ledger::Stamp;
use ledger::body::{Body as _, Start};
use ledger_store::{Ledger, Old, Options};
use std::cell::Cell;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// The first of January of 2026.
const FIRST_MS: i64 = 1_767_225_600_000;
/// Some day of 1970.
const NEVER: i64 = -20_400;

thread_local! {
    static NOW: Cell<Stamp> = const { Cell::new(Stamp { wall: 0, mono: 0 }) };
}

fn now() -> Stamp {
    NOW.get()
}

fn wall(day: i64) -> u64 {
    u64::try_from(FIRST_MS + day * DAY_MS).unwrap()
}

/// A record that begins a run, or another; the day that it says it was made on, and days by the clock that nobody sets.
type Made = (bool, i64, u64);
const BEGINS: bool = true;
const GOES_ON: bool = false;

/// How many of these are known to be of before day 100, and how many say so.
fn older_of(most: u64, records: &[Made]) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        clock: now,
        ..options()
    };
    let ledger = Ledger::open(dir.path(), signer(), ORIGIN, &options).unwrap();
    for (begins, day, mono) in records {
        NOW.set(Stamp {
            wall: wall(*day),
            mono: mono * 24 * 60 * 60 * 1_000_000_000,
        });
        let start = Start {
            program: "test".to_owned(),
            version: String::new(),
            epoch: 1.into(),
            size: 0.into(),
            root: ledger::Digest(ledger::merkle::empty_root()),
        };
        let one = match *begins {
            BEGINS => start.record().actor("test", "self").draft().unwrap(),
            GOES_ON => draft("x"),
        };
        ledger.append(one).wait().unwrap();
    }
    let Old { records, stamped } = ledger.reader().older(most, wall(100)).unwrap();
    (records, stamped)
}

fn older(records: &[Made]) -> (u64, u64) {
    older_of(u64::MAX, records)
}

#[test]
fn records_are_old_by_their_clock_where_it_goes_on() {
    let all = [
        (BEGINS, 10, 0),
        (GOES_ON, 40, 30),
        (BEGINS, 50, 1),
        (GOES_ON, 99, 50),
        (GOES_ON, 101, 52),
        (GOES_ON, 102, 53),
    ];
    assert_eq!(older(&all), (4, 4));
    assert_eq!(older(&all[..3]), (3, 3));
    assert_eq!(older_of(3, &all), (3, 3));
    assert_eq!(older(&all[4..]), (0, 0));
    assert_eq!(older(&[]), (0, 0));
}

/// A gateway without a battery began each day in 1970, and all of its records were old at once.
#[test]
fn a_record_under_a_clock_that_stood_back_is_as_young_as_the_next_that_goes_on() {
    let before = [(BEGINS, 10, 10), (GOES_ON, 50, 50)];
    let back = [(BEGINS, NEVER, 0), (GOES_ON, NEVER + 1, 1)];
    let less = [(BEGINS, 20, 0), (GOES_ON, 21, 1)];
    for zone in [back, less] {
        let then = |more: &[Made]| [&before[..], &zone, more].concat();
        // The next one is young, or there is none.
        assert_eq!(older(&then(&[(BEGINS, 120, 0)])), (2, 4));
        assert_eq!(older(&then(&[])), (2, 4));
        // It is old, and so are they.
        let later = [(BEGINS, 99, 0), (GOES_ON, 120, 21)];
        assert_eq!(older(&then(&later)), (5, 5));
    }
    // From the first record on.
    assert_eq!(older(&[&back[..], &[(BEGINS, 120, 0)]].concat()), (0, 2));
}

/// What the run was before its clock was set is as long ago as the process counted, and no longer.
#[test]
fn a_step_of_the_clock_over_the_moment_shows_how_old_its_run_is() {
    let run = [
        (BEGINS, 10, 10),
        (GOES_ON, 20, 20),
        (BEGINS, 30, 0),
        (GOES_ON, 31, 1),
        (GOES_ON, 121, 2),
    ];
    assert_eq!(older(&run), (2, 4));
    // Made thirty days before the clock was right, of which twenty-one are too young.
    let longer = [
        (BEGINS, 10, 10),
        (BEGINS, 30, 0),
        (GOES_ON, 31, 1),
        (GOES_ON, 55, 25),
        (GOES_ON, 121, 30),
    ];
    assert_eq!(older(&longer), (3, 4));
}

/// One record of the future holds back what is behind it: it is never taken for old.
#[test]
fn a_clock_that_was_ahead_lets_nothing_go() {
    let all = [(BEGINS, 10, 0), (GOES_ON, 5_000, 1), (GOES_ON, 12, 2)];
    assert_eq!(older(&all), (0, 1));
}
