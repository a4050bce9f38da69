//! Columns end to end: what the records of real statements name, what can be asked of them, and what an estate
//! that decides on columns lets through.

use crate::client::Client;
use crate::world::{World, estate, skipped};
use estate::EstateFiles;
use ledger::Record;
use ledger::body::{Decision, Intent};
use record_index::{Asked, Filter, Page, Site};
use std::ops::ControlFlow;

/// `pii` is the number of a card, and no more the whole table.
pub(crate) const RESOURCES: &str = r#"
[[database]]
name = "shop"
[[database.schema]]
name = "public"
[[database.schema.table]]
name = "cards"
classification = "public"
[[database.schema.table.column]]
name = "id"
[[database.schema.table.column]]
name = "number"
classification = "pii"
[[database.schema.table]]
name = "orders"
classification = "internal"
[[database.schema.table.column]]
name = "id"
[[database.schema.table.column]]
name = "note"
"#;

const POLICIES: &str = r#"
@id("what is public is for all")
permit (principal is Identity, action == Action::"select", resource in Schema::"shop/public")
when { resource.classification == "public" };
@id("payments keeps orders")
permit (principal == Identity::"payments/api",
  action in [Action::"select", Action::"insert", Action::"update", Action::"delete"],
  resource in Table::"shop/public/orders");
@id("payments reads cards")
permit (principal == Identity::"payments/api", action == Action::"select", resource in Table::"shop/public/cards");
@id("notes stay as they are")
forbid (principal, action == Action::"update", resource == Column::"shop/public/orders/note");
"#;

pub(crate) fn decided() -> EstateFiles {
    let mut files = estate();
    let settings = files.0.get("estate.toml").cloned().unwrap();
    files.insert("estate.toml", format!("columns = \"decided\"\n{settings}"));
    files.insert("resources/shop.toml", RESOURCES);
    files.insert("policies/shop.cedar", POLICIES);
    files
}

