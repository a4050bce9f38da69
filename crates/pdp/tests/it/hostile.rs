//! Bodies that mean no good.

use crate::world::{World, post};
use pdp::authzen::{EVALUATION, EVALUATIONS, SEARCH_SUBJECT};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let world = World::configured(|config| {
        config.listen.max_body_bytes = 4096;
        config.listen.max_evaluations = 8;
    })
    .await;
    let answer = world.send(EVALUATION, &[], &vec![b' '; 5000]).await;
    assert_eq!(answer.status, 413);
    assert!(answer.body.starts_with("PDP-BODY"), "{answer:?}");
    let many = json!({"evaluations": vec![json!({}); 9]});
    let (status, answer) = world.post(EVALUATIONS, &many).await;
    assert_eq!(status, 400);
    assert!(
        answer.as_str().unwrap().starts_with("PDP-EVALUATIONS"),
        "{answer}"
    );
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for path in [EVALUATION, EVALUATIONS, SEARCH_SUBJECT] {
        assert_eq!(world.send(path, &[], deep.as_bytes()).await.status, 400);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_ends_and_costs_nobody_else() {
    let world = World::configured(|config| config.listen.timeout_s = 3).await;
    let mut slow = UnixStream::connect(&world.socket).await.unwrap();
    let request = post(EVALUATION, &[], &[b'{'; 100]);
    let (said, _) = request.split_at(request.len() - 50);
    slow.write_all(said).await.unwrap();
    let (status, _) = world.post(EVALUATION, &json!({})).await;
    assert_eq!(status, 400);
    let mut rest = String::new();
    let ended = slow.read_to_string(&mut rest);
    tokio::time::timeout(crate::world::PATIENCE, ended)
        .await
        .unwrap()
        .unwrap();
    assert!(rest.starts_with("HTTP/1.1 408"), "{rest}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_anything_in_them_are_answered_and_recorded() {
    let world = World::start().await;
    let odd = "a\u{0}\"\\\u{1b}[2J\u{fffe}\u{fdd0}\u{202e}é/../%2F";
    let long = "x".repeat(20_000);
    for name in [odd, &long, "", "'; DROP TABLE x; --"] {
        let body = json!({
            "subject": {"type": name, "id": name},
            "action": {"name": name},
            "resource": {"type": name, "id": name},
        });
        let (status, answer) = world.post(EVALUATION, &body).await;
        assert_eq!(
            (status, &answer["decision"]),
            (200, &json!(false)),
            "{answer}"
        );
        let body = json!({
            "subject": {"type": "identity", "id": "alice"},
            "action": {"name": "select"},
            "resource": {"type": "table", "id": format!("app/public/{name}")},
        });
        let (status, answer) = world.post(EVALUATION, &body).await;
        assert_eq!(
            (status, &answer["decision"]),
            (200, &json!(false)),
            "{answer}"
        );
    }
    assert_eq!(world.decisions().len(), 8);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_end_their_connection_alone() {
    let world = World::start().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxxx",
        b"\0\0\0\0",
    ] {
        let mut stream = UnixStream::connect(&world.socket).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let _reset = tokio::time::timeout(crate::world::PATIENCE, ended)
            .await
            .unwrap();
    }
    let answer = world.send(EVALUATION, &[], b"{}").await;
    assert_eq!(answer.status, 400);
    world.stop().await;
}

/// Whatever the bytes are: they are read as a question or refused by a code, and no path is read as two.
#[test]
fn changed_bytes_are_a_question_or_a_refusal() {
    use pdp::authzen::{Target, parse_evaluation, parse_evaluations, parse_search};
    let body = json!({
        "subject": {"type": "identity", "id": "alice", "properties": {"x5c": ["AAAA"]}},
        "action": {"name": "select"}, "resource": {"type": "table", "id": "app/public/record-1"},
        "context": {"facts": {"machine.join": "tpm"}}, "page": {"token": "e30", "limit": 3},
        "evaluations": [{}, {"resource": {"type": "table", "id": "x"}}],
        "options": {"evaluations_semantic": "deny_on_first_deny"},
    })
    .to_string()
    .into_bytes();
    let mut read = 0;
    for seed in 0..20_000 {
        let changed = testkit::mutation::changed(&body, seed);
        read += usize::from(parse_evaluation(&changed).is_ok());
        read += usize::from(parse_evaluations(&changed, 8).is_ok());
        for target in [Target::Subject, Target::Resource, Target::Action] {
            read += usize::from(parse_search(target, &changed, 10).is_ok());
        }
        let text = String::from_utf8_lossy(&changed);
        let path: String = text.chars().filter(|letter| *letter != '{').collect();
        if let Ok(plain) = pdp::ext_authz::plain(&format!("/{path}")) {
            assert!(plain.starts_with('/') && !plain.contains(['\\', '\0', '#']));
            assert!(!plain.split('/').any(|part| matches!(part, "." | "..")));
        }
        drop(pdp::ext_authz::certificate(&text));
    }
    assert!(read > 1_000, "only {read} were read");
}
