//! The OpenAPI 3.1 document of everything that the decision point answers. Requests are described by the types
//! that read them; a test holds the file in docs/reference, and what answers hold, to this.

use super::{BlastRadiusBody, DiffBody, Kind, LintBody, WhatCanBody, WhoCanBody, WhyBody};
use crate::authzen;
use crate::records::{self, AccessesBody, HistoryBody, ReplayBody, SearchBody, UnusedBody};
use schemars::Schema;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The document.
#[must_use]
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for kind in Kind::ALL {
        paths.insert(kind.path().to_owned(), json!({"post": question(kind)}));
    }
    for kind in records::Kind::ALL {
        paths.insert(kind.path().to_owned(), json!({"post": of_records(kind)}));
    }
    for (path, id, summary) in [
        (
            authzen::EVALUATION,
            "evaluation",
            "One decision (OpenID AuthZEN)",
        ),
        (
            authzen::EVALUATIONS,
            "evaluations",
            "Several decisions (OpenID AuthZEN)",
        ),
        (
            authzen::SEARCH_SUBJECT,
            "searchSubject",
            "Who may (OpenID AuthZEN)",
        ),
        (
            authzen::SEARCH_RESOURCE,
            "searchResource",
            "What may be touched (OpenID AuthZEN)",
        ),
        (
            authzen::SEARCH_ACTION,
            "searchAction",
            "How it may be touched (OpenID AuthZEN)",
        ),
    ] {
        let operation = operation(
            id,
            summary,
            &json!({"type": "object"}),
            &json!({
                "application/json": {"schema": {"type": "object"}},
            }),
        );
        paths.insert(path.to_owned(), json!({"post": operation}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trilith decision point",
            "version": "1",
            "summary": "Questions about an estate, and decisions by it",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "https://pdp.example.org:7444"}],
        "security": [{"svid": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"svid": {
                "type": "mutualTLS",
                "description": "An X.509-SVID that pdp.toml names as a [[caller]]; over the Unix socket the process is attested instead.",
            }},
            "schemas": schemas(),
        },
    })
}

fn question(kind: Kind) -> Value {
    let (id, summary, request, answer) = match kind {
        Kind::Why => (
            "why",
            "Whether it is allowed, and because of what",
            schemars::schema_for!(WhyBody),
            "Why",
        ),
        Kind::WhoCan => (
            "whoCan",
            "Every identity that may do this to that",
            schemars::schema_for!(WhoCanBody),
            "Accesses",
        ),
        Kind::WhatCan => (
            "whatCan",
            "Everything that an identity may do",
            schemars::schema_for!(WhatCanBody),
            "Accesses",
        ),
        Kind::BlastRadius => (
            "blastRadius",
            "What whoever has taken something could become, and what that reaches",
            schemars::schema_for!(BlastRadiusBody),
            "BlastRadius",
        ),
        Kind::Lint => (
            "lint",
            "What should not stand in the estate in force",
            schemars::schema_for!(LintBody),
            "Lint",
        ),
        Kind::Diff => (
            "diff",
            "What a proposed estate would change; nothing is applied",
            schemars::schema_for!(DiffBody),
            "Diff",
        ),
    };
    let mut content = Map::new();
    content.insert("application/json".to_owned(), reference(answer));
    let line = match kind {
        Kind::WhoCan | Kind::WhatCan => Some("Line"),
        Kind::BlastRadius => Some("BlastLine"),
        Kind::Lint => Some("LintLine"),
        Kind::Diff => Some("DiffLine"),
        Kind::Why => None,
    };
    if let Some(line) = line {
        content.insert("application/x-ndjson".to_owned(), reference(line));
    }
    let request = body(request, kind.path());
    operation(id, summary, &request, &Value::Object(content))
}

