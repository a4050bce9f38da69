//! Whatever a client sends, in whatever order: what the server answers is recorded under the statement
//! that it answers to, and under no other.

use crate::client::{Client, bind, execute, message, parse};
use crate::records::SLOW;
use crate::world::{World, skipped};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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

/// Stands before the database and says that whatever selected 42 rows deleted them.
fn lying(folder: &std::path::Path, database: std::path::PathBuf, socket: &str) {
    let listener = tokio::net::UnixListener::bind(folder.join(socket)).unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::UnixStream::connect(&database).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
                    let said = &mut bytes[..length];
                    let at = said.windows(10).position(|part| part == b"SELECT 42\0");
                    if let Some(at) = at {
                        said[at..at + 6].copy_from_slice(b"DELETE");
                    }
                    if to_client.write_all(said).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_to_the_statement_ends_the_session() {
    if skipped("an_answer_that_is_none_to_the_statement_ends_the_session") {
        return;
    }
    let folder = testkit::temp_dir().unwrap();
    let world = World::start_with(&[], |config| {
        let upstream = &mut config.databases[0].upstream;
        let socket = format!(".s.PGSQL.{}", upstream.port);
        let database = upstream.socket_folder.as_ref().unwrap().join(&socket);
        lying(folder.path(), database, &socket);
        upstream.socket_folder = Some(folder.path().to_owned());
    })
    .await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let ask = |rows: u32| format!("SELECT number FROM cards LIMIT {rows}");
    assert_eq!(client.simple(&ask(41)).await.unwrap().len(), 41);
    client.send(&query(&ask(42))).await;
    let mut said = String::new();
    while let Ok((tag, body)) = client.receive().await {
        assert_ne!(tag, b'C');
        if tag == b'E' {
            said = crate::client::error(&body).1;
        }
    }
    assert!(said.contains("out of step"), "{said}");
    let ended = world.recorded("\"reason\":\"error\"").await;
    assert!(ended[0].contains("DELETE 42 to SELECT"), "{}", ended[0]);
    // Nobody says that it went well, or that anything was deleted.
    assert_eq!(world.records("\"tag\":\"DELETE\""), Vec::<String>::new());
    assert_eq!(world.records("\"result\":\"cut\"").len(), 1);
    world.stop().await;
}
