//! What a plan says of any data: requests that are decided otherwise, beside the proof; and how it is told in parts.

use crate::harness::{Fixture, estate, finding};
use proto::v1;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tonic::Status;

/// What a plan says of any data informs: not to know it keeps nobody from applying.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_is_decided_otherwise_over_any_data_and_an_apply_does_not_wait_for_it() {
    let plan = async |fixture: &Fixture, files: &estate::EstateFiles| {
        let request = v1::EstateRequest {
            files: files.to_blob(),
            ..v1::EstateRequest::default()
        };
        let plan = fixture.admin().await.estate_plan(request).await.unwrap();
        serde_json::from_str::<serde_json::Value>(&plan.into_inner().json).unwrap()
    };
    let mut files = estate();
    files.insert(
        "policies/more.cedar",
        "@id(\"more\")\npermit (principal is Identity, action == Action::\"select\", resource is Table);",
    );
    let blind = Fixture::solved_by("/nonexistent/cvc5").await;
    blind.apply(&estate()).await.unwrap();
    let same = plan(&blind, &estate()).await;
    assert!(same["witnesses"].is_null(), "{same}");
    let unknown = plan(&blind, &files).await;
    assert_eq!(unknown["applicable"], true, "{unknown}");
    let allowed = &unknown["witnesses"]["newly_allowed"];
    assert_eq!(allowed["code"], "PROVE-SOLVER-START", "{unknown}");
    let applied = blind.apply(&files).await.unwrap();
    assert!(applied["witnesses"].is_null(), "{applied}");

    if testkit::tool("cvc5").is_none() {
        testkit::skip("server.witnesses", "cvc5 is not installed");
        return;
    }
    let fixture = Fixture::start().await;
    let mut known = plan(&fixture, &files).await;
    // Its time is short, and other tests run beside.
    for _ in 0..5 {
        if known["witnesses"]["newly_allowed"]["code"] != "PROVE-TIMEOUT" {
            break;
        }
        known = plan(&fixture, &files).await;
    }
    assert_eq!(
        known["witnesses"]["newly_denied"]["status"], "proved",
        "{known}"
    );
    let allowed = &known["witnesses"]["newly_allowed"];
    assert_eq!(
        allowed["witness"]["text"],
        "some Identity could select some Table, because of policies/more.cedar:1 \"more\"",
        "{known}"
    );
}

/// Tables enough that what is newly allowed is longer than a message of a plan.
fn many_tables() -> estate::EstateFiles {
    let mut files = estate();
    let mut tables =
        "[[database]]\nname = \"large\"\n[[database.schema]]\nname = \"public\"\n".to_owned();
    for number in 0..900 {
        writeln!(tables, "[[database.schema.table]]\nname = \"t{number}\"").unwrap();
    }
    files.insert("resources/large.toml", tables);
    files.insert(
        "policies/large.cedar",
        "@id(\"everything\")\npermit (principal is Identity, action in [Action::\"select\", Action::\"insert\"], \
         resource is Table);",
    );
    files
}

/// The plan put together of what one call says, and how it goes on.
async fn part(
    fixture: &Fixture,
    files: &estate::EstateFiles,
    (limit, after): (u64, &str),
) -> Result<(Value, usize, Option<String>), Status> {
    let plan = v1::EstateRequest {
        files: files.to_blob(),
        ..v1::EstateRequest::default()
    };
    let request = v1::EstatePlanPartsRequest {
        plan: Some(plan),
        limit,
        after: after.to_owned(),
    };
    let mut stream = fixture
        .admin()
        .await
        .estate_plan_parts(request)
        .await?
        .into_inner();
    let (mut plan, mut messages, mut next) = (Value::Null, 0, None);
    let mut ended = false;
    while let Some(message) = stream.message().await? {
        let mut message: Value = serde_json::from_str(&message.json).unwrap();
        assert!(!ended, "the end is the last");
        messages += 1;
        if message["head"].is_object() {
            plan = message["head"].take();
        } else if message["end"].is_object() {
            next = message["end"]["next"].as_str().map(str::to_owned);
            ended = true;
        } else {
            let at = message["at"].as_str().unwrap();
            let list = plan.pointer_mut(at).and_then(Value::as_array_mut).unwrap();
            list.extend(message["items"].as_array().unwrap().iter().cloned());
        }
    }
    assert!(ended, "it says that it is at its end");
    Ok((plan, messages, next))
}

/// Once, a plan was one message, however large the estate was.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_a_large_estate_comes_in_messages_and_in_parts_that_come_to_the_whole() {
    let fixture = Fixture::solved_by("/nonexistent/cvc5").await;
    fixture.apply(&estate()).await.unwrap();
    let files = many_tables();
    let (whole, messages, next) = part(&fixture, &files, (0, "")).await.unwrap();
    assert_eq!(next, None);
    let widened = whole["diff"]["widened"].as_array().unwrap().clone();
    // Two actions of two identities, and what no file lists.
    assert!(widened.len() > 4 * 900, "{}", whole["part"]);
    assert_eq!(whole["part"]["lists"]["/diff/widened"], widened.len());
    assert!(messages > 3, "{messages} messages");
    assert_eq!(whole["applicable"], true);
    // What one message says is the same.
    let request = v1::EstateRequest {
        files: files.to_blob(),
        ..v1::EstateRequest::default()
    };
    let plan = fixture.admin().await.estate_plan(request).await.unwrap();
    let plan: Value = serde_json::from_str(&plan.into_inner().json).unwrap();
    assert_eq!(plan["diff"], whole["diff"]);

    let (mut got, mut after, mut parts) = (Vec::new(), String::new(), 0);
    let mut first = None;
    loop {
        let (plan, _, next) = part(&fixture, &files, (1_500, &after)).await.unwrap();
        parts += 1;
        assert_eq!(plan["part"]["of"], whole["part"]["of"]);
        got.extend(plan["diff"]["widened"].as_array().unwrap().iter().cloned());
        first = first.or_else(|| next.clone());
        let Some(next) = next else {
            break;
        };
        after = next;
    }
    assert!(parts >= 3, "{parts}");
    assert!(got == widened, "what the parts have is not the whole");

    // A part goes with what it was planned against.
    let cursor = first.unwrap();
    let mut other = files.clone();
    other.insert("policies/none.cedar", "// Others.\n");
    let refused = part(&fixture, &other, (10, &cursor)).await.unwrap_err();
    assert_eq!(finding(&refused).code, "QUESTION-CURSOR");
    fixture.apply(&files).await.unwrap();
    let refused = part(&fixture, &files, (10, &cursor)).await.unwrap_err();
    assert_eq!(finding(&refused).code, "QUESTION-ESTATE-CHANGED");
    let same = part(&fixture, &files, (0, "")).await.unwrap().0;
    assert_eq!(same["diff"]["widened"], json!([]));
}
