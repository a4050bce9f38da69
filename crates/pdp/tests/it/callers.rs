//! Who may ask. Every other connection ends without an answer.

use crate::world::{World, caller, this_process, uid};
use ledger::body::TargetKind;
use pdp::Right;
use pdp::authzen::{EVALUATION, SEARCH_ACTION};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

fn asked() -> Value {
    json!({
        "subject": {"type": "identity", "id": "alice"},
        "action": {"name": "select"},
        "resource": {"type": "table", "id": "app/public/record-1"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_whoever_is_named_may_ask_and_nobody_else() {
    let world = World::start().await;
    let envoy = world.plane.issue("envoy/edge");
    let answer = world.post_as(&envoy, EVALUATION, &asked()).await.unwrap();
    assert_eq!(
        (answer.status, &answer.json()["decision"]),
        (200, &json!(true))
    );
    let alice = world.plane.issue("alice");
    assert!(world.post_as(&alice, EVALUATION, &asked()).await.is_none());
    // A plain connection, and one without a certificate, come to nothing.
    let plain = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let request = crate::world::post(EVALUATION, &[], asked().to_string().as_bytes());
    assert_eq!(crate::world::exchange(plain, &request).await.status, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_was_not_given_is_refused() {
    let world = World::start().await;
    let envoy = world.plane.issue("envoy/edge");
    let mut search = asked();
    search.as_object_mut().unwrap().remove("action");
    let answer = world.post_as(&envoy, SEARCH_ACTION, &search).await.unwrap();
    assert_eq!(answer.status, 403);
    assert!(answer.body.starts_with("PDP-CALLER-RIGHT"), "{answer:?}");
    world.stop().await;
    let world = World::configured(|config| {
        config.callers = vec![caller("spiffe://example.org/envoy/edge", &[Right::Search])];
    })
    .await;
    let envoy = world.plane.issue("envoy/edge");
    let answer = world.post_as(&envoy, SEARCH_ACTION, &search).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = world.post_as(&envoy, EVALUATION, &asked()).await.unwrap();
    assert_eq!(answer.status, 403);
    world.stop().await;
}

/// INVARIANT 7: a connection that stays open ends with the identity that it rests on.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_ends_when_its_caller_is_revoked() {
    let world = World::start().await;
    let envoy = world.plane.issue("envoy/edge");
    let mut open = world.tls(&envoy).await.unwrap();
    // Its caller was admitted once it has an answer.
    let request = crate::world::post(EVALUATION, &[], asked().to_string().as_bytes());
    let request = String::from_utf8(request)
        .unwrap()
        .replace("connection: close\r\n", "");
    tokio::io::AsyncWriteExt::write_all(&mut open, request.as_bytes())
        .await
        .unwrap();
    let mut first = [0; 15];
    open.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    world.plane.revoke(TargetKind::Identity, "envoy/edge");
    let begun = std::time::Instant::now();
    let mut rest = Vec::new();
    let ended = open.read_to_end(&mut rest);
    let _cut = tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .unwrap();
    // Before the timeout after which it would have ended by itself.
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    assert!(world.post_as(&envoy, EVALUATION, &asked()).await.is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_socket_a_process_has_to_be_all_that_its_entry_says() {
    let mine = std::fs::canonicalize(std::env::current_exe().unwrap()).unwrap();
    let digest = crypto::hex::encode(&crypto::sha256(&std::fs::read(&mine).unwrap()));
    let other = "0".repeat(64);
    for (unit, executable, sha256, user, served) in [
        (None, Some(mine.clone()), Some(digest.clone()), uid(), true),
        (None, None, None, uid(), true),
        (None, None, Some(other), uid(), false),
        (
            None,
            Some("/usr/bin/true".into()),
            Some(digest.clone()),
            uid(),
            false,
        ),
        (Some("no-such.service".to_owned()), None, None, uid(), false),
        (None, None, None, uid() + 1, false),
    ] {
        let world = World::configured(|config| {
            let mut entry = this_process(&[Right::Evaluate]);
            (entry.unit, entry.executable, entry.sha256, entry.uid) =
                (unit.clone(), executable.clone(), sha256.clone(), user);
            config.processes = vec![entry];
        })
        .await;
        let body = asked().to_string();
        let answer = world.send(EVALUATION, &[], body.as_bytes()).await;
        let expected = if served { 200 } else { 0 };
        assert_eq!(
            answer.status, expected,
            "{unit:?} {executable:?} {sha256:?} {user}"
        );
        world.stop().await;
    }
}

/// Another program of the same user is another process: curl, which nobody here wrote.
#[tokio::test(flavor = "multi_thread")]
async fn another_program_is_served_by_its_own_entry_only() {
    let Some(curl) = testkit::tool("curl") else {
        return testkit::skip("pdp::curl", "curl is not installed");
    };
    let curl = std::fs::canonicalize(curl).unwrap();
    for (executable, served) in [
        (Some(curl.clone()), true),
        (std::env::current_exe().ok(), false),
    ] {
        let world = World::configured(|config| {
            let mut entry = this_process(&[Right::Evaluate]);
            entry.executable = executable;
            config.processes = vec![entry];
        })
        .await;
        let output = tokio::process::Command::new(&curl)
            .args(["-s", "--unix-socket"])
            .arg(&world.socket)
            .args(["-H", "Content-Type: application/json", "-d"])
            .arg(asked().to_string())
            .arg(format!("http://pdp{EVALUATION}"))
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.contains("\"decision\":true"), served, "{said:?}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_of_one_user_gives_way_to_the_next() {
    let world = World::configured(|config| config.listen.max_connections = 2).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(UnixStream::connect(&world.socket).await.unwrap());
    }
    let (status, _) = world.post(EVALUATION, &asked()).await;
    assert_eq!(status, 200);
    world.stop().await;
}
