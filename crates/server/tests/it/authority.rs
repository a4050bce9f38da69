//! Keys and lists of the running server: revocation lists, rotation of the issuing CA.

use crate::harness::{Fixture, PROGRAM, Sync, openssl, pem, program, verify};
use proto::v1;
use proto::v1::node_update::Update;
use std::time::Duration;

/// The next bundle that an agent is sent, for which `wanted` holds.
async fn bundle(sync: &mut Sync, wanted: impl Fn(&v1::Bundle) -> bool) -> v1::Bundle {
    loop {
        if let Update::Bundle(bundle) = sync.next().await.unwrap()
            && wanted(&bundle)
        {
            return bundle;
        }
    }
}

async fn revoke(fixture: &Fixture, kind: &str, value: &str) {
    let request = v1::RevokeRequest {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reason: "stolen".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_stands_in_the_list_that_agents_get_and_openssl_obeys_it() {
    for kind in ["serial", "identity", "machine"] {
        let fixture = Fixture::start().await;
        let (machine, other) = (fixture.join("m1").await, fixture.join("m2").await);
        let first = machine.joined.bundle.clone().unwrap();
        let mut sync = machine.sync().await.unwrap();
        let (issued, _) = sync
            .ask("w1", &program(1000, PROGRAM), Vec::new())
            .await
            .unwrap();
        let svid = &issued.svids[0];
        let check = |lists: &[Vec<u8>]| {
            let crls = pem(&fixture, "crls.pem", "X509 CRL", lists);
            let more = ["-crl_check_all", "-CRLfile", crls.to_str().unwrap()];
            openssl(
                &fixture,
                &svid.certificate_chain,
                &first.x509_authorities,
                &more,
            )
        };
        let (good, text) = check(&first.crl);
        assert!(good, "{text}");
        // An agent that is not cut itself hears of it.
        let mut listening = other.sync().await.unwrap();
        let value = match kind {
            "serial" => svid.serial.as_str(),
            "identity" => "payments/api",
            _ => "m1",
        };
        revoke(&fixture, kind, value).await;
        let told = bundle(&mut listening, |bundle| bundle.crl != first.crl).await;
        let (good, text) = check(&told.crl);
        assert!(
            !good && text.contains("certificate revoked"),
            "{kind}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuing_ca_is_replaced_while_what_it_signed_goes_on() {
    let fixture =
        Fixture::start_with("[lifetimes]\nissuing_ca_s = 40\nx509_s = 10\nnode_s = 600\n").await;
    let machine = fixture.join("m1").await;
    let first = machine.joined.bundle.clone().unwrap();
    let key = fixture.ledger_key().await;
    let mut sync = machine.sync().await.unwrap();
    let mut chains: Vec<Vec<Vec<u8>>> = Vec::new();
    // Past half of its life, and a little more for the look at tenures.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(38);
    for number in 0.. {
        let workload = format!("w{number}");
        let (issued, _) = sync
            .ask(&workload, &program(1000, PROGRAM), Vec::new())
            .await
            .unwrap();
        let chain = issued.svids[0].certificate_chain.clone();
        verify(&chain, &first, &key);
        let (good, text) = openssl(&fixture, &chain, &first.x509_authorities, &[]);
        assert!(good, "{text}");
        let replaced = chains.last().is_some_and(|last| last[1] != chain[1]);
        chains.push(chain);
        if replaced {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the CA is not replaced"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // What the old one signed last is as good as what the new one signs.
    let old = &chains[chains.len() - 2];
    verify(old, &first, &key);
    let rotated = fixture.records(&["key-rotation"]).await;
    let issuing = rotated
        .iter()
        .filter(|(_, record)| record["body"]["what"] == "x509-issuing");
    assert_eq!(issuing.count(), 2, "{rotated:#?}");
    let sequences: Vec<String> = fixture
        .records(&["bundle"])
        .await
        .iter()
        .map(|(_, record)| record["body"]["sequence"].to_string())
        .collect();
    let mut distinct = sequences.clone();
    distinct.dedup();
    assert_eq!(sequences, distinct);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stood_still_for_as_long_as_its_issuing_ca_lives_issues_again() {
    let more = "[lifetimes]\nissuing_ca_s = 10\nx509_s = 10\nnode_s = 10\n";
    let mut fixture = Fixture::start_with(more).await;
    fixture.stop().await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    fixture.go_on().await;
    fixture.join("m1").await;
    assert!(fixture.records(&["bundle"]).await.len() > 1);
}
