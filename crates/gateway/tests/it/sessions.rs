//! INVARIANT 7: what ends a session ends it at once, by waking who waits.

use crate::world::{PAYMENTS, World, estate, principal, target};
use facts::Timestamp;
use gateway::{Cut, CutReason, SessionHandle};
use ledger::body::{FactValue, TargetKind};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
/// Only so that a test that fails ends.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn revoked() -> Cut {
    Cut {
        reason: CutReason::Revoked,
        detail: "stolen".to_owned(),
    }
}

/// What the record of a successor shows of a principal without facts.
const fn same() -> BTreeMap<String, FactValue> {
    BTreeMap::new()
}

fn open(world: &World, path: &str, serial: &str) -> SessionHandle {
    let principal = principal(path, serial, world.now.plus_secs(3_600));
    world
        .following
        .sessions()
        .register(&principal, HOUR, world.now)
}

#[tokio::test]
async fn a_revocation_wakes_the_session_that_waits() {
    for (kind, value) in [
        (TargetKind::Identity, PAYMENTS),
        (TargetKind::Serial, "aa"),
        (TargetKind::Machine, "m1"),
    ] {
        let world = World::new();
        let mut session = open(&world, PAYMENTS, "aa");
        assert_eq!(session.is_cut(), None);
        let waiting = tokio::spawn(async move { session.cut().await });
        tokio::task::yield_now().await;
        world.revoke(kind, value);
        let cut = tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(cut, revoked());
    }
}

#[tokio::test]
async fn a_cut_acts_before_its_record() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let session = open(&world, PAYMENTS, "aa");
    let other = open(&world, "reporting/nightly", "bb");
    world
        .following
        .cut_now(&target(TargetKind::Identity, PAYMENTS), &revoked());
    assert_eq!(session.is_cut(), Some(revoked()));
    assert_eq!(other.is_cut(), None);
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-REVOKED");
}

#[tokio::test]
async fn the_first_reason_stands() {
    let world = World::new();
    let session = open(&world, PAYMENTS, "aa");
    world
        .following
        .cut_now(&target(TargetKind::Serial, "aa"), &revoked());
    let later = Cut {
        reason: CutReason::Shutdown,
        detail: String::new(),
    };
    assert_eq!(world.following.sessions().cut_where(&later, |_| true), 1);
    assert_eq!(session.is_cut(), Some(revoked()));
}

#[tokio::test]
async fn expiry_ends_and_renewal_extends() {
    let world = World::new();
    let past = world.now.minus_secs(1);
    let sessions = world.following.sessions();
    let mut session = sessions.register(&principal(PAYMENTS, "aa", past), HOUR, world.now);
    assert_eq!(session.cut().await.reason, CutReason::Expired);
    // Somebody else's renewal is of no use.
    world
        .following
        .renewed("bb", "cc", world.now.plus_secs(60), &same());
    assert!(session.is_cut().is_some());
    world
        .following
        .renewed("aa", "ab", world.now.plus_secs(60), &same());
    assert_eq!(session.is_cut(), None);
    // It rests on the successor now.
    world
        .following
        .cut_now(&target(TargetKind::Serial, "aa"), &revoked());
    assert_eq!(session.is_cut(), None);
    world
        .following
        .cut_now(&target(TargetKind::Serial, "ab"), &revoked());
    assert_eq!(session.cut().await, revoked());
}

#[tokio::test]
async fn a_renewal_wakes_and_the_session_waits_on() {
    let world = World::new();
    let mut session = open(&world, PAYMENTS, "aa");
    let waiting = tokio::spawn(async move { session.cut().await });
    tokio::task::yield_now().await;
    world
        .following
        .renewed("aa", "ab", Timestamp::now().plus_secs(7_200), &same());
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    world.revoke(TargetKind::Serial, "ab");
    let cut = tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(cut.reason, CutReason::Revoked);
}

#[tokio::test]
async fn no_renewal_outlasts_the_longest_session() {
    let world = World::new();
    let principal = principal(PAYMENTS, "aa", world.now.plus_secs(60));
    let longest = Duration::ZERO;
    let session = world
        .following
        .sessions()
        .register(&principal, longest, world.now);
    world
        .following
        .renewed("aa", "ab", world.now.plus_secs(3_600), &same());
    assert_eq!(session.is_cut().unwrap().reason, CutReason::Expired);
}

#[tokio::test]
async fn an_estate_that_no_longer_declares_an_identity_cuts_it() {
    let world = World::new();
    let (payments, reporting) = (
        open(&world, PAYMENTS, "aa"),
        open(&world, "reporting/nightly", "bb"),
    );
    let mut changed = world.following.estate_changed();
    let index = world.apply(&estate(&[PAYMENTS]), 0);
    assert_eq!(*changed.borrow_and_update(), index);
    assert_eq!(payments.is_cut(), None);
    assert_eq!(reporting.is_cut().unwrap().reason, CutReason::Estate);
}

#[tokio::test]
async fn a_session_that_ended_is_off_the_list() {
    let world = World::new();
    let session = open(&world, PAYMENTS, "aa");
    assert_eq!(world.following.sessions().len(), 1);
    drop(session);
    assert!(world.following.sessions().is_empty());
}

#[tokio::test]
async fn a_session_does_not_outlive_the_facts_that_it_began_with() {
    let later = Timestamp::now().plus_secs(7_200);
    let mut worse = same();
    worse.insert(
        "machine.join".to_owned(),
        FactValue::Text("token".to_owned()),
    );
    for facts in [worse, BTreeMap::new()] {
        let world = World::new();
        let mut principal = principal(PAYMENTS, "aa", world.now.plus_secs(3_600));
        let (name, source) = ("machine.join", facts::Source::Verified);
        principal.facts.state(name, "tpm", source, world.now);
        let sessions = world.following.sessions();
        let mut session = sessions.register(&principal, HOUR, world.now);
        world.following.renewed("aa", "ab", later, &facts);
        let cut = tokio::time::timeout(PATIENCE, session.cut()).await.unwrap();
        assert_eq!(cut.reason, CutReason::Facts);
        assert!(cut.detail.contains("machine."), "{cut}");
    }
}
