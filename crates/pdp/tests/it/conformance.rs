//! After the certification scenario of AuthZEN Authorization API 1.0, levels Basic, Batch, Search and
//! Discovery, core: its requests in the words of our schema, and what it expects of each. Its levels
//! "Properties" rest on what a caller says of resources, which is not believed here.

use crate::world::{World, exchange};
use pdp::authzen::{EVALUATION, EVALUATIONS, SEARCH_ACTION, SEARCH_RESOURCE, SEARCH_SUBJECT};
use serde_json::{Value, json};
use tokio::net::UnixStream;

fn subject(id: &str) -> Value {
    json!({"type": "identity", "id": id})
}

fn action(name: &str) -> Value {
    json!({"name": name})
}

fn record(number: u32) -> Value {
    json!({"type": "table", "id": format!("app/public/record-{number}")})
}

fn asked(who: &str, what: &str, number: u32) -> Value {
    json!({"subject": subject(who), "action": action(what), "resource": record(number)})
}

/// `with(object, name, value)`; `null` takes the member away.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn one_evaluation_is_one_decision() {
    let world = World::start().await;
    let alice = asked("alice", "select", 1);
    let context = json!({"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"});
    let more = json!({
        "subject": {"type": "identity", "id": "alice", "properties": {"department": "Sales"}},
        "action": {"name": "select", "properties": {"method": "GET"}},
        "resource": {"type": "table", "id": "app/public/record-1", "properties": {"owner": "bob"}},
    });
    for (body, decision) in [
        (alice.clone(), true),
        (asked("alice", "insert", 1), true),
        (asked("bob", "select", 1), true),
        (asked("bob", "insert", 1), false),
        (asked("alice", "insert", 2), false),
        (asked("nobody", "select", 1), false),
        (asked("spiffe://example.org/alice", "select", 1), true),
        (asked("spiffe://other.org/alice", "select", 1), false),
        (asked("alice", "fly", 1), false),
        (
            with(
                alice.clone(),
                "subject",
                json!({"type": "user", "id": "alice"}),
            ),
            false,
        ),
        (
            with(
                alice.clone(),
                "resource",
                json!({"type": "spaceship", "id": "x"}),
            ),
            false,
        ),
        (with(alice.clone(), "context", context), true),
        (with(alice.clone(), "foo", json!({"nested": true})), true),
        (more, true),
    ] {
        let (status, answer) = world.post(EVALUATION, &body).await;
        assert_eq!(
            (status, &answer["decision"]),
            (200, &json!(decision)),
            "{body} {answer}"
        );
        assert!(answer["context"].is_object());
        let (_, again) = world.post(EVALUATION, &body).await;
        assert_eq!(again["decision"], answer["decision"]);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_why() {
    let world = World::start().await;
    let (_, allowed) = world.post(EVALUATION, &asked("alice", "select", 1)).await;
    let context = &allowed["context"];
    let policy = json!({
        "id": "alice reads and writes records", "effect": "permit", "file": "policies/app.cedar", "line": 2,
        "annotations": {},
    });
    assert_eq!(context["policies"], json!([policy]));
    assert_eq!(context["facts"], "unknown");
    assert!(context["record"].as_str().unwrap().starts_with("pdp-1:"));
    assert!(context["estate"]["index"].is_u64() && context["estate"]["version"].is_string());
    let reason = context["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("allowed by policies/app.cedar:2"),
        "{reason}"
    );
    let (_, denied) = world.post(EVALUATION, &asked("bob", "insert", 1)).await;
    assert_eq!(denied["context"]["reason"], "no policy allows it");
    let (_, unknown) = world.post(EVALUATION, &asked("alice", "Fly away", 1)).await;
    assert_eq!(unknown["context"]["error"]["code"], "PDP-ACTION");
    assert_eq!(unknown["context"]["error"]["status"], 404);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_evaluation_is_a_bad_request() {
    let world = World::start().await;
    let good = asked("alice", "select", 1);
    let mut bad: Vec<Vec<u8>> = ["subject", "action", "resource"]
        .map(|name| {
            with(good.clone(), name, Value::Null)
                .to_string()
                .into_bytes()
        })
        .to_vec();
    for (name, value) in [
        ("subject", json!({"id": "alice"})),
        ("subject", json!({"type": "identity"})),
        ("subject", json!("alice")),
        ("subject", json!(["identity", "alice"])),
        ("action", json!(["select"])),
        ("subject", json!({"type": "identity", "id": 7})),
        (
            "subject",
            json!({"type": "identity", "id": "alice", "properties": 1}),
        ),
        ("action", json!({})),
        ("action", json!({"name": 123})),
        ("resource", json!({"id": "app/public/record-1"})),
        ("resource", json!({"type": "table"})),
        ("context", json!("now")),
    ] {
        bad.push(with(good.clone(), name, value).to_string().into_bytes());
    }
    let listed = json!([good["subject"], good["action"], good["resource"]]);
    bad.push(listed.to_string().into_bytes());
    bad.extend([&b""[..], b"{", b"[]", b"null", b"\xff", b"{}"].map(<[u8]>::to_vec));
    bad.push(
        br#"{"subject":{"type":"identity","id":"a"},"subject":{"type":"identity","id":"b"}}"#
            .to_vec(),
    );
    for body in &bad {
        for path in [EVALUATION, EVALUATIONS] {
            let answer = world.send(path, &[], body).await;
            let shown = String::from_utf8_lossy(body);
            assert_eq!(answer.status, 400, "{path} {shown} {answer:?}");
            assert!(answer.body.starts_with("PDP-REQUEST: "), "{answer:?}");
        }
    }
    let good = good.to_string();
    for (kind, status) in [
        ("text/plain", 400),
        ("", 400),
        ("application/jsonp", 400),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
    ] {
        let headers = [("content-type", kind)];
        let answer = world.send(EVALUATION, &headers, good.as_bytes()).await;
        assert_eq!(answer.status, status, "{kind}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_comes_back_with_every_status() {
    let world = World::start().await;
    let good = asked("alice", "select", 1).to_string();
    for (body, status) in [(good.as_str(), 200), ("{", 400)] {
        let headers = [("x-request-id", "bfe9eb29-ab87")];
        let answer = world.send(EVALUATION, &headers, body.as_bytes()).await;
        assert_eq!(answer.status, status);
        assert!(
            answer.head.contains("x-request-id: bfe9eb29-ab87"),
            "{answer:?}"
        );
    }
    let answer = world.send(EVALUATION, &[], good.as_bytes()).await;
    assert!(!answer.head.contains("x-request-id") && answer.head.contains("application/json"));
    world.stop().await;
}

fn decisions(answer: &Value) -> Vec<bool> {
    let list = answer["evaluations"].as_array().unwrap();
    list.iter()
        .map(|one| one["decision"].as_bool().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_answered_in_their_order_with_defaults() {
    let world = World::start().await;
    let bob = json!({
        "subject": subject("bob"), "resource": record(1),
        "evaluations": [{"action": action("select")}, {"action": action("insert")}],
    });
    let own = json!({"evaluations": [asked("alice", "select", 1), asked("bob", "insert", 1)]});
    let inherited = with(
        asked("alice", "insert", 1),
        "evaluations",
        json!([{}, {"resource": record(2)}, {"subject": subject("bob"), "action": action("select")}]),
    );
    // What is given takes the place of the whole default: no id is borrowed.
    let broken = json!({
        "subject": subject("alice"), "action": action("select"),
        "options": {"evaluations_semantic": "execute_all", "another": 1},
        "evaluations": [{"resource": record(1)}, {}, {"resource": {"type": "table"}}, {"resource": record(1)}],
    });
    for (body, expected) in [
        (bob, vec![true, false]),
        (own, vec![true, false]),
        (inherited, vec![true, false, true]),
        (broken, vec![true, false, false, true]),
    ] {
        let (status, answer) = world.post(EVALUATIONS, &body).await;
        assert_eq!((status, decisions(&answer)), (200, expected), "{body}");
        assert_eq!(answer.get("decision"), None);
    }
    for evaluations in [Value::Null, json!([])] {
        let body = with(asked("alice", "select", 1), "evaluations", evaluations);
        let (status, answer) = world.post(EVALUATIONS, &body).await;
        assert_eq!((status, &answer["decision"]), (200, &json!(true)));
        assert_eq!(answer.get("evaluations"), None);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_semantic_ends_at_the_first_decision_of_its_kind() {
    let world = World::start().await;
    let body = |semantic: &str| {
        json!({
            "subject": subject("alice"), "action": action("insert"),
            "options": {"evaluations_semantic": semantic},
            "evaluations": [{"resource": record(1)}, {"resource": record(2)}, {"resource": record(1)}],
        })
    };
    let before = world.decisions().len();
    for (semantic, expected) in [
        ("execute_all", vec![true, false, true]),
        ("deny_on_first_deny", vec![true, false]),
        ("permit_on_first_permit", vec![true]),
    ] {
        let (status, answer) = world.post(EVALUATIONS, &body(semantic)).await;
        assert_eq!((status, decisions(&answer)), (200, expected), "{semantic}");
    }
    // What was not answered is not recorded either.
    assert_eq!(world.decisions().len() - before, 6);
    let (status, _) = world.post(EVALUATIONS, &body("whatever")).await;
    assert_eq!(status, 400);
    world.stop().await;
}

fn found(answer: &Value, member: &str) -> Vec<String> {
    let results = answer["results"].as_array().unwrap();
    let names = results
        .iter()
        .map(|result| result[member].as_str().unwrap().to_owned());
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_what_an_evaluation_would_allow() {
    let world = World::start().await;
    let who =
        json!({"subject": {"type": "identity"}, "action": action("select"), "resource": record(1)});
    let (status, answer) = world.post(SEARCH_SUBJECT, &who).await;
    assert_eq!(
        (status, found(&answer, "id")),
        (200, vec!["alice".to_owned(), "bob".to_owned()])
    );
    assert_eq!(answer["page"], json!({"next_token": "", "count": 2}));
    let by_id = with(
        who.clone(),
        "subject",
        json!({"type": "spiffe", "id": "ignored"}),
    );
    let (_, answer) = world.post(SEARCH_SUBJECT, &by_id).await;
    assert_eq!(
        found(&answer, "id"),
        ["spiffe://example.org/alice", "spiffe://example.org/bob"]
    );

    let what = json!({"subject": subject("alice"), "action": action("select"), "resource": {"type": "table"}});
    let (_, answer) = world.post(SEARCH_RESOURCE, &what).await;
    assert_eq!(found(&answer, "id"), ["app/public/record-1"]);
    let bobs = with(
        with(what.clone(), "subject", subject("bob")),
        "resource",
        record(1),
    );
    let (_, answer) = world.post(SEARCH_RESOURCE, &bobs).await;
    assert_eq!(
        found(&answer, "id"),
        ["app/public/record-1", "app/public/record-2"]
    );

    let how = json!({"subject": subject("alice"), "resource": record(1)});
    let (_, answer) = world.post(SEARCH_ACTION, &how).await;
    assert_eq!(found(&answer, "name"), ["insert", "select"]);

    // What nobody knows is nothing, and no mistake.
    for (path, body) in [
        (
            SEARCH_ACTION,
            with(how.clone(), "subject", subject("nobody")),
        ),
        (
            SEARCH_SUBJECT,
            with(who.clone(), "subject", json!({"type": "spaceship"})),
        ),
        (SEARCH_SUBJECT, with(who.clone(), "action", action("fly"))),
        (
            SEARCH_RESOURCE,
            with(what.clone(), "resource", json!({"type": "spaceship"})),
        ),
    ] {
        let (status, answer) = world.post(path, &body).await;
        assert_eq!((status, &answer["results"]), (200, &json!([])), "{body}");
    }
    for (path, body) in [
        (SEARCH_SUBJECT, with(who.clone(), "action", Value::Null)),
        (
            SEARCH_SUBJECT,
            with(who, "resource", json!({"type": "table"})),
        ),
        (SEARCH_RESOURCE, with(what.clone(), "subject", Value::Null)),
        (
            SEARCH_RESOURCE,
            with(what, "subject", json!({"type": "identity"})),
        ),
        (SEARCH_ACTION, with(how.clone(), "resource", Value::Null)),
        (
            SEARCH_ACTION,
            with(how, "subject", json!({"type": "identity"})),
        ),
    ] {
        let (status, answer) = world.post(path, &body).await;
        assert_eq!(status, 400, "{body} {answer}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_discovery_document_names_every_endpoint() {
    let world = World::start().await;
    let get =
        b"GET /.well-known/authzen-configuration HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let stream = UnixStream::connect(&world.socket).await.unwrap();
    let answer = exchange(stream, get).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"));
    let url = |path: &str| format!("https://pdp.example.org{path}");
    assert_eq!(
        answer.json(),
        json!({
            "policy_decision_point": url(""),
            "access_evaluation_endpoint": url("/access/v1/evaluation"),
            "access_evaluations_endpoint": url("/access/v1/evaluations"),
            "search_subject_endpoint": url("/access/v1/search/subject"),
            "search_resource_endpoint": url("/access/v1/search/resource"),
            "search_action_endpoint": url("/access/v1/search/action"),
        })
    );
    world.stop().await;
}
