//! Every request fails once, before it arrives and after: nothing is lost, nothing half, and the next round ends it.

use crate::between::{Between, Deed};
use crate::world::{World, objects, round, store};
use objects::{Failure, Publisher, Settings};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The `n`-th request from now fails; answers with how many there were.
fn fail(between: &Between, n: usize, arrives: bool) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    between.decide(move |_| {
        let now = counter.fetch_add(1, Ordering::SeqCst);
        match now == n {
            false => Deed::Pass,
            true if arrives => Deed::Silence,
            true => Deed::Lose,
        }
    });
    seen
}

/// Of a ledger that is anchored as far as `size`.
fn vouched(world: &World, settings: &Settings, size: u64) -> Publisher {
    let mut publisher = world.publisher(settings);
    publisher.vouch(Some(size.to_string()));
    publisher
}

#[test]
fn every_request_fails_unstored_and_stored_and_the_next_round_ends_it() {
    let Some(store) = store() else { return };
    let between = Between::start(store.address);
    let world = World::new();
    let settings = world.settings(&between.endpoint());
    let (mut failures, mut size) = (0, 0);
    for arrives in [false, true] {
        for n in 0.. {
            // Over the edge of a tile again and again, so that partial ones are removed as well.
            world.append(130, "fault");
            size += 130;
            let seen = fail(&between, n, arrives);
            let mut publisher = vouched(&world, &settings, size);
            let first = round(&mut publisher, &world.head());
            between.decide(|_| Deed::Pass);
            // A reader sees a whole ledger at every moment, and what vouches for it, or for more.
            let whole = objects(&store);
            if whole.contains_key("checkpoint") {
                let there = world.check(&whole).expect("whole");
                let anchored = String::from_utf8(whole["anchor"].clone()).unwrap();
                let anchored: u64 = anchored.parse().unwrap();
                assert!(anchored >= there, "{n} {arrives}: {anchored} of {there}");
            }
            if seen.load(Ordering::SeqCst) <= n {
                assert!(first.is_ok(), "{first:?}");
                break;
            }
            match first {
                // A removal is no business of the round, and a tile that was stored is found there.
                Ok(published) => assert_eq!(published, size),
                Err(Failure::Again(_)) => failures += 1,
                Err(other) => panic!("{n} {arrives}: {other}"),
            }
            // In the same process, or in the next one.
            if n % 2 == 0 {
                publisher = vouched(&world, &settings, size);
            }
            assert_eq!(round(&mut publisher, &world.head()).unwrap(), size);
            assert_eq!(world.check(&objects(&store)), Ok(size));
        }
    }
    assert!(failures > 4, "{failures}");

    // One more head, and no partial tile stands there that is not of the newest tiles.
    for _ in 0..2 {
        world.append(1, "end");
        size += 1;
        round(&mut world.publisher(&settings), &world.head()).unwrap();
    }
    let found = objects(&store);
    let last = format!("{:03}", size / 256);
    let old: Vec<&String> = found
        .keys()
        .filter(|name| {
            let level_0 = name.starts_with("tile/0/") || name.starts_with("tile/entries/");
            level_0 && name.contains(".p/") && !name.contains(&format!("/{last}.p/"))
        })
        .collect();
    assert!(old.is_empty(), "{old:?}");
}

#[test]
fn a_checkpoint_whose_answer_was_lost_is_known_again() {
    let Some(store) = store() else { return };
    let between = Between::start(store.address);
    let world = World::new();
    let settings = world.settings(&between.endpoint());
    let mut publisher = world.publisher(&settings);
    for records in [5, 7] {
        world.append(records, "lost");
        let head = world.head();
        between.decide(
            |line| match line.starts_with("PUT") && line.contains("/checkpoint") {
                true => Deed::Silence,
                false => Deed::Pass,
            },
        );
        assert!(matches!(
            round(&mut publisher, &head),
            Err(Failure::Again(_))
        ));
        between.decide(|_| Deed::Pass);
        assert_eq!(round(&mut publisher, &head).unwrap(), head.size);
    }
    assert_eq!(world.check(&objects(&store)), Ok(12));
}

#[test]
fn a_store_that_is_not_there_is_no_refusal() {
    let world = World::new();
    world.append(1, "alone");
    let address = testkit::port::free().unwrap();
    let mut publisher = world.publisher(&world.settings(&format!("http://{address}")));
    let failed = round(&mut publisher, &world.head()).unwrap_err();
    assert!(matches!(failed, Failure::Again(_)), "{failed}");
    assert_eq!(failed.finding().code, "PUBLISH-UNREACHABLE");
}
