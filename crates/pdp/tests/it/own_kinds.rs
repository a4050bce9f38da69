//! Kinds and actions that an estate declares itself: the fixture of AuthZEN's certification scenario in its
//! own words, and the Todo interoperability scenario with its owners. Whose a todo is, the estate says; what
//! the caller says of it is not believed.

use crate::world::World;
use pdp::authzen::{EVALUATION, EVALUATIONS, SEARCH_ACTION, SEARCH_RESOURCE, SEARCH_SUBJECT};
use serde_json::{Value, json};

const SCHEMA: &str = r#"
type IdentityAttributes = { roles?: Set<String>, email?: String };
entity Record in [Group] = { classification: String, owner?: String } tags String;
entity Todo in [Group] = { classification: String, owner?: String, ownerID?: String } tags String;
action "read", "write"
  appliesTo { principal: [Identity], resource: [Record], context: Facts };
action "can_read_todos", "can_create_todo", "can_update_todo", "can_delete_todo"
  appliesTo { principal: [Identity], resource: [Todo], context: Facts };
"#;

const RESOURCES: &str = r#"
[[resource]]
kind = "Record"
name = "record-1"
classification = "internal"
[[resource]]
kind = "Record"
name = "record-2"
classification = "restricted"
[[resource]]
kind = "Todo"
name = "todo-1"
classification = "internal"
[[resource]]
kind = "Todo"
name = "todo-morty"
classification = "internal"
attributes = { ownerID = "morty@the-citadel.example" }
[[resource]]
kind = "Todo"
name = "todo-beth"
classification = "internal"
attributes = { ownerID = "beth@the-citadel.example" }
"#;

/// As the scenario has them: who has which roles.
const PEOPLE: [(&str, &[&str]); 5] = [
    ("rick", &["admin", "evil_genius"]),
    ("morty", &["editor"]),
    ("summer", &["editor"]),
    ("beth", &["viewer"]),
    ("jerry", &["viewer"]),
];

const POLICIES: &str = r#"
@id("alice uses own records that are not archived")
permit (principal == Identity::"alice", action in [Action::"read", Action::"write"], resource is Record)
unless { resource.classification == "restricted" };
@id("bob reads every record")
permit (principal == Identity::"bob", action == Action::"read", resource is Record);
@id("everybody with a role reads todos")
permit (principal is Identity, action == Action::"can_read_todos", resource is Todo)
when { principal.attributes has roles };
@id("admins and editors create todos")
permit (principal is Identity, action == Action::"can_create_todo", resource is Todo)
when { principal.attributes has roles && principal.attributes.roles.containsAny(["admin", "editor"]) };
@id("an evil genius updates any todo")
permit (principal is Identity, action == Action::"can_update_todo", resource is Todo)
when { principal.attributes has roles && principal.attributes.roles.contains("evil_genius") };
@id("editors update and delete what is theirs")
permit (principal is Identity, action in [Action::"can_update_todo", Action::"can_delete_todo"], resource is Todo)
when { principal.attributes has roles && principal.attributes.roles.containsAny(["admin", "editor", "evil_genius"]) &&
       principal.attributes has email && resource has ownerID && resource.ownerID == principal.attributes.email };
@id("an admin deletes any todo")
permit (principal is Identity, action == Action::"can_delete_todo", resource is Todo)
when { principal.attributes has roles && principal.attributes.roles.contains("admin") };
"#;

async fn world() -> World {
    let world = World::start().await;
    let mut files = crate::world::estate();
    files.insert("schema/own.cedarschema", SCHEMA);
    files.insert("resources/own.toml", RESOURCES);
    files.insert("policies/own.cedar", POLICIES);
    let mut people = String::new();
    for (name, roles) in PEOPLE {
        people.push_str(&format!(
            "[[identity]]\npath = \"people/{name}\"\nkind = \"person\"\nowner = \"us\"\n\
             visible = [\"machine.join\"]\n\
             attributes = {{ roles = {roles:?}, email = \"{name}@the-citadel.example\" }}\n"
        ));
    }
    files.insert("identities/people.toml", people);
    if let Err(problems) = estate::Estate::compile(&files) {
        panic!("{problems:?}");
    }
    let mut estates = world.core.following().estate_changed();
    let index = world.plane.apply(&files);
    let waited = estates.wait_for(|current| *current >= index);
    let waited = tokio::time::timeout(crate::world::PATIENCE, waited);
    waited.await.unwrap().unwrap();
    world
}

fn asked(who: &str, what: &str, kind: &str, id: &str) -> Value {
    json!({
        "subject": {"type": "identity", "id": who},
        "action": {"name": what},
        "resource": {"type": kind, "id": id},
    })
}

