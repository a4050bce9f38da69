//! What comes to stand in the store, and what goes again.

use crate::between::{Between, Deed};
use crate::world::{BUCKET, World, fsck, objects, refused, root, round, secret, store};
use objects::{Event, Failure};
use std::process::Command;
use testkit::s3::{S3, SECRET};

fn partial(objects: &std::collections::BTreeMap<String, Vec<u8>>) -> Vec<&str> {
    let names = objects.keys().map(String::as_str);
    names.filter(|name| name.contains(".p/")).collect()
}

#[test]
fn a_ledger_is_published_whole_and_goes_on_where_it_ended() {
    let Some(store) = store() else { return };
    let world = World::new();
    let settings = world.settings(&store.endpoint());
    let mut publisher = world.publisher(&settings);

    world.append(200, "first");
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 200);
    let first = objects(&store);
    assert_eq!(world.check(&first), Ok(200));
    assert_eq!(
        partial(&first),
        ["tile/0/000.p/200", "tile/entries/000.p/200"]
    );
    let stored = |event: &Event| matches!(event, Event::Stored(_));
    assert_eq!(world.told(stored), 2);

    // Nothing new: nothing is sent.
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 200);
    assert_eq!(world.told(|event| !matches!(event, Event::Published(_))), 0);

    // The full tile is there, and partial ones of it stay for whoever has the checkpoint before.
    world.append(400, "second");
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 600);
    let second = objects(&store);
    assert_eq!(world.check(&second), Ok(600));
    assert_eq!(
        partial(&second),
        [
            "tile/0/000.p/200",
            "tile/0/002.p/88",
            "tile/1/000.p/2",
            "tile/entries/000.p/200",
            "tile/entries/002.p/88"
        ]
    );

    // Another process, and one checkpoint later: those go, and no other.
    drop(publisher);
    world.told(stored);
    let mut publisher = world.publisher(&settings);
    world.append(1, "third");
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 601);
    let third = objects(&store);
    assert_eq!(world.check(&third), Ok(601));
    assert_eq!(
        partial(&third),
        [
            "tile/0/002.p/88",
            "tile/0/002.p/89",
            "tile/1/000.p/2",
            "tile/entries/002.p/88",
            "tile/entries/002.p/89"
        ]
    );
    let events = std::mem::take(&mut *world.events.lock().unwrap());
    let count = |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|it| wanted(it)).count();
    assert_eq!(count(&stored), 2, "{events:?}");
    assert_eq!(count(&|event| *event == Event::Removed), 2, "{events:?}");
    for (name, bytes) in &second {
        if name != "checkpoint" && !name.starts_with("tile/0/000.p") {
            let kept = third.get(name);
            assert!(kept.is_none_or(|kept| kept == bytes), "{name} changed");
        }
    }
}

#[test]
fn a_long_ledger_is_published_in_steps_that_are_not_repeated() {
    let Some(store) = store() else { return };
    let world = World::new();
    let mut settings = world.settings(&store.endpoint());
    store.bucket("public", true).unwrap();
    settings.bucket = "public".to_owned();
    // Longer than two steps, and a commit that ends nowhere near a tile.
    world.append(150_000, "long");
    world.append(77, "tail");
    let mut publisher = world.publisher(&settings);
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 150_077);
    let heads: Vec<u64> = {
        let events = world.events.lock().unwrap();
        let published = events.iter().filter_map(|event| match event {
            Event::Published(size) => Some(*size),
            _ => None,
        });
        published.collect()
    };
    assert!(heads.len() > 1 && heads.is_sorted(), "{heads:?}");
    let said = fsck(&store, "public", &world.key());
    assert!(said.is_empty() || said == "whole: 150077 entries", "{said}");
}

#[test]
fn without_entries_there_are_hashes_alone() {
    let Some(store) = store() else { return };
    let world = World::new();
    world.append(300, "closed");
    let mut settings = world.settings(&store.endpoint());
    settings.entries = false;
    round(&mut world.publisher(&settings), &world.head()).unwrap();
    let found = objects(&store);
    assert!(
        found.keys().all(|name| !name.contains("entries")),
        "{found:?}"
    );
    assert_eq!(found.len(), 4);
}

