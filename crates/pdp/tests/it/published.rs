//! The payloads that the OpenID AuthZEN working group publishes for its interoperability events, as they stand in its
//! repository, with what they expect. None of them is a part of this one: they are read where somebody has put them,
//!
//! ```text
//! git clone --depth 1 https://github.com/openid/authzen target/authzen     # or TRILITH_AUTHZEN=FOLDER
//! ```
//!
//! Beside them stands what is ours: an estate with the scenarios' people, records and rules, and how their names are
//! read. Whose a todo is, which payloads state as a property of the resource, is declared: nobody who asks is believed.

use crate::world::World;
use estate::EstateFiles;
use pdp::authzen::{EVALUATION, EVALUATIONS, SEARCH_ACTION, SEARCH_RESOURCE, SEARCH_SUBJECT};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

const SCHEMA: &str = r#"
type IdentityAttributes = { roles?: Set<String>, email?: String, role?: String, department?: String };
entity Todo in [Group] = { classification: String, owner?: String, ownerID?: String } tags String;
entity Person in [Group] = { classification: String, owner?: String } tags String;
entity Endpoint in [Group] = { classification: String, owner?: String } tags String;
entity Record in [Group] = { classification: String, owner?: String, ownerID?: String, department?: String } tags String;
action "can_read_user" appliesTo { principal: [Identity], resource: [Person], context: Facts };
action "can_read_todos", "can_create_todo", "can_update_todo", "can_delete_todo"
  appliesTo { principal: [Identity], resource: [Todo], context: Facts };
action "http-get", "http-post", "http-put", "http-delete"
  appliesTo { principal: [Identity], resource: [Endpoint], context: Facts };
action "view", "edit", "remove" appliesTo { principal: [Identity], resource: [Record], context: Facts };
"#;

const POLICIES: &str = r#"
@id("everybody reads")
permit (principal is Identity, action in [Action::"can_read_user", Action::"can_read_todos", Action::"http-get"], resource)
when { principal.attributes has roles };
@id("admins and editors create")
permit (principal is Identity, action in [Action::"can_create_todo", Action::"http-post", Action::"http-put", Action::"http-delete"], resource)
when { principal.attributes has roles && principal.attributes.roles.containsAny(["admin", "editor"]) };
@id("an evil genius updates any todo")
permit (principal is Identity, action == Action::"can_update_todo", resource is Todo)
when { principal.attributes has roles && principal.attributes.roles.contains("evil_genius") };
@id("an admin deletes any todo")
permit (principal is Identity, action == Action::"can_delete_todo", resource is Todo)
when { principal.attributes has roles && principal.attributes.roles.contains("admin") };
@id("editors update and delete what is theirs")
permit (principal is Identity, action in [Action::"can_update_todo", Action::"can_delete_todo"], resource is Todo)
when { principal.attributes has roles && principal.attributes.roles.contains("editor") &&
       principal.attributes has email && resource has ownerID && resource.ownerID == principal.attributes.email };
@id("whoever owns a record does everything with it")
permit (principal is Identity, action in [Action::"view", Action::"edit", Action::"remove"], resource is Record)
when { principal.attributes has email && resource has ownerID && resource.ownerID == principal.attributes.email };
@id("a department views its records")
permit (principal is Identity, action == Action::"view", resource is Record)
when { principal.attributes has department && resource has department && resource.department == principal.attributes.department };
@id("a manager views any record")
permit (principal is Identity, action == Action::"view", resource is Record)
when { principal.attributes has role && principal.attributes.role == "manager" };
@id("a manager edits what is in the department")
permit (principal is Identity, action == Action::"edit", resource is Record)
when { principal.attributes has role && principal.attributes.role == "manager" &&
       principal.attributes has department && resource has department && resource.department == principal.attributes.department };
"#;

/// Of the todo scenario: how payloads name a person begins so; its name here, its address there, and its roles.
const PEOPLE: [(&str, &str, &str, &[&str]); 5] = [
    (
        "CiRmZDA2",
        "rick",
        "rick@the-citadel.com",
        &["admin", "evil_genius"],
    ),
    ("CiRmZDE2", "morty", "morty@the-citadel.com", &["editor"]),
    ("CiRmZDI2", "summer", "summer@the-smiths.com", &["editor"]),
    ("CiRmZDM2", "beth", "beth@the-smiths.com", &["viewer"]),
    ("CiRmZDQ2", "jerry", "jerry@the-smiths.com", &["viewer"]),
];

