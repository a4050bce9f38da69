//! What a helper says when it is refused: findings, the nearest first.

use super::HelperError;
use crate::client::{Client, ClientError};
use facts::Finding;
use serde_json::Value;
use std::path::Path;

/// Of what was refused to this caller. `told` is what the stream said, without what was expected.
pub(super) async fn explained(address: &str, program: Option<&Path>, told: String) -> HelperError {
    let status = match Client::connect(address).await {
        Ok(client) => client.status(program).await,
        Err(error) => Err(error),
    };
    let findings = status.map_or_else(|_| Vec::new(), |status| nearest_first(&status));
    if findings.is_empty() {
        return HelperError::Client(ClientError::Denied(told));
    }
    HelperError::Refused(findings)
}

impl HelperError {
    /// As a user sees it, the nearest refusal first.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let finding = |code, next| Finding::new(code, self.to_string()).next(next);
        vec![match self {
            Self::Refused(findings) => return findings.clone(),
            Self::Offline(finding) => finding.clone(),
            Self::Client(error) => error.finding(),
            Self::Identity { wanted, given } => {
                Finding::new("HELPER-IDENTITY", "the agent gives no such identity")
                    .expected(wanted.clone())
                    .observed(given.clone())
                    .next("name one of these with --identity, or none for the first")
            }
            Self::Io {
                action,
                path,
                source,
            } => Finding::new(
                "HELPER-FILE",
                format!("cannot {action} {}: {source}", path.display()),
            )
            .next("check that the path exists and that this user may use it"),
            Self::Program(name) => Finding::new(
                "HELPER-PROGRAM",
                format!("{name} is not an executable program in PATH"),
            )
            .next("name the program by its absolute path"),
            Self::Directory(path) => Finding::new(
                "HELPER-DIRECTORY",
                format!(
                    "others may write to {}: they could replace the key",
                    path.display()
                ),
            )
            .next(format!("chmod go-w {}", path.display())),
            Self::Owner(_) => finding(
                "HELPER-OWNER",
                "name a user that /etc/passwd has, or a number",
            ),
            Self::Certificate => finding("AGENT-ANSWER", "look at the agent's log"),
        }]
    }
}

/// Refusals that were decided on the program itself come before those of identities that were never meant.
fn nearest_first(status: &Value) -> Vec<Finding> {
    let refused = status.get("refused_identities").and_then(Value::as_array);
    let mut findings: Vec<Finding> = refused
        .into_iter()
        .flatten()
        .filter_map(|refused| refused.get("findings")?.as_array())
        .flatten()
        .filter_map(|finding| serde_json::from_value(finding.clone()).ok())
        .collect();
    findings.sort_by_key(|finding: &Finding| distance(&finding.code));
    let mut seen = Vec::new();
    findings.retain(|finding| {
        let new = !seen.contains(finding);
        seen.push(finding.clone());
        new
    });
    summed_up(findings)
}

/// Identities of other machines are many, and none of them was meant: the first stands for all.
fn summed_up(mut findings: Vec<Finding>) -> Vec<Finding> {
    let elsewhere = |finding: &Finding| finding.code == ELSEWHERE;
    let others = findings.iter().filter(|one| elsewhere(one)).count();
    if others < 2 {
        return findings;
    }
    let first = findings.iter().position(elsewhere);
    let mut at = 0;
    findings.retain(|finding| {
        at += 1;
        !elsewhere(finding) || Some(at - 1) == first
    });
    if let Some(finding) = first.and_then(|first| findings.get_mut(first)) {
        finding.message = format!(
            "{}; and {} more identities are for other machines",
            finding.message,
            others - 1
        );
    }
    findings
}

const ELSEWHERE: &str = "ASSUME-PLACEMENT";

/// A digest is compared only where everything else fits; a condition may be of anybody, and a placement is of
/// another machine.
#[must_use]
pub fn distance(code: &str) -> u8 {
    match code {
        "ASSUME-FORBIDDEN" => 0,
        "ASSUME-CODE-DIGEST" => 1,
        "ASSUME-CONDITION" => 2,
        ELSEWHERE => 4,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_nearest_refusal_comes_first_and_each_once() {
        let refused = |code: &str, id: &str| json!({ "spiffe_id": id, "findings": [{ "code": code, "message": "m", "next": "n" }] });
        let status = json!({ "refused_identities": [
            refused("ASSUME-PLACEMENT", "a"), refused("ASSUME-CODE-DIGEST", "b"), refused("ASSUME-PLACEMENT", "c"),
        ] });
        let findings = nearest_first(&status);
        let codes: Vec<_> = findings
            .iter()
            .map(|finding| finding.code.as_ref())
            .collect();
        assert_eq!(codes, ["ASSUME-CODE-DIGEST", "ASSUME-PLACEMENT"]);
        let placed = |path: &str| {
            let message = format!("a policy does not let this workload become {path}");
            json!({ "spiffe_id": path, "findings": [{ "code": "ASSUME-PLACEMENT", "message": message }] })
        };
        let status = json!({ "refused_identities": [
            placed("a"), placed("b"), refused("ASSUME-NO-POLICY", "c"), placed("d"),
        ] });
        let findings = nearest_first(&status);
        let [near, far] = findings.as_slice() else {
            panic!("{findings:?}");
        };
        assert_eq!(near.code, "ASSUME-NO-POLICY");
        assert!(
            far.message
                .ends_with("become a; and 2 more identities are for other machines")
        );
        assert!(nearest_first(&json!({})).is_empty());
    }
}
