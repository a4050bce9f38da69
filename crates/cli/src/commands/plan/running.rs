//! What a plan does to what runs, in sentences: which identities workloads may become or not any more, how
//! many SVIDs are revoked, and what an apply has to say that it has seen.

use super::super::ask::{list, text};
use super::plain;
use crate::output;
use serde_json::Value;

/// Workloads of one identity that a sentence names.
const NAMED: usize = 4;

pub(super) fn print(document: &Value) {
    let lines = sentences(document);
    lines
        .iter()
        .for_each(|line| output::line(format_args!("{line}")));
}

/// One for each identity, and what comes of them all.
pub(super) fn sentences(document: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for change in list(document, "/running/identities") {
        let identity = text(change, "/identity");
        if let Some(whom) = workloads(change, "/loses") {
            lines.push(format!("may not become {identity} any more: {whom}"));
        }
        if let Some(whom) = workloads(change, "/gains") {
            lines.push(format!("newly may become {identity}: {whom}"));
        }
        match number(change, "/revoked") {
            0 => {}
            1 => lines.push(format!("revokes 1 SVID of {identity}")),
            count => lines.push(format!("revokes {count} SVIDs of {identity}")),
        }
    }
    let revoked = number(document, "/running/revoked");
    if revoked > 0 {
        lines.push(format!(
            "revokes {revoked} of {} SVIDs that stand",
            number(document, "/running/standing")
        ));
    }
    lines
}

/// `--evict 1 --revoke 3`, if an apply needs any of them.
pub(super) fn flags(document: &Value) -> Option<String> {
    let flag = |name: &str| match number(document, &format!("/acknowledge/{name}")) {
        0 => None,
        count => Some(format!("--{name} {count}")),
    };
    let flags: Vec<String> = ["evict", "revoke"].into_iter().filter_map(flag).collect();
    (!flags.is_empty()).then(|| flags.join(" "))
}

/// `2 workloads: m1 uid 1000 /usr/bin/api, m2 uid 1000 /usr/bin/api`
fn workloads(change: &Value, side: &str) -> Option<String> {
    let count = number(change, &format!("{side}/count"));
    if count == 0 {
        return None;
    }
    let named = list(change, &format!("{side}/workloads"));
    let mut whom: Vec<String> = named
        .iter()
        .take(NAMED)
        .map(|one| {
            let mut parts = vec![text(one, "/node")];
            if let Some(uid) = one.get("uid").filter(|uid| !uid.is_null()) {
                parts.push(format!("uid {}", plain(uid)));
            }
            for field in ["/unit", "/path"] {
                let part = one.pointer(field).and_then(Value::as_str);
                parts.extend(part.map(output::value));
            }
            parts.join(" ")
        })
        .collect();
    let left = count.saturating_sub(u64::try_from(whom.len()).unwrap_or(u64::MAX));
    if left > 0 {
        whom.push(format!("and {left} more"));
    }
    let noun = if count == 1 { "workload" } else { "workloads" };
    Some(format!("{count} {noun}: {}", whom.join(", ")))
}

fn number(document: &Value, pointer: &str) -> u64 {
    let number = document.pointer(pointer).and_then(Value::as_u64);
    number.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn what_runs_and_what_becomes_of_it_is_said() {
        let workload =
            |node: &str| json!({ "node": node, "uid": 1000, "path": "/usr/bin/api", "unit": null });
        let many: Vec<Value> = (1..=6)
            .map(|number| workload(&format!("m{number}")))
            .collect();
        let document = json!({
            "running": {
                "standing": 9, "revoked": 7,
                "identities": [
                    { "identity": "agents/helper", "revoked": 0, "loses": { "count": 0, "workloads": [] },
                      "gains": { "count": 1, "workloads": [workload("m1")] } },
                    { "identity": "payments/api", "revoked": 7, "loses": { "count": 6, "workloads": many },
                      "gains": { "count": 0, "workloads": [] } },
                ],
            },
            "acknowledge": { "evict": 0, "revoke": 7 },
        });
        expect![[r#"
            newly may become agents/helper: 1 workload: m1 uid 1000 /usr/bin/api
            may not become payments/api any more: 6 workloads: m1 uid 1000 /usr/bin/api, m2 uid 1000 /usr/bin/api, m3 uid 1000 /usr/bin/api, m4 uid 1000 /usr/bin/api, and 2 more
            revokes 7 SVIDs of payments/api
            revokes 7 of 9 SVIDs that stand"#]]
        .assert_eq(&sentences(&document).join("\n"));
        assert_eq!(flags(&document).as_deref(), Some("--revoke 7"));
        assert_eq!(
            flags(&json!({ "acknowledge": { "evict": 0, "revoke": 0 } })),
            None
        );
        assert!(sentences(&json!({})).is_empty());
    }
}
