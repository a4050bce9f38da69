//! Revocation closes the client's socket, whatever the session is doing.

use crate::client::{Client, message};
use crate::world::{World, skipped};
use facts::Timestamp;
use ledger::body::TargetKind;
use std::time::Duration;

/// Reads until the socket is closed; the SQLSTATE of what was said last.
async fn closed(client: &mut Client) -> String {
    let mut last = String::new();
    let reading = async {
        while let Ok((tag, body)) = client.receive().await {
            if tag == b'E' {
                last = crate::client::error(&body).0;
            }
        }
    };
    // Not an assertion on time: without a cut this would never end.
    tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .expect("the socket is closed");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_reaches_idle_querying_and_copying_sessions() {
    if skipped("a_cut_reaches_idle_querying_and_copying_sessions") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let mut idle = Client::connect(&world, &payments).await;
    let mut querying = Client::connect(&world, &payments).await;
    let mut copying = Client::connect(&world, &payments).await;
    let mut other = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    querying
        .send(&message(
            b'Q',
            b"SELECT count(*) FROM generate_series(1, 2000000000)\0",
        ))
        .await;
    copying
        .send(&message(b'Q', b"COPY orders (note) FROM STDIN\0"))
        .await;
    assert_eq!(copying.receive().await.unwrap().0, b'G');
    copying.send(&message(b'd', b"never\n")).await;

    world.plane.revoke(TargetKind::Identity, &payments.id);
    for client in [&mut idle, &mut querying, &mut copying] {
        assert_eq!(closed(client).await, "57P01");
    }
    assert_eq!(other.simple("SELECT 1").await.unwrap(), ["1"]);
    // What ran upstream is cancelled and what was copied is gone.
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trilith/payments/api@pg-1/shop' AND state = 'active'";
    for _ in 0..3_000 {
        if world.postgres.execute("shop", busy).unwrap() == "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.postgres.execute("shop", busy).unwrap(), "0");
    assert_eq!(
        world
            .postgres
            .execute("shop", "SELECT count(*) FROM orders WHERE note = 'never'")
            .unwrap(),
        "0"
    );
    let ended = world.recorded("\"reason\":\"revoked\"").await;
    assert!(!ended.is_empty());
    let cut = world.recorded("\"result\":\"cut\"").await;
    assert!(!cut.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_copy_that_was_cut_nobody_says_how_much_it_was() {
    if skipped("of_a_copy_that_was_cut_nobody_says_how_much_it_was") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let mut client = Client::connect(&world, &payments).await;
    // More than is held, and no end.
    let copy = b"COPY (SELECT repeat(a.number, 500) FROM cards a, cards b, cards c, cards d, cards e) TO STDOUT\0";
    client.send(&message(b'Q', copy)).await;
    while client.receive().await.unwrap().0 != b'd' {}
    world.plane.revoke(TargetKind::Identity, &payments.id);
    closed(&mut client).await;
    let cut = world.recorded("\"result\":\"cut\"").await;
    assert!(cut[0].contains("\"rows\":null"), "{}", cut[0]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_by_serial_or_machine_reaches_too() {
    if skipped("a_cut_by_serial_or_machine_reaches_too") {
        return;
    }
    let world = World::start().await;
    let first = world.plane.issue("payments/api");
    let second = world.plane.issue("payments/api");
    let mut one = Client::connect(&world, &first).await;
    let mut two = Client::connect(&world, &second).await;
    world.plane.revoke(TargetKind::Serial, &first.serial);
    assert_eq!(closed(&mut one).await, "57P01");
    assert_eq!(two.simple("SELECT 1").await.unwrap(), ["1"]);
    world.plane.revoke(TargetKind::Machine, "m1");
    assert_eq!(closed(&mut two).await, "57P01");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_the_estate_forgets_its_identity() {
    if skipped("a_session_ends_when_the_estate_forgets_its_identity") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    let mut files = crate::world::estate();
    let identities = files
        .0
        .get("identities/shop.toml")
        .unwrap()
        .replace("agents/helper", "agents/other");
    files.insert("identities/shop.toml", identities);
    world.apply(&files).await;
    assert_eq!(closed(&mut client).await, "57P01");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_no_longer_than_the_estate_says() {
    if skipped("a_session_lasts_no_longer_than_the_estate_says") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let mut before = Client::connect(&world, &payments).await;
    let mut files = crate::world::estate();
    let estate = files.0.get("estate.toml").unwrap().clone();
    files.insert(
        "estate.toml",
        format!("{estate}\n[session]\nmax = \"4s\"\n"),
    );
    world.apply(&files).await;
    let mut client = Client::connect(&world, &payments).await;
    // Renewed or not.
    world.plane.renewed(
        &payments.serial,
        "renewed",
        Timestamp::now().plus_secs(7200),
    );
    assert_eq!(client.simple("SELECT 1").await.unwrap(), ["1"]);
    assert_eq!(closed(&mut client).await, "57P01");
    let ended = world.recorded("\"reason\":\"expired\"").await;
    assert!(
        ended[0].contains("as long as a session may"),
        "{}",
        ended[0]
    );
    assert_eq!(before.simple("SELECT 1").await.unwrap(), ["1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_while_its_svid_is_renewed_and_no_longer() {
    if skipped("a_session_goes_on_while_its_svid_is_renewed_and_no_longer") {
        return;
    }
    let world = World::start().await;
    let (one, two) = (
        world.plane.issue("payments/api"),
        world.plane.issue("payments/api"),
    );
    let mut left = Client::connect(&world, &one).await;
    let mut kept = Client::connect(&world, &two).await;
    let soon = Timestamp::now().plus_secs(4);
    world.plane.renewed(&one.serial, "one-2", soon);
    world.plane.renewed(&two.serial, "two-2", soon);
    // The successor's successor: whoever still holds the first is not meant.
    world
        .plane
        .renewed("two-2", "two-3", Timestamp::now().plus_secs(3600));
    world
        .plane
        .renewed(&one.serial, "one-3", Timestamp::now().plus_secs(3600));
    assert_eq!(closed(&mut left).await, "57P01");
    assert!(Timestamp::now() >= soon);
    assert_eq!(kept.simple("SELECT 1").await.unwrap(), ["1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_before_it_runs_has_an_end() {
    if skipped("a_session_that_ends_before_it_runs_has_an_end") {
        return;
    }
    use tokio::io::AsyncWriteExt as _;
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    // The role is made; from now on a login takes a second, in which the client goes.
    drop(Client::connect(&world, &payments).await);
    world.slow_logins();
    for _ in 0..3 {
        let mut stream = crate::client::tls(&world, &payments).await.unwrap();
        let hello = crate::client::startup(&[("user", "x"), ("database", "shop")]);
        stream.write_all(&hello).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        stream.get_ref().0.set_zero_linger().unwrap();
        drop(stream);
    }
    let (mut begun, mut ended) = (0, 0);
    for _ in 0..1_200 {
        begun = world.records("\"type\":\"session-start\"").len();
        ended = world.records("\"type\":\"session-end\"").len();
        if begun > 1 && begun == ended {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun > 1 && begun == ended, "{begun} {ended}");
    world.stop().await;
}

/// One thread serves every socket here: what keeps it busy keeps everybody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cut_does_not_wait_behind_a_statement_that_takes_long_to_read() {
    if skipped("a_cut_does_not_wait_behind_a_statement_that_takes_long_to_read") {
        return;
    }
    let world = World::start_with(&[], |config| config.limits.max_statement_tokens = 1 << 20).await;
    let payments = world.plane.issue("payments/api");
    let mut reading = Client::connect(&world, &payments).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let agent = world.plane.issue("agents/helper");
        idle.push((Client::connect(&world, &agent).await, agent.serial));
    }
    let long = format!("SELECT {}1\0", "a!b,".repeat(40_000));
    reading.send(&message(b'Q', long.as_bytes())).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for (client, serial) in &mut idle {
        world.plane.revoke(TargetKind::Serial, serial);
        tokio::select! {
            biased;
            _ = reading.receive() => panic!("the statement was answered first"),
            said = closed(client) => assert_eq!(said, "57P01"),
        }
    }
    // Whoever is in the middle of it is cut as well.
    world.plane.revoke(TargetKind::Identity, &payments.id);
    assert_eq!(closed(&mut reading).await, "57P01");
    let ended = world.recorded("\"reason\":\"revoked\"").await;
    assert!(!ended.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_while_intents_are_written_leaves_none_without_an_outcome() {
    if skipped("a_cut_while_intents_are_written_leaves_none_without_an_outcome") {
        return;
    }
    let world = World::start().await;
    let insert = "INSERT INTO orders (note) VALUES ('half');";
    let (mut cut, mut gone) = (0, 0);
    for round in 0..6 {
        let payments = world.plane.issue("payments/api");
        let mut client = Client::connect(&world, &payments).await;
        let before = world.records("\"type\":\"intent\"").len();
        let query = insert.repeat(500) + "\0";
        client.send(&message(b'Q', query.as_bytes())).await;
        while world.records("\"type\":\"intent\"").len() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if round % 2 == 0 {
            world.plane.revoke(TargetKind::Serial, &payments.serial);
            assert_eq!(closed(&mut client).await, "57P01");
        } else {
            client.stream.get_ref().0.set_zero_linger().unwrap();
            drop(client);
        }
        let mut ended = 0;
        for _ in 0..1_200 {
            ended = world.records("\"type\":\"session-end\"").len();
            if ended > round {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(ended, round + 1);
        let intents = world.records("\"type\":\"intent\"").len();
        let outcomes = world.records("\"type\":\"outcome\"");
        assert_eq!(outcomes.len(), intents, "in round {round}");
        let results = outcomes
            .iter()
            .filter(|one| one.contains("\"result\":\"cut\""));
        cut += results.count();
        gone += intents - before;
    }
    // In the middle of it, or this shows nothing.
    assert!(cut > 0 && gone > 6, "{cut} {gone}");
    world.stop().await;
}
