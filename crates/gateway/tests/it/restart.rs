//! INVARIANT 9: a gateway that starts while the server is away serves from what it followed, for as long
//! as the estate allows, and believes nothing on its disk that does not verify.

use crate::world::{MAX_STALENESS, PAYMENTS, World, ders, estate, principal};
use gateway::{Core, CoreError, CutReason};
use ledger::body::TargetKind;
use ledger::{Checkpoint, Receipt};
use serde_json::{Value, json};
use std::time::Duration;

fn state(world: &World) -> Value {
    let bytes = std::fs::read(world.followed().join("followed.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn tampered(world: &World, change: impl FnOnce(&mut Value)) -> String {
    let mut stored = state(world);
    change(&mut stored);
    std::fs::write(world.followed().join("followed.json"), stored.to_string()).unwrap();
    refused(world)
}

fn refused(world: &World) -> String {
    match world.restarted() {
        Ok(_) => panic!("started from damaged state"),
        Err(finding) => finding.code.to_string(),
    }
}

#[tokio::test]
async fn a_start_without_a_server_serves_until_it_is_stale() {
    let world = World::new();
    let early = world.issue_published(PAYMENTS);
    let late = world.issue_published(PAYMENTS);
    world.following.keep().unwrap();
    let (restarted, _questions) = world.restarted().unwrap();
    assert_eq!(restarted.head(), world.following.head());
    let last = world.now.plus_secs(MAX_STALENESS);
    for svid in [&early, &late] {
        let admitted = restarted.admit(&ders(&svid.chain), last).await.unwrap();
        assert_eq!(admitted.path, PAYMENTS);
    }
    let stale = restarted.admit(&ders(&late.chain), last.plus_secs(1)).await;
    assert_eq!(stale.unwrap_err().code, "GATEWAY-STALE");
}

#[tokio::test]
async fn a_whole_gateway_starts_without_a_server() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let core = Core::open(world.config()).await.unwrap();
    let admitted = core.admit(&ders(&svid.chain)).await.unwrap();
    assert_eq!(admitted.path, PAYMENTS);
    let mut anchors = world.config();
    anchors.pin = format!("tl1:{}", "00".repeat(32));
    anchors.data_dir = world.directory.path().join("other");
    std::fs::create_dir(&anchors.data_dir).unwrap();
    let stored = world.config().data_dir.join("anchors.json");
    std::fs::copy(stored, anchors.data_dir.join("anchors.json")).unwrap();
    let Err(CoreError::Refused(finding)) = Core::open(anchors.clone()).await else {
        panic!("started with anchors that were not pinned");
    };
    assert_eq!(finding.code, "TLS-PIN-MISMATCH");
    // A start that was refused is no run: it left no record that a later one would find a gap after.
    anchors.pin = world.config().pin;
    let core = Core::open(anchors).await.unwrap();
    assert_eq!(core.reader().size(), 2);
}

#[tokio::test]
async fn a_session_ends_when_the_server_was_silent_for_too_long() {
    let world = World::new();
    let mut stored = state(&world);
    stored["heard"] = json!(world.now.minus_secs(MAX_STALENESS + 1).as_millis());
    let config = world.config();
    let path = config.data_dir.join("followed/followed.json");
    std::fs::write(path, stored.to_string()).unwrap();
    let core = Core::open(config).await.unwrap();
    let principal = principal(PAYMENTS, "aa", world.now.plus_secs(3_600));
    let hour = Duration::from_secs(3_600);
    let mut session = core
        .following()
        .sessions()
        .register(&principal, hour, world.now);
    let cut = tokio::time::timeout(Duration::from_secs(60), session.cut()).await;
    assert_eq!(cut.unwrap().reason, CutReason::Stale);
}

#[tokio::test]
async fn starting_and_stopping_is_no_word_from_the_server() {
    let world = World::new();
    for _ in 0..3 {
        let (restarted, _questions) = world.restarted().unwrap();
        restarted.keep().unwrap();
    }
    assert_eq!(state(&world)["heard"], json!(world.now.as_millis()));
}

#[tokio::test]
async fn a_gateway_that_never_heard_a_server_is_stale() {
    let world = World::new();
    let mut stored = state(&world);
    stored["heard"] = json!(0);
    std::fs::write(world.followed().join("followed.json"), stored.to_string()).unwrap();
    let (restarted, _questions) = world.restarted().unwrap();
    let Err(finding) = restarted.fresh(world.now) else {
        panic!("fresh without a word from the server");
    };
    assert_eq!(finding.code, "GATEWAY-STALE");
}

#[tokio::test]
async fn revocations_survive_a_restart() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    world.revoke(TargetKind::Identity, "reporting/nightly");
    world.revoke(TargetKind::Serial, &svid.serial.to_string());
    let (restarted, _questions) = world.restarted().unwrap();
    let out = restarted.admit(&ders(&svid.chain), world.now).await;
    assert_eq!(out.unwrap_err().code, "GATEWAY-REVOKED");
}

#[tokio::test]
async fn a_start_that_dies_loses_nothing() {
    let world = World::new();
    world.revoke(TargetKind::Identity, PAYMENTS);
    let before = state(&world);
    drop(world.restarted().unwrap());
    assert_eq!(state(&world), before, "a start writes nothing");
}

#[tokio::test]
async fn what_the_server_showed_before_the_restart_is_not_rolled_back_after_it() {
    let world = World::new();
    world.issue_published(PAYMENTS);
    world.following.keep().unwrap();
    let (restarted, _questions) = world.restarted().unwrap();
    let (size, _) = restarted.head();
    let fork = Checkpoint {
        origin: world.stolen.key().origin().clone(),
        size: size + 1,
        root: [6; 32],
    };
    let fork = world.stolen.sign(&fork).unwrap();
    let finding = restarted.take_checkpoint(&fork, size, &[]).unwrap_err();
    assert_eq!(finding.code, "FOLLOW-CONSISTENCY");
    assert_eq!(restarted.head().0, size);
}