/// The folder of the working group's repository, if it is there. `name` is of the test.
fn published(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/authzen");
    let folder = std::env::var_os("TRILITH_AUTHZEN").map_or_else(|| beside.into(), PathBuf::from);
    let folder = folder.join("interop");
    if folder.is_dir() {
        return Some(folder);
    }
    testkit::skip(
        name,
        "AuthZEN's repository is not at TRILITH_AUTHZEN nor in target/authzen; nothing here was judged by its payloads",
    );
    None
}

fn read(folder: &std::path::Path, path: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(path)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The cases of one kind: what is asked, and what is expected.
fn cases(document: &Value, kind: &str) -> Vec<(Value, Value)> {
    let cases = document[kind].as_array().unwrap().iter();
    let cases: Vec<_> = cases
        .map(|case| (case["request"].clone(), case["expected"].clone()))
        .collect();
    assert!(!cases.is_empty(), "no {kind}");
    cases
}

/// Every todo that payloads speak of, and its one owner.
fn todos(value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            let owner = value.pointer("/properties/ownerID").and_then(Value::as_str);
            if let (Some(id), Some(owner)) = (members.get("id").and_then(Value::as_str), owner) {
                let known = found.insert(id.to_owned(), owner.to_owned());
                assert!(
                    known.is_none_or(|known| known == owner),
                    "{id} has two owners"
                );
            }
            members.values().for_each(|member| todos(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| todos(item, found)),
        _ => {}
    }
}

/// A name as a resource of ours has it.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !"{}".contains(*c))
        .collect::<String>()
        .trim_start_matches('/')
        .replace('/', "-")
}

/// The request in the words of the estate.
fn ours(request: &Value) -> Value {
    let mut request = request.clone();
    if let Some(subject) = request.get_mut("subject") {
        let id = subject["id"].as_str().map(|id| {
            let of_todos = PEOPLE.iter().find(|(begins, ..)| id.starts_with(begins));
            format!("people/{}", of_todos.map_or(id, |(_, name, ..)| *name))
        });
        subject["type"] = json!("identity");
        if let Some(id) = id {
            subject["id"] = json!(id);
        }
    }
    if let Some(name) = request.pointer("/action/name").and_then(Value::as_str) {
        request["action"]["name"] = json!(match name {
            "GET" | "POST" | "PUT" | "DELETE" => format!("http-{}", name.to_lowercase()),
            // What the base schema calls so is done to rows.
            "delete" => "remove".to_owned(),
            other => other.to_owned(),
        });
    }
    if let Some(resource) = request.get_mut("resource") {
        resource_in_our_words(resource);
    }
    for one in request
        .get_mut("evaluations")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        *one = ours(one);
    }
    request
}

fn resource_in_our_words(resource: &mut Value) {
    let kind = match resource["type"].as_str() {
        Some("user") => "Person",
        Some("route") => "Endpoint",
        Some("todo") => "Todo",
        Some("record") => "Record",
        other => panic!("{other:?}"),
    };
    resource["type"] = json!(kind);
    if let Some(id) = resource["id"].as_str().map(plain) {
        resource["id"] = json!(id);
    }
}

async fn world(files: &[(&str, String)]) -> World {
    let world = World::start().await;
    let mut all: EstateFiles = crate::world::estate();
    all.insert("schema/published.cedarschema", SCHEMA);
    all.insert("policies/published.cedar", POLICIES);
    for (name, text) in files {
        all.insert(*name, text.as_str());
    }
    if let Err(problems) = estate::Estate::compile(&all) {
        panic!("{problems:?}");
    }
    let mut estates = world.core.following().estate_changed();
    let index = world.plane.apply(&all);
    let waited = estates.wait_for(|current| *current >= index);
    tokio::time::timeout(crate::world::PATIENCE, waited)
        .await
        .unwrap()
        .unwrap();
    world
}

fn person(name: &str, attributes: &str) -> String {
    format!(
        "[[identity]]\npath = \"people/{name}\"\nkind = \"person\"\nowner = \"us\"\nvisible = [\"machine.join\"]\nattributes = {{ {attributes} }}\n"
    )
}

