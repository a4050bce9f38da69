//! The digest of how a tool is described: of its name, texts, schemas and hints, whatever order they come in.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// `sha256:` and the digest of `tool` as JSON without white space, keys in byte order, and without `_meta`,
/// which says something about an answer and nothing about the tool.
pub(super) fn digest(tool: &Value) -> String {
    let mut text = String::new();
    match tool {
        Value::Object(members) => {
            let own = members.iter().filter(|(key, _)| key.as_str() != "_meta");
            object(&mut text, own);
        }
        other => write(&mut text, other),
    }
    let digest = crypto::sha256(text.as_bytes());
    format!("sha256:{}", crypto::hex::encode(&digest))
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Object(members) => object(text, members.iter()),
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(text, value);
            }
            text.push(']');
        }
        scalar => {
            // Writing to a string cannot fail.
            let _ = write!(text, "{scalar}");
        }
    }
}

fn object<'a>(text: &mut String, members: impl Iterator<Item = (&'a String, &'a Value)>) {
    let members: BTreeMap<_, _> = members.collect();
    text.push('{');
    for (at, (key, value)) in members.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let _ = write!(text, "{}:", Value::String(key.clone()));
        write(text, value);
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_is_all_but_the_order_and_what_is_about_the_answer() {
        let tool: Value = serde_json::from_str(
            r#"{"name":"a","inputSchema":{"type":"object","required":["x"]},"_meta":{"t":1}}"#,
        )
        .unwrap();
        let turned: Value = serde_json::from_str(
            r#"{"inputSchema":{"required":["x"],"type":"object"},"name":"a"}"#,
        )
        .unwrap();
        assert_eq!(digest(&tool), digest(&turned));
        // printf '{"inputSchema":{"required":["x"],"type":"object"},"name":"a"}' | sha256sum
        assert_eq!(
            digest(&turned),
            "sha256:8e29ffbc29cd069803ce764c45218e5a915bc63715d9339edeb157763d6fa791"
        );
        for other in [
            json!({"name":"a","inputSchema":{"type":"object","required":["y"]}}),
            json!({"name":"a","inputSchema":{"type":"object","required":["x"]},"description":""}),
            json!({"name":"a","inputSchema":{"type":"object","required":["x"],"_meta":{}}}),
        ] {
            assert_ne!(digest(&tool), digest(&other), "{other}");
        }
    }
}
