//! By which facts an answer is given, and who says them.

use crate::plane::Svid;
use crate::world::{World, this_process};
use ledger::body::{FactValue, TargetKind};
use pdp::Right;
use pdp::authzen::{EVALUATION, SEARCH_ACTION};
use serde_json::{Value, json};

fn asked(what: &str) -> Value {
    json!({
        "subject": {"type": "identity", "id": "alice"},
        "action": {"name": what},
        "resource": {"type": "table", "id": "app/public/record-1"},
    })
}

fn x5c(svid: &Svid) -> Value {
    let chain: Vec<String> = svid
        .chain
        .iter()
        .map(|der| crypto::base64::encode(der))
        .collect();
    json!({"x5c": chain})
}

fn shown(what: &str, svid: &Svid) -> Value {
    let mut body = asked(what);
    body["subject"]["properties"] = x5c(svid);
    body
}

fn stated(what: &str, facts: &Value) -> Value {
    let mut body = asked(what);
    body["context"] = json!({"facts": facts});
    body
}

/// Without facts a `forbid` over them would not be met: whoever tells less would be allowed more.
#[tokio::test(flavor = "multi_thread")]
async fn who_tells_no_facts_is_allowed_what_no_facts_can_take_away() {
    let world = World::start().await;
    for (what, by) in [("delete", "when"), ("update", "unless")] {
        let (_, answer) = world.post(EVALUATION, &asked(what)).await;
        assert_eq!(answer["decision"], false, "{what}");
        let context = &answer["context"];
        assert!(
            context["reason"]
                .as_str()
                .unwrap()
                .starts_with("PDP-FACTS-UNKNOWN"),
            "{answer}"
        );
        assert_eq!(
            context["depends"][by].as_array().unwrap().len(),
            1,
            "{answer}"
        );
    }
    let about = world.decisions().pop().unwrap();
    assert_eq!(about.findings, ["PDP-FACTS-UNKNOWN"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_of_an_svid_are_those_of_its_issuance() {
    let world = World::start().await;
    let alice = world.plane.issue("alice");
    for what in ["delete", "update", "select"] {
        let (status, answer) = world.post(EVALUATION, &shown(what, &alice)).await;
        assert_eq!(
            (status, &answer["decision"]),
            (200, &json!(true)),
            "{what} {answer}"
        );
        assert_eq!(answer["context"]["facts"], "issued");
    }
    let record = world.decisions().pop().unwrap();
    let about = record.about.unwrap();
    assert_eq!(about.spiffe_id, "spiffe://example.org/alice");
    assert_eq!(about.issuance.unwrap().0, alice.receipt.index);
    let mut how = shown("select", &alice);
    how.as_object_mut().unwrap().remove("action");
    let (_, answer) = world.post(SEARCH_ACTION, &how).await;
    let names: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name["name"].clone())
        .collect();
    assert_eq!(names, ["delete", "insert", "select", "update"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_svid_that_a_gateway_would_not_let_in_says_nothing() {
    let world = World::start().await;
    let (alice, bob) = (world.plane.issue("alice"), world.plane.issue("bob"));
    let code = |answer: &Value| {
        answer["context"]["error"]["code"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    let (_, answer) = world.post(EVALUATION, &shown("select", &bob)).await;
    assert_eq!(code(&answer), "PDP-SUBJECT-CERTIFICATE");
    let mut without_receipt = shown("select", &alice);
    without_receipt["subject"]["properties"]["x5c"]
        .as_array_mut()
        .unwrap()
        .truncate(1);
    let (_, answer) = world.post(EVALUATION, &without_receipt).await;
    assert_eq!(answer["decision"], false);
    for broken in [
        json!([]),
        json!(["!"]),
        json!(["AAAA"]),
        json!(["A", "A", "A", "A", "A"]),
    ] {
        let mut body = asked("select");
        body["subject"]["properties"] = json!({"x5c": broken});
        let (status, answer) = world.post(EVALUATION, &body).await;
        assert_eq!(
            (status, &answer["decision"]),
            (200, &json!(false)),
            "{body} {answer}"
        );
    }
    world.plane.revoke(TargetKind::Serial, &alice.serial);
    let revoked = async {
        loop {
            let (_, answer) = world.post(EVALUATION, &shown("select", &alice)).await;
            if code(&answer) == "GATEWAY-REVOKED" {
                return;
            }
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, revoked)
        .await
        .unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_are_stated_by_who_may_and_stand_in_the_record() {
    let world = World::configured(|config| {
        config.processes = vec![this_process(&[Right::Evaluate, Right::StateFacts])];
    })
    .await;
    let by_tpm = json!({"machine.join": "tpm"});
    for (what, facts, decision) in [
        ("delete", by_tpm.clone(), true),
        ("delete", json!({"machine.join": "token"}), false),
        ("update", json!({"machine.join": "token"}), false),
        ("update", json!({}), true),
        ("delete", json!({"machine.join": 7}), false),
        ("delete", json!({"no.such.fact": "x"}), false),
    ] {
        let (status, answer) = world.post(EVALUATION, &stated(what, &facts)).await;
        assert_eq!(
            (status, &answer["decision"]),
            (200, &json!(decision)),
            "{what} {facts} {answer}"
        );
    }
    let first = world.decisions().remove(0).about.unwrap();
    assert_eq!(first.issuance, None);
    assert_eq!(
        first.stated["machine.join"],
        FactValue::Text("tpm".to_owned())
    );
    for facts in [
        json!("x"),
        json!({"a": null}),
        json!({"a": {"b": 1}}),
        json!({"a": "x".repeat(3_000)}),
        json!({"a": 9_007_199_254_740_994_i64}),
        json!({"a": "\u{0}"}),
    ] {
        let (_, answer) = world.post(EVALUATION, &stated("select", &facts)).await;
        assert_eq!(answer["context"]["error"]["code"], "PDP-FACTS", "{facts}");
    }
    let alice = world.plane.issue("alice");
    let mut twice = shown("delete", &alice);
    twice["context"] = json!({"facts": by_tpm});
    let (_, answer) = world.post(EVALUATION, &twice).await;
    assert_eq!(answer["context"]["error"]["code"], "PDP-FACTS-TWICE");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_who_may_not_state_any_are_refused_and_not_read_past() {
    let world = World::start().await;
    let (status, answer) = world
        .post(
            EVALUATION,
            &stated("select", &json!({"machine.join": "tpm"})),
        )
        .await;
    assert_eq!((status, &answer["decision"]), (200, &json!(false)));
    assert_eq!(answer["context"]["error"]["code"], "PDP-FACTS-RIGHT");
    assert_eq!(answer["context"]["error"]["status"], 403);
    world.stop().await;
}
