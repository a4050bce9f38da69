//! What a change makes possible and what it takes away over any data that fits the schema, in sentences: a
//! request for each, that there is none, or why nobody knows.

use super::super::ask::{list, policy_name, text};
use crate::output;
use serde_json::Value;

pub(super) fn print(document: &Value) {
    for sentence in sentences(document) {
        output::line(format_args!("{sentence}"));
    }
}

/// One for each direction; none where no policy has changed.
pub(super) fn sentences(document: &Value) -> Vec<String> {
    [
        ("newly possible", "/witnesses/newly_allowed"),
        ("no longer possible", "/witnesses/newly_denied"),
    ]
    .into_iter()
    .filter_map(|(title, field)| Some((title, document.pointer(field)?)))
    .map(|(title, witness)| sentence(title, witness, document))
    .collect()
}

fn sentence(title: &str, witness: &Value, document: &Value) -> String {
    match text(witness, "/status").as_str() {
        "proved" => format!(
            "{title} over any data: none: proved{}",
            vouching(witness, document)
        ),
        "found" => {
            let today = witness.pointer("/witness/today").and_then(Value::as_bool);
            let over = match today {
                Some(true) => "with what is declared now",
                _ => "for some data",
            };
            let before: Vec<String> = list(witness, "/before").iter().map(policy_name).collect();
            let before = if before.is_empty() {
                String::new()
            } else {
                format!("; before it could, because of {}", before.join(" and "))
            };
            format!("{title} {over}: {}{before}", text(witness, "/witness/text"))
        }
        _ => format!(
            "{title} over any data: unknown: {}: {}",
            text(witness, "/code"),
            text(witness, "/message")
        ),
    }
}

/// How many solvers agree on it; of what follows without one, and from servers that do not say, nothing.
fn vouching(witness: &Value, document: &Value) -> &'static str {
    let number = |of: &Value, pointer: &str| of.pointer(pointer).and_then(Value::as_u64);
    let asked = number(witness, "/asked").unwrap_or_default();
    match number(document, "/witnesses/engines/solvers") {
        Some(1) if asked > 0 => "; one solver vouches",
        Some(2..) if asked > 0 => "; two solvers agree",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn each_answer_is_a_sentence_of_text_and_of_markdown() {
        let document = |allowed: Value, denied: Value| json!({ "applicable": true, "witnesses": { "newly_allowed": allowed, "newly_denied": denied } });
        let found = document(
            json!({ "status": "found", "witness": { "today": false, "text":
                "some Identity could select some Table, because of policies/x.cedar:12" } }),
            json!({ "status": "found",
                "witness": { "today": true, "text": "Identity::\"a\" could not select Table::\"b\", because no policy allows it" },
                "before": [{ "id": "reads", "file": "policies/y.cedar", "line": 3 }] }),
        );
        let others = document(
            json!({ "status": "proved", "asked": 2 }),
            json!({ "status": "unknown", "code": "PROVE-TIMEOUT", "message": "no answer within 4 s in all" }),
        );
        let said = [&found, &others].map(|one| sentences(one).join("\n"));
        expect![[r#"
            newly possible for some data: some Identity could select some Table, because of policies/x.cedar:12
            no longer possible with what is declared now: Identity::"a" could not select Table::"b", because no policy allows it; before it could, because of policies/y.cedar:3 "reads"
            newly possible over any data: none: proved
            no longer possible over any data: unknown: PROVE-TIMEOUT: no answer within 4 s in all"#]]
        .assert_eq(&said.join("\n"));
        let vouched = |solvers: u64| {
            let mut document = others.clone();
            document["witnesses"]["engines"] = json!({ "solvers": solvers });
            sentences(&document).remove(0)
        };
        expect!["newly possible over any data: none: proved; one solver vouches"]
            .assert_eq(&vouched(1));
        expect!["newly possible over any data: none: proved; two solvers agree"]
            .assert_eq(&vouched(2));
        let page = super::super::page(&found);
        assert!(page.contains("Over any data (2)"), "{page}");
        assert!(
            page.contains("- `newly possible for some data: some Identity"),
            "{page}"
        );
        assert!(sentences(&json!({ "witnesses": null })).is_empty());
    }
}
