//! The questions about a whole estate over HTTP: paged, streamed, recorded, and shaped as their document says.

use crate::world::{World, caller, exchange, post, this_process};
use pdp::Right;
use pdp::ask::Kind;
use serde_json::{Value, json};
use std::path::Path;
use tokio::net::UnixStream;

fn what(principal: &str) -> Value {
    json!({"principal": principal})
}

fn whole(estate: &estate::Estate, principal: &str) -> Vec<Value> {
    let answer = estate.what_can(principal);
    answer.accesses.iter().map(|access| json!(access)).collect()
}

fn compiled() -> estate::Estate {
    estate::Estate::compile(&crate::world::estate()).unwrap()
}

pub(crate) async fn lines(world: &World, path: &str, body: &Value) -> Vec<Value> {
    let stream = UnixStream::connect(&world.socket).await.unwrap();
    let accept = [("accept", "application/x-ndjson")];
    let request = post(path, &accept, body.to_string().as_bytes());
    let answer = exchange(stream, &request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: application/x-ndjson"));
    // Chunks: their lengths stand on lines of their own.
    let text = answer.body.lines().filter(|line| line.starts_with('{'));
    text.map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_streams_come_to_the_whole_answer() {
    let world = World::start().await;
    let all = whole(&compiled(), "alice");
    assert!(all.len() > 2);
    let (status, at_once) = world.post(Kind::WhatCan.path(), &what("alice")).await;
    assert_eq!((status, &at_once["accesses"]), (200, &json!(all)));
    assert_eq!(at_once["page"], json!({"count": all.len(), "next": null}));
    assert!(at_once["estate"]["index"].is_u64());
    let (mut found, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut body = what("alice");
        body["limit"] = json!(1);
        if !after.is_null() {
            body["after"] = after;
        }
        let (status, page) = world.post(Kind::WhatCan.path(), &body).await;
        assert_eq!(status, 200, "{page}");
        found.extend(page["accesses"].as_array().unwrap().clone());
        after = page["page"]["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(found, all);
    let streamed = lines(&world, Kind::WhatCan.path(), &what("alice")).await;
    let (end, accesses) = streamed.split_last().unwrap();
    let accesses: Vec<Value> = accesses.iter().map(|line| line["access"].clone()).collect();
    assert_eq!(accesses, all);
    assert_eq!(end["end"]["count"], all.len());
    assert!(end["end"]["next"].is_null());
    // Cut, it says where it goes on.
    let cut = lines(
        &world,
        Kind::WhatCan.path(),
        &json!({"principal": "alice", "limit": 1}),
    )
    .await;
    assert_eq!(cut.len(), 2);
    let next = cut[1]["end"]["next"].as_str().unwrap();
    let rest = lines(
        &world,
        Kind::WhatCan.path(),
        &json!({"principal": "alice", "after": next}),
    )
    .await;
    assert_eq!(rest.len(), all.len());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_names_everybody_and_says_what_is_mistyped() {
    let world = World::start().await;
    let body = json!({"action": "select", "resource": "app/public/record-1"});
    let (status, answer) = world.post(Kind::WhoCan.path(), &body).await;
    assert_eq!(status, 200);
    let who: Vec<&str> = answer["accesses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|access| access["identity"].as_str().unwrap())
        .collect();
    assert_eq!(who, ["alice", "bob"]);
    assert_eq!(
        answer["accesses"][0]["policies"][0]["file"],
        "policies/app.cedar"
    );
    let body = json!({"action": "select", "resource": "app/public/recrod-1"});
    let (_, answer) = world.post(Kind::WhoCan.path(), &body).await;
    let said = answer["undeclared"].as_str().unwrap();
    assert!(said.contains("not declared"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_gives_policy_line_and_what_facts_would_have_to_be() {
    let world = World::start().await;
    let why = |who: &str, what: &str| json!({"principal": who, "action": what, "resource": "app/public/record-1"});
    let (_, allowed) = world.post(Kind::Why.path(), &why("alice", "select")).await;
    assert_eq!(allowed["allow"], true);
    assert_eq!(allowed["policies"][0]["line"], 2);
    assert!(
        allowed["texts"][0]
            .as_str()
            .unwrap()
            .contains("alice reads")
    );
    let (_, denied) = world.post(Kind::Why.path(), &why("bob", "insert")).await;
    assert_eq!(
        (&denied["allow"], &denied["policies"]),
        (&json!(false), &json!([]))
    );
    assert!(!denied["near"].as_array().unwrap().is_empty());
    // An empty context would pass the forbid that looks at one.
    let (_, depends) = world.post(Kind::Why.path(), &why("bob", "update")).await;
    assert_eq!(
        (&depends["allow"], &depends["facts"]),
        (&json!(false), &json!("unknown"))
    );
    assert_eq!(depends["depends"]["unless"].as_array().unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_recorded_and_whoever_may_not_search_is_refused() {
    let world = World::start().await;
    let before = world.core.reader().size();
    world.post(Kind::Lint.path(), &json!({})).await;
    assert!(world.core.reader().size() > before);
    world.stop().await;
    let world = World::configured(|config| {
        config.processes = vec![this_process(&[Right::Evaluate, Right::StateFacts])];
        config.callers = vec![caller("envoy/edge", &[Right::Evaluate])];
    })
    .await;
    for kind in Kind::ALL {
        let (status, answer) = world.post(kind.path(), &json!({})).await;
        assert_eq!(status, 403, "{kind:?}");
        assert!(
            answer.as_str().unwrap().starts_with("PDP-CALLER-RIGHT"),
            "{answer}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_has_a_code_and_a_next_step() {
    let world = World::start().await;
    let cursor = {
        let (_, page) = world
            .post(
                Kind::WhatCan.path(),
                &json!({"principal": "alice", "limit": 1}),
            )
            .await;
        page["page"]["next"].as_str().unwrap().to_owned()
    };
    let broken = json!({"files": {"estate.toml": "trust_domain = \"example.org\"\n", "policies/a.cedar": "permit (;\n"}});
    let deep = "[".repeat(10_000);
    for (kind, body, status, code) in [
        (Kind::WhatCan, json!({"principal": "alise"}).to_string(), 404, "QUESTION-IDENTITY"),
        (Kind::WhatCan, json!({"principal": "a/../b"}).to_string(), 400, "PDP-SUBJECT"),
        (Kind::WhatCan, json!({"principal": "bob", "after": cursor}).to_string(), 400, "QUESTION-CURSOR"),
        (Kind::WhatCan, json!({"principal": "alice", "after": "x"}).to_string(), 400, "QUESTION-CURSOR"),
        (Kind::WhatCan, json!({"principal": "alice", "limit": -1}).to_string(), 400, "QUESTION-REQUEST"),
        (Kind::WhatCan, json!({"principal": "alice", "more": 1}).to_string(), 400, "QUESTION-REQUEST"),
        (Kind::WhatCan, json!(["alice"]).to_string(), 400, "QUESTION-REQUEST"),
        (Kind::WhatCan, deep, 400, "QUESTION-REQUEST"),
        (Kind::WhoCan, json!({"action": "fly", "resource": "app"}).to_string(), 404, "QUESTION-ACTION"),
        (Kind::WhoCan, json!({"action": "select", "resource": "a/b/c/d/e"}).to_string(), 400, "QUESTION-RESOURCE"),
        (Kind::WhoCan, json!({"action": "select", "resource": "a/b/\u{1}"}).to_string(), 400, "QUESTION-RESOURCE"),
        (Kind::BlastRadius, json!({"taken": {"kind": "identity", "path": "nobody"}}).to_string(), 404, "BLAST-UNKNOWN"),
        (Kind::BlastRadius, json!({"taken": {"kind": "moon"}}).to_string(), 400, "QUESTION-REQUEST"),
        (Kind::Diff, broken.to_string(), 422, "QUESTION-ESTATE"),
        (Kind::Why, json!({"principal": "alice", "action": "select", "resource": "app/public/record-1", "context": {"facts": {"machine.join": "tpm"}}}).to_string(), 403, "PDP-FACTS-RIGHT"),
    ] {
        let answer = world.send(kind.path(), &[], body.as_bytes()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.starts_with(code), "{body}: {}", answer.body);
    }
    world.stop().await;
}

/// The estate changes between two pages.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_version_is_refused() {
    let world = World::start().await;
    let (_, page) = world
        .post(
            Kind::WhatCan.path(),
            &json!({"principal": "alice", "limit": 1}),
        )
        .await;
    let mut files = crate::world::estate();
    files.insert("policies/more.cedar", "@id(\"more\")\nforbid (principal is Identity, action == Action::\"truncate\", resource);\n");
    let mut estates = world.core.following().estate_changed();
    let index = world.plane.apply(&files);
    let waited = estates.wait_for(|current| *current >= index);
    tokio::time::timeout(crate::world::PATIENCE, waited)
        .await
        .unwrap()
        .unwrap();
    let body = json!({"principal": "alice", "after": page["page"]["next"]});
    let answer = world
        .send(Kind::WhatCan.path(), &[], body.to_string().as_bytes())
        .await;
    assert_eq!(answer.status, 409);
    assert!(
        answer.body.starts_with("QUESTION-ESTATE-CHANGED"),
        "{}",
        answer.body
    );
    world.stop().await;
}

/// Every list of a document, by where it stands.
fn listed(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Array(items) => {
            found.extend(items.iter().map(|item| (at.to_owned(), item.clone())));
        }
        Value::Object(members) => {
            for (name, member) in members {
                listed(member, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// What is asked of the whole estate is never cut without saying so, and goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_lint_and_differences_come_in_pages_and_line_by_line() {
    let world = World::start().await;
    let mut proposed = crate::world::estate();
    proposed.insert("policies/more.cedar", "@id(\"more\")\npermit (principal == Identity::\"bob\", action == Action::\"delete\", resource == Table::\"app/public/record-2\");\n@id(\"further\")\npermit (principal == Identity::\"bob\", action == Action::\"insert\", resource == Table::\"app/public/record-2\");\n");
    for (kind, body, least) in [
        (Kind::BlastRadius, json!({"taken": {"kind": "server"}}), 4),
        (Kind::Lint, json!({}), 0),
        (Kind::Diff, json!({"files": proposed.0}), 4),
    ] {
        let (status, whole) = world.post(kind.path(), &body).await;
        assert_eq!(
            (status, &whole["page"]["next"]),
            (200, &Value::Null),
            "{whole}"
        );
        let mut all = Vec::new();
        listed(&whole, "", &mut all);
        assert!(all.len() >= least, "{kind:?} {whole}");
        let (mut found, mut after) = (Vec::new(), Value::Null);
        loop {
            let mut asked = body.clone();
            asked["limit"] = json!(1);
            if !after.is_null() {
                asked["after"] = after;
            }
            let (status, page) = world.post(kind.path(), &asked).await;
            assert_eq!(status, 200, "{page}");
            listed(&page, "", &mut found);
            after = page["page"]["next"].clone();
            if after.is_null() {
                break;
            }
        }
        let order = |list: &mut Vec<(String, Value)>| {
            list.sort_by_key(|(at, item)| format!("{at} {item}"));
        };
        order(&mut all);
        order(&mut found);
        assert_eq!(found, all, "{kind:?}");
        let mut streamed = lines(&world, kind.path(), &body).await;
        let end = streamed.pop().unwrap();
        assert_eq!(end["end"]["next"], Value::Null, "{end}");
        assert_eq!(streamed.len(), all.len(), "{kind:?}");
        assert_eq!(end["end"]["count"], json!(all.len()), "{kind:?}");
        // A cursor of one question is none of another.
        let mut cut = body.clone();
        cut["limit"] = json!(1);
        let (_, page) = world.post(kind.path(), &cut).await;
        let mut other = what("alice");
        other["after"] = page["page"]["next"].clone();
        if other["after"].is_string() {
            let (status, refused) = world.post(Kind::WhatCan.path(), &other).await;
            assert_eq!(status, 400, "{refused}");
        }
    }
    world.stop().await;
}

/// Every member of every answer is described, and every member that is required is there.
#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_shape_that_the_document_gives_them() {
    let world = World::start().await;
    let document = pdp::ask::openapi();
    let mut proposed = crate::world::estate();
    proposed.insert("policies/more.cedar", "@id(\"more\")\npermit (principal == Identity::\"bob\", action == Action::\"delete\", resource == Table::\"app/public/record-2\");\n");
    let record = "app/public/record-1";
    for (kind, body) in [
        (
            Kind::Why,
            json!({"principal": "alice", "action": "delete", "resource": record}),
        ),
        (
            Kind::Why,
            json!({"principal": "bob", "action": "insert", "resource": record}),
        ),
        (
            Kind::WhoCan,
            json!({"action": "update", "resource": record}),
        ),
        (
            Kind::WhatCan,
            json!({"principal": "spiffe://example.org/alice"}),
        ),
        (
            Kind::BlastRadius,
            json!({"taken": {"kind": "identity", "path": "alice"}}),
        ),
        (Kind::BlastRadius, json!({"taken": {"kind": "server"}})),
        (
            Kind::BlastRadius,
            json!({"taken": {"kind": "administrator", "who": "uid:0"}}),
        ),
        (Kind::Lint, json!({})),
        (Kind::Diff, json!({"files": proposed.0})),
    ] {
        let (status, answer) = world.post(kind.path(), &body).await;
        assert_eq!(status, 200, "{kind:?} {answer}");
        let schema = document
            .pointer(&format!(
                "/paths/{}/post/responses/200/content/application~1json/schema",
                kind.path().replace('/', "~1")
            ))
            .unwrap();
        fits(&document, schema, &answer, kind.as_str());
    }
    let (_, changed) = world
        .post(Kind::Diff.path(), &json!({"files": proposed.0}))
        .await;
    assert_eq!(changed["diff"]["policies"]["added"], json!(["more"]));
    assert_eq!(changed["diff"]["widened"].as_array().unwrap().len(), 1);
    for (kind, body, schema) in [
        (Kind::WhatCan, what("alice"), "Line"),
        (
            Kind::BlastRadius,
            json!({"taken": {"kind": "server"}}),
            "BlastLine",
        ),
        (Kind::Lint, json!({}), "LintLine"),
        (Kind::Diff, json!({"files": proposed.0}), "DiffLine"),
    ] {
        for line in lines(&world, kind.path(), &body).await {
            let schema = &document["components"]["schemas"][schema]["oneOf"];
            let name = line.as_object().unwrap().keys().next().unwrap().clone();
            let one = schema
                .as_array()
                .unwrap()
                .iter()
                .find(|one| one["required"][0] == name.as_str())
                .unwrap();
            fits(&document, one, &line, &name);
        }
    }
    world.stop().await;
}

/// As far as the document's own words go: references, required and described members, types, items, one of several.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        return fits(document, schema, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let null = |one: &&Value| (one["type"] == "null") == value.is_null();
        let one = choices.iter().find(null).unwrap();
        return fits(document, one, value, at);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        _ => Vec::new(),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(
        types.is_empty() || types.contains(&is),
        "{at}: {is} {types:?}"
    );
    if let Some(several) = schema["enum"].as_array() {
        assert!(several.contains(value), "{at}: {value}");
    }
    if let (Some(members), Some(described)) = (value.as_object(), schema["properties"].as_object())
    {
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(
                members.contains_key(name.as_str().unwrap()),
                "{at}: no {name}"
            );
        }
        for (name, member) in members {
            // A remark has what a problem has, which its own page lists.
            let Some(schema) = described.get(name) else {
                assert!(at.contains("remarks"), "{at}.{name} is not described");
                continue;
            };
            fits(document, schema, member, &format!("{at}.{name}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item, at);
    }
}

#[test]
fn the_document_is_what_the_code_says() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/questions.openapi.yaml");
    let text = pdp::ask::yaml(&pdp::ask::openapi());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/reference/questions.openapi.yaml is stale: UPDATE_EXPECT=1"
    );
}

/// Names that YAML would take for something else are quoted, and texts are JSON.
#[test]
fn yaml_reads_as_the_document() {
    let text = pdp::ask::yaml(
        &json!({"a": {"b-c": [1, {"x": "y: z"}, []], "null": null, "t": "é\"\n"}, "e": {}}),
    );
    let expected = "a:\n  \"b-c\":\n    - 1\n    -\n      x: \"y: z\"\n    - []\n  \"null\": null\n  t: \"é\\\"\\n\"\ne: {}\n";
    let (_, body) = text.split_once('\n').unwrap();
    assert_eq!(body, expected);
}
