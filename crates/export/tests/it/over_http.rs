//! To a real HTTP server that fails in between.

use crate::world::{World, index};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use export::{Cursor, Error, Exported, Format, Secrets, Sink};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Collector {
    /// What it answers next; then 204.
    answers: Vec<u16>,
    asked: usize,
    taken: Vec<Value>,
    kinds: Vec<String>,
    secrets: Vec<String>,
    /// More at once is too large.
    most: usize,
}

type Shared = Arc<Mutex<Collector>>;

async fn take(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut collector = shared.lock().unwrap();
    collector.asked += 1;
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    collector.kinds.push(text("content-type").unwrap());
    collector.secrets.extend(text("authorization"));
    let events: Vec<Value> = if body.starts_with(b"[") {
        serde_json::from_slice(&body).unwrap()
    } else {
        crate::world::lines(&body)
    };
    if events.len() > collector.most {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    if !collector.answers.is_empty() {
        let answer = collector.answers.remove(0);
        // A server may have stored what it then answers 500 to.
        if answer == 500 || answer == 204 {
            collector.taken.extend(events);
        }
        return StatusCode::from_u16(answer).unwrap();
    }
    collector.taken.extend(events);
    StatusCode::NO_CONTENT
}

async fn collector(answers: &[u16], most: usize) -> (Shared, String) {
    let shared: Shared = Arc::new(Mutex::new(Collector {
        answers: answers.to_vec(),
        most,
        ..Collector::default()
    }));
    let router = Router::new()
        .route("/events", post(take))
        .with_state(Arc::clone(&shared));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/events", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (shared, to)
}

fn whole(world: &World, taken: &[Value]) {
    let mut indices: Vec<u64> = taken.iter().map(index).collect();
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices, (0..world.size()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_fails_in_between_gets_everything() {
    let world = World::with(2_000);
    let (shared, to) = collector(&[503, 204, 500, 429, 204, 408, 502], 10_000).await;
    let exported = world.export(&to, Format::CloudEvents).await.unwrap();
    assert_eq!((exported.records, exported.retries), (2_001, 5));
    let collector = shared.lock().unwrap();
    // What it stored and then denied came twice, under the same ids.
    assert_eq!(collector.taken.len(), 2_001 + 512);
    whole(&world, &collector.taken);
    let batch = "application/cloudevents-batch+json; charset=UTF-8";
    assert!(collector.kinds.iter().all(|kind| kind == batch));
}

#[tokio::test]
async fn a_batch_that_is_too_large_comes_in_parts() {
    let world = World::with(700);
    let (shared, to) = collector(&[], 100).await;
    world.export(&to, Format::Ocsf).await.unwrap();
    let collector = shared.lock().unwrap();
    assert_eq!(collector.taken.len(), 701);
    whole(&world, &collector.taken);
    assert!(
        collector
            .kinds
            .iter()
            .all(|kind| kind == "application/x-ndjson")
    );
}

#[tokio::test]
async fn what_is_refused_for_good_stays_untaken() {
    let world = World::with(3);
    let (shared, to) = collector(&[401], 10_000).await;
    let code = |result: Result<Exported, Error>| result.unwrap_err().finding().code.into_owned();
    assert_eq!(
        code(world.export(&to, Format::Ocsf).await),
        "EXPORT-SINK-REFUSED"
    );
    assert!(!world.beside("cursor").exists());
    // Redirects are not followed.
    shared.lock().unwrap().answers = vec![307];
    assert_eq!(
        code(world.export(&to, Format::Ocsf).await),
        "EXPORT-SINK-REFUSED"
    );
    world.export(&to, Format::Ocsf).await.unwrap();
    whole(&world, &shared.lock().unwrap().taken);
}

#[tokio::test]
async fn headers_come_from_a_file_and_are_not_told() {
    let world = World::with(3);
    let (shared, to) = collector(&[], 10_000).await;
    let file = world.beside("headers");
    let open = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let secrets = Secrets {
            authorities: None,
            headers: Some(file.clone()),
        };
        Sink::open(&to, Format::Ocsf, &secrets)
    };
    let refused = open("Authorization: Bearer a\nsecret\n").err().unwrap();
    let finding = refused.finding();
    assert_eq!(finding.code, "EXPORT-SINK-HEADERS");
    assert!(!finding.to_string().contains("secret"), "{finding}");
    let sink = open("Authorization: Bearer secret\n\n").unwrap();
    let options = world.options(Format::Ocsf);
    let stop = CancellationToken::new();
    export::run(&options, Cursor::unkept(), sink, &stop)
        .await
        .unwrap();
    assert_eq!(shared.lock().unwrap().secrets, ["Bearer secret"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_after_a_while() {
    let world = World::with(3);
    let to = format!("http://{}/", testkit::port::free().unwrap());
    let sink = Sink::open(&to, Format::Ocsf, &Secrets::default()).unwrap();
    let mut options = world.options(Format::Ocsf);
    options.patience.in_all = std::time::Duration::from_millis(100);
    let stop = CancellationToken::new();
    let refused = export::run(&options, Cursor::unkept(), sink, &stop)
        .await
        .unwrap_err();
    assert_eq!(refused.finding().code, "EXPORT-SINK");
}