#[tokio::test]
async fn a_changed_estate_is_not_taken_from_disk() {
    let world = World::new();
    let version = world
        .following
        .current()
        .unwrap()
        .estate
        .version()
        .to_owned();
    let path = world.followed().join(format!("estate-{version}.json"));
    std::fs::write(&path, estate(&["thief"]).to_blob()).unwrap();
    assert_eq!(refused(&world), "FOLLOW-ESTATE-DIGEST");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refused(&world), "FOLLOW-ESTATE-DIGEST");
}

#[tokio::test]
async fn only_the_estate_in_force_is_kept() {
    let world = World::new();
    world.apply(&estate(&[PAYMENTS]), 0);
    world.apply(&estate(&[PAYMENTS, "a/b"]), 0);
    let estates = std::fs::read_dir(world.followed())
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("estate-")
        });
    assert_eq!(estates.count(), 1);
    world.restarted().unwrap();
}

/// The server may have erased an old version since: what a gateway that comes back still holds of it goes.
#[tokio::test]
async fn what_a_killed_run_left_of_an_older_estate_goes_when_the_gateway_is_back() {
    let world = World::new();
    world.apply(&estate(&[PAYMENTS]), 0);
    // Killed between the new estate and the removal of the old one, and while the old one was written.
    let left = ["estate-00.json", "estate-01.json.new"].map(|name| world.followed().join(name));
    for path in &left {
        std::fs::write(path, "ada@example.org").unwrap();
    }
    let (restarted, _questions) = world.restarted().unwrap();
    assert!(
        left.iter().all(|path| path.exists()),
        "a start writes nothing"
    );
    restarted.keep().unwrap();
    assert!(left.iter().all(|path| !path.exists()));
    world.restarted().unwrap();
    world.apply(&estate(&[PAYMENTS, "a/b"]), 0);
    let (again, _questions) = world.restarted().unwrap();
    assert!(again.current().unwrap().estate.identity("a/b").is_some());
}

#[tokio::test]
async fn damaged_state_stops_the_start() {
    let world = World::new();
    assert_eq!(
        tampered(&world, |stored| stored["v"] = json!("x")),
        "FOLLOW-STORE"
    );
    let world = World::new();
    assert_eq!(
        tampered(&world, |stored| stored["bundle"] = json!("AAAA")),
        "FOLLOW-STORE"
    );
    let world = World::new();
    std::fs::write(world.followed().join("followed.json"), b"{\"v\":1").unwrap();
    assert_eq!(refused(&world), "FOLLOW-STORE");
}

#[tokio::test]
async fn a_checkpoint_that_another_key_signed_stops_the_start() {
    let (world, other) = (World::new(), World::new());
    let foreign = other.ledger.reader().head().note.to_string();
    let code = tampered(&world, |stored| stored["checkpoint"] = json!(foreign));
    assert_eq!(code, "FOLLOW-CHECKPOINT");
}

#[tokio::test]
async fn a_record_that_is_not_in_the_ledger_stops_the_start() {
    let world = World::new();
    let bundle = state(&world)["bundle"].as_str().unwrap().to_owned();
    let mut receipt = Receipt::decode(&crypto::base64::decode(&bundle).unwrap()).unwrap();
    let at = receipt.record.len() - 20;
    receipt.record[at] ^= 1;
    let forged = crypto::base64::encode(&receipt.encode().unwrap());
    let code = tampered(&world, |stored| stored["bundle"] = json!(forged));
    assert_eq!(code, "FOLLOW-RECORD");
}

#[tokio::test]
async fn a_word_from_the_future_is_none() {
    let world = World::new();
    let mut stored = state(&world);
    stored["heard"] = json!(world.now.plus_secs(86_400).as_millis());
    std::fs::write(world.followed().join("followed.json"), stored.to_string()).unwrap();
    let (restarted, _questions) = world.restarted().unwrap();
    let Err(finding) = restarted.fresh(world.now) else {
        panic!("fresh by a clock that was set back");
    };
    assert_eq!(finding.code, "GATEWAY-STALE");
    restarted.heard(world.now);
    assert!(restarted.fresh(world.now).is_ok());
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_make_old_words_new() {
    let world = World::new();
    // The clock ran a day ahead when the server was last heard, and came back.
    world.following.heard(world.now.plus_secs(86_400));
    std::thread::sleep(Duration::from_millis(20));
    assert!(world.following.silence(world.now) >= Duration::from_millis(20));
}

#[tokio::test]
async fn a_checkpoint_half_written_does_not_garble_those_that_follow() {
    let world = World::new();
    let path = world.followed().join("checkpoints");
    let mut bytes = std::fs::read(&path).unwrap_or_default();
    bytes.extend_from_slice(&[7; 13]);
    std::fs::write(&path, bytes).unwrap();
    // Another start appends after it.
    let (restarted, _questions) = world.restarted().unwrap();
    let svid = world.issue(PAYMENTS);
    let head = world.ledger.reader().head();
    let from = restarted.head().0;
    let proof = world.proof(from, head.checkpoint.size);
    restarted.take_checkpoint(&head.note, from, &proof).unwrap();
    drop(svid);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() % 40, 0);
    let last = bytes.rchunks(40).next().unwrap();
    assert_eq!(last[..8], head.checkpoint.size.to_be_bytes());
    assert_eq!(last[8..], head.checkpoint.root);
}
