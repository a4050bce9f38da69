//! INVARIANT 1: who gets in, and that stolen keys are not enough.

use crate::world::{MAX_STALENESS, PAYMENTS, World, estate};
use crypto::{Algorithm, KeyPair, Signer as _};
use facts::Source;
use ledger::LedgerSigner;
use ledger::body::TargetKind;
use spiffe_core::Serial;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn who_was_recorded_comes_in() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let principal = world.admit(&svid.chain).await.unwrap();
    assert_eq!(principal.path, PAYMENTS);
    assert_eq!(principal.serial, svid.serial.to_string());
    let ends = svid.prepared.not_after();
    assert_eq!(principal.not_after.as_secs(), ends.as_secs());
    assert_eq!(
        (principal.node.as_str(), principal.issuance),
        ("m1", svid.receipt.index)
    );
    let source = |name| principal.facts.fact(name).unwrap().source;
    assert_eq!(source("machine.name"), Source::Verified);
    assert_eq!(source("workload.uid"), Source::Asserted);
}

#[tokio::test]
async fn the_issuing_key_alone_lets_nobody_in() {
    let world = World::new();
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let tbs = world.forged_tbs(PAYMENTS, &key, Serial::from_random(crypto::random()));
    assert_eq!(
        world.refused(&world.sign(&tbs, None)).await,
        "SVID-RECEIPT-MISSING"
    );
    let noise = world.sign(&tbs, Some(&[1; 300]));
    assert_eq!(world.refused(&noise).await, "SVID-RECEIPT-MALFORMED");
}

#[tokio::test]
async fn a_receipt_does_not_move_to_another_key_with_the_same_id_and_serial() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let tbs = world.forged_tbs(PAYMENTS, &key, svid.serial);
    let chain = world.sign(&tbs, Some(&svid.receipt.encode().unwrap()));
    assert_eq!(world.refused(&chain).await, "SVID-RECEIPT-KEY");
}

#[tokio::test]
async fn a_receipt_does_not_move_to_another_identity() {
    let world = World::new();
    let reporting = world.issue_published("reporting/nightly");
    let payments = world.issue_published(PAYMENTS);
    let prepared = &payments.prepared;
    assert!(
        prepared.finish(&reporting.receipt).is_err(),
        "the authority itself refuses"
    );
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let tbs = world.forged_tbs(PAYMENTS, &key, reporting.serial);
    let chain = world.sign(&tbs, Some(&reporting.receipt.encode().unwrap()));
    assert!(world.refused(&chain).await.starts_with("SVID-RECEIPT-"));
}

#[tokio::test]
async fn a_fork_of_the_same_size_is_refused() {
    let world = World::new();
    let size = world.following.head().0;
    let chain = world.forked(&world.stolen, size);
    assert_eq!(world.refused(&chain).await, "FOLLOW-FORKED");
}

#[tokio::test]
async fn a_larger_fork_never_becomes_the_chain() {
    let world = World::new();
    let chain = world.forked(&world.stolen, world.following.head().0 + 1);
    assert_eq!(world.refused(&chain).await, "FOLLOW-CHECKPOINT-UNKNOWN");
}

#[tokio::test]
async fn a_larger_fork_is_refused_once_the_ledger_has_grown_past_it() {
    let mut world = World::new();
    let (head, _) = world.following.head();
    let fork = world.forked(&world.stolen, head + 1);
    let waiting = {
        let (following, now) = (world.following.clone(), world.now);
        let chain = crate::world::ders(&fork);
        tokio::spawn(async move { following.admit(&chain, now).await })
    };
    // The genuine ledger grows by two at once: the size of the fork was never published.
    world.issue(PAYMENTS);
    world.issue(PAYMENTS);
    world.publish();
    let asked = world.questions.recv().await.unwrap();
    assert_eq!(asked.size, head + 1);
    let (now, _) = world.following.head();
    let proof = world.proof(asked.size, now);
    let finding = world.following.proven(&asked, now, &proof).unwrap_err();
    assert_eq!(finding.code, "FOLLOW-FORKED");
    assert_eq!(waiting.await.unwrap().unwrap_err().code, "FOLLOW-FORKED");
    // It is known now: nobody has to be asked again.
    assert_eq!(world.refused(&fork).await, "FOLLOW-FORKED");
    assert!(world.questions.try_recv().is_err());
}

#[tokio::test]
async fn another_ledgers_key_signs_no_receipt() {
    let world = World::new();
    let key = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
    let other = LedgerSigner::new("example.org/server", key).unwrap();
    let chain = world.forked(&other, world.following.head().0);
    assert_eq!(world.refused(&chain).await, "SVID-RECEIPT-LEDGER");
}

#[tokio::test]
async fn a_checkpoint_that_was_missed_is_asked_for() {
    let mut world = World::new();
    let svid = world.issue(PAYMENTS);
    world.issue(PAYMENTS);
    world.publish();
    let waiting = {
        let (following, now) = (world.following.clone(), world.now);
        let chain = crate::world::ders(&svid.chain);
        tokio::spawn(async move { following.admit(&chain, now).await })
    };
    let asked = world.questions.recv().await.unwrap();
    let (head, _) = world.following.head();
    let proof = world.proof(asked.size, head);
    world.following.proven(&asked, head, &proof).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().path, PAYMENTS);
}

