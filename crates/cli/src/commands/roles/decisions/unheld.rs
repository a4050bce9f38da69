//! Why the decisions of a node agent wait for their identity, in the agent's own log: the policy that does not give it
//! to the agent's process, what it wants and what the server saw. The agent asks itself, as `trilith whoami` does.

use agent::client::Client;
use facts::Finding;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Until the server has answered about a process that has just begun to ask, and between looks.
const EVERY: Duration = Duration::from_secs(5);

/// Tells it, and again whenever it is another reason, until the identity is held.
pub(super) async fn tell(workload_socket: PathBuf, spiffe_id: String) {
    let address = format!("unix://{}", workload_socket.display());
    let mut told = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let Ok(client) = Client::connect(&address).await else {
            continue;
        };
        let Ok(status) = client.status(None).await else {
            continue;
        };
        match look(&status, &spiffe_id) {
            Look::Held => return,
            Look::NotKnown => {}
            Look::Refused(finding) => {
                let finding = Some(*finding);
                if told != finding {
                    told = finding;
                    if let Some(finding) = &told {
                        tracing::warn!(%finding, "decisions wait for their identity");
                    }
                }
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Look {
    Held,
    /// The agent itself cannot say yet, and its log says why.
    NotKnown,
    Refused(Box<Finding>),
}

fn look(status: &Value, spiffe_id: &str) -> Look {
    let listed = |name: &str| {
        let list = status.get(name).and_then(Value::as_array);
        let mut list = list.into_iter().flatten();
        list.find(|one| one.get("spiffe_id").and_then(Value::as_str) == Some(spiffe_id))
    };
    if listed("identities").is_some() {
        return Look::Held;
    }
    if status.get("refused_identities").is_none() {
        return Look::NotKnown;
    }
    let findings = listed("refused_identities").and_then(|one| one.get("findings"));
    let findings = findings.and_then(Value::as_array).into_iter().flatten();
    let findings = findings.filter_map(|one| serde_json::from_value::<Finding>(one.clone()).ok());
    let nearest = findings.min_by_key(|one| agent::helper::distance(&one.code));
    let message = |why: &str| {
        format!("the server does not give this agent {spiffe_id} for its decisions: {why}")
    };
    let finding = match nearest {
        None => Finding::new(
            "AGENT-DECISIONS-IDENTITY",
            message("no policy for `assume` comes near its process, or it is not declared"),
        )
        .next("declare it in identities/, and let a policy give it to the agent's own process: docs/operate/agent-decisions.md"),
        Some(near) => {
            let mut finding = Finding::new("AGENT-DECISIONS-IDENTITY", message(&near.message));
            let unit = near.expected.as_deref().is_some_and(|text| text.contains("unit"));
            let next = near.next.clone().unwrap_or_default();
            if let Some(expected) = near.expected {
                finding = finding.expected(expected);
            }
            if let Some(observed) = near.observed {
                finding = finding.observed(observed);
            }
            // Whoever starts the agent by hand has no unit to name.
            finding.next(match unit {
                true => format!(
                    "{next}: start the agent as that unit, or let the policy ask for its uid and path instead, as \
                     docs/operate/agent-decisions.md shows"
                ),
                false => next,
            })
        }
    };
    Look::Refused(Box::new(finding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    const ID: &str = "spiffe://example.org/gateway/decisions/web-1";

    fn said(refused: &Value) -> String {
        let status = json!({ "v": 1, "identities": [], "refused_identities": refused });
        match look(&status, ID) {
            Look::Refused(finding) => finding.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// Once, the log said that there is no identity, and left to find out why.
    #[test]
    fn the_policy_that_refused_it_is_named_with_what_it_wants_and_what_was_seen() {
        let refused = json!([
            { "spiffe_id": "spiffe://example.org/other", "findings": [{ "code": "ASSUME-FORBIDDEN", "message": "no" }] },
            { "spiffe_id": ID, "findings": [
                { "code": "ASSUME-PLACEMENT", "message": "elsewhere" },
                { "code": "ASSUME-CONDITION",
                  "message": "policies/agents.cedar:3 \"the agent of web-1 decides\" does not let this workload become gateway/decisions/web-1",
                  "expected": "principal has unit && principal.unit == \"trilith-agent.service\"",
                  "observed": "principal.unit is absent",
                  "next": "look at policies/agents.cedar:3" },
            ] },
        ]);
        expect![[r#"AGENT-DECISIONS-IDENTITY: the server does not give this agent spiffe://example.org/gateway/decisions/web-1 for its decisions: policies/agents.cedar:3 "the agent of web-1 decides" does not let this workload become gateway/decisions/web-1; expected principal has unit && principal.unit == "trilith-agent.service"; saw principal.unit is absent; next: look at policies/agents.cedar:3: start the agent as that unit, or let the policy ask for its uid and path instead, as docs/operate/agent-decisions.md shows"#]]
            .assert_eq(&said(&refused));
        assert!(said(&json!([])).contains("it is not declared"));
    }

    #[test]
    fn what_is_held_or_not_known_yet_is_no_refusal() {
        let held = json!({ "identities": [{ "spiffe_id": ID }], "refused_identities": [] });
        assert_eq!(look(&held, ID), Look::Held);
        let offline = json!({ "v": 1, "refused": "AGENT-OFFLINE: the server cannot be reached" });
        assert_eq!(look(&offline, ID), Look::NotKnown);
    }
}