fn of_records(kind: records::Kind) -> Value {
    use records::Kind;
    let (id, summary, request) = match kind {
        Kind::Search => (
            "searchRecords",
            "Every record that is about all of this",
            schemars::schema_for!(SearchBody),
        ),
        Kind::Accesses => (
            "accesses",
            "What somebody has read and modified, and who touched something",
            schemars::schema_for!(AccessesBody),
        ),
        Kind::History => (
            "history",
            "Since when, by which change of the estate and by whom",
            schemars::schema_for!(HistoryBody),
        ),
        Kind::Unused => (
            "unused",
            "What the estate in force grants and nobody used",
            schemars::schema_for!(UnusedBody),
        ),
        Kind::Replay => (
            "replay",
            "Which recorded accesses a proposed estate would have decided otherwise",
            schemars::schema_for!(ReplayBody),
        ),
    };
    let content = json!({
        "application/json": reference("Told"),
        "application/x-ndjson": reference("ToldLine"),
    });
    operation(id, summary, &body(request, kind.path()), &content)
}

fn reference(name: &str) -> Value {
    json!({"schema": {"$ref": format!("#/components/schemas/{name}")}})
}

/// What a request says. Definitions stand beside what uses them.
fn body(schema: Schema, path: &str) -> Value {
    let mut request = schema.to_value();
    if let Value::Object(members) = &mut request {
        members.remove("$schema");
        members.remove("title");
    }
    let text = request.to_string().replace(
        "#/$defs/",
        &format!(
            "#/paths/{}/post/requestBody/content/application~1json/schema/$defs/",
            path.replace('/', "~1")
        ),
    );
    serde_json::from_str(&text).unwrap_or(request)
}

fn operation(id: &str, summary: &str, request: &Value, content: &Value) -> Value {
    let refused = |what: &str| {
        json!({
            "description": what,
            "content": {"text/plain": {"schema": {"$ref": "#/components/schemas/Finding"}}},
        })
    };
    json!({
        "operationId": id,
        "summary": summary,
        "requestBody": {"required": true, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "The answer, by one version of the estate", "content": content},
            "400": refused("The question cannot be read"),
            "403": refused("The caller may not ask this"),
            "404": refused("It names what is not there"),
            "409": refused("The estate has changed since the answer began"),
            "413": refused("The question is too large"),
            "422": refused("The proposed estate does not compile"),
            "503": refused("Nothing can be decided or recorded now"),
        },
    })
}

fn object(required: &[&str], properties: &Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn list(name: &str) -> Value {
    json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}})
}

fn reference_to(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn page() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    object(
        &["count", "next"],
        &json!({
            "count": count,
            "next": {"type": ["string", "null"], "description": "Where the rest begins; null at the end"},
        }),
    )
}

