//! What the server pushes counts only if it is signed, recorded, on the chain, and newer.

use crate::world::{PAYMENTS, World, estate};
use crypto::{Algorithm, KeyPair};
use ledger::body::{self, Body as _, TargetKind};
use ledger::{Checkpoint, LedgerSigner};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A checkpoint of `size` over another history, under the genuine key.
fn forked(world: &World, size: u64) -> String {
    let checkpoint = Checkpoint {
        origin: world.stolen.key().origin().clone(),
        size,
        root: [6; 32],
    };
    world.stolen.sign(&checkpoint).unwrap()
}

/// The code that a checkpoint is refused with; the head stays.
fn refused(world: &World, note: &str, old_size: u64) -> String {
    let before = world.following.head();
    let finding = world
        .following
        .take_checkpoint(note, old_size, &[])
        .unwrap_err();
    assert_eq!(world.following.head(), before);
    finding.code.to_string()
}

#[tokio::test]
async fn another_history_is_never_followed() {
    let world = World::new();
    let (head, _) = world.following.head();
    assert_eq!(
        refused(&world, &forked(&world, head), head),
        "FOLLOW-FORKED"
    );
    assert_eq!(
        refused(&world, &forked(&world, head + 5), head),
        "FOLLOW-CONSISTENCY"
    );
    assert_eq!(
        refused(&world, &forked(&world, head + 5), 0),
        "FOLLOW-CONSISTENCY"
    );
}

#[tokio::test]
async fn a_ledger_that_was_rolled_back_is_not_followed() {
    let world = World::new();
    for _ in 0..3 {
        world.issue(PAYMENTS);
    }
    world.publish();
    let (head, _) = world.following.head();
    // A size that was never published, as a restored backup that went on would show it.
    assert_eq!(
        refused(&world, &forked(&world, head - 1), head),
        "FOLLOW-ROLLED-BACK"
    );
    // One that was followed is old news.
    let first = world.ledger.reader().root(1).unwrap();
    let old = Checkpoint {
        origin: world.stolen.key().origin().clone(),
        size: 1,
        root: first,
    };
    let note = world.stolen.sign(&old).unwrap();
    world.following.take_checkpoint(&note, 0, &[]).unwrap();
    assert_eq!(world.following.head().0, head);
}

#[tokio::test]
async fn a_checkpoint_needs_the_ledgers_signature() {
    let world = World::new();
    let key = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
    let other = LedgerSigner::new("example.org/server", key).unwrap();
    let (size, root) = world.following.head();
    let checkpoint = Checkpoint {
        origin: other.key().origin().clone(),
        size: size + 1,
        root: root.unwrap(),
    };
    let note = other.sign(&checkpoint).unwrap();
    assert_eq!(refused(&world, &note, size), "FOLLOW-CHECKPOINT");
    assert_eq!(refused(&world, "", size), "FOLLOW-CHECKPOINT");
}

#[tokio::test]
async fn an_estate_that_is_not_the_recorded_one_is_not_taken() {
    let world = World::new();
    let before = world.following.current().unwrap().index;
    let recorded = world.record_estate(&estate(&["other"]).to_blob(), 0);
    let finding = world
        .push(&recorded, &estate(&[PAYMENTS]).to_blob())
        .unwrap_err();
    assert_eq!(finding.code, "FOLLOW-ESTATE-DIGEST");
    let finding = world.push(&recorded, b"").unwrap_err();
    assert_eq!(finding.code, "FOLLOW-ESTATE-DIGEST");
    assert_eq!(world.following.current().unwrap().index, before);
}

#[tokio::test]
async fn an_estate_that_does_not_compile_leaves_the_one_before() {
    let world = World::new();
    let before = world.following.current().unwrap().index;
    for blob in [&b"{"[..], b"{\"v\":1,\"files\":{\"estate.toml\":\"x = \"}}"] {
        let recorded = world.record_estate(blob, 0);
        let finding = world.push(&recorded, blob).unwrap_err();
        assert_eq!(finding.code, "FOLLOW-ESTATE");
    }
    assert_eq!(world.following.current().unwrap().index, before);
}

#[tokio::test]
async fn an_older_estate_changes_nothing() {
    let world = World::new();
    let blob = estate(&["other"]).to_blob();
    let old = world.record_estate(&blob, 0);
    let new = world.apply(&estate(&[PAYMENTS]), 0);
    world.push(&old, &blob).unwrap();
    assert_eq!(world.following.current().unwrap().index, new);
}

#[tokio::test]
async fn a_record_under_an_unpublished_checkpoint_is_not_taken() {
    let world = World::new();
    let revocation = body::Revocation {
        target: crate::world::target(TargetKind::Identity, PAYMENTS),
        reason: String::new(),
        by: String::new(),
        whose: Vec::new(),
        node: None,
    };
    let svid = world.issue_published(PAYMENTS);
    let recorded = world.record(revocation.record());
    let finding = world.push(&recorded, b"").unwrap_err();
    assert_eq!(finding.code, "FOLLOW-RECORD");
    assert!(
        finding
            .observed
            .unwrap()
            .starts_with("FOLLOW-CHECKPOINT-UNKNOWN")
    );
    world.admit(&svid.chain).await.unwrap();
    world.publish();
    world.push(&recorded, b"").unwrap();
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-REVOKED");
}