#[test]
fn what_was_removed_comes_back_with_the_checkpoint() {
    let Some(store) = store() else { return };
    let world = World::new();
    world.append(600, "kept");
    let settings = world.settings(&store.endpoint());
    let mut publisher = world.publisher(&settings);
    round(&mut publisher, &world.head()).unwrap();
    let before = objects(&store);
    for name in ["tile/0/001", "tile/entries/000", "checkpoint"] {
        std::fs::remove_file(root(&store).join(name)).unwrap();
    }
    // An object that was changed is not overwritten: it may be of a second history.
    let changed = root(&store).join("tile/0/000");
    let mut bytes = std::fs::read(&changed).unwrap();
    bytes[8000] ^= 1;
    std::fs::write(&changed, &bytes).unwrap();
    let failed = round(&mut publisher, &world.head());
    assert_eq!(refused(&failed), "PUBLISH-CONFLICT");
    assert_eq!(std::fs::read(&changed).unwrap(), bytes);
    assert!(!root(&store).join("checkpoint").exists());
    std::fs::remove_file(&changed).unwrap();
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 600);
    assert_eq!(objects(&store), before);
}

#[test]
fn new_credentials_count_without_a_restart() {
    let Some(store) = store() else { return };
    let world = World::new();
    world.append(3, "secret");
    let settings = world.settings(&store.endpoint());
    let file = settings.credentials.clone().unwrap();
    secret(&file, "wrong");
    let mut publisher = world.publisher(&settings);
    let failed = round(&mut publisher, &world.head());
    assert_eq!(refused(&failed), "PUBLISH-REFUSED");
    let told = failed.unwrap_err().to_string();
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
    secret(&file, SECRET);
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 3);

    let mut other = settings.clone();
    other.bucket = "nobodys".to_owned();
    let failed = round(&mut world.publisher(&other), &world.head());
    assert_eq!(refused(&failed), "PUBLISH-REFUSED");
}

#[test]
fn the_store_is_asked_over_tls_if_it_is_certified() {
    let openssl = match testkit::tools(["openssl"]) {
        Ok([openssl]) => openssl,
        Err(why) => return testkit::skip("objects::versitygw", &why),
    };
    let world = World::new();
    world.append(3, "tls");
    let file = |name: &str| world.folder.path().join(name);
    for name in ["store", "stranger"] {
        let made = Command::new(&openssl)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=store"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(file(&format!("{name}.key")))
            .arg("-out")
            .arg(file(&format!("{name}.pem")))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let store = match S3::start_tls(&file("store.pem"), &file("store.key")) {
        Ok(store) => store,
        Err(why) => return testkit::skip("objects::versitygw", &why),
    };
    store.bucket(BUCKET, false).unwrap();
    let mut settings = world.settings(&store.endpoint());
    settings.ca = Some(file("stranger.pem"));
    let failed = round(&mut world.publisher(&settings), &world.head());
    assert!(
        matches!(&failed, Err(Failure::Again(finding)) if finding.to_string().contains("no TLS")),
        "{failed:?}"
    );
    settings.ca = Some(file("store.pem"));
    let mut publisher = world.publisher(&settings);
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 3);
}

/// Rows of one label, all of this byte.
fn labelled(publisher: objects::Publisher, byte: u8) -> objects::Publisher {
    publisher.with_labels(move |path| Ok(Some(vec![byte; usize::from(path.width()) * 16])))
}

