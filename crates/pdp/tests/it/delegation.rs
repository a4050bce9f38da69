//! Who acts on behalf of others is decided by what each of them may do, and what it says of them can only narrow.

use crate::world::{World, estate};
use ledger::body::Decision;
use pdp::authzen::{EVALUATION, SEARCH_ACTION, parse_evaluation};
use pdp::{Decider, Known};
use serde_json::{Value, json};
use spiffe_core::TrustDomain;

/// In the world of the other tests nobody has delegated anything.
const GRANT: &str = "[[delegation]]\nid = \"alice reads for bob\"\nfrom = 'Identity::\"bob\"'\n\
                     to = 'Identity::\"alice\"'\nactions = [\"select\", \"insert\"]\n";

fn asked(what: &str, table: &str, on_behalf_of: &Value) -> Value {
    json!({
        "subject": {"type": "identity", "id": "alice", "properties": {"on_behalf_of": on_behalf_of}},
        "action": {"name": what},
        "resource": {"type": "table", "id": format!("app/public/{table}")},
    })
}

/// Whether it is allowed, and why or why not.
fn decide(body: &Value, grant: bool) -> (bool, String) {
    let mut files = estate();
    if grant {
        files.insert("delegations/d.toml", GRANT);
    }
    let decider = Decider::open(&files.to_blob()).unwrap();
    let now = facts::Timestamp::EPOCH;
    let domain = TrustDomain::new("example.org").unwrap();
    let evaluation = parse_evaluation(body.to_string().as_bytes()).unwrap();
    let question = match evaluation.question(&domain, None, false, now) {
        Ok(question) => question,
        Err(refused) => return (false, refused.finding.code.to_string()),
    };
    let version = decider.version(now).unwrap();
    let answer = version.decide(&question);
    let context = pdp::authzen::context(&answer, &Known::Nothing, &version, None);
    let reason = context["reason"].as_str().unwrap().to_owned();
    (answer.decision.allow, reason)
}

#[test]
fn a_chain_gets_what_every_hop_may_and_the_grant_carries() {
    let bob = json!(["bob"]);
    for (what, table, grant, allow, reason) in [
        (
            "select",
            "record-1",
            true,
            true,
            "allowed by policies/app.cedar",
        ),
        // Alice may, bob may not: the deputy is not confused.
        (
            "insert",
            "record-1",
            true,
            false,
            "no policy allows it to bob",
        ),
        // Bob may, alice may not.
        (
            "select",
            "record-2",
            true,
            false,
            "no policy allows it to alice",
        ),
        ("select", "record-1", false, false, "DELEGATION-NONE"),
        // Both may unless facts forbid it, and no facts are known; nor does the grant carry it.
        ("update", "record-1", true, false, "DELEGATION-GRANT"),
    ] {
        let (allowed, said) = decide(&asked(what, table, &bob), grant);
        assert_eq!(allowed, allow, "{what} {table} {said}");
        assert!(said.contains(reason), "{what} {table}: {said}");
    }
    // Without the chain alice acts by what she may herself.
    let mut alone = asked("insert", "record-1", &bob);
    alone["subject"]
        .as_object_mut()
        .unwrap()
        .remove("properties");
    assert!(decide(&alone, true).0);
}

#[test]
fn what_is_no_chain_is_refused_and_not_read_past() {
    let long = vec!["bob"; 8];
    let wide = vec!["b".repeat(1_000); 3];
    for (on_behalf_of, code) in [
        (json!([]), "PDP-DELEGATION"),
        (json!(long), "PDP-DELEGATION"),
        (json!(wide), "PDP-DELEGATION"),
        (json!(["alice"]), "DELEGATION-CHAIN"),
        (json!(["bob", "bob"]), "DELEGATION-CHAIN"),
        (json!(["../bob"]), "PDP-SUBJECT"),
        (json!(["spiffe://other.org/bob"]), "PDP-SUBJECT-DOMAIN"),
    ] {
        let got = decide(&asked("select", "record-1", &on_behalf_of), true);
        assert_eq!(got, (false, code.to_owned()), "{on_behalf_of}");
    }
    for odd in [json!("bob"), json!([1]), json!({"0": "bob"})] {
        let body = asked("select", "record-1", &odd).to_string();
        assert!(parse_evaluation(body.as_bytes()).is_err(), "{odd}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_says_on_whose_behalf_and_a_search_does_not_guess() {
    let world = World::configured(|config| config.delegation = pdp::Delegation::Claimed).await;
    let body = asked("select", "record-1", &json!(["spiffe://example.org/bob"]));
    let (status, answer) = world.post(EVALUATION, &body).await;
    assert_eq!(
        (status, &answer["decision"]),
        (200, &json!(false)),
        "{answer}"
    );
    let hops = &answer["context"]["on_behalf_of"]["hops"];
    assert_eq!(hops[0]["subject"], "bob", "{answer}");
    assert_eq!(hops[1]["decision"], true, "{answer}");
    let refused = &answer["context"]["on_behalf_of"]["delegations"][0]["refused"];
    assert!(
        refused.as_str().unwrap().contains("DELEGATION-NONE"),
        "{answer}"
    );
    let record: Decision = world.decisions().pop().unwrap();
    assert!(!record.allow);
    assert_eq!(record.findings, ["DELEGATION-NONE"]);
    let about = record.about.unwrap();
    assert_eq!(about.spiffe_id, "spiffe://example.org/alice");
    assert_eq!(about.claimed_on_behalf_of, ["spiffe://example.org/bob"]);
    let mut search = body;
    search.as_object_mut().unwrap().remove("action");
    let answer = world
        .send(SEARCH_ACTION, &[], search.to_string().as_bytes())
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("PDP-DELEGATION-SEARCH"),
        "{}",
        answer.body
    );
    world.stop().await;
}
