//! What stands in the gateway's ledger afterwards, and what never does.

use crate::client::{Client, bind, message};
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
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while world.records("\"tag\":\"SELECT\"").len() < 100 {
            heads.next().await.unwrap();
        }
    });
    waited.await.expect("all are recorded");
    assert_eq!(world.records("\"tag\":\"SELECT\"").len(), 100);
    world.stop().await;
}

fn run(sql: &str) -> Vec<u8> {
    let mut bytes = message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    bytes.extend(bind("", ""));
    bytes.extend(message(b'E', b"\0\0\0\0\0"));
    bytes
}

const INSERT: &str = "INSERT INTO orders (note) VALUES ('x')";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_recorded_whatever_was_in_flight_before_it() {
    if skipped("a_commit_is_recorded_whatever_was_in_flight_before_it") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    // The answer to Sync says `I` after the write was sent and before it ran.
    let mut bytes = message(b'S', b"");
    bytes.extend(message(
        b'Q',
        b"BEGIN; UPDATE orders SET note = 'x' WHERE id = 1\0",
    ));
    client.send(&bytes).await;
    client.answer().await.unwrap();
    client.answer().await.unwrap();
    assert_eq!(client.status, b'T');
    client.simple("COMMIT").await.unwrap();
    assert_eq!(
        world.writes(),
        ["select+update: ok UPDATE 1 T", ": ok COMMIT 0 I"]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_says_whether_what_was_written_lasts() {
    if skipped("an_outcome_says_whether_what_was_written_lasts") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let mut seen = 0;
    let mut new = |expected: &[&str], what: &str| {
        let writes = world.writes();
        assert_eq!(&writes[seen..], expected, "{what}");
        seen = writes.len();
    };
    client.simple(INSERT).await.unwrap();
    new(&["insert: ok INSERT 1 I"], "alone");
    for statement in ["BEGIN", INSERT, "ROLLBACK"] {
        client.simple(statement).await.unwrap();
    }
    new(
        &["insert: ok INSERT 1 T", ": ok ROLLBACK 0 I"],
        "rolled back",
    );
    for statement in ["BEGIN", INSERT, "SELECT 1/0", "COMMIT"] {
        let _failed = client.simple(statement).await;
    }
    new(
        &["insert: ok INSERT 1 T", ": ok ROLLBACK 0 I"],
        "a failed transaction that is committed",
    );
    client
        .simple(&format!("{INSERT}; SELECT 1/0"))
        .await
        .unwrap_err();
    new(&["insert: undone INSERT 1 I"], "a later statement failed");
    client
        .simple(&format!("{INSERT}; COMMIT; {INSERT}; SELECT 1/0"))
        .await
        .unwrap_err();
    new(
        &[
            "insert: ok INSERT 1 I",
            ": ok COMMIT 0 I",
            "insert: undone INSERT 1 I",
        ],
        "committed in between",
    );
    let mut bytes = run(INSERT);
    bytes.extend(run("SELECT 1/0"));
    bytes.extend(message(b'S', b""));
    client.send(&bytes).await;
    client.answer().await.unwrap_err();
    new(&["insert: undone INSERT 1 I"], "a pipeline failed");
    let mut bytes = run(INSERT);
    bytes.extend(run("SELECT * FROM undeclared"));
    bytes.extend(message(b'S', b""));
    client.send(&bytes).await;
    client.answer().await.unwrap_err();
    new(&["insert: undone INSERT 1 I"], "a pipeline was denied");
    // Whoever waits for the answer before Sync gets it, and learns later whether it lasts.
    for (then, result) in [("SELECT 1", "ok"), ("SELECT 1/0", "undone")] {
        let mut bytes = run(INSERT);
        bytes.extend(message(b'H', b""));
        client.send(&bytes).await;
        while client.receive().await.unwrap().0 != b'C' {}
        new(&["insert: ok INSERT 1 pending"], "flushed");
        let mut bytes = run(then);
        bytes.extend(message(b'S', b""));
        client.send(&bytes).await;
        let _failed = client.answer().await;
        new(&[&format!("insert: {result} INSERT 1 I")], "and synced");
    }
    let kept = client.simple("SELECT count(*) FROM orders").await;
    assert_eq!(kept.unwrap(), ["5"]);
    world.stop().await;
}

/// More than the server's buffer, then nothing for a while, then the end; less than is held.
pub(crate) const SLOW: &str = "SELECT repeat(number, 500) FROM cards UNION ALL SELECT count(*)::text FROM generate_series(1, 4000000)";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_classified_read_returns_waits_for_its_outcome() {
    if skipped("what_a_classified_read_returns_waits_for_its_outcome") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    for (query, row) in [
        (SLOW.to_owned(), b'D'),
        (format!("COPY ({SLOW}) TO STDOUT"), b'd'),
    ] {
        client
            .send(&message(b'Q', format!("{query}\0").as_bytes()))
            .await;
        while client.receive().await.unwrap().0 != row {}
        let outcomes = world.records("\"rows\":\"51\"");
        assert_eq!(outcomes.len(), 1 + usize::from(row == b'd'), "{query}");
        client.answer().await.unwrap();
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_names_so_much_that_its_denial_cannot_be_recorded() {
    if skipped("no_statement_names_so_much_that_its_denial_cannot_be_recorded") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    let tables: Vec<String> = (0..1_000).map(|n| format!("a{n:0>60}")).collect();
    let sql = format!("SELECT 1 FROM products, {}, cards", tables.join(", "));
    let (sqlstate, said) = client.simple(&sql).await.unwrap_err();
    assert_eq!(sqlstate, "42501", "{said}");
    assert!(said.contains("(decision pg-1:"), "{said}");
    let denied = world.records("\"allow\":false");
    let decision: ledger::body::Decision = ledger::Record::parse(denied[0].as_bytes())
        .unwrap()
        .expect_body()
        .unwrap();
    let shown = decision.actions[0].resources.len();
    let more = decision.actions[0].more.as_ref().unwrap();
    assert_eq!(usize::try_from(more.count.0).unwrap() + shown, 1_002);
    // What was denied comes first.
    let (_, first) = said.split_once("select on ").unwrap();
    let first = first.split(" (decision").next().unwrap();
    if !first.contains("/a0") {
        assert_eq!(decision.actions[0].resources[0], first);
    }
    // The session goes on.
    assert_eq!(client.simple("SELECT 1").await.unwrap(), ["1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_literal_in_the_place_of_a_name_is_not_recorded() {
    if skipped("a_literal_in_the_place_of_a_name_is_not_recorded") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    for text in [
        "SELECT nextval('4111111111111111')",
        "SELECT nextval('\"4111111111111111\"')",
        "SELECT * FROM \"4111111111111111\"",
        "SELECT * FROM \"4111111111111111\".cards",
        "SELECT \"4111111111111111\"(1)",
        "SELECT * FROM pg_catalog.\"4111111111111111\"",
        "SELECT $1::\"4111111111111111\"",
        "EXECUTE \"4111111111111111\"",
        "INSERT INTO orders (\"4111111111111111\") VALUES (1)",
        "CREATE TABLE \"4111111111111111\" (a int)",
        "SELECT '4111111111111111'; SELEC",
    ] {
        client.simple(text).await.unwrap_err();
    }
    world.core.recorder().flush().await.unwrap();
    assert_eq!(world.records("4111111111111111"), Vec::<String>::new());
    let hidden = world.records("Table::\\\"shop/public/~");
    assert!(hidden.len() >= 3, "{hidden:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_strict_recording_every_read_waits_for_its_outcome() {
    if skipped("with_strict_recording_every_read_waits_for_its_outcome") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let slow = SLOW
        .replace("number", "name")
        .replace("cards", "(SELECT name FROM products LIMIT 50) p");
    let mut told = Vec::new();
    for mode in ["default", "strict"] {
        let mut files = crate::world::estate();
        let estate = files.0.get("estate.toml").unwrap().clone();
        files.insert(
            "estate.toml",
            format!("{estate}\n[recording]\nmode = \"{mode}\"\n"),
        );
        world.apply(&files).await;
        client
            .send(&message(b'Q', format!("{slow}\0").as_bytes()))
            .await;
        while client.receive().await.unwrap().0 != b'D' {}
        told.push(world.records("\"rows\":\"51\"").len());
        client.answer().await.unwrap();
        world.core.recorder().flush().await.unwrap();
    }
    // By default the first rows come before anybody knows how many there will be.
    assert_eq!(told, [0, 2]);
    world.stop().await;
}
