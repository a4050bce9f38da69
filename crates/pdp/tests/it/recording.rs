//! INVARIANT 5: no answer without its record, whatever happens to the disk.

use crate::faulty_disk::FaultyDisk;
use crate::world::{World, uid};
use ledger::RecordType;
use pdp::authzen::{EVALUATION, EVALUATIONS, SEARCH_ACTION};
use serde_json::{Value, json};
use std::sync::Arc;

fn asked(who: &str) -> Value {
    json!({
        "subject": {"type": "identity", "id": who},
        "action": {"name": "select"},
        "resource": {"type": "table", "id": "app/public/record-1"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_its_record_and_the_record_says_who_asked() {
    let world = World::start().await;
    let (_, answer) = world.post(EVALUATION, &asked("alice")).await;
    let id = answer["context"]["record"].as_str().unwrap();
    let index: u64 = id.strip_prefix("pdp-1:").unwrap().parse().unwrap();
    let record = world.core.reader().record(index).unwrap();
    assert_eq!(record.kind(), RecordType::Decision);
    assert_eq!(record.actor(), format!("uid:{}", uid()));
    let pid = std::process::id();
    assert!(
        record.auth().contains(&format!("pid={pid},")),
        "{}",
        record.auth()
    );
    assert_eq!(
        record.estate().unwrap().index,
        answer["context"]["estate"]["index"].as_u64().unwrap()
    );
    let body: ledger::body::Decision = record.expect_body().unwrap();
    assert!(body.allow && body.statement == "evaluation");
    assert_eq!(body.policies, ["alice reads and writes records"]);
    assert_eq!(body.actions[0].action, "select");
    assert_eq!(
        body.actions[0].resources,
        ["Table::\"app/public/record-1\""]
    );
    assert_eq!(body.about.unwrap().spiffe_id, "spiffe://example.org/alice");

    let envoy = world.plane.issue("envoy/edge");
    let answer = world
        .post_as(&envoy, EVALUATION, &asked("bob"))
        .await
        .unwrap();
    let id = answer.json()["context"]["record"]
        .as_str()
        .unwrap()
        .to_owned();
    let index: u64 = id.strip_prefix("pdp-1:").unwrap().parse().unwrap();
    let record = world.core.reader().record(index).unwrap();
    assert_eq!(record.actor(), "spiffe://example.org/envoy/edge");
    assert_eq!(record.auth(), format!("x509-svid:{}", envoy.serial));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_answers_stand_side_by_side_and_a_search_is_recorded_as_one() {
    let world = World::start().await;
    let before = world.core.reader().size();
    let list: Vec<Value> = (0..20)
        .map(|_| asked("alice"))
        .chain([asked("eve"), json!({})])
        .collect();
    let (_, answer) = world.post(EVALUATIONS, &json!({"evaluations": list})).await;
    let ids: Vec<String> = answer["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["context"]["record"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<String> = (before..before + 22)
        .map(|index| format!("pdp-1:{index}"))
        .collect();
    assert_eq!(ids, expected);
    let last = world.decisions().pop().unwrap();
    assert_eq!(
        (last.allow, last.findings),
        (false, vec!["PDP-REQUEST".to_owned()])
    );

    let search = json!({"subject": {"type": "identity", "id": "alice"}, "resource": {"type": "table", "id": "app/public/record-1"}});
    let (status, _) = world.post(SEARCH_ACTION, &search).await;
    assert_eq!(status, 200);
    let searches = world.records(RecordType::Admin);
    let body: ledger::body::Admin = searches[0].expect_body().unwrap();
    assert_eq!(
        (body.action.as_str(), body.resource.as_str()),
        ("search/action", "table app/public/record-1")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_records_cannot_be_kept_answers_stop_and_go_on_when_they_can() {
    let disk = FaultyDisk::default();
    let world = World::start_with(|_| {}, Arc::new(disk.clone())).await;
    let (status, _) = world.post(EVALUATION, &asked("alice")).await;
    assert_eq!(status, 200);
    disk.fill();
    let search = json!({"subject": {"type": "identity", "id": "alice"}, "resource": {"type": "table", "id": "app/public/record-1"}});
    for (path, body) in [
        (EVALUATION, &asked("alice")),
        (EVALUATION, &asked("eve")),
        (SEARCH_ACTION, &search),
    ] {
        let (status, answer) = world.post(path, body).await;
        assert_eq!(status, 503, "{answer}");
        assert!(
            answer
                .as_str()
                .unwrap()
                .starts_with("GATEWAY-RECORDING-STOPPED"),
            "{answer}"
        );
    }
    disk.empty();
    let again = async { while world.post(EVALUATION, &asked("alice")).await.0 != 200 {} };
    tokio::time::timeout(crate::world::PATIENCE, again)
        .await
        .unwrap();
    world.stop().await;
}
