//! First contact: what a newcomer believes, and what it does not.

use crate::kit::{Clock, Domain, client, key, once, server};
use crypto::{Algorithm, KeyPair, Signer as _};
use std::sync::Arc;
use svid_tls::pin::{Anchors, digest};
use svid_tls::{ClientAuth, OwnSvid};

fn anchors(domain: &Domain) -> (Anchors, String) {
    let ledger = KeyPair::generate(Algorithm::Ed25519).unwrap();
    let anchors = Anchors {
        trust_domain: domain.trust_domain.to_string(),
        roots: vec![
            domain.root.certificate().to_vec(),
            Domain::new("example.org").root.certificate().to_vec(),
        ],
        ledger_key: ledger.public_key().spki_der().to_vec(),
    };
    let roots: Vec<&[u8]> = anchors.roots.iter().map(Vec::as_slice).collect();
    let pin = digest(&domain.trust_domain, &roots, &anchors.ledger_key);
    (anchors, pin)
}

#[test]
fn the_pin_is_a_known_digest() {
    let domain = Domain::new("example.org");
    // sha256("trilith-anchors-v1" ‖ 0000000b "example.org" ‖ 00000002 ‖ 00000001 "a" ‖ 00000001 "b"
    // ‖ 00000003 "key"), computed with coreutils.
    let pin = digest(&domain.trust_domain, &[b"b", b"a"], b"key");
    assert_eq!(pin, PINNED);
}

const PINNED: &str = "tl1:bbf6fd36d48e40ccc793e89c5bddc9882de7d6a67db186a70ecf93a14bf47746";

#[test]
fn a_newcomer_learns_the_anchors_and_then_knows_the_server() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let (anchors, pin) = anchors(&domain);
    let join = || server(domain.svid("server", 3600), ClientAuth::None, &clock);
    let mut unknown = svid_tls::first_contact().unwrap();
    unknown.time_provider = clock.clone();
    once(unknown, join()).unwrap();

    let pinned = Arc::new(anchors.check(&pin).unwrap());
    assert_eq!(pinned.ledger_key.spki_der(), anchors.ledger_key);
    let connect = |server| {
        let client = client(OwnSvid::empty(), pinned.clone(), domain.members(), &clock);
        once(client, server)
    };
    assert!(connect(join()).is_ok());
    // Whoever answers at the address next time has to chain to a pinned root.
    let impostor = Domain::new("example.org");
    let fake = server(impostor.svid("server", 3600), ClientAuth::None, &clock);
    assert_eq!(connect(fake).unwrap_err().code(), "SVID-PATH");
    let foreign = Domain::new("example.com");
    let fake = server(foreign.svid("server", 3600), ClientAuth::None, &clock);
    assert_eq!(connect(fake).unwrap_err().code(), "TLS-PEER-DOMAIN");
}

#[test]
fn the_order_of_the_roots_does_not_matter() {
    let domain = Domain::new("example.org");
    let (mut anchors, pin) = anchors(&domain);
    anchors.roots.reverse();
    assert!(anchors.check(&pin).is_ok());
    assert!(anchors.check(&format!(" {pin}\n")).is_ok());
}

#[test]
fn any_other_anchors_are_refused() {
    let domain = Domain::new("example.org");
    let (good, pin) = anchors(&domain);
    let check = |change: &dyn Fn(&mut Anchors)| {
        let mut anchors = good.clone();
        change(&mut anchors);
        anchors.check(&pin).unwrap_err().code.into_owned()
    };
    let other = Domain::new("example.org").root.certificate().to_vec();
    let changes: [&dyn Fn(&mut Anchors); 6] = [
        &|anchors| anchors.trust_domain = "example.com".to_owned(),
        &|anchors| anchors.roots.truncate(1),
        &|anchors| anchors.roots.clear(),
        &|anchors| anchors.roots.push(other.clone()),
        &|anchors| anchors.ledger_key = key().public_key().spki_der().to_vec(),
        // Bytes that move from one field to the next.
        &|anchors| {
            let last = anchors.roots.last_mut().unwrap().pop().unwrap();
            anchors.ledger_key.insert(0, last);
        },
    ];
    for change in changes {
        assert_eq!(check(change), "TLS-PIN-MISMATCH");
    }
    let too_many = check(&|anchors| anchors.roots = vec![other.clone(); 17]);
    assert_eq!(too_many, "TLS-ANCHORS");
    assert_eq!(
        check(&|anchors| anchors.trust_domain.clear()),
        "TLS-ANCHORS"
    );
}

#[test]
fn what_is_no_pin_is_refused() {
    let domain = Domain::new("example.org");
    let (anchors, pin) = anchors(&domain);
    let digits = pin.strip_prefix("tl1:").unwrap();
    for text in [
        "",
        "tl1:",
        digits,
        "tl1:00",
        &format!("tl2:{digits}"),
        &format!("{pin}00"),
    ] {
        let refused = anchors.check(text).unwrap_err();
        assert_eq!(refused.code, "TLS-PIN-FORMAT", "{text:?}");
    }
}
