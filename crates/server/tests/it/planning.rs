//! What a plan says of any data: requests that are decided otherwise, beside the proof.

use crate::harness::{Fixture, estate};
use proto::v1;

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