/// An answer line by line: one member names what each is, and the last is `end`, with what it says of the whole.
fn lines(kinds: &[(&str, Value)], end: &Value) -> Value {
    let mut one_of: Vec<Value> = kinds
        .iter()
        .map(|(name, schema)| object(&[*name], &json!({ (*name): schema })))
        .collect();
    let count = json!({"type": "integer", "minimum": 0});
    let mut members = json!({
        "estate": reference_to("Estate"), "count": count, "errors": count, "next": {"type": ["string", "null"]},
    });
    if let (Value::Object(members), Value::Object(more)) = (&mut members, end) {
        members.extend(more.clone());
    }
    let end = object(&["estate", "count", "errors", "next"], &members);
    one_of.push(object(&["end"], &json!({ "end": end })));
    json!({"oneOf": one_of, "description": "The last line is `end`; a stream without it was cut short"})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let maybe = json!({"type": ["string", "null"]});
    let estate = json!({"$ref": "#/components/schemas/Estate"});
    let count = json!({"type": "integer", "minimum": 0});
    let told = records::shape();
    json!({
        "Estate": object(&["version", "index"], &json!({
            "version": {"type": "string", "description": "SHA-256, hex"},
            "index": {"type": ["integer", "null"], "description": "Of its record in the server's ledger"},
        })),
        "Policy": object(&["id", "effect", "file", "line", "annotations"], &json!({
            "id": text, "effect": {"enum": ["permit", "forbid"]}, "file": text,
            "line": {"type": "integer", "minimum": 0, "description": "At that version of the estate"},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        })),
        "Resource": object(&["kind", "path"], &json!({"kind": text, "path": text})),
        "Residual": object(&["policy", "condition"], &json!({
            "policy": {"$ref": "#/components/schemas/Policy"},
            "condition": {"type": "string", "description": "Cedar, over the session's facts"},
        })),
        "Access": object(&["identity", "action", "resource", "policies", "when", "unless", "if_defined"], &json!({
            "identity": text, "action": text,
            "resource": {"$ref": "#/components/schemas/Resource"},
            "policies": list("Policy"),
            "when": {"type": "array", "items": {"$ref": "#/components/schemas/Residual"}, "description": "Unless empty, one of these has to hold"},
            "unless": {"type": "array", "items": {"$ref": "#/components/schemas/Residual"}, "description": "None of these may hold"},
            "if_defined": {"type": "array", "items": {"$ref": "#/components/schemas/Residual"}, "description": "None of these may err"},
        })),
        "Accesses": object(&["estate", "accesses", "errors", "page"], &json!({
            "estate": estate, "accesses": list("Access"),
            "errors": {"type": "array", "items": {"type": "string"}, "description": "With any, the answer is not complete"},
            "page": object(&["count", "next"], &json!({
                "count": count,
                "next": {"type": ["string", "null"], "description": "Where the rest begins; null at the end"},
            })),
            "undeclared": {"type": "string", "description": "The resource stands in no file; perhaps it is mistyped"},
        })),
        "Line": {"oneOf": [
            object(&["access"], &json!({"access": {"$ref": "#/components/schemas/Access"}})),
            object(&["error"], &json!({"error": text})),
            object(&["end"], &json!({"end": object(&["estate", "count", "errors"], &json!({
                "estate": estate, "count": count, "errors": count, "undeclared": maybe, "next": maybe,
            }))})),
        ], "description": "The last line is `end`; a stream without it was cut short"},
        "Why": object(&["estate", "principal", "action", "resource", "allow", "facts", "policies", "texts", "errors", "near", "further"], &json!({
            "estate": estate, "principal": text, "action": text,
            "resource": {"$ref": "#/components/schemas/Resource"},
            "allow": {"type": "boolean"},
            "facts": {"enum": ["unknown", "stated", "issued"]},
            "classification": maybe, "undeclared": maybe,
            "policies": list("Policy"),
            "texts": {"type": "array", "items": {"type": "string"}, "description": "Of `policies`, in their order"},
            "errors": texts,
            "of_table": {"oneOf": [{"$ref": "#/components/schemas/Resource"}, {"type": "null"}], "description": "Of a denial of a column that by itself is allowed: its table, which is not, and of which the reasons are"},
            "near": {"type": "array", "items": {"type": "object"}, "description": "Of a denial: policies that came nearest, and the condition that failed"},
            "further": {"type": "integer", "minimum": 0, "description": "More of these"},
            "depends": {"oneOf": [{"$ref": "#/components/schemas/Access"}, {"type": "null"}], "description": "Of a denial for want of facts: what they would have to be"},
        })),
        "BlastRadius": object(&["estate", "taken", "paths", "identities", "acts_for", "accesses", "errors", "page"], &json!({
            "estate": estate, "taken": {"type": "object"},
            "paths": list("BlastPath"), "identities": list("BlastReach"), "acts_for": list("ActsFor"),
            "accesses": list("Access"), "errors": texts, "page": page(),
        })),
        "BlastPath": object(&["from", "by", "policies"], &json!({
            "from": {"type": "string", "description": "Who leads further: an administrator, a gateway, `server`"},
            "by": {"enum": ["apply", "token-create", "gateway", "server"]},
            "policies": list("Policy"),
        })),
        "BlastReach": object(&["identity", "policies", "when"], &json!({
            "identity": text, "policies": list("Policy"), "when": list("Residual"),
            "through": {"type": "array", "items": {"type": "string"}, "description": "By which paths, by their `from`, and not by becoming it"},
            "asserting": list("Residual"),
        })),
        "ActsFor": object(&["identity", "on_behalf_of", "grants"], &json!({
            "identity": text, "on_behalf_of": text,
            "grants": {"type": "array", "items": object(&["id", "file", "line"], &json!({
                "id": text, "file": text, "line": count,
            })), "description": "From the one who acts back to the first who delegates"},
        })),
        "BlastLine": lines(&[
            ("path", reference_to("BlastPath")), ("identity", reference_to("BlastReach")),
            ("acts_for", reference_to("ActsFor")), ("access", reference_to("Access")), ("error", text.clone()),
        ], &json!({"taken": {"type": "object"}})),
        "Remark": object(&["severity", "code", "file", "line", "message"], &json!({
            "severity": text, "code": text, "file": text, "line": count, "message": text,
            "column": count, "hint": text, "by": {"enum": ["text", "declarations", "solver"]},
            "policy": object(&["id", "annotations"], &json!({
                "id": text, "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            })),
        })),
        "Lint": object(&["estate", "remarks", "page"], &json!({
            "estate": estate, "remarks": list("Remark"), "page": page(),
        })),
        "LintLine": lines(&[("remark", reference_to("Remark"))], &json!({})),
        "Diff": object(&["estate", "proposed", "diff", "page"], &json!({
            "estate": estate, "proposed": {"type": "string", "description": "Version, SHA-256 hex"},
            "diff": {"type": "object"}, "page": page(),
        })),
        "DiffLine": lines(&[
            ("declared", object(&["of", "how", "name"], &json!({
                "of": text, "how": {"enum": ["added", "removed", "changed"]}, "name": text,
            }))),
            ("widened", json!({"type": "object"})), ("narrowed", json!({"type": "object"})), ("error", text.clone()),
        ], &json!({"proposed": text})),
        "Head": object(&["ledger", "origin", "size", "checkpoint"], &json!({
            "ledger": text, "origin": text, "size": count,
            "checkpoint": {"type": "string", "description": "Signed, as c2sp.org/tlog-checkpoint has it"},
        })),
        "Told": object(&["searched", "summary", "lines", "page"], &json!({
            "searched": list("Head"),
            "summary": {"type": "object", "description": "What is said once of the whole"},
            "lines": list("ToldOne"),
            "page": object(&["count", "next"], &json!({
                "count": count,
                "next": {"type": ["string", "null"], "description": "Where the rest begins; null at the end"},
            })),
        })),
        "ToldOne": told,
        "ToldLine": {"oneOf": [
            {"$ref": "#/components/schemas/ToldOne"},
            object(&["end"], &json!({"end": object(&["searched", "summary", "count", "next"], &json!({
                "searched": list("Head"), "summary": {"type": "object"}, "count": count, "next": maybe,
            }))})),
        ], "description": "The last line is `end`; a stream without it was cut short"},
        "Finding": {"type": "string", "description": "A code of docs/reference/findings.md, a colon, what was expected and seen, and what to do next"},
    })
}

/// As YAML. Texts are written as JSON has them, which YAML 1.2 reads alike.
#[must_use]
pub fn yaml(document: &Value) -> String {
    let mut text = String::from(
        "# Made by the test `the_document_is_what_the_code_says` of crates/pdp; UPDATE_EXPECT=1 writes it.\n",
    );
    block(document, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let _infallible = write!(text, "{}{}:", "  ".repeat(depth), key(name));
                nested(value, depth, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _infallible = write!(text, "{}-", "  ".repeat(depth));
                nested(item, depth, text);
            }
        }
        other => {
            let _infallible = writeln!(text, "{}{other}", "  ".repeat(depth));
        }
    }
}

fn nested(value: &Value, depth: usize, text: &mut String) {
    let empty = match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if empty {
        let _infallible = writeln!(text, " {value}");
    } else {
        text.push('\n');
        block(value, depth + 1, text);
    }
}

/// Bare where no reader could take it for anything but a text.
fn key(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'/');
    let bare = name.bytes().all(plain)
        && !matches!(
            name,
            "" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if bare {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}
