//! Keys give way to their successors before they end, and what they signed stays valid.

use crate::world::{NOW, World};
use crypto::{Algorithm, KeyPair, Signer as _};
use identity::{Authority, AuthorityError, Lifetimes};
use spiffe_core::X509Svid;

const DAY: u64 = 86_400;

#[test]
fn nothing_rotates_before_half_of_the_shortest_life() {
    let world = World::new();
    let later = NOW.plus_secs(14 * DAY);
    assert!(
        world
            .authority
            .rotation(&world.custody, later, later)
            .unwrap()
            .is_none()
    );
}

#[test]
fn an_issuing_ca_is_replaced_at_half_life_and_its_leaves_stay_valid() {
    let world = World::new();
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let later = NOW.plus_secs(16 * DAY);
    let before = world.prepare("payments/api", &key, later);
    let old_chain = before
        .finish(&world.record("payments/api", &key, &before))
        .unwrap();

    let document = world
        .authority
        .rotation(&world.custody, later, later)
        .unwrap()
        .unwrap();
    assert_eq!(document.sequence, 2);
    let rotated = Authority::open(document, Lifetimes::default(), &world.custody).unwrap();
    let old_issuer = world.authority.issuer(later).unwrap().public_key().clone();
    assert_ne!(rotated.issuer(later).unwrap().public_key(), &old_issuer);
    X509Svid::parse(&old_chain)
        .unwrap()
        .validate(rotated.bundle(), later)
        .unwrap();
    assert!(
        rotated
            .rotation(&world.custody, later, later)
            .unwrap()
            .is_none(),
        "once is enough"
    );
}

#[test]
fn a_new_jwt_key_is_announced_before_it_signs() {
    let world = World::new();
    let later = NOW.plus_secs(16 * DAY);
    let document = world
        .authority
        .rotation(&world.custody, later, later)
        .unwrap()
        .unwrap();
    let newest = document.jwt.last().unwrap().tenure;
    assert!(newest.announced <= later);
    assert_eq!(
        newest.signs_from,
        later.plus_secs(Lifetimes::default().announce_s)
    );
    let rotated = Authority::open(document, Lifetimes::default(), &world.custody).unwrap();
    assert_eq!(rotated.bundle().jwt_authorities().len(), 2);
}

#[test]
fn a_key_whose_life_has_ended_leaves_the_bundle() {
    let world = World::new();
    let half = NOW.plus_secs(16 * DAY);
    let document = world
        .authority
        .rotation(&world.custody, half, half)
        .unwrap()
        .unwrap();
    let rotated = Authority::open(document, Lifetimes::default(), &world.custody).unwrap();
    let end = NOW.plus_secs(30 * DAY);
    let document = rotated.rotation(&world.custody, end, end).unwrap().unwrap();
    assert!(!document.jwt.is_empty());
    assert!(document.jwt.iter().all(|jwt| end < jwt.tenure.not_after));
    assert!(
        document
            .issuing
            .iter()
            .all(|issuing| end < issuing.tenure.not_after)
    );
}

#[test]
fn a_crash_before_the_record_leaves_the_key_to_be_used() {
    let world = World::new();
    let later = NOW.plus_secs(16 * DAY);
    let lost = world
        .authority
        .rotation(&world.custody, later, later)
        .unwrap()
        .unwrap();
    let again = world
        .authority
        .rotation(&world.custody, later, later)
        .unwrap()
        .unwrap();
    assert_eq!(lost.jwt.last().unwrap().kid, again.jwt.last().unwrap().kid);
}

#[test]
fn an_authority_without_its_key_does_not_open() {
    let world = World::new();
    let document = world.authority.document().clone();
    std::fs::remove_file(world.directory.path().join("keys/issuing-2.pk8")).unwrap();
    assert!(matches!(
        Authority::open(document, Lifetimes::default(), &world.custody),
        Err(AuthorityError::MissingKey(name)) if name == "issuing-2"
    ));
}

#[test]
fn a_clock_before_the_authority_signs_nothing() {
    let world = World::new();
    assert!(matches!(
        world.authority.issuer(NOW.minus_secs(DAY)),
        Err(AuthorityError::NoneSigns { .. })
    ));
}

/// A year is put on the clock for a moment: what signed before signs on, and when it comes to its half, a successor is
/// made although there is a key from the wrong future.
#[test]
fn a_clock_that_was_ahead_takes_no_key_away_and_leaves_no_gap() {
    let world = World::new();
    let ahead = NOW.plus_secs(400 * DAY);
    let wrong = world.authority.rotation(&world.custody, ahead, NOW);
    let wrong = wrong.unwrap().unwrap();
    let open = |document| Authority::open(document, Lifetimes::default(), &world.custody).unwrap();
    let again = open(wrong);
    let now = NOW.plus_secs(60);
    let key = |authority: &Authority, now| authority.issuer(now).unwrap().public_key().clone();
    assert_eq!(key(&again, now), key(&world.authority, now));
    assert!(again.issuer(ahead).is_ok(), "it could sign then as well");
    assert!(again.rotation(&world.custody, now, now).unwrap().is_none());
    let half = NOW.plus_secs(16 * DAY);
    let next = again.rotation(&world.custody, half, half).unwrap().unwrap();
    let next = open(next);
    assert_ne!(key(&next, half), key(&again, half));
}

/// The same, and it had all been forgotten: the next rotation makes what signs at once.
#[test]
fn an_authority_that_was_made_in_a_wrong_future_is_put_right_at_once() {
    let world = World::new();
    let ahead = NOW.plus_secs(400 * DAY);
    let wrong = world.authority.rotation(&world.custody, ahead, ahead);
    let open = |document| Authority::open(document, Lifetimes::default(), &world.custody).unwrap();
    let wrong = open(wrong.unwrap().unwrap());
    let now = NOW.plus_secs(60);
    assert!(wrong.issuer(now).is_err());
    let right = wrong.rotation(&world.custody, now, ahead).unwrap();
    let right = open(right.unwrap());
    assert!(right.issuer(now).is_ok());
    assert!(right.with_jwt_key(now, |_, _| ()).is_ok());
    assert!(
        right
            .rotation(&world.custody, now, ahead)
            .unwrap()
            .is_none()
    );
}

/// A first start in 1970, before the clock is set; or a server that stood still for as long as a root lives.
#[test]
fn when_every_root_has_ended_the_next_signs_at_once() {
    let world = World::new();
    let later = NOW.plus_secs(4_000 * DAY);
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let document = world.authority.rotation(&world.custody, later, later);
    let document = document.unwrap().unwrap();
    assert_eq!(document.roots.len(), 1, "the one that ended is gone");
    let next = Authority::open(document, Lifetimes::default(), &world.custody).unwrap();
    let issued = next
        .prepare_x509(
            World::id("payments/api"),
            key.public_key().clone(),
            Vec::new(),
            spiffe_core::Serial::from_random(crypto::random()),
            later,
        )
        .unwrap();
    let chain = issued
        .finish(&world.record("payments/api", &key, &issued))
        .unwrap();
    X509Svid::parse(&chain)
        .unwrap()
        .validate(next.bundle(), later)
        .unwrap();
}
