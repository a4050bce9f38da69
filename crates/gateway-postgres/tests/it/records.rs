//! What stands in the gateway's ledger afterwards, and what never does.

use crate::client::Client;
use crate::world::{World, skipped};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_has_an_intent_and_an_outcome_and_no_literal() {
    if skipped("a_write_has_an_intent_and_an_outcome_and_no_literal") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    client
        .simple("INSERT INTO orders (note) VALUES ('very-secret-literal')")
        .await
        .unwrap();
    // Durable already: the client has its answer.
    let intents = world.records("\"type\":\"intent\"");
    let intent = intents
        .iter()
        .find(|record| record.contains("\"insert\""))
        .unwrap();
    for part in [
        "Table::\\\"shop/public/orders\\\"",
        "\"policies\":[\"payments keeps orders\"]",
        "\"coverage\":\"complete\"",
        "\"actor\":\"spiffe://example.org/payments/api\"",
        "\"statement\":\"",
    ] {
        assert!(intent.contains(part), "{part} in {intent}");
    }
    let outcomes = world.records("\"type\":\"outcome\"");
    let outcome = outcomes.last().unwrap();
    for part in ["\"result\":\"ok\"", "\"rows\":\"1\"", "\"tag\":\"INSERT\""] {
        assert!(outcome.contains(part), "{part} in {outcome}");
    }
    client
        .simple("SELECT * FROM cards WHERE number = 'very-secret-literal'")
        .await
        .unwrap();
    let refused = client
        .simple("SELECT 'very-secret-literal' FROM undeclared")
        .await
        .unwrap_err();
    assert!(refused.1.contains("decision pg-1:"), "{}", refused.1);
    let failed = client
        .simple("INSERT INTO orders (id, note) VALUES (1, 'very-secret-literal')")
        .await;
    assert_eq!(failed.unwrap_err().0, "23505");
    let outcome = world.records("\"sqlstate\":\"23505\"");
    assert_eq!(outcome.len(), 1);
    assert!(world.records("very-secret-literal").is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decision_that_a_client_is_told_is_in_the_ledger() {
    if skipped("the_decision_that_a_client_is_told_is_in_the_ledger") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    let (_, message) = client
        .simple("SELECT * FROM card_numbers")
        .await
        .unwrap_err();
    let (_, rest) = message.split_once("(decision pg-1:").unwrap();
    let index: u64 = rest.split(')').next().unwrap().parse().unwrap();
    let record = world.core.reader().record(index).unwrap();
    assert_eq!(record.kind(), ledger::RecordType::Decision);
    assert!(record.body().contains("POLICY-NONE"), "{}", record.body());
    assert!(
        message.contains("trilith why agents/helper select"),
        "{message}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_harmless_read_has_an_outcome_in_the_end() {
    if skipped("every_harmless_read_has_an_outcome_in_the_end") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    for _ in 0..100 {
        client
            .simple("SELECT count(*) FROM products")
            .await
            .unwrap();
    }
    drop(client);
    let reader = world.core.reader().clone();
    let mut heads = reader.subscribe(0);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while world.records("\"tag\":\"SELECT\"").len() < 100 {
            heads.next().await.unwrap();
        }
    });
    waited.await.expect("all are recorded");
    assert_eq!(world.records("\"tag\":\"SELECT\"").len(), 100);
    world.stop().await;
}