fn found(answer: &Value, member: &str) -> Vec<String> {
    let results = answer["results"].as_array().unwrap();
    let names = results
        .iter()
        .map(|one| one[member].as_str().unwrap().to_owned());
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certification_fixture_is_decided_in_its_own_words() {
    let world = world().await;
    for (who, what, id, decision) in [
        ("alice", "read", "record-1", true),
        ("alice", "write", "record-1", true),
        ("bob", "read", "record-1", true),
        ("bob", "write", "record-1", false),
        ("alice", "write", "record-2", false),
        ("alice", "erase", "record-1", false),
        ("alice", "select", "record-1", false),
        ("nobody", "read", "record-1", false),
    ] {
        for kind in ["record", "Record"] {
            let (status, answer) = world.post(EVALUATION, &asked(who, what, kind, id)).await;
            let got = (status, &answer["decision"]);
            assert_eq!(got, (200, &json!(decision)), "{who} {what} {id} {answer}");
        }
    }
    let who = asked("ignored", "read", "record", "record-1");
    let (_, answer) = world.post(SEARCH_SUBJECT, &who).await;
    assert_eq!(found(&answer, "id"), ["alice", "bob"]);
    let (_, answer) = world
        .post(SEARCH_RESOURCE, &asked("alice", "read", "record", "x"))
        .await;
    assert_eq!(found(&answer, "id"), ["record-1"]);
    let (_, answer) = world
        .post(SEARCH_ACTION, &asked("alice", "-", "record", "record-1"))
        .await;
    assert_eq!(found(&answer, "name"), ["read", "write"]);
    let (_, answer) = world
        .post(SEARCH_SUBJECT, &asked("x", "read", "starship", "record-1"))
        .await;
    assert_eq!(found(&answer, "id"), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_todo_scenario_is_decided_as_far_as_it_rests_on_roles() {
    let world = world().await;
    for (name, roles) in PEOPLE {
        let has = |role: &str| roles.contains(&role);
        let expected = [
            ("can_read_todos", true),
            ("can_create_todo", has("admin") || has("editor")),
            ("can_update_todo", has("evil_genius")),
            ("can_delete_todo", has("admin")),
        ];
        let list: Vec<Value> = expected
            .iter()
            .map(|(what, _)| json!({"action": {"name": what}}))
            .collect();
        let body = json!({
            "subject": {"type": "identity", "id": format!("people/{name}")},
            "resource": {"type": "todo", "id": "todo-1", "properties": {"ownerID": "somebody@the-citadel.com"}},
            "evaluations": list,
        });
        let (status, answer) = world.post(EVALUATIONS, &body).await;
        assert_eq!(status, 200, "{answer}");
        let decisions = answer["evaluations"].as_array().unwrap().iter();
        let decisions: Vec<bool> = decisions
            .map(|one| one["decision"].as_bool().unwrap())
            .collect();
        assert_eq!(
            decisions,
            expected.map(|(_, decision)| decision),
            "{name} {answer}"
        );
    }
    let editors = asked("x", "can_create_todo", "todo", "todo-1");
    let (_, answer) = world.post(SEARCH_SUBJECT, &editors).await;
    assert_eq!(
        found(&answer, "id"),
        ["people/morty", "people/rick", "people/summer"]
    );
    world.stop().await;
}

/// Morty is an editor and has a todo; Beth has one and is a viewer; Rick may update and delete any.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_owns_a_todo_updates_and_deletes_it_and_what_a_caller_says_of_it_counts_for_nothing()
 {
    let world = world().await;
    for (who, todo, decision) in [
        ("morty", "todo-morty", true),
        ("morty", "todo-beth", false),
        ("morty", "todo-1", false),
        ("summer", "todo-morty", false),
        // A viewer, whatever is hers.
        ("beth", "todo-beth", false),
        ("rick", "todo-morty", true),
        ("rick", "todo-beth", true),
        ("jerry", "todo-beth", false),
    ] {
        for what in ["can_update_todo", "can_delete_todo"] {
            let mut body = asked(&format!("people/{who}"), what, "todo", todo);
            // As the scenario's own payloads have it; here it is a lie whenever it would help.
            body["resource"]["properties"] =
                json!({"ownerID": format!("{who}@the-citadel.example")});
            let (status, answer) = world.post(EVALUATION, &body).await;
            let got = (status, &answer["decision"]);
            assert_eq!(got, (200, &json!(decision)), "{who} {what} {todo} {answer}");
        }
    }
    let mine = asked("people/morty", "can_update_todo", "todo", "-");
    let (_, answer) = world.post(SEARCH_RESOURCE, &mine).await;
    assert_eq!(found(&answer, "id"), ["todo-morty"]);
    let whose = asked("-", "can_delete_todo", "todo", "todo-beth");
    let (_, answer) = world.post(SEARCH_SUBJECT, &whose).await;
    assert_eq!(found(&answer, "id"), ["people/rick"]);
    let how = asked("people/morty", "-", "todo", "todo-morty");
    let (_, answer) = world.post(SEARCH_ACTION, &how).await;
    assert_eq!(
        found(&answer, "name"),
        [
            "can_create_todo",
            "can_delete_todo",
            "can_read_todos",
            "can_update_todo"
        ]
    );
    world.stop().await;
}
