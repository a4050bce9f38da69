//! The extended protocol: pipelines, portals, names that change under way, and what is refused.

use crate::client::{Client, bind, execute, message, parse};
use crate::world::{World, skipped};

const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_answered_in_order() {
    if skipped("a_pipeline_is_answered_in_order") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let mut bytes = Vec::new();
    for number in 1..=50 {
        bytes.extend(parse(
            "",
            &format!("SELECT name FROM products WHERE id = {number}"),
        ));
        bytes.extend(bind("", ""));
        bytes.extend(message(b'D', b"P\0"));
        bytes.extend(execute("", 0));
    }
    bytes.extend(SYNC);
    client.send(&bytes).await;
    let rows = client.answer().await.unwrap();
    let expected: Vec<String> = (1..=50).map(|number| format!("p{number}")).collect();
    assert_eq!(rows, expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_in_a_pipeline_skips_the_rest_and_undoes_what_came_before() {
    if skipped("a_denial_in_a_pipeline_skips_the_rest_and_undoes_what_came_before") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let mut bytes = Vec::new();
    for sql in [
        "INSERT INTO orders (note) VALUES ('piped')",
        "SELECT * FROM undeclared",
        "INSERT INTO orders (note) VALUES ('after')",
    ] {
        bytes.extend(parse("", sql));
        bytes.extend(bind("", ""));
        bytes.extend(execute("", 0));
    }
    bytes.extend(SYNC);
    client.send(&bytes).await;
    assert_eq!(client.answer().await.unwrap_err().0, "42501");
    assert_eq!(client.status, b'I');
    let counted = client
        .simple("SELECT count(*) FROM orders WHERE note IN ('piped', 'after')")
        .await;
    assert_eq!(counted.unwrap(), ["0"]);
    // The conversation goes on.
    assert_eq!(client.simple("SELECT 7").await.unwrap(), ["7"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_redefinition_does_not_change_what_a_name_leads_to() {
    if skipped("a_skipped_redefinition_does_not_change_what_a_name_leads_to") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    client
        .parse("s", "SELECT count(*) FROM cards")
        .await
        .unwrap();
    // Everything after the error is skipped by the server: `s` stays what it was.
    let mut bytes = parse("", "SELECT 1/0");
    bytes.extend(bind("", ""));
    bytes.extend(execute("", 0));
    bytes.extend(message(b'C', b"Ss\0"));
    bytes.extend(parse("s", "SELECT 1"));
    bytes.extend(SYNC);
    client.send(&bytes).await;
    assert_eq!(client.answer().await.unwrap_err().0, "22012");
    world.apply(&crate::world::estate_without_cards()).await;
    // By the gateway, not only by the database.
    let (sqlstate, message) = client.execute("s").await.unwrap_err();
    assert_eq!(sqlstate, "42501", "{message}");
    assert!(message.contains("shop/public/cards"), "{message}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_may_be_fetched_in_pieces() {
    if skipped("a_portal_may_be_fetched_in_pieces") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    client.simple("BEGIN").await.unwrap();
    let mut bytes = parse("", "SELECT id FROM products ORDER BY id");
    bytes.extend(bind("c", ""));
    bytes.extend(execute("c", 2));
    bytes.extend(execute("c", 3));
    bytes.extend(SYNC);
    client.send(&bytes).await;
    assert_eq!(client.answer().await.unwrap(), ["1", "2", "3", "4", "5"]);
    assert_eq!(client.status, b'T');
    assert_eq!(client.simple("FETCH 1 FROM c").await.unwrap(), ["6"]);
    client.simple("COMMIT").await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_in_may_be_pipelined() {
    if skipped("copy_in_may_be_pipelined") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let mut bytes = parse("", "COPY orders (note) FROM STDIN");
    bytes.extend(bind("", ""));
    bytes.extend(execute("", 0));
    bytes.extend(SYNC);
    bytes.extend(message(b'd', b"piped\n"));
    bytes.extend(message(b'c', b""));
    bytes.extend(SYNC);
    client.send(&bytes).await;
    client.answer().await.unwrap();
    assert_eq!(
        client.simple("SELECT count(*) FROM orders").await.unwrap(),
        ["3"]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_call_message_is_denied() {
    if skipped("the_function_call_message_is_denied") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    // 715 is lowrite(int4, bytea) in every version.
    client
        .send(&message(b'F', &[0, 0, 3, 187, 0, 0, 0, 0, 0, 0]))
        .await;
    assert_eq!(client.answer().await.unwrap_err().0, "42501");
    assert_eq!(client.simple("SELECT 1").await.unwrap(), ["1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_made_past_the_gateway_is_seen() {
    if skipped("a_definition_made_past_the_gateway_is_seen") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    client
        .parse("s", "SELECT name FROM product_names LIMIT 1")
        .await
        .unwrap();
    assert_eq!(client.execute("s").await.unwrap(), ["p1"]);
    world
        .postgres
        .execute(
            "shop",
            "CREATE OR REPLACE VIEW product_names AS SELECT 'x'::text AS name FROM undeclared",
        )
        .unwrap();
    let mut refused = client.execute("s").await;
    for _ in 0..1_200 {
        // By the gateway: the database may refuse it on its own before.
        let named = |(_, said): &(String, String)| said.contains("shop/public/undeclared");
        if refused.as_ref().is_err_and(named) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        refused = client.execute("s").await;
    }
    let (sqlstate, message) = refused.unwrap_err();
    assert_eq!(sqlstate, "42501", "{message}");
    assert!(message.contains("shop/public/undeclared"), "{message}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_can_be_cancelled_with_its_key_alone() {
    if skipped("a_query_can_be_cancelled_with_its_key_alone") {
        return;
    }
    use tokio::io::AsyncWriteExt as _;
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let slow = message(
        b'Q',
        b"SELECT count(*) FROM generate_series(1, 2000000000)\0",
    );
    client.send(&slow).await;
    let (process, secret) = (client.process, client.secret);
    let mut answer = std::pin::pin!(client.answer());
    let refused = loop {
        // A request that arrives before the query does nothing: ask until it is heard.
        let mut cancel = vec![0, 0, 0, 16, 4, 210, 22, 46];
        cancel.extend(process.to_be_bytes());
        cancel.extend(secret.to_be_bytes());
        let mut tcp = tokio::net::TcpStream::connect(world.address).await.unwrap();
        tcp.write_all(&cancel).await.unwrap();
        let waited = tokio::time::timeout(std::time::Duration::from_millis(300), &mut answer);
        if let Ok(answer) = waited.await {
            break answer.unwrap_err();
        }
    };
    assert_eq!(refused.0, "57014");
    // In cleartext nobody knows who asked, and the record says so.
    let asked = world.records("GATEWAY-CANCEL-UNAUTHENTICATED");
    assert!(!asked.is_empty());
    assert!(
        asked[0].contains("\"actor\":\"unauthenticated\""),
        "{}",
        asked[0]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_the_session_s_own_identity_cancels_it() {
    if skipped("over_tls_only_the_session_s_own_identity_cancels_it") {
        return;
    }
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let agent = world.plane.issue("agents/helper");
    let mut client = Client::connect(&world, &payments).await;
    client
        .send(&message(
            b'Q',
            b"SELECT count(*) FROM generate_series(1, 2000000000)\0",
        ))
        .await;
    let mut cancel = vec![0, 0, 0, 16, 4, 210, 22, 46];
    cancel.extend(client.process.to_be_bytes());
    cancel.extend(client.secret.to_be_bytes());
    let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trilith/payments/api@pg-1/shop' AND state = 'active'";
    while world.postgres.execute("shop", running).unwrap() != "1" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for svid in [&agent, &payments] {
        assert_eq!(world.postgres.execute("shop", running).unwrap(), "1");
        let mut stream = crate::client::tls(&world, svid).await.unwrap();
        stream.write_all(&cancel).await.unwrap();
        let mut said = Vec::new();
        let _closed = stream.read_to_end(&mut said).await;
    }
    assert_eq!(client.answer().await.unwrap_err().0, "57014");
    assert_eq!(world.records("GATEWAY-CANCEL-PRINCIPAL").len(), 1);
    assert_eq!(world.records("\"statement\":\"cancel\"").len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_cancel_nobody_keep_nobody_from_cancelling() {
    if skipped("requests_to_cancel_nobody_keep_nobody_from_cancelling") {
        return;
    }
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::start().await;
    let client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let send = async |process: u32, secret: u32| {
        let mut cancel = vec![0, 0, 0, 16, 4, 210, 22, 46];
        cancel.extend(process.to_be_bytes());
        cancel.extend(secret.to_be_bytes());
        let mut tcp = tokio::net::TcpStream::connect(world.address).await.unwrap();
        tcp.write_all(&cancel).await.unwrap();
        let _closed = tcp.read_to_end(&mut Vec::new()).await;
    };
    for bogus in 0..100 {
        send(bogus, 0).await;
    }
    send(client.process, client.secret).await;
    assert_eq!(world.records("\"statement\":\"cancel\"").len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_postgresql_cuts_alike_are_refused() {
    if skipped("names_that_postgresql_cuts_alike_are_refused") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let name = |end: &str| format!("{}{end}", "a".repeat(63));
    // For the server all three are one name.
    let mut bytes = parse(&name("X"), "SELECT 1");
    bytes.extend(message(b'C', format!("S{}\0", name("Z")).as_bytes()));
    bytes.extend(parse(&name("Y"), "DELETE FROM orders"));
    bytes.extend(bind("", &name("X")));
    bytes.extend(execute("", 0));
    bytes.extend(SYNC);
    client.send(&bytes).await;
    let (sqlstate, said) = client.answer().await.unwrap_err();
    assert_eq!(sqlstate, "42501");
    assert!(said.contains("SQL-NAME-LENGTH"), "{said}");
    client.parse(&name(""), "SELECT 63").await.unwrap();
    assert_eq!(client.execute(&name("")).await.unwrap(), ["63"]);
    for long in [
        parse(&name("X"), "SELECT 1"),
        bind("", &name("X")),
        bind(&name("X"), &name("")),
        execute(&name("X"), 0),
        message(b'D', format!("S{}\0", name("X")).as_bytes()),
        message(b'D', format!("P{}\0", name("X")).as_bytes()),
        message(b'C', format!("S{}\0", name("X")).as_bytes()),
        message(b'C', format!("P{}\0", name("X")).as_bytes()),
    ] {
        client.send(&[long, SYNC.to_vec()].concat()).await;
        let (sqlstate, said) = client.answer().await.unwrap_err();
        assert_eq!(sqlstate, "42501");
        assert!(said.contains("SQL-NAME-LENGTH"), "{said}");
    }
    let left = client.simple("SELECT count(*) FROM orders").await;
    assert_eq!(left.unwrap(), ["2"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_redefined_by_sql_in_a_pipeline_is_decided_as_what_it_becomes() {
    if skipped("a_name_that_is_redefined_by_sql_in_a_pipeline_is_decided_as_what_it_becomes") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    client.parse("p", "SELECT 1").await.unwrap();
    client.parse("d", "DEALLOCATE p").await.unwrap();
    client
        .parse("q", "PREPARE p AS DELETE FROM orders")
        .await
        .unwrap();
    let mut bytes = Vec::new();
    for name in ["d", "q", "p"] {
        bytes.extend(bind("", name));
        bytes.extend(execute("", 0));
    }
    bytes.extend(SYNC);
    client.send(&bytes).await;
    client.answer().await.unwrap();
    assert_eq!(world.writes(), ["delete: ok DELETE 2 I"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_a_query_in_flight_redefines_is_decided_as_what_it_becomes() {
    if skipped("a_cursor_that_a_query_in_flight_redefines_is_decided_as_what_it_becomes") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    client.simple("BEGIN").await.unwrap();
    client
        .simple("DECLARE c CURSOR FOR SELECT 1")
        .await
        .unwrap();
    let mut bytes = message(
        b'Q',
        b"CLOSE c; DECLARE c CURSOR FOR SELECT number FROM cards\0",
    );
    bytes.extend(execute("c", 0));
    bytes.extend(SYNC);
    client.send(&bytes).await;
    client.answer().await.unwrap();
    assert_eq!(client.answer().await.unwrap().len(), 50);
    let read = world.recorded("\"rows\":\"50\"").await;
    let outcome: ledger::body::Outcome = ledger::Record::parse(read[0].as_bytes())
        .unwrap()
        .expect_body()
        .unwrap();
    let intents = world.records(&format!("\"seq\":\"{}\"", outcome.intent.0));
    assert!(intents[0].contains("shop/public/cards"), "{}", intents[0]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redefinition_that_the_server_skipped_is_not_what_is_recorded() {
    if skipped("a_redefinition_that_the_server_skipped_is_not_what_is_recorded") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    client.parse("p", "DELETE FROM orders").await.unwrap();
    let mut bytes = parse("", "SELECT 1/0");
    bytes.extend(bind("", ""));
    bytes.extend(execute("", 0));
    bytes.extend(message(b'C', b"Sp\0"));
    bytes.extend(parse("p", "SELECT 1"));
    bytes.extend(SYNC);
    bytes.extend(bind("", "p"));
    bytes.extend(execute("", 0));
    bytes.extend(SYNC);
    client.send(&bytes).await;
    assert_eq!(client.answer().await.unwrap_err().0, "22012");
    client.answer().await.unwrap();
    assert_eq!(world.writes(), ["delete: ok DELETE 2 I"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn execute_runs_nothing_that_changes_names() {
    if skipped("execute_runs_nothing_that_changes_names") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    client.parse("p", "SELECT 1").await.unwrap();
    // The protocol prepares what PREPARE does not, and the server's EXECUTE would run it.
    client.parse("d", "DEALLOCATE p").await.unwrap();
    let (sqlstate, said) = client.simple("EXECUTE d").await.unwrap_err();
    assert_eq!(sqlstate, "42501");
    assert!(said.contains("SQL-NAME"), "{said}");
    assert_eq!(client.execute("p").await.unwrap(), ["1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_prepares_too_much_is_ended() {
    if skipped("who_prepares_too_much_is_ended") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let long = format!("SELECT '{}'", "x".repeat(1_000_000));
    let mut kept = 0;
    let refused = loop {
        match client.parse(&format!("s{kept}"), &long).await {
            Ok(_) => kept += 1,
            Err(refused) => break refused,
        }
        assert!(kept < 20, "16 MiB are kept at most");
    };
    assert!(kept > 10, "{kept}: {refused:?}");
    world.stop().await;
}
