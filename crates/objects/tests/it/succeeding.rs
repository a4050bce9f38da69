//! A ledger that goes on as a new log, and a checkpoint that somebody removes again and again.

use crate::world::{World, objects, refused, root, round, store};
use objects::Event;

#[test]
fn a_new_log_goes_on_in_the_place_of_the_old_one() {
    let Some(store) = store() else { return };
    let world = World::new();
    world.append(300, "first log");
    let settings = world.settings(&store.endpoint());
    round(&mut world.publisher(&settings), &world.head()).unwrap();
    let before = objects(&store);

    let world = world.goes_on();
    let mut publisher = world.publisher(&settings);
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 301);
    let after = objects(&store);
    assert_eq!(world.check(&after), Ok(301));
    assert!(after["checkpoint"].starts_with(b"example.org/server@2\n"));
    assert_eq!(after["tile/0/000"], before["tile/0/000"]);
    // Another process, and the same once more.
    world.append(20, "second log");
    let mut publisher = world.publisher(&settings);
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 321);
    // The old log's checkpoint, put back by whoever can write there.
    std::fs::write(root(&store).join("checkpoint"), &before["checkpoint"]).unwrap();
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 321);
    assert_eq!(world.check(&objects(&store)), Ok(321));
}

#[test]
fn of_a_long_ledger_no_head_is_published_that_a_former_key_signed() {
    let Some(store) = store() else { return };
    let world = World::new();
    world.append(140_000, "first log");
    let world = world.goes_on();
    let mut publisher = world.publisher(&world.settings(&store.endpoint()));
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 140_001);
    let events = world.events.lock().unwrap();
    let published = events.iter().filter_map(|event| match event {
        Event::Published(size) => Some(*size),
        _ => None,
    });
    let published: Vec<u64> = published.collect();
    assert_eq!(published.first(), Some(&140_001), "{published:?}");
}

#[test]
fn what_was_given_up_stays_where_it_was_published() {
    let Some(store) = store() else { return };
    let world = World::new();
    world.append(12, "kept");
    let backup = world.copy();
    world.append(11, "lost");
    let settings = world.settings(&store.endpoint());
    round(&mut world.publisher(&settings), &world.head()).unwrap();
    let before = objects(&store);

    let backup = backup.goes_on();
    backup.append(50, "since");
    let mut publisher = backup.publisher(&settings);
    let failed = round(&mut publisher, &backup.head());
    assert_eq!(refused(&failed), "PUBLISH-GIVEN-UP");
    assert_eq!(objects(&store), before);
}

#[test]
fn whoever_removes_the_checkpoint_again_and_again_has_the_ledger_sent_three_times_an_hour() {
    let Some(store) = store() else { return };
    let world = World::new();
    world.append(700, "long");
    let mut publisher = world.publisher(&world.settings(&store.endpoint()));
    round(&mut publisher, &world.head()).unwrap();
    let before = objects(&store);
    world.told(|_event| true);
    for time in 0..6 {
        std::fs::remove_file(root(&store).join("checkpoint")).unwrap();
        assert_eq!(round(&mut publisher, &world.head()).unwrap(), 700);
        let compared = world.told(|event| *event == Event::Found);
        assert_eq!(compared, if time < 3 { before.len() - 1 } else { 0 });
        assert_eq!(objects(&store), before);
    }
    // What is new is sent as ever.
    world.append(1, "new");
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 701);
    assert_eq!(world.check(&objects(&store)), Ok(701));
}
