//! What is not overwritten, and by whom: second sequencers, older copies, foreign objects, and stores that lie.

use crate::between::{Between, Deed};
use crate::world::{World, objects, refused, root, round, runtime, store};
use ledger::body::{Body as _, Retention};
use std::sync::{Arc, Mutex};

#[test]
fn a_second_sequencer_loses_by_code_and_overwrites_nothing() {
    let Some(store) = store() else { return };
    let first = World::new();
    first.append(300, "common");
    let second = first.copy();
    first.append(20, "of the first");
    let endpoint = store.endpoint();
    let mut publisher = first.publisher(&first.settings(&endpoint));
    round(&mut publisher, &first.head()).unwrap();
    let before = objects(&store);

    // Shorter than what stands there.
    let mut other = second.publisher(&second.settings(&endpoint));
    let failed = round(&mut other, &second.head());
    assert_eq!(refused(&failed), "PUBLISH-AHEAD");
    // As long, and longer, with other records.
    second.append(20, "of the second");
    let failed = round(&mut other, &second.head());
    assert_eq!(refused(&failed), "PUBLISH-FORKED");
    second.append(300, "of the second");
    let failed = round(&mut other, &second.head());
    assert_eq!(refused(&failed), "PUBLISH-FORKED");
    assert_eq!(objects(&store), before);

    // The first goes on.
    first.append(1, "of the first");
    assert_eq!(round(&mut publisher, &first.head()).unwrap(), 321);
    assert_eq!(first.check(&objects(&store)), Ok(321));
}

#[test]
fn of_two_that_publish_at_one_moment_the_later_loses() {
    let Some(store) = store() else { return };
    let between = Between::start(store.address);
    let first = World::new();
    first.append(300, "common");
    let mut slow = first.publisher(&first.settings(&between.endpoint()));
    round(&mut slow, &first.head()).unwrap();

    // Of the same history: after the slow one has read the checkpoint and before it replaces it.
    first.append(1, "one");
    let head = first.head();
    first.append(1, "two");
    let newer = first.head();
    let quick = first.publisher(&first.settings(&store.endpoint()));
    let quick = Arc::new(Mutex::new(quick));
    let racing = |target: objects::Target, quick: Arc<Mutex<objects::Publisher>>| {
        let mut done = false;
        move |line: &str| {
            if line.starts_with("PUT") && line.contains("/checkpoint") && !done {
                done = true;
                let mut quick = quick.lock().unwrap();
                runtime().block_on(quick.round(&target)).unwrap();
            }
            Deed::Pass
        }
    };
    between.decide(racing(newer, quick));
    let failed = round(&mut slow, &head);
    assert_eq!(refused(&failed), "PUBLISH-SECOND");
    assert_eq!(first.check(&objects(&store)), Ok(302));

    // Of another history: what the quick one put stays.
    let second = first.copy();
    first.append(5, "of the first");
    second.append(9, "of the second");
    let quick = second.publisher(&second.settings(&store.endpoint()));
    between.decide(racing(second.head(), Arc::new(Mutex::new(quick))));
    let failed = round(&mut slow, &first.head());
    assert_eq!(refused(&failed), "PUBLISH-AHEAD");
    let found = objects(&store);
    assert_eq!(second.check(&found), Ok(311));
    first.append(50, "of the first");
    let failed = round(&mut slow, &first.head());
    assert_eq!(refused(&failed), "PUBLISH-FORKED");
    assert_eq!(objects(&store)["checkpoint"], found["checkpoint"]);
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let Some(store) = store() else { return };
    let world = World::new();
    world.append(300, "ours");
    let stranger = World::new();
    stranger.append(3, "theirs");
    let endpoint = store.endpoint();
    round(
        &mut stranger.publisher(&stranger.settings(&endpoint)),
        &stranger.head(),
    )
    .unwrap();
    let before = objects(&store);
    let mut publisher = world.publisher(&world.settings(&endpoint));
    let failed = round(&mut publisher, &world.head());
    assert_eq!(refused(&failed), "PUBLISH-FOREIGN");
    assert_eq!(objects(&store), before);

    let checkpoint = root(&store).join("checkpoint");
    for bad in [b"".as_slice(), b"\xff\xfe", &[b'x'; 300_000]] {
        std::fs::write(&checkpoint, bad).unwrap();
        let failed = round(&mut publisher, &world.head());
        assert_eq!(refused(&failed), "PUBLISH-FOREIGN");
        assert_eq!(std::fs::read(&checkpoint).unwrap(), bad);
    }
}

