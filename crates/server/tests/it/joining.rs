//! Becoming a node, and staying one.

use crate::harness::{Fixture, Link, finding, verify};
use proto::v1::node_client::NodeClient;
use svid_tls::OwnSvid;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_a_node_with_a_receipt_once() {
    let fixture = Fixture::start().await;
    let token = fixture.token("m1").await;
    let machine = fixture.join_with(&token).await.unwrap();
    assert_eq!(
        machine.joined.node_id,
        "spiffe://example.org/trilith/node/m1"
    );
    assert_eq!(machine.joined.generation, 1);
    let key = fixture.ledger_key().await;
    let bundle = machine.joined.bundle.clone().unwrap();
    let issued = verify(&machine.joined.certificate_chain, &bundle, &key);
    assert_eq!(issued.issuance.verdict.0, machine.joined.verdict_index);

    let again = fixture.join_with(&token).await.err().unwrap();
    assert_eq!(finding(&again).code, "JOIN-TOKEN-SPENT");
    // Spent before issued.
    let order: Vec<String> = fixture
        .records(&["token-spent", "verdict", "issuance"])
        .await
        .iter()
        .filter(|(_, record)| record["actor"] == "spiffe://example.org/trilith/node/m1")
        .map(|(_, record)| record["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(order, ["token-spent", "verdict", "issuance"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_used_by_many_at_once_admits_one() {
    let fixture = Fixture::start().await;
    let token = fixture.token("m1").await;
    let attempts = (0..8).map(|_| fixture.join_with(&token));
    let outcomes = futures::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_renewal_gets_the_same_place_and_a_copy_locks_both() {
    let fixture = Fixture::start().await;
    let original = fixture.join("m1").await;
    let copy = original.clone();
    let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let same = crypto::KeyPair::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
    let renewed = original.renew_as([1; 16], key).await.unwrap();
    assert_eq!(renewed.joined.generation, 2);
    let repeated = original.renew_as([1; 16], same).await.unwrap();
    assert_eq!(repeated.joined.generation, 2);

    let caught = copy.renew([2; 16]).await.err().unwrap();
    assert_eq!(finding(&caught).code, "AGENT-LOCKED");
    let both = renewed.renew([3; 16]).await.err().unwrap();
    assert_eq!(finding(&both).code, "AGENT-LOCKED");
    assert!(renewed.sync().await.is_err());
    assert_eq!(fixture.records(&["lock"]).await.len(), 1);

    fixture.readmit("m1").await;
    let early = renewed.sync().await.err().unwrap();
    assert_eq!(finding(&early).code, "AGENT-RENEW-FIRST");
    let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let same = crypto::KeyPair::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
    let freed = renewed.renew_as([4; 16], key).await.unwrap();
    assert_eq!(freed.joined.generation, 3);
    let repeated = renewed.renew_as([4; 16], same).await.unwrap();
    assert_eq!(repeated.joined.generation, 3, "its answer was lost");
    // One is free, not both; and the other does not lock it again, however often it comes.
    for attempt in 5..8 {
        let late = copy.renew([attempt; 16]).await.err().unwrap();
        assert_eq!(finding(&late).code, "AGENT-STATE-DEAD");
        let late = copy.sync().await.err().unwrap();
        assert_eq!(finding(&late).code, "AGENT-STATE-DEAD");
    }
    let mut sync = freed.sync().await.unwrap();
    let facts = crate::harness::program(1000, crate::harness::PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    assert_eq!(issued.svids.len(), 1);
    let on = freed.renew([9; 16]).await.unwrap();
    assert_eq!(on.joined.generation, 4);
    assert_eq!(fixture.records(&["lock"]).await.len(), 1);
    // A copy of the new state is a copy again.
    let caught = freed.renew([10; 16]).await.err().unwrap();
    assert_eq!(finding(&caught).code, "AGENT-LOCKED");
    assert_eq!(fixture.records(&["lock"]).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_join_whose_answer_was_lost_is_repeated_for_its_key_alone() {
    let fixture = Fixture::start().await;
    let token = fixture.token("m1").await;
    let key = std::sync::Arc::new(crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap());
    let first = fixture.join_as(&token, key.clone()).await.unwrap();
    let again = fixture.join_as(&token, key.clone()).await.unwrap();
    assert_eq!(again.joined.generation, first.joined.generation);
    assert_eq!(again.joined.join_state, first.joined.join_state);
    assert_eq!(fixture.records(&["token-spent"]).await.len(), 1);
    let other = fixture.join_with(&token).await.err().unwrap();
    assert_eq!(finding(&other).code, "JOIN-TOKEN-SPENT");
    again.renew([1; 16]).await.unwrap();
    let late = fixture.join_as(&token, key).await.err().unwrap();
    assert_eq!(finding(&late).code, "JOIN-TOKEN-SPENT", "it has moved on");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_svid_there_is_nothing_but_joining() {
    let fixture = Fixture::start().await;
    let token = fixture.token("m1").await;
    let anchors = fixture.anchors(&token.pin).await;
    let link = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let renewed = NodeClient::new(link.channel.clone())
        .renew(proto::v1::RenewRequest::default())
        .await
        .unwrap_err();
    assert_eq!(finding(&renewed).code, "CALLER-NO-SVID");
    let synced = NodeClient::new(link.channel.clone())
        .sync(tokio_stream::empty())
        .await
        .unwrap_err();
    assert_eq!(finding(&synced).code, "CALLER-NO-SVID");
    let followed = proto::v1::follow_client::FollowClient::new(link.channel)
        .stream(tokio_stream::empty())
        .await
        .unwrap_err();
    assert_eq!(finding(&followed).code, "CALLER-NO-SVID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_joins_leaves_few_records() {
    let fixture = Fixture::start().await;
    let mut token = fixture.token("m1").await;
    token.token = "nothing".to_owned();
    let begun = std::time::Instant::now();
    for _ in 0..40 {
        let refused = fixture.join_with(&token).await.err().unwrap();
        assert_eq!(finding(&refused).code, "JOIN-TOKEN");
    }
    let mut counted = 0;
    while counted < 40 {
        let records = fixture.records(&["join-refused"]).await;
        // A window is a second long here.
        let windows = begun.elapsed().as_secs() + 2;
        assert!(
            records.len() as u64 <= windows,
            "one record for each window at most"
        );
        assert!(windows < 60, "{counted} are recorded");
        counted = records
            .iter()
            .map(|(_, record)| {
                record["body"]["count"]
                    .as_str()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
            .sum();
        tokio::task::yield_now().await;
    }
    assert_eq!(counted, 40);
}
