//! What a policy says of itself stands in the answers that it determines.

use crate::world::estate;
use pdp::authzen::parse_evaluation;
use pdp::{Decider, Known};
use serde_json::{Map, Value, json};
use spiffe_core::TrustDomain;

const FORBID: &str = "@id(\"nobody reads the first record\")\n@owner(\"data protection\")\n\
     @reason(\"it is under dispute\")\n@control(\"SOC2-CC6.1\")\n@ticket(\"OPS-7\")\n\
     forbid (principal is Identity, action == Action::\"select\", resource == Table::\"app/public/record-1\");\n";

fn context_of(what: &str, on_behalf_of: &[&str]) -> Map<String, Value> {
    let mut files = estate();
    files.insert("policies/held.cedar", FORBID);
    let decider = Decider::open(&files.to_blob()).unwrap();
    let now = facts::Timestamp::EPOCH;
    let mut body = json!({
        "subject": {"type": "identity", "id": "alice"},
        "action": {"name": what},
        "resource": {"type": "table", "id": "app/public/record-1"},
    });
    if !on_behalf_of.is_empty() {
        body["subject"]["properties"] = json!({"on_behalf_of": on_behalf_of});
    }
    let evaluation = parse_evaluation(body.to_string().as_bytes()).unwrap();
    let domain = TrustDomain::new("example.org").unwrap();
    let question = evaluation.question(&domain, None, false, now).unwrap();
    let version = decider.version(now).unwrap();
    let answer = version.decide(&question);
    pdp::authzen::context(&answer, &Known::Nothing, &version, None)
}

#[test]
fn an_answer_says_whose_its_policy_is_why_it_stands_and_for_which_control() {
    let context = context_of("select", &[]);
    let policy = json!({
        "id": "nobody reads the first record", "effect": "forbid", "file": "policies/held.cedar", "line": 1,
        "annotations": {
            "owner": "data protection", "reason": "it is under dispute", "control": "SOC2-CC6.1", "ticket": "OPS-7",
        },
    });
    assert_eq!(context["policies"], json!([policy]));
    assert_eq!(
        context["reason"],
        "denied by policies/held.cedar:1 \"nobody reads the first record\" \
         (owner data protection; reason it is under dispute; control SOC2-CC6.1)"
    );
}

#[test]
fn each_hop_of_a_chain_says_it_too() {
    let context = context_of("select", &["bob"]);
    let hops = context["on_behalf_of"]["hops"].as_array().unwrap();
    assert_eq!(hops.len(), 2);
    for hop in hops {
        assert_eq!(
            hop["policies"][0]["annotations"]["control"], "SOC2-CC6.1",
            "{hop}"
        );
    }
}
