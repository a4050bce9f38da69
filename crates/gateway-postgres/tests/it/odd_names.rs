//! Tables and columns whose names hold quotes and backslashes: from the record of a real statement to every question
//! about it.

use crate::client::Client;
use crate::columns::{decided, intents_about};
use crate::world::{World, skipped};
use ledger::Record;
use ledger::body::{Decision, Intent};
use record_index::{Asked, Site};
use std::time::Duration;

/// As a file of the estate has it, as SQL has it, and as a path has it.
const NAMES: [[&str; 3]; 3] = [
    ["o'brien", "\"o'brien\"", "o'brien"],
    ["a\\\"b", "\"a\"\"b\"", "a%22b"],
    ["c\\\\d", "\"c\\d\"", "c%5Cd"],
];

#[tokio::test(flavor = "multi_thread")]
async fn names_with_quotes_and_backslashes_are_found_again() {
    if skipped("names_with_quotes_and_backslashes_are_found_again") {
        return;
    }
    let world = World::start().await;
    let mut files = decided();
    let mut resources = files.0.get("resources/shop.toml").cloned().unwrap();
    let mut policies = files.0.get("policies/shop.cedar").cloned().unwrap();
    for [toml, sql, path] in NAMES {
        world
            .postgres
            .execute(
                "shop",
                &format!(
                    "CREATE TABLE {sql} (id int, {sql} text); INSERT INTO {sql} VALUES (1, 'x'); \
                     GRANT ALL ON {sql} TO trilith_gateway WITH GRANT OPTION"
                ),
            )
            .unwrap();
        resources.push_str(&format!(
            "\n[[database.schema.table]]\nname = \"{toml}\"\nclassification = \"internal\"\n\
             [[database.schema.table.column]]\nname = \"id\"\n\
             [[database.schema.table.column]]\nname = \"{toml}\"\n"
        ));
        policies.push_str(&format!(
            "\n@id(\"reads {path}\")\npermit (principal == Identity::\"payments/api\", \
             action == Action::\"select\", resource in Table::\"shop/public/{path}\");\n\
             @id(\"ids of {path}\")\npermit (principal == Identity::\"agents/helper\", \
             action == Action::\"select\", resource == Table::\"shop/public/{path}\");\n\
             @id(\"id of {path}\")\npermit (principal == Identity::\"agents/helper\", \
             action == Action::\"select\", resource == Column::\"shop/public/{path}/id\");\n"
        ));
    }
    files.insert("resources/shop.toml", resources);
    files.insert("policies/shop.cedar", policies);
    world.apply(&files).await;

    let mut payments = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let mut helper = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    let granted = async {
        for [_, sql, _] in NAMES {
            let count = format!("SELECT count(*) FROM {sql}");
            while payments.simple(&count).await.is_err() || helper.simple(&count).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), granted)
        .await
        .expect("the rights come");
    for [_, sql, path] in NAMES {
        let read = format!("SELECT {sql} FROM {sql}");
        assert_eq!(payments.simple(&read).await.unwrap(), ["x"]);
        // Harmless reads are written a moment later.
        world.core.recorder().flush().await.unwrap();
        let intents = world.records("\"type\":\"intent\"");
        let intent: Intent = Record::parse(intents.last().unwrap().as_bytes())
            .unwrap()
            .expect_body()
            .unwrap();
        let table = format!("Table::\"shop/public/{path}\"");
        let column = format!("Column::\"shop/public/{path}/{path}\"");
        assert_eq!(intent.actions[0].resources, [table.as_str(), &column]);
        assert_eq!(intent.actions[0].columns, [column.as_str()]);
        assert_eq!(intent.policies, [format!("reads {path}")]);

        helper
            .simple(&format!("SELECT id FROM {sql}"))
            .await
            .unwrap();
        let (sqlstate, message) = helper.simple(&read).await.expect_err(&read);
        assert_eq!(sqlstate, "42501", "{message}");
        assert!(message.contains(&column), "{message}");
        let denials = world.records("\"type\":\"decision\"");
        let denied: Decision = Record::parse(denials.last().unwrap().as_bytes())
            .unwrap()
            .expect_body()
            .unwrap();
        assert_eq!(denied.findings, ["POLICY-COLUMN"]);
        assert_eq!(denied.actions[0].resources[0], column);
    }
    world.core.recorder().flush().await.unwrap();

    let folder = world.config.gateway.data_dir.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let mut site = Site::open(&folder, None).unwrap();
        site.catch_up().unwrap();
        for [_, _, path] in NAMES {
            let table = format!("shop/public/{path}");
            let column = format!("{table}/{path}");
            for (resource, least) in [
                (table.clone(), 4),
                (format!("Table::\"{table}\""), 4),
                (column.clone(), 1),
                (format!("Column::\"{column}\""), 1),
            ] {
                let found = intents_about(&site, &resource);
                assert!(found >= least, "{resource}: {found}");
                let of = Asked {
                    of: Some(resource.clone()),
                    ..Asked::default()
                };
                let rows = record_index::accesses_verified(&site, &of, false).unwrap();
                assert!(!rows.is_empty(), "{resource}");
            }
        }
    });
    asked.await.unwrap();
    world.stop().await;
}
