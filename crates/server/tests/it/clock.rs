//! A server whose clock is wrong, for a moment or from its start on: nothing is forgotten, and nothing ends, for longer than
//! that.

use crate::harness::{Fixture, PROGRAM, config, estate, finding, openssl, pem, program};
use proto::v1;
use proto::v1::node_update::Update;
use server::Reading;
use std::sync::atomic::{AtomicU64, Ordering};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// The clocks of this machine, of which one was set forward.
fn ahead(by: &AtomicU64) -> Reading {
    let mut reading = server::system_clock();
    reading.stamp.wall += by.load(Ordering::SeqCst);
    reading
}

async fn started(clock: server::ReadClock) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let server = server::start_by(config(dir.path()), clock).await.unwrap();
    let fixture = Fixture {
        dir,
        server: Some(server),
    };
    fixture.apply(&estate()).await.unwrap();
    fixture
}

async fn revoke(fixture: &Fixture, kind: &str, value: &str) -> serde_json::Value {
    let request = v1::RevokeRequest {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reason: "stolen".to_owned(),
    };
    let done = fixture.admin().await.revoke(request).await.unwrap();
    serde_json::from_str(&done.into_inner().json).unwrap()
}

/// Whether the list that agents get has the SVID.
fn is_listed(fixture: &Fixture, chain: &[Vec<u8>], bundle: &v1::Bundle) -> bool {
    let crls = pem(fixture, "crls.pem", "X509 CRL", &bundle.crl);
    let more = ["-crl_check", "-CRLfile", crls.to_str().unwrap()];
    let (good, text) = openssl(fixture, chain, &bundle.x509_authorities, &more);
    assert!(good || text.contains("certificate revoked"), "{text}");
    !good
}

/// Of hours it took SVIDs, revocations and tokens from the state, and of a year the CA.
#[tokio::test(flavor = "multi_thread")]
async fn by_a_clock_that_leaps_ahead_nothing_is_signed_or_forgotten() {
    static BY: AtomicU64 = AtomicU64::new(0);
    let mut fixture = started(|| ahead(&BY)).await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let svid = issued.svids[0].clone();
    let revoked = revoke(&fixture, "serial", &svid.serial).await;
    assert_eq!(revoked["recorded"], true, "{revoked}");
    // The list is made once a second.
    loop {
        if let Update::Bundle(bundle) = sync.next().await.unwrap()
            && is_listed(&fixture, &svid.certificate_chain, &bundle)
        {
            break;
        }
    }
    let token = fixture.token("m2").await;
    let mut size = None;
    for leap in [2 * HOUR, 400 * DAY] {
        BY.store(leap, Ordering::SeqCst);
        let refused = fixture.join_with(&token).await.err().unwrap();
        assert_eq!(finding(&refused).code, "SERVER-CLOCK");
        let status = fixture.status().await;
        assert_eq!(status["signing"]["code"], "SERVER-CLOCK");
        let size = size.get_or_insert_with(|| status["ledger"]["size"].clone());
        // Whom it is asked to cut is cut.
        let cut = revoke(&fixture, "identity", "payments/api").await;
        assert_eq!(cut["recorded"], false, "{cut}");
        assert_eq!(cut["finding"]["code"], "REVOKE-POSTPONED");
        assert_eq!(fixture.status().await["ledger"]["size"], *size);
    }
    BY.store(0, Ordering::SeqCst);
    assert_eq!(fixture.status().await["signing"], "allowed");
    let other = fixture.join_with(&token).await.unwrap();
    let bundle = other.joined.bundle.clone().unwrap();
    assert!(is_listed(&fixture, &svid.certificate_chain, &bundle));
    machine.sync().await.unwrap();
    crate::recovering::until("both cuts are recorded", async || {
        fixture.records(&["revocation"]).await.len() == 2
    })
    .await;
    fixture.stop().await;
    let config = config(fixture.dir.path());
    let kept = server::state_digest(&config).unwrap();
    assert_eq!(kept, server::rebuild_state(&config).unwrap());
}

/// Before its clock is set: what it recorded then takes nothing away, and the authority signs once it is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_clock_that_is_ahead_is_over_with_the_next() {
    static BY: AtomicU64 = AtomicU64::new(0);
    let mut fixture = started(|| ahead(&BY)).await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let svid = issued.svids[0].clone();
    revoke(&fixture, "serial", &svid.serial).await;
    drop(sync);
    fixture.stop().await;

    BY.store(400 * DAY, Ordering::SeqCst);
    let config = config(fixture.dir.path());
    let wrong = server::start_by(config.clone(), || ahead(&BY)).await;
    fixture.server = Some(wrong.unwrap());
    assert_eq!(fixture.status().await["clock"]["leaps"], true);
    fixture.stop().await;
    BY.store(0, Ordering::SeqCst);
    let right = server::start_by(config.clone(), || ahead(&BY)).await;
    fixture.server = Some(right.unwrap());
    assert_eq!(fixture.status().await["clock"]["leaps"], false);

    let other = fixture.join("m2").await;
    let bundle = other.joined.bundle.clone().unwrap();
    assert!(is_listed(&fixture, &svid.certificate_chain, &bundle));
    let mut machine = machine;
    machine.address = fixture.address();
    machine.sync().await.unwrap();
    fixture.stop().await;
    let kept = server::state_digest(&config).unwrap();
    assert_eq!(kept, server::rebuild_state(&config).unwrap());
}

/// As where a clock that was behind at the start is set a while after: the server signed nothing until somebody came.
#[tokio::test(flavor = "multi_thread")]
async fn a_leap_that_stands_ends_the_server_and_its_next_start_believes_it() {
    static BEHIND: AtomicU64 = AtomicU64::new(2 * HOUR);
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let clock = || {
        let passed = PASSED.load(Ordering::SeqCst);
        let mut reading = server::system_clock();
        reading.stamp.wall -= BEHIND.load(Ordering::SeqCst);
        reading.up += std::time::Duration::from_millis(passed);
        reading
    };
    let mut fixture = started(clock).await;
    BEHIND.store(0, Ordering::SeqCst);
    assert_eq!(fixture.status().await["signing"]["code"], "SERVER-CLOCK");
    PASSED.store(HOUR / 20, Ordering::SeqCst);
    let running = fixture.server.take().unwrap();
    running.stopping().await;
    let ended = running.stop().await.unwrap_err().finding();
    assert_eq!(ended.code, "SERVER-CLOCK");
    let config = config(fixture.dir.path());
    fixture.server = Some(server::start_by(config, clock).await.unwrap());
    assert_eq!(fixture.status().await["signing"], "allowed");
    fixture.join("m1").await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_server_makes_no_authority_by_a_clock_that_was_never_set() {
    let dir = tempfile::tempdir().unwrap();
    let in_1970 = || {
        let mut reading = server::system_clock();
        reading.stamp.wall = 60_000;
        reading
    };
    let refused = server::start_by(config(dir.path()), in_1970).await;
    assert_eq!(refused.err().unwrap().finding().code, "SERVER-CLOCK");
    assert!(!dir.path().join("data").exists());
}
