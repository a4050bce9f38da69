//! Whatever a client sends, in whatever order: what the server answers is recorded under the statement
//! that it answers to, and under no other.

use crate::client::{Client, bind, execute, message, parse};
use crate::records::SLOW;
use crate::world::{World, skipped};
use std::time::Duration;

const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

fn query(sql: &str) -> Vec<u8> {
    let mut body = sql.as_bytes().to_vec();
    body.push(0);
    message(b'Q', &body)
}

/// Time for an answer to reach the gateway, where a test is about what comes after it.
async fn answered() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// Each statement has the outcome of its own.
async fn in_step(world: &World, client: &mut Client) {
    let insert = "INSERT INTO orders (note) VALUES ('step')";
    for _ in 0..2 {
        client.simple(insert).await.unwrap();
        let outcomes = world.records("\"type\":\"outcome\"");
        let outcome = outcomes.last().unwrap();
        for part in ["\"result\":\"ok\"", "\"rows\":\"1\"", "\"tag\":\"INSERT\""] {
            assert!(outcome.contains(part), "{part} in {outcome}");
        }
        let failed = client.simple("INSERT INTO orders (id, note) VALUES (1, 'step')");
        assert_eq!(failed.await.unwrap_err().0, "23505");
        let outcomes = world.records("\"type\":\"outcome\"");
        let outcome = outcomes.last().unwrap();
        assert!(outcome.contains("\"sqlstate\":\"23505\""), "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_skips_after_an_error_is_not_waited_for() {
    if skipped("what_the_server_skips_after_an_error_is_not_waited_for") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let mut bytes = message(b'D', b"Snope\0");
    bytes.extend(message(b'H', b""));
    client.send(&bytes).await;
    answered().await;
    // All of it is skipped, the Query as well.
    let mut bytes = query("SELECT 1");
    bytes.extend(parse("", "INSERT INTO orders (note) VALUES ('skipped')"));
    bytes.extend(bind("", ""));
    bytes.extend(execute("", 0));
    client.send(&bytes).await;
    answered().await;
    client.send(&SYNC).await;
    assert_eq!(client.answer().await.unwrap_err().0, "26000");
    in_step(&world, &mut client).await;
    let skipped = client.simple("SELECT count(*) FROM orders WHERE note = 'skipped'");
    assert_eq!(skipped.await.unwrap(), ["0"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_on_its_data_is_followed_by_what_comes_after_it() {
    if skipped("a_copy_that_fails_on_its_data_is_followed_by_what_comes_after_it") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let mut bytes = parse("", "COPY orders (note) FROM STDIN");
    bytes.extend(bind("", ""));
    bytes.extend(execute("", 0));
    bytes.extend(message(b'd', b"too\tmany\tcolumns\n"));
    bytes.extend(SYNC);
    bytes.extend(message(b'c', b""));
    bytes.extend(SYNC);
    client.send(&bytes).await;
    assert_eq!(client.answer().await.unwrap_err().0, "22P04");
    in_step(&world, &mut client).await;

    // The same by a Query.
    let mut bytes = query("COPY orders (note) FROM STDIN");
    bytes.extend(message(b'd', b"too\tmany\tcolumns\n"));
    bytes.extend(message(b'c', b""));
    client.send(&bytes).await;
    assert_eq!(client.answer().await.unwrap_err().0, "22P04");
    in_step(&world, &mut client).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_copy_that_is_none_changes_nothing() {
    if skipped("the_end_of_a_copy_that_is_none_changes_nothing") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    for (count, tag) in (1..).zip([b'c', b'f', b'd']) {
        let mut bytes = message(tag, b"\0");
        bytes.extend(query(SLOW));
        client.send(&bytes).await;
        while client.receive().await.unwrap().0 != b'D' {}
        // What is classified is released when its outcome is durable, and not before.
        let outcomes = world.records("\"rows\":\"51\"");
        assert_eq!(outcomes.len(), count, "{outcomes:?}");
        client.answer().await.unwrap();
    }
    in_step(&world, &mut client).await;
    world.stop().await;
}