fn resource(kind: &str, name: &str, attributes: &str) -> String {
    format!(
        "[[resource]]\nkind = \"{kind}\"\nname = \"{name}\"\nclassification = \"internal\"\n{attributes}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_todo_and_gateway_payloads_come_to_what_their_authors_expect() {
    let Some(folder) = published("pdp::authzen_published_todo") else {
        return;
    };
    let documents = [
        "authzen-todo-backend/test/decisions-authorization-api-1_0-02.json",
        "authzen-api-gateways/test-harness/test/decisions.json",
    ]
    .map(|path| read(&folder, path));
    let mut people = String::new();
    let mut resources = resource("Todo", "todo-1", "");
    for (_, name, email, roles) in PEOPLE {
        people += &person(name, &format!("roles = {roles:?}, email = \"{email}\""));
        resources += &resource("Person", email, "");
    }
    let mut owned = BTreeMap::new();
    documents
        .iter()
        .for_each(|document| todos(document, &mut owned));
    assert_eq!(owned.len(), 5, "{owned:?}");
    for (id, owner) in &owned {
        resources += &resource(
            "Todo",
            id,
            &format!("attributes = {{ ownerID = \"{owner}\" }}"),
        );
    }
    let routes = documents[1]["evaluation"].as_array().unwrap().iter();
    let routes: BTreeSet<String> = routes
        .map(|case| plain(case["request"]["resource"]["id"].as_str().unwrap()))
        .collect();
    for route in routes {
        resources += &resource("Endpoint", &route, "");
    }
    let world = world(&[
        ("identities/published.toml", people),
        ("resources/published.toml", resources),
    ])
    .await;
    let (mut asked, mut allowed) = (0, 0);
    for document in &documents {
        for (request, expected) in cases(document, "evaluation") {
            let (status, answer) = world.post(EVALUATION, &ours(&request)).await;
            assert_eq!(
                (status, &answer["decision"]),
                (200, &expected),
                "{request} {answer}"
            );
            asked += 1;
            allowed += usize::from(expected == true);
        }
    }
    // Both decisions are among them.
    assert!(
        asked >= 60 && (20..asked - 10).contains(&allowed),
        "{allowed} of {asked}"
    );
    for (request, expected) in cases(&documents[0], "evaluations") {
        let (status, answer) = world.post(EVALUATIONS, &ours(&request)).await;
        assert_eq!(status, 200, "{answer}");
        let decisions = |list: &Value| -> Vec<Value> {
            let list = list
                .get("evaluations")
                .unwrap_or(list)
                .as_array()
                .unwrap()
                .iter();
            list.map(|one| one["decision"].clone()).collect()
        };
        assert_eq!(
            decisions(&answer),
            decisions(&expected),
            "{request} {answer}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_payloads_come_to_what_their_authors_expect() {
    let Some(folder) = published("pdp::authzen_published_search") else {
        return;
    };
    let demo = folder.join("authzen-search-demo");
    let mut people = String::new();
    for one in read(&demo, "data/users.json").as_array().unwrap() {
        let text = |member: &str| one[member].as_str().unwrap();
        let attributes = format!(
            "email = {:?}, role = {:?}, department = {:?}",
            text("id"),
            text("role"),
            text("department")
        );
        people += &person(text("id"), &attributes);
    }
    let mut records = String::new();
    for one in read(&demo, "data/records.json").as_array().unwrap() {
        let attributes = format!(
            "attributes = {{ ownerID = {}, department = {} }}",
            one["owner"], one["department"]
        );
        write!(
            records,
            "{}",
            resource("Record", &one["id"].to_string(), &attributes)
        )
        .unwrap();
    }
    let world = world(&[
        ("identities/published.toml", people),
        ("resources/published.toml", records),
    ])
    .await;
    let mut asked = 0;
    for (path, kind, member) in [
        (SEARCH_SUBJECT, "subject", "id"),
        (SEARCH_RESOURCE, "resource", "id"),
        (SEARCH_ACTION, "action", "name"),
    ] {
        let document = read(&demo, &format!("test/{kind}/results.json"));
        for (request, expected) in cases(&document, "evaluation") {
            let (status, answer) = world.post(path, &ours(&request)).await;
            assert_eq!(status, 200, "{request} {answer}");
            let names = |of: &Value| -> BTreeSet<String> {
                let results = of["results"].as_array().unwrap().iter();
                let names = results.map(|one| one[member].as_str().unwrap());
                let names = names.map(|name| match name {
                    "remove" => "delete",
                    other => other.strip_prefix("people/").unwrap_or(other),
                });
                names.map(str::to_owned).collect()
            };
            assert_eq!(names(&answer), names(&expected), "{kind} {request}");
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
    world.stop().await;
}
