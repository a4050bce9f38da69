//! Questions about columns, where the estate decides on them: an answer is of the column and of its table, and so is
//! its record.

use crate::world::{World, estate};
use estate::EstateFiles;
use pdp::ask::Kind;
use pdp::authzen::{EVALUATION, EVALUATIONS, SEARCH_ACTION, SEARCH_RESOURCE, SEARCH_SUBJECT};
use serde_json::{Value, json};

const COLUMN: &str = "app/public/record-1/id";

/// Alice may have the column, and not its table.
fn decided() -> EstateFiles {
    let mut files = estate();
    let settings = files.0["estate.toml"].clone();
    files.insert("estate.toml", format!("columns = \"decided\"\n{settings}"));
    let listed = "name = \"record-1\"\nclassification = \"internal\"\n\
                  [[database.schema.table.column]]\nname = \"id\"\n";
    let resources = files.0["resources/app.toml"].replace(
        "name = \"record-1\"\nclassification = \"internal\"\n",
        listed,
    );
    files.insert("resources/app.toml", resources);
    files.insert(
        "policies/closed.cedar",
        "@id(\"record-1 is closed to alice\")\n\
         forbid (principal == Identity::\"alice\", action == Action::\"select\", \
         resource == Table::\"app/public/record-1\");\n",
    );
    files
}

async fn world() -> World {
    let world = World::start().await;
    let mut estates = world.core.following().estate_changed();
    let index = world.plane.apply(&decided());
    let waited = estates.wait_for(|current| *current >= index);
    tokio::time::timeout(crate::world::PATIENCE, waited)
        .await
        .unwrap()
        .unwrap();
    world
}

fn asked(who: &str, action: &str) -> Value {
    json!({
        "subject": {"type": "identity", "id": who},
        "action": {"name": action},
        "resource": {"type": "column", "id": COLUMN},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_is_answered_with_its_table_and_the_record_names_both() {
    let world = world().await;
    let (_, denied) = world.post(EVALUATION, &asked("alice", "select")).await;
    assert_eq!(denied["decision"], false, "{denied}");
    let context = &denied["context"];
    assert_eq!(context["policies"][0]["id"], "record-1 is closed to alice");
    assert_eq!(context["of_table"], "Table::\"app/public/record-1\"");
    let reason = context["reason"].as_str().unwrap();
    assert!(reason.starts_with("its table Table::"), "{reason}");
    let list = [asked("alice", "insert"), asked("bob", "select")];
    let (_, answer) = world.post(EVALUATIONS, &json!({"evaluations": list})).await;
    for allowed in answer["evaluations"].as_array().unwrap() {
        assert_eq!(allowed["decision"], true, "{allowed}");
        assert_eq!(allowed["context"]["of_table"], Value::Null);
    }
    let (table, column) = (
        "Table::\"app/public/record-1\"",
        "Column::\"app/public/record-1/id\"",
    );
    let named: Vec<(bool, Vec<String>)> = world
        .decisions()
        .into_iter()
        .map(|one| (one.allow, one.actions[0].resources.clone()))
        .collect();
    // What was denied first.
    let expected = [
        (false, vec![table.to_owned(), column.to_owned()]),
        (true, vec![column.to_owned(), table.to_owned()]),
        (true, vec![column.to_owned(), table.to_owned()]),
    ];
    assert_eq!(named, expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_and_questions_about_columns_ask_their_tables() {
    let world = world().await;
    let ids = |answer: &Value| -> Vec<String> {
        let results = answer["results"].as_array().unwrap().iter();
        results
            .map(|one| one.get("id").or(one.get("name")).unwrap())
            .map(|one| one.as_str().unwrap().to_owned())
            .collect()
    };
    for (who, expected) in [("alice", vec![]), ("bob", vec![COLUMN])] {
        let mut search = asked(who, "select");
        search["resource"] = json!({"type": "column"});
        let (_, answer) = world.post(SEARCH_RESOURCE, &search).await;
        assert_eq!(ids(&answer), expected, "{who}: {answer}");
    }
    let mut search = asked("alice", "select");
    search["subject"] = json!({"type": "identity"});
    let (_, answer) = world.post(SEARCH_SUBJECT, &search).await;
    assert_eq!(ids(&answer), ["bob"], "{answer}");
    let mut search = asked("alice", "select");
    search.as_object_mut().unwrap().remove("action");
    let (_, answer) = world.post(SEARCH_ACTION, &search).await;
    assert_eq!(ids(&answer), ["insert"], "{answer}");

    let why = json!({
        "principal": "alice", "action": "select", "resource": format!("Column::\"{COLUMN}\""),
    });
    let (_, answer) = world.post(Kind::Why.path(), &why).await;
    assert_eq!(answer["allow"], false, "{answer}");
    assert_eq!(
        answer["of_table"]["path"], "app/public/record-1",
        "{answer}"
    );
    assert_eq!(answer["policies"][0]["id"], "record-1 is closed to alice");
    world.stop().await;
}