#[test]
fn an_older_checkpoint_that_was_put_back_is_replaced() {
    let Some(store) = store() else { return };
    let world = World::new();
    let mut publisher = world.publisher(&world.settings(&store.endpoint()));
    let checkpoint = root(&store).join("checkpoint");
    world.append(10, "old");
    round(&mut publisher, &world.head()).unwrap();
    let old = std::fs::read(&checkpoint).unwrap();
    world.append(10, "new");
    round(&mut publisher, &world.head()).unwrap();
    std::fs::write(&checkpoint, &old).unwrap();
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 20);
    assert_eq!(world.check(&objects(&store)), Ok(20));
}

#[test]
fn a_store_that_lists_other_objects_does_not_get_them_removed() {
    let Some(store) = store() else { return };
    let between = Between::start(store.address);
    let world = World::new();
    let mut publisher = world.publisher(&world.settings(&between.endpoint()));
    for records in [100, 200, 1] {
        world.append(records, "listed");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        between.decide(move |line| {
            told.lock().unwrap().push(line.to_owned());
            if !line.contains("list-type=2") {
                return Deed::Pass;
            }
            let prefix = crate::world::PREFIX;
            let keys = [
                "checkpoint".to_owned(),
                format!("{prefix}/checkpoint"),
                format!("{prefix}/tile/0/000"),
                format!("{prefix}/tile/0/001.p/44"),
                format!("{prefix}/tile/1/000.p/1"),
                format!("{prefix}/tile/0/000.p/../../../checkpoint"),
                format!("{prefix}/tile/0/000.p/100/x"),
                format!("other/{prefix}/tile/0/000.p/100"),
            ];
            let keys = keys.map(|key| format!("<Contents><Key>{key}</Key></Contents>"));
            Deed::Say(format!(
                "<ListBucketResult>{}</ListBucketResult>",
                keys.concat()
            ))
        });
        round(&mut publisher, &world.head()).unwrap();
        let asked = asked.lock().unwrap();
        let removed: Vec<&String> = asked.iter().filter(|it| it.starts_with("DELETE")).collect();
        assert!(removed.is_empty(), "{removed:?}");
        let listed = asked.iter().filter(|it| it.contains("list-type=2")).count();
        assert_eq!(listed, if records == 1 { 2 } else { 0 }, "{asked:?}");
    }
    assert_eq!(world.check(&objects(&store)), Ok(301));
}

#[test]
fn a_new_store_is_not_filled_from_a_ledger_that_was_pruned_and_the_old_one_goes_on() {
    let Some(store) = store() else { return };
    let world = World::new().in_segments(12_000);
    for part in 0..6 {
        world.append(200, &format!("part {part}"));
    }
    let endpoint = store.endpoint();
    let mut publisher = world.publisher(&world.settings(&endpoint));
    round(&mut publisher, &world.head()).unwrap();
    let pruned = world.ledger.prune(1_000, |minimum| {
        let body = Retention {
            minimum_index: minimum.into(),
            snapshot: None,
            policy: "a test".to_owned(),
            by: "uid:0".to_owned(),
        };
        body.record().actor("test", "self").draft()
    });
    assert!(pruned.unwrap().unwrap().minimum >= 512);
    world.append(300, "since");
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 1_501);

    store.bucket("another", false).unwrap();
    let mut settings = world.settings(&endpoint);
    settings.bucket = "another".to_owned();
    let failed = round(&mut world.publisher(&settings), &world.head());
    assert_eq!(refused(&failed), "PUBLISH-PRUNED");
}