/// How many intents a search for `resource` finds.
pub(crate) fn intents_about(site: &Site, resource: &str) -> usize {
    let filter = Filter {
        resource: Some(resource.to_owned()),
        types: vec!["intent".to_owned()],
        ..Filter::default()
    };
    let page = Page {
        ledger: "*",
        from: 0,
        cursor: None,
        limit: None,
        receipts: false,
    };
    let mut count = 0;
    record_index::search(site, &filter, &page, |_| {
        count += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    count
}

/// Actions with their columns, of each intent.
fn touched(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for text in world.records("\"type\":\"intent\"") {
        let record = Record::parse(text.as_bytes()).unwrap();
        let intent: Intent = record.expect_body().unwrap();
        for on in intent.actions {
            let columns = on.columns.iter().map(|name| {
                let name = name.trim_start_matches("Column::\"shop/public/");
                name.trim_end_matches('"').to_owned()
            });
            let columns: Vec<String> = columns.collect();
            found.push(format!("{} {}", on.action, columns.join(" ")));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn records_name_columns_and_can_be_asked_for_them() {
    if skipped("records_name_columns_and_can_be_asked_for_them") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    for sql in [
        "SELECT number FROM cards WHERE id = 1",
        "SELECT count(*) FROM cards",
        "SELECT * FROM cards LIMIT 1",
        "SELECT c FROM card_numbers c LIMIT 1",
        "INSERT INTO orders (note) VALUES ('x') RETURNING id",
        "UPDATE orders SET note = 'y' WHERE id = 1",
        "PREPARE p AS SELECT id FROM orders WHERE note = $1",
        "EXECUTE p('y')",
    ] {
        client
            .simple(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    let expected = [
        "select cards/id cards/number",
        "select ",
        "select cards/*",
        "select cards/number",
        "insert orders/note",
        "select orders/id",
        "select orders/id",
        "update orders/note",
        "select orders/id orders/note",
        "select orders/id orders/note",
    ];
    assert_eq!(touched(&world), expected);
    let folder = world.config.gateway.data_dir.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let mut site = Site::open(&folder, None).unwrap();
        site.catch_up().unwrap();
        let count = |column: &str| intents_about(&site, column);
        let counts = [
            count("shop/public/cards/number"),
            count("shop/public/cards/id"),
            count("shop/public/orders/id"),
            count("Column::\"shop/public/orders/note\""),
        ];
        let of = Asked {
            of: Some("shop/public/cards/id".to_owned()),
            ..Asked::default()
        };
        let rows = record_index::accesses_verified(&site, &of, false).unwrap();
        let rows: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {} {}", row.kind, row.resource, row.count))
            .collect();
        (counts, rows)
    });
    let (counts, rows) = asked.await.unwrap();
    // Each of those that name it, and the one that names them all.
    assert_eq!(counts, [3, 2, 4, 4]);
    assert_eq!(
        rows,
        [
            "read Column::\"shop/public/cards/*\" 1",
            "read Column::\"shop/public/cards/id\" 1"
        ]
    );
    // A column that the gateway has not seen yet: the catalogue is read again.
    world
        .postgres
        .execute("shop", "ALTER TABLE orders RENAME COLUMN note TO remark")
        .unwrap();
    let renamed = async {
        while client
            .simple("SELECT remark FROM orders LIMIT 1")
            .await
            .is_err()
            || touched(&world).last().unwrap() != "select orders/remark"
        {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), renamed)
        .await
        .expect("the catalogue is read again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_policy_does_not_allow_is_denied_by_its_name() {
    if skipped("a_column_that_policy_does_not_allow_is_denied_by_its_name") {
        return;
    }
    let world = World::start().await;
    world.apply(&decided()).await;
    let mut helper = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    helper.once_granted("SELECT count(*) FROM cards").await;
    for sql in [
        "SELECT count(*) FROM cards",
        "SELECT id FROM cards WHERE id < 3 ORDER BY id",
    ] {
        helper
            .simple(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    for sql in [
        "SELECT number FROM cards",
        "SELECT * FROM cards",
        "SELECT id FROM cards WHERE number = 's1'",
        "SELECT id FROM cards ORDER BY number",
        "SELECT c FROM cards c",
        "SELECT count(c) FROM cards c",
        "SELECT (SELECT number FROM cards LIMIT 1)",
        "WITH q AS (SELECT * FROM cards) SELECT id FROM q",
        "SELECT number FROM card_numbers",
        "SELECT x.b FROM cards AS x(a, b)",
        "SELECT 1 FROM cards JOIN (VALUES ('s1')) v(number) USING (number)",
        "SELECT 1 FROM cards NATURAL JOIN (VALUES ('s1')) v(number)",
        "COPY cards TO STDOUT",
        "COPY cards (number) TO STDOUT",
        "PREPARE p AS SELECT number FROM cards",
        "EXPLAIN SELECT number FROM cards",
        "DECLARE d CURSOR WITH HOLD FOR SELECT number FROM cards",
    ] {
        let (sqlstate, message) = helper.simple(sql).await.expect_err(sql);
        assert_eq!(sqlstate, "42501", "{sql}: {message}");
        assert!(
            message.contains("shop/public/cards/number"),
            "{sql}: {message}"
        );
    }
    let denials = world.records("\"type\":\"decision\"");
    assert_eq!(denials.len(), 17);
    for text in denials {
        let denied: Decision = Record::parse(text.as_bytes())
            .unwrap()
            .expect_body()
            .unwrap();
        assert_eq!(denied.findings, ["POLICY-COLUMN"], "{text}");
        // What was denied comes first.
        let first = &denied.actions[0].resources[0];
        assert_eq!(first, "Column::\"shop/public/cards/number\"", "{text}");
    }

    let mut payments = Client::connect(&world, &world.plane.issue("payments/api")).await;
    payments.simple("SELECT * FROM cards").await.unwrap();
    payments
        .simple("INSERT INTO orders (note) VALUES ('x') RETURNING id, note")
        .await
        .unwrap();
    for sql in [
        "UPDATE orders SET note = 'y'",
        "UPDATE orders SET (id, note) = (1, 'y')",
        "INSERT INTO orders (id, note) VALUES (1, 'y') ON CONFLICT (id) DO UPDATE SET note = excluded.note",
    ] {
        let (_, message) = payments.simple(sql).await.expect_err(sql);
        assert!(
            message.contains("shop/public/orders/note"),
            "{sql}: {message}"
        );
    }
    let forbidden = world.records("notes stay as they are");
    assert_eq!(forbidden.len(), 3);
    // A column that nobody has classified is the most restricted.
    world
        .postgres
        .execute("shop", "ALTER TABLE cards ADD COLUMN holder text")
        .unwrap();
    let seen = async {
        while !matches!(helper.simple("SELECT holder FROM cards").await, Err((_, message)) if message.contains("cards/holder"))
        {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), seen)
        .await
        .expect("the new column is denied");
    world.stop().await;
}

/// Between a migration and the next look at the catalogue nobody has classified what is new.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_gateway_has_not_seen_is_denied() {
    if skipped("a_column_that_the_gateway_has_not_seen_is_denied") {
        return;
    }
    let world =
        World::start_with(&[], |config| config.databases[0].catalog_refresh_s = 3_600).await;
    world.apply(&decided()).await;
    let mut helper = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    helper.once_granted("SELECT id FROM cards").await;
    world
        .postgres
        .execute(
            "shop",
            "ALTER TABLE cards ADD COLUMN holder text DEFAULT 'ada'",
        )
        .unwrap();
    for sql in [
        "SELECT holder FROM cards",
        "SELECT c.holder FROM cards c",
        "SELECT id FROM cards WHERE holder = 'ada'",
        "SELECT (SELECT max(holder)) FROM cards",
    ] {
        let (_, message) = helper.simple(sql).await.expect_err(sql);
        assert!(message.contains("Column::"), "{sql}: {message}");
    }
    helper.simple("SELECT id FROM cards").await.unwrap();
    world.stop().await;
}

/// Whoever may read `number` of no card calls it what a table is called by that it may read, and hides that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_out_of_its_query_is_decided_as_what_it_names() {
    if skipped("a_name_that_leads_out_of_its_query_is_decided_as_what_it_names") {
        return;
    }
    let world = World::start().await;
    let mut files = decided();
    let products =
        "\n[[database.schema.table]]\nname = \"products\"\nclassification = \"public\"\n";
    files.insert("resources/shop.toml", format!("{RESOURCES}{products}"));
    let forbids = "\n@id(\"ids of orders alone\")\nforbid (principal, action == Action::\"insert\",\n  \
                   resource == Column::\"shop/public/orders/note\");\n";
    files.insert("policies/shop.cedar", format!("{POLICIES}{forbids}"));
    world.apply(&files).await;
    let mut helper = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    let cards = "FROM cards AS p(id, name)";
    for sql in [
        format!("SELECT (SELECT p.name FROM (products p JOIN products q ON true) AS t LIMIT 1) {cards}"),
        format!("SELECT (SELECT name FROM (products p JOIN products q ON true) AS t(a, b, c, d) LIMIT 1) {cards}"),
        format!("SELECT 1 {cards}, LATERAL (SELECT p.name FROM (products p CROSS JOIN products q) AS t) s"),
        format!("COPY (SELECT (SELECT p.name FROM (products p JOIN products q USING (id)) AS t LIMIT 1) {cards}) TO STDOUT"),
        format!("SELECT (SELECT p.name FROM (products p JOIN products q USING (id) AS p2) AS t LIMIT 1) {cards}"),
        "SELECT (SELECT ctid FROM products p JOIN products q ON true LIMIT 1) FROM cards AS c(id, ctid)".to_owned(),
        format!(
            "SELECT id, s.* {cards}, LATERAL (SELECT count(*) FROM products \
             TABLESAMPLE bernoulli(CASE WHEN name LIKE 's1%' THEN 100 ELSE 0 END)) s"
        ),
        format!(
            "SELECT id, s.* {cards}, LATERAL (SELECT count(*) FROM products \
             TABLESAMPLE bernoulli(50) REPEATABLE (length(name))) s"
        ),
    ] {
        let (sqlstate, message) = helper.simple(&sql).await.expect_err(&sql);
        assert_eq!(sqlstate, "42501", "{sql}: {message}");
        assert!(
            message.contains("shop/public/cards/number"),
            "{sql}: {message}"
        );
    }
    let mut payments = Client::connect(&world, &world.plane.issue("payments/api")).await;
    for sql in [
        "INSERT INTO orders VALUES (7, 'x')",
        "INSERT INTO orders SELECT s.* FROM (SELECT 7, 'x') s",
        "MERGE INTO orders o USING (SELECT 7 AS a, 'x' AS b) s ON false WHEN NOT MATCHED THEN INSERT VALUES (s.*)",
    ] {
        let (_, message) = payments.simple(sql).await.expect_err(sql);
        assert!(
            message.contains("shop/public/orders/note"),
            "{sql}: {message}"
        );
    }
    world.stop().await;
}

/// PostgreSQL shows the row, or the key, that breaks a constraint to whoever writes it.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_quotes_no_column_that_may_not_be_read() {
    if skipped("an_error_quotes_no_column_that_may_not_be_read") {
        return;
    }
    let world = World::start().await;
    world
        .postgres
        .execute(
            "shop",
            "ALTER TABLE orders ADD UNIQUE (note) DEFERRABLE, ADD CHECK (id <> 13)",
        )
        .unwrap();
    let broken = [
        ("UPDATE orders SET id = NULL WHERE id = 1", "23502"),
        ("UPDATE orders SET id = 13 WHERE id = 1", "23514"),
        ("INSERT INTO orders (id) VALUES (1)", "23505"),
        (
            "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO orders (note) VALUES ('first'); SELECT 1; COMMIT",
            "23505",
        ),
        ("INSERT INTO orders (note) VALUES ('first')", "23505"),
    ];
    // Whoever may read all of the table is told all.
    world.apply(&decided()).await;
    let mut payments = Client::connect(&world, &world.plane.issue("payments/api")).await;
    for (sql, expected) in broken {
        let (sqlstate, message) = payments.simple(sql).await.expect_err(sql);
        assert_eq!(sqlstate, expected, "{sql}: {message}");
        let quotes = message.contains("first") || message.contains("(id)=(1)");
        // What a commit finds, any statement of its transaction may have done.
        assert!(quotes, "{sql}: {message}");
        if payments.status == b'E' {
            payments.simple("ROLLBACK").await.unwrap();
        }
    }
    let mut files = decided();
    let forbids = "\n@id(\"nobody reads notes\")\nforbid (principal, action == Action::\"select\",\n  \
                   resource == Column::\"shop/public/orders/note\");\n";
    files.insert("policies/shop.cedar", format!("{POLICIES}{forbids}"));
    world.apply(&files).await;
    let refused = async {
        while payments
            .simple("SELECT note FROM orders LIMIT 1")
            .await
            .is_ok()
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), refused)
        .await
        .expect("the column is forbidden");
    for (sql, expected) in broken {
        let (sqlstate, message) = payments.simple(sql).await.expect_err(sql);
        assert_eq!(sqlstate, expected, "{sql}: {message}");
        let quotes = message.contains("first") || message.contains("(id)=(1)");
        assert!(!quotes, "{sql}: {message}");
        assert!(
            message.contains("POLICY-COLUMN-WITHHELD"),
            "{sql}: {message}"
        );
        if payments.status == b'E' {
            payments.simple("ROLLBACK").await.unwrap();
        }
    }
    // The same of a prepared statement, which was prepared before.
    payments
        .parse("one", "UPDATE orders SET id = NULL WHERE id = 1")
        .await
        .unwrap();
    let (sqlstate, message) = payments.execute("one").await.expect_err("not null");
    assert_eq!(sqlstate, "23502");
    assert!(!message.contains("first"), "{message}");
    // A transaction that goes on after it is told of its own errors again.
    let (_, message) = payments
        .simple("SELECT 1 / 0")
        .await
        .expect_err("no number");
    assert!(!message.contains("POLICY-COLUMN-WITHHELD"), "{message}");
    world.stop().await;
}