#[tokio::test]
async fn an_svid_may_be_faster_than_its_checkpoint() {
    let world = World::new();
    let svid = world.issue(PAYMENTS);
    let waiting = {
        let (following, now) = (world.following.clone(), world.now);
        let chain = crate::world::ders(&svid.chain);
        tokio::spawn(async move { following.admit(&chain, now).await })
    };
    tokio::task::yield_now().await;
    world.publish();
    assert_eq!(waiting.await.unwrap().unwrap().path, PAYMENTS);
}

#[tokio::test]
async fn foreign_and_forged_domains_are_refused() {
    let (world, other) = (World::new(), World::new());
    // Another authority that calls itself by our name, with its own flawless ledger.
    let svid = other.issue_published(PAYMENTS);
    assert_eq!(world.refused(&svid.chain).await, "SVID-PATH");

    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let params = spiffe_core::LeafParams {
        spiffe_id: "spiffe://other.org/payments/api".parse().unwrap(),
        public_key: key.public_key().clone(),
        serial: Serial::from_random(crypto::random()),
        not_before: world.now.minus_secs(10),
        not_after: world.now.plus_secs(60),
        dns_names: Vec::new(),
    };
    let foreign = world.sign(&world.issuer().leaf(&params).unwrap(), None);
    assert_eq!(world.refused(&foreign).await, "TLS-PEER-DOMAIN");
    assert_eq!(world.refused(&[]).await, "SVID-PARSE");
}

#[tokio::test]
async fn an_expired_svid_is_refused() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let later = world.now.plus_secs(3_602);
    world.following.heard(later);
    let finding = world.admit_at(&svid.chain, later).await.unwrap_err();
    assert_eq!(finding.code, "SVID-EXPIRED");
}

#[tokio::test]
async fn who_is_revoked_stays_out() {
    for (kind, value) in [
        (TargetKind::Identity, PAYMENTS.to_owned()),
        (
            TargetKind::Identity,
            format!("spiffe://example.org/{PAYMENTS}"),
        ),
        (TargetKind::Machine, "m1".to_owned()),
        (
            TargetKind::Machine,
            "spiffe://example.org/trilith/node/m1".to_owned(),
        ),
    ] {
        let world = World::new();
        let svid = world.issue_published(PAYMENTS);
        world.admit(&svid.chain).await.unwrap();
        world.revoke(kind, &value);
        assert_eq!(
            world.refused(&svid.chain).await,
            "GATEWAY-REVOKED",
            "{value}"
        );
    }
}

#[tokio::test]
async fn a_revoked_serial_is_out_and_its_successor_in() {
    let world = World::new();
    let (old, new) = (
        world.issue_published(PAYMENTS),
        world.issue_published(PAYMENTS),
    );
    world.revoke(TargetKind::Serial, &old.serial.to_string());
    assert_eq!(world.refused(&old.chain).await, "GATEWAY-REVOKED");
    world.admit(&new.chain).await.unwrap();
}

#[tokio::test]
async fn a_silent_server_lets_nobody_in_after_max_staleness() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let last = world.now.plus_secs(MAX_STALENESS);
    world.admit_at(&svid.chain, last).await.unwrap();
    let late = world.admit_at(&svid.chain, last.plus_secs(1)).await;
    assert_eq!(late.unwrap_err().code, "GATEWAY-STALE");
    world.following.heard(last);
    world
        .admit_at(&svid.chain, last.plus_secs(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn only_what_the_estate_declares_comes_in() {
    let world = World::without_estate();
    let svid = world.issue_published(PAYMENTS);
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-NO-ESTATE");
    world.apply(&estate(&["reporting/nightly"]), 0);
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-UNDECLARED");
    world.apply(&estate(&[PAYMENTS]), 0);
    world.admit(&svid.chain).await.unwrap();
}

#[tokio::test]
async fn an_instance_comes_in_by_its_template_and_is_cut_with_it() {
    let template = "pools/{machine.pool}/jobs/{workload.unit}";
    let world = World::without_estate();
    let svid = world.issue_published("pools/demo/jobs/nightly");
    world.apply(&estate(&[PAYMENTS]), 0);
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-UNDECLARED");
    world.apply(&estate(&[PAYMENTS, template]), 0);
    let principal = world.admit(&svid.chain).await.unwrap();
    assert_eq!(principal.path, "pools/demo/jobs/nightly");
    assert_eq!(world.following.declared_path(&principal), template);
    let other = world.issue_published("pools/demo/services/nightly");
    assert_eq!(world.refused(&other.chain).await, "GATEWAY-UNDECLARED");
    let own = world.admit(&world.issue_published(PAYMENTS).chain).await;
    assert_eq!(world.following.declared_path(&own.unwrap()), PAYMENTS);

    let sessions = world.following.sessions();
    let session = sessions.register(&principal, Duration::from_secs(60), world.now);
    world.apply(&estate(&[PAYMENTS]), 0);
    assert!(session.is_cut().is_some());
}

#[tokio::test]
async fn what_was_issued_below_the_floor_stays_out() {
    let world = World::new();
    let old = world.issue_under(PAYMENTS, Some(1));
    world.publish();
    world.admit(&old.chain).await.unwrap();
    let floor = world.following.head().0;
    let index = world.apply(&estate(&[PAYMENTS]), floor);
    assert_eq!(index, floor);
    let none = world.issue_published(PAYMENTS);
    let new = world.issue_under(PAYMENTS, Some(index));
    world.publish();
    assert_eq!(world.refused(&old.chain).await, "GATEWAY-BELOW-FLOOR");
    assert_eq!(world.refused(&none.chain).await, "GATEWAY-BELOW-FLOOR");
    world.admit(&new.chain).await.unwrap();
}
