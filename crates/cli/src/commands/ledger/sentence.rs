//! A record as one sentence. What the sentence leaves out, `trilith ledger show` has.

use serde_json::Value;

/// Who signed.
fn signers(body: &Value) -> String {
    let signatures = body.get("signatures").and_then(Value::as_array);
    let authors = signatures.into_iter().flatten();
    let authors: Vec<&str> = authors
        .filter_map(|one| one.get("author")?.as_str())
        .collect();
    authors.join(" and ")
}

/// What the record `kind` with this `body` says. A kind that has no sentence here is shown as it is.
pub(super) fn sentence(kind: &str, body: &Value) -> String {
    let text = |name: &str| text(body.get(name));
    let short = |name: &str| path_of(&text(name)).to_owned();
    match kind {
        "begin" => format!("the ledger of {} begins", text("trust_domain")),
        "start" => format!("{} {} started", text("program"), text("version")),
        "stop" => format!("stopped: {}", text("reason")),
        "gap" => format!(
            "something may be missing ({}): {}",
            text("cause"),
            text("detail")
        ),
        "recovery" => format!(
            "goes on from {} records, {} are given up, by {}: {}",
            text("new_size"),
            text("old_size"),
            text("by"),
            text("reason")
        ),
        "snapshot" => format!("the state after {} records", text("size")),
        "retention" => format!(
            "records below {} are pruned here, by {}: {}",
            text("minimum_index"),
            text("by"),
            text("policy")
        ),
        "key-rotation" => format!("{} key: {}", text("what"), text("reason")),
        "seal-approval" => format!(
            "ring {:?} may open what it has sealed in the boot of {} (epoch {})",
            text("ring"),
            text("label"),
            text("epoch")
        ),
        "invariant-approval" => format!(
            "estate {}: {} changes of invariants, signed by {}",
            brief(&text("version")),
            text("changes"),
            signers(body)
        ),
        "bundle" => format!("trust bundle {}", text("sequence")),
        // Whole: `pack --estate` takes no less.
        "estate-version" => format!(
            "estate {} by {}: {}",
            text("version"),
            text("author"),
            text("message")
        ),
        "proof" => format!("estate {}: {}", brief(&text("version")), text("outcome")),
        "verdict" => format!("{} is {}{}", short("node"), text("outcome"), codes(body)),
        "attested" => format!(
            "{} proved itself {} times in boot {}, {} entries of its list verified",
            short("node"),
            text("answers"),
            text("resets"),
            text("entries")
        ),
        "join-refused" => format!(
            "{} join refused{}, {} times",
            text("method"),
            codes(body),
            text("count")
        ),
        "token-created" => format!("join token for {} in pool {}", text("node"), text("pool")),
        "token-spent" => format!("{} joined with its token", short("node")),
        "node-state" => format!(
            "{} {}, generation {}",
            short("node"),
            text("state"),
            text("generation")
        ),
        "lock" => {
            let code = body.pointer("/finding/code");
            format!("{} locked: {}", short("node"), self::text(code))
        }
        "readmit" => format!(
            "{} readmitted by {}: {}",
            short("node"),
            text("by"),
            text("reason")
        ),
        "erasure" => format!(
            "{} contents erased by {}: {}",
            body.get("erased")
                .and_then(Value::as_array)
                .map_or(0, Vec::len),
            text("by"),
            text("reason")
        ),
        "issuance" => format!(
            "{} SVID {} for {}{} by {}",
            text("kind"),
            text("serial"),
            short("spiffe_id"),
            // One of the server's own is on no machine.
            prefixed(" on ", body.get("node").filter(|node| *node != "")),
            list(body.get("policies"))
        ),
        "delegation" => delegated(body),
        "assume-refused" => format!(
            "{} refused on {}{}",
            short("spiffe_id"),
            text("node"),
            codes(body)
        ),
        "revocation" => {
            let of = |name: &str| self::text(body.pointer(&format!("/target/{name}")));
            format!(
                "{} {} revoked by {}: {}",
                of("kind"),
                path_of(&of("value")),
                text("by"),
                text("reason")
            )
        }
        "session-start" => format!(
            "{} reached {} as {}, session {}",
            short("spiffe_id"),
            text("resource"),
            text("role"),
            text("session")
        ),
        "session-end" => format!(
            "{} after {} operations {}",
            text("reason"),
            text("operations"),
            text("detail")
        ),
        "intent" => format!(
            "{} allowed by {}",
            actions(body),
            list(body.get("policies"))
        ),
        "decision" => {
            let reasons = if body.get("allow") == Some(&Value::Bool(true)) {
                format!("allowed{}{}", by(body), codes(body))
            } else {
                denied(body)
            };
            format!("{} {reasons}", actions(body))
        }
        "outcome" => format!(
            "of {}: {}{}{}{}",
            text("intent"),
            text("result"),
            prefixed(", transaction ", body.get("transaction")),
            prefixed(", rows ", body.get("rows")),
            prefixed(", SQLSTATE ", body.get("sqlstate"))
        ),
        "anchor" => format!("{} stands at {}", text("origin"), text("size")),
        "misbehaviour" => {
            let proved = match body.get("proved") {
                Some(Value::Bool(true)) => "proved by two notes of one size",
                _ => "claimed, by the two notes that are kept",
            };
            let size = |head: &str| {
                let size = body.pointer(&format!("/{head}/size"));
                size.and_then(Value::as_str).unwrap_or("?").to_owned()
            };
            format!(
                "{} of {} by {}: {} records, then {} ({proved})",
                text("kind"),
                text("origin"),
                text("by"),
                size("first"),
                size("second")
            )
        }
        "admin" => {
            let word = if body.get("allow") == Some(&Value::Bool(true)) {
                "did"
            } else {
                "was refused"
            };
            format!(
                "{} {word} {} {}",
                text("principal"),
                text("action"),
                text("resource")
            )
        }
        _ => body.to_string(),
    }
    .trim_end()
    .to_owned()
}