#[tokio::test]
async fn only_some_records_are_acted_upon() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let receipt = svid.receipt.encode().unwrap();
    let finding = world.following.take_record(&receipt, b"").unwrap_err();
    assert_eq!(finding.code, "FOLLOW-RECORD");
    for hostile in [&b""[..], &[1; 64], &receipt[..receipt.len() - 1]] {
        let finding = world.following.take_record(hostile, b"").unwrap_err();
        assert_eq!(finding.code, "FOLLOW-RECORD");
    }
}

#[tokio::test]
async fn a_revocation_hits_what_was_issued_before_it_and_nothing_later() {
    let world = World::new();
    for (kind, value) in [
        (TargetKind::Machine, "spiffe://example.org/trilith/node/m1"),
        (TargetKind::Identity, PAYMENTS),
    ] {
        let before = world.issue_published(PAYMENTS);
        world.revoke(kind, value);
        assert_eq!(world.refused(&before.chain).await, "GATEWAY-REVOKED");
        // The server issues again only after it was readmitted or restored.
        let after = world.issue_published(PAYMENTS);
        world.admit(&after.chain).await.unwrap();
        assert_eq!(world.refused(&before.chain).await, "GATEWAY-REVOKED");

        // Nor does a restart mix the two up.
        world.following.keep().unwrap();
        let (restarted, _questions) = world.restarted().unwrap();
        let [before, after] = [&before, &after].map(|svid| crate::world::ders(&svid.chain));
        restarted.admit(&after, world.now).await.unwrap();
        let refused = restarted.admit(&before, world.now).await.unwrap_err();
        assert_eq!(refused.code, "GATEWAY-REVOKED");
    }
}

#[tokio::test]
async fn a_revocation_heard_again_leaves_later_sessions_alone() {
    let world = World::new();
    let recorded = world.record_revocation(TargetKind::Identity, PAYMENTS);
    world.push(&recorded, b"").unwrap();
    let later = world.issue_published(PAYMENTS);
    let principal = world.admit(&later.chain).await.unwrap();
    let session = world.following.sessions().register(
        &principal,
        std::time::Duration::from_secs(3_600),
        world.now,
    );
    // As after a reconnection: the server tells its whole state.
    world.push(&recorded, b"").unwrap();
    assert_eq!(session.is_cut(), None);
    // A cut ahead of its record spares nobody.
    let target = crate::world::target(TargetKind::Identity, PAYMENTS);
    world
        .following
        .cut_now(&target, &crate::sessions::revoked());
    assert_eq!(session.is_cut(), Some(crate::sessions::revoked()));
}

#[tokio::test]
async fn the_servers_state_says_which_revocations_stand() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let by_identity = world.revoke(TargetKind::Identity, PAYMENTS);
    world.revoke(TargetKind::Machine, "m1");
    let twice = world.revoke(TargetKind::Machine, "m1");
    // One of two alike is enough.
    world
        .following
        .keep_only(&BTreeSet::from([twice]), world.now)
        .unwrap();
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-REVOKED");
    world
        .following
        .keep_only(&BTreeSet::from([by_identity]), world.now)
        .unwrap();
    world.admit(&svid.chain).await.unwrap();
}

#[tokio::test]
async fn a_cut_ahead_of_its_record_outlives_what_is_lifted() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    world.revoke(TargetKind::Identity, "reporting/nightly");
    let target = crate::world::target(TargetKind::Identity, PAYMENTS);
    world
        .following
        .cut_now(&target, &crate::sessions::revoked());
    world
        .following
        .keep_only(&BTreeSet::new(), world.now)
        .unwrap();
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-REVOKED");
}

/// Its receipt was kept for a month: of many that is a file which the next start cannot read.
#[tokio::test]
async fn of_a_revoked_serial_little_is_kept_and_a_start_knows_it() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let serial = world.admit(&svid.chain).await.unwrap().serial.clone();
    let path = world.followed().join("followed.json");
    let length = || std::fs::metadata(&path).unwrap().len();
    let (before, none) = (length(), BTreeSet::new());
    world.revoke(TargetKind::Serial, &serial);
    world.following.keep_only(&none, world.now).unwrap();
    let more = length().saturating_sub(before);
    assert!(more < 256, "{more} bytes");
    let (restarted, _questions) = world.restarted().unwrap();
    let chain = crate::world::ders(&svid.chain);
    let refused = restarted.admit(&chain, world.now).await.unwrap_err();
    assert_eq!(refused.code, "GATEWAY-REVOKED");
    let later = world.now.plus_secs(32 * 86_400);
    restarted.keep_only(&none, later).unwrap();
    restarted.admit(&chain, world.now).await.unwrap();
}

/// The server forgets it when the SVID has ended by the server's clock, which may have been wrong for a moment.
#[tokio::test]
async fn a_serial_that_the_server_has_forgotten_stays_revoked_until_it_has_ended_here() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let serial = world.admit(&svid.chain).await.unwrap().serial.clone();
    let revoked = world.revoke(TargetKind::Serial, &serial);
    world
        .following
        .keep_only(&BTreeSet::from([revoked]), world.now)
        .unwrap();
    let keep = |days: u64| {
        let then = world.now.plus_secs(days * 86_400);
        world.following.keep_only(&BTreeSet::new(), then).unwrap();
    };
    for days in [0, 30] {
        keep(days);
        assert_eq!(world.refused(&svid.chain).await, "GATEWAY-REVOKED");
    }
    // Nobody holds it for ever.
    keep(32);
    world.admit(&svid.chain).await.unwrap();
}
