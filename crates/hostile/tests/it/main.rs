//! A short pass over every format: its seeds, and changes of them from fixed seeds. `cargo xtask fuzz`
//! searches longer, and learns.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod evidence;

use hostile::{TARGETS, Target};
use std::time::{Duration, Instant};
use testkit::mutation::{Random, changed};

/// Changes of each target, spread over its seeds; fewer where they take longer than [`TIME`].
const CHANGES: u64 = 3_000;
const TIME: Duration = Duration::from_secs(4);

fn pass(target: &Target) -> u64 {
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{} has no seed", target.name);
    for seed in &seeds {
        (target.run)(seed);
    }
    (target.run)(&[]);
    let (begun, mut random) = (Instant::now(), Random::new(1));
    for change in 0..CHANGES {
        (target.run)(&changed(&seeds[random.below(seeds.len())], change));
        if begun.elapsed() > TIME {
            return change + 1;
        }
    }
    CHANGES
}

#[test]
fn what_has_to_hold_of_any_bytes_holds_of_changed_ones() {
    if testkit::evidence().is_none() {
        testkit::skip(
            "hostile::recorded_seeds",
            "no evidence: only seeds that are made here",
        );
    }
    for target in TARGETS {
        println!("{}: {} changes", target.name, pass(target));
    }
}

/// So that a name on the command line means one thing.
#[test]
fn targets_are_in_order_and_found_by_name() {
    assert!(TARGETS.is_sorted_by(|one, other| one.name < other.name));
    for target in TARGETS {
        assert!(std::ptr::fn_addr_eq(
            hostile::target_of(target.name).unwrap().run,
            target.run
        ));
    }
    assert!(hostile::target_of("").is_none());
}