/// `agents/helper lets agents/summary act for people/ada: 4f2d…`
fn delegated(body: &Value) -> String {
    let chain = body.get("chain").and_then(Value::as_array);
    let chain: Vec<&str> = chain
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(path_of))
        .collect();
    let jti = text(body.get("jti"));
    match chain.as_slice() {
        [from, to] => format!("{from} lets {to} act: {jti}"),
        [person, .., from, to] => format!("{from} lets {to} act for {person}: {jti}"),
        _ => body.to_string(),
    }
}

/// The path of a SPIFFE ID; anything else as it is.
pub(in crate::commands) fn path_of(id: &str) -> &str {
    id.strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
        .map_or(id, |(_, path)| path)
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn prefixed(prefix: &str, value: Option<&Value>) -> String {
    match value {
        Some(Value::Null) | None => String::new(),
        some => format!("{prefix}{}", text(some)),
    }
}

/// The first digits of a digest: enough to tell versions apart by eye.
fn brief(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn list(value: Option<&Value>) -> String {
    let items = value
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let items: Vec<String> = items
        .iter()
        .map(|item| format!("{:?}", text(Some(item))))
        .collect();
    if items.is_empty() {
        "no policy".to_owned()
    } else {
        items.join(" ")
    }
}

/// ` (CODE CODE)`, or nothing.
fn codes(body: &Value) -> String {
    let findings = body.get("findings").and_then(Value::as_array);
    let codes: Vec<String> = findings
        .into_iter()
        .flatten()
        .map(|finding| text(finding.get("code").or(Some(finding))))
        .collect();
    if codes.is_empty() {
        String::new()
    } else {
        format!(" ({})", codes.join(" "))
    }
}

/// ` by "a policy"`, or nothing.
fn by(body: &Value) -> String {
    match body.get("policies").and_then(Value::as_array) {
        Some(policies) if !policies.is_empty() => format!(" by {}", list(body.get("policies"))),
        _ => String::new(),
    }
}

/// Why not. A gateway names every policy that applied until it denied: those that permitted another table of the
/// statement, or the table of a column that is denied, as well.
fn denied(body: &Value) -> String {
    let policies = body.get("policies").and_then(Value::as_array);
    let policies = policies.map_or(0, Vec::len);
    let findings = body.get("findings").and_then(Value::as_array);
    let findings = findings.map_or(&[][..], Vec::as_slice);
    let forbade = match findings {
        [] => true,
        [one] => one == "POLICY-FORBID" && policies == 1,
        _ => false,
    };
    if forbade || policies == 0 {
        return format!("denied{}{}", by(body), codes(body));
    }
    let applied = list(body.get("policies"));
    format!("denied{}, where {applied} applied", codes(body))
}

/// `select shop/public/orders (id, sum) shop/public/products`.
fn actions(body: &Value) -> String {
    let actions = body.get("actions").and_then(Value::as_array);
    let told: Vec<String> = actions
        .into_iter()
        .flatten()
        .map(|action| {
            let resources = action.get("resources").and_then(Value::as_array);
            let columns = action.get("columns").and_then(Value::as_array);
            let columns: Vec<&str> = paths(columns).collect();
            let names: Vec<String> = paths(resources)
                .map(|name| with_columns(name, &columns))
                .collect();
            format!("{} {}", text(action.get("action")), names.join(" "))
        })
        .collect();
    if told.is_empty() {
        "a statement that touches nothing".to_owned()
    } else {
        told.join(", ")
    }
}

fn paths(uids: Option<&Vec<Value>>) -> impl Iterator<Item = &str> {
    let uids = uids.into_iter().flatten().filter_map(Value::as_str);
    uids.map(|uid| uid.split('"').nth(1).unwrap_or(uid))
}

/// A table with those of the columns that are its own.
fn with_columns(table: &str, columns: &[&str]) -> String {
    let of_it = columns.iter().filter_map(|column| {
        let (above, name) = column.rsplit_once('/')?;
        (above == table).then_some(name)
    });
    let of_it: Vec<&str> = of_it.collect();
    match of_it.as_slice() {
        [] => table.to_owned(),
        names => format!("{table} ({})", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::sentence;
    use serde_json::json;

    #[test]
    fn an_access_is_told_by_what_it_touches_and_why() {
        let body = json!({
            "session": "s", "statement": "f",
            "actions": [{ "action": "select", "resources": ["Table::\"shop/public/orders\"", "Table::\"shop/public/products\""] }],
            "decision": "pg-1:7", "policies": ["helpers read"], "coverage": "complete",
        });
        assert_eq!(
            sentence("intent", &body),
            "select shop/public/orders shop/public/products allowed by \"helpers read\""
        );
    }

    #[test]
    fn an_access_is_told_with_its_columns() {
        let body = json!({
            "actions": [{
                "action": "select",
                "resources": ["Table::\"shop/public/orders\"", "Table::\"shop/public/products\""],
                "columns": ["Column::\"shop/public/orders/id\"", "Column::\"shop/public/orders/sum\""],
            }],
            "policies": ["helpers read"],
        });
        assert_eq!(
            sentence("intent", &body),
            "select shop/public/orders (id, sum) shop/public/products allowed by \"helpers read\""
        );
    }

    #[test]
    fn an_svid_of_no_machine_is_told_without_one() {
        let body = json!({
            "kind": "x509", "serial": "12", "spiffe_id": "spiffe://example.org/a", "node": "", "policies": [],
        });
        assert_eq!(
            sentence("issuance", &body),
            "x509 SVID 12 for a by no policy"
        );
        let body = json!({
            "kind": "x509", "serial": "12", "spiffe_id": "spiffe://example.org/a", "node": "m-1", "policies": ["p"],
        });
        assert_eq!(
            sentence("issuance", &body),
            "x509 SVID 12 for a on m-1 by \"p\""
        );
    }

    #[test]
    fn a_denial_names_its_findings() {
        let body = json!({
            "actions": [{ "action": "select", "resources": ["Table::\"shop/public/cards\""] }],
            "allow": false, "policies": [], "findings": ["POLICY-NONE"],
        });
        assert_eq!(
            sentence("decision", &body),
            "select shop/public/cards denied (POLICY-NONE)"
        );
    }

    /// The permit of the table stood there as if it had denied the column.
    #[test]
    fn a_denial_is_not_said_to_be_by_what_permitted_a_part_of_it() {
        let told = |policies: &[&str], findings: &[&str]| {
            let body = json!({
                "actions": [{ "action": "select", "resources": ["Table::\"shop/public/customers\""] }],
                "allow": false, "policies": policies, "findings": findings,
            });
            sentence("decision", &body)
        };
        assert_eq!(
            told(&["analysts count"], &["POLICY-COLUMN"]),
            "select shop/public/customers denied (POLICY-COLUMN), where \"analysts count\" applied"
        );
        assert_eq!(
            told(&["orders are read"], &["POLICY-NONE"]),
            "select shop/public/customers denied (POLICY-NONE), where \"orders are read\" applied"
        );
        assert_eq!(
            told(&["nobody"], &["POLICY-FORBID"]),
            "select shop/public/customers denied by \"nobody\" (POLICY-FORBID)"
        );
        assert_eq!(
            told(&["nobody"], &[]),
            "select shop/public/customers denied by \"nobody\""
        );
    }

    /// `pack --of-session` and `pack --estate` send their readers here.
    #[test]
    fn a_session_and_a_version_are_told_by_what_packs_take() {
        let body = json!({
            "session": "5f1d3a0c9be24477", "spiffe_id": "spiffe://example.org/agents/helper",
            "resource": "postgres:shop", "role": "helper",
        });
        assert_eq!(
            sentence("session-start", &body),
            "agents/helper reached postgres:shop as helper, session 5f1d3a0c9be24477"
        );
        let version = "ab".repeat(32);
        let body = json!({ "version": version, "author": "ada", "message": "more" });
        assert_eq!(
            sentence("estate-version", &body),
            format!("estate {version} by ada: more")
        );
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_is() {
        assert_eq!(sentence("new-kind", &json!({ "a": 1 })), "{\"a\":1}");
    }
}