#[test]
fn labels_stand_beside_the_hashes_and_what_a_head_covers_stays() {
    let Some(store) = store() else { return };
    let world = World::new();
    let mut settings = world.settings(&store.endpoint());
    settings.entries = false;
    let mut publisher = labelled(world.publisher(&settings), 1);
    world.append(200, "first");
    round(&mut publisher, &world.head()).unwrap();
    assert_eq!(
        partial(&objects(&store)),
        ["labels/000.p/200", "tile/0/000.p/200"]
    );

    // What a round has left that did not come to its head: an owner has come since.
    world.append(400, "second");
    let left = root(&store).join("labels/001");
    std::fs::write(&left, [9; 256 * 16]).unwrap();
    let mut publisher = labelled(world.publisher(&settings), 2);
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 600);
    let second = objects(&store);
    assert_eq!(second["labels/000.p/200"], vec![1; 200 * 16]);
    for (name, width) in [
        ("labels/000", 256),
        ("labels/001", 256),
        ("labels/002.p/88", 88),
    ] {
        assert_eq!(second[name], vec![2; width * 16], "{name}");
    }

    // One checkpoint later the partial ones whose full one stands there go, and the others stay as they are.
    let mut publisher = labelled(world.publisher(&settings), 3);
    world.append(1, "third");
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 601);
    let third = objects(&store);
    let labels: Vec<&str> = third
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("labels/"))
        .collect();
    assert_eq!(
        labels,
        [
            "labels/000",
            "labels/001",
            "labels/002.p/88",
            "labels/002.p/89"
        ]
    );
    assert_eq!(third["labels/000"], vec![2; 256 * 16]);
    assert_eq!(third["labels/002.p/89"], vec![3; 89 * 16]);
}

/// The checkpoint of a gateway's ledger stood in a bucket without what ties it to its server's.
#[test]
fn what_vouches_for_a_head_stands_there_before_it() {
    let Some(store) = store() else { return };
    let between = Between::start(store.address);
    let world = World::new();
    let settings = world.settings(&between.endpoint());
    let mut publisher = world.publisher(&settings);
    let anchor = || String::from_utf8(objects(&store)["anchor"].clone()).unwrap();
    let vouched = |publisher: &mut objects::Publisher, proof: &str| {
        publisher.vouch(Some(proof.to_owned()));
        round(publisher, &world.head())
    };
    world.append(3, "first");
    between.decide(
        |line| match line.starts_with("PUT") && line.contains("/checkpoint") {
            true => Deed::Lose,
            false => Deed::Pass,
        },
    );
    vouched(&mut publisher, "of three").unwrap_err();
    assert!(!objects(&store).contains_key("checkpoint"));
    assert_eq!(anchor(), "of three");
    between.decide(|_| Deed::Pass);
    assert_eq!(vouched(&mut publisher, "of three").unwrap(), 3);
    // A newer one of the same head waits: each costs a request.
    vouched(&mut publisher, "of three, later").unwrap();
    assert_eq!(anchor(), "of three");
    world.append(2, "second");
    assert_eq!(vouched(&mut publisher, "of five").unwrap(), 5);
    assert_eq!(anchor(), "of five");
    // What was removed or changed there is put right, by the next process at once.
    let file = root(&store).join("anchor");
    std::fs::remove_file(&file).unwrap();
    vouched(&mut world.publisher(&settings), "after it was removed").unwrap();
    assert_eq!(anchor(), "after it was removed");
    std::fs::write(&file, "of something else").unwrap();
    vouched(&mut world.publisher(&settings), "after it was changed").unwrap();
    assert_eq!(anchor(), "after it was changed");
    // A ledger that nothing vouches for leaves it alone.
    world.append(1, "third");
    assert_eq!(
        round(&mut world.publisher(&settings), &world.head()).unwrap(),
        6
    );
    assert_eq!(anchor(), "after it was changed");
}

/// A store whose policy names the objects that may be written, and this one not, had no more heads.
#[test]
fn a_head_is_published_where_the_store_refuses_what_vouches_for_it() {
    let Some(store) = store() else { return };
    let between = Between::start(store.address);
    let world = World::new();
    let settings = world.settings(&between.endpoint());
    let mut publisher = world.publisher(&settings);
    between.decide(|line| match line.contains("/anchor") {
        true => Deed::Forbid,
        false => Deed::Pass,
    });
    for size in [3, 6] {
        world.append(3, "unvouched");
        publisher.vouch(Some(size.to_string()));
        let refused = round(&mut publisher, &world.head()).unwrap_err();
        assert!(matches!(refused, objects::Failure::Refused(_)), "{refused}");
        let found = objects(&store);
        assert!(!found.contains_key("anchor"));
        assert_eq!(world.check(&found), Ok(size));
    }
    between.decide(|_| Deed::Pass);
    assert_eq!(round(&mut publisher, &world.head()).unwrap(), 6);
    assert_eq!(objects(&store)["anchor"], b"6");
}
