//! Attacks on how names are resolved: the gateway is to take a name for something else than PostgreSQL
//! does. Each fails if the check that it is aimed at is removed.

use crate::client::{Client, bind, execute, message, parse};
use crate::world::{World, estate, skipped};
use std::time::Duration;

const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

const SCHEMAS: &str = r"
CREATE SCHEMA scratch;
GRANT ALL ON SCHEMA scratch TO trilith_gateway WITH GRANT OPTION;
CREATE TABLE scratch.keep (id int);
GRANT ALL ON scratch.keep TO trilith_gateway WITH GRANT OPTION;
CREATE SCHEMA hidden;
CREATE TABLE hidden.cards (id int);
CREATE PROCEDURE public.tell(OUT said int) LANGUAGE sql AS 'SELECT 7';
CREATE TABLE public.noted (what text);
CREATE FUNCTION public.note(text) RETURNS boolean LANGUAGE sql SECURITY DEFINER
  AS 'INSERT INTO public.noted VALUES ($1); SELECT true';
CREATE DOMAIN public.told AS text CHECK (public.note(value));
";

const RESOURCES: &str = r#"
[[database]]
name = "shop"
[[database.schema]]
name = "scratch"
[[database.schema]]
name = "hidden"
"#;

const POLICIES: &str = r#"
@id("payments has a schema to itself")
permit (principal == Identity::"payments/api", action, resource in Schema::"shop/scratch");
@id("payments reads what is hidden")
permit (principal == Identity::"payments/api", action == Action::"select", resource in Schema::"shop/hidden");
"#;

/// Payments may do as it likes in `scratch`, where PostgreSQL lets it make things as well.
async fn workshop() -> World {
    let world = World::start().await;
    world.postgres.execute("shop", SCHEMAS).unwrap();
    let mut files = estate();
    let old = files.0.get("resources/shop.toml").unwrap().clone();
    let schemas = RESOURCES.split_once("name = \"shop\"\n").unwrap().1;
    files.insert("resources/shop.toml", format!("{old}{schemas}"));
    files.insert("policies/scratch.cedar", POLICIES);
    world.apply(&files).await;
    let may = "SELECT has_schema_privilege('trilith/payments/api@pg-1/shop', 'scratch', 'CREATE')";
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    for _ in 0..1_200 {
        let may = world.postgres.execute("shop", may);
        // And the gateway knows of it.
        if may.is_ok_and(|may| may == "t")
            && client
                .simple("SELECT count(*) FROM scratch.keep")
                .await
                .is_ok()
        {
            return world;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("payments has no schema to itself");
}

async fn along(world: &World, search_path: &str) -> Client {
    let payments = world.plane.issue("payments/api");
    Client::try_connect(world, &payments, &[("search_path", search_path)])
        .await
        .unwrap()
}

fn refused_by(code: &str, answer: Result<Vec<String>, (String, String)>) {
    let (sqlstate, said) = answer.expect_err(code);
    assert_eq!(sqlstate, "42501", "{said}");
    assert!(said.contains(code), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_drops_is_not_decided_by_the_catalogue_before_it() {
    if skipped("what_a_transaction_drops_is_not_decided_by_the_catalogue_before_it") {
        return;
    }
    let world = workshop().await;
    let mut client = along(&world, "scratch, public").await;
    client
        .simple("CREATE TABLE scratch.cards (number text)")
        .await
        .unwrap();
    assert_eq!(
        client.simple("SELECT count(*) FROM cards").await.unwrap(),
        ["0"]
    );
    client
        .parse("early", "SELECT count(*) FROM cards")
        .await
        .unwrap();
    for uses in [
        "SELECT count(*) FROM cards",
        "COPY cards TO STDOUT",
        "PREPARE p AS SELECT * FROM cards",
        "DECLARE c CURSOR FOR SELECT * FROM cards",
        "EXPLAIN SELECT * FROM cards",
        "CREATE VIEW scratch.seen AS SELECT * FROM cards",
        "DROP TABLE cards",
    ] {
        let together = format!("DROP TABLE scratch.cards; {uses}");
        refused_by("SQL-DEFINED", client.simple(&together).await);
        client.simple("BEGIN").await.unwrap();
        client.simple("DROP TABLE scratch.cards").await.unwrap();
        refused_by("SQL-DEFINED", client.simple(uses).await);
        client.simple("ROLLBACK").await.unwrap();
    }
    client.simple("BEGIN").await.unwrap();
    client.simple("DROP TABLE scratch.cards").await.unwrap();
    refused_by("SQL-DEFINED", client.execute("early").await);
    client.simple("ROLLBACK").await.unwrap();
    client.simple("BEGIN").await.unwrap();
    client
        .simple("CREATE TABLE scratch.lines (id int GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME scratch.products))")
        .await
        .unwrap();
    refused_by("SQL-DEFINED", client.simple("SELECT * FROM products").await);
    client.simple("ROLLBACK").await.unwrap();
    // In one segment of the extended protocol.
    let mut bytes = Vec::new();
    for sql in ["DROP TABLE scratch.cards", "SELECT count(*) FROM cards"] {
        bytes.extend(parse("", sql));
        bytes.extend(bind("", ""));
        bytes.extend(execute("", 0));
    }
    bytes.extend(SYNC);
    client.send(&bytes).await;
    refused_by("SQL-DEFINED", client.answer().await);
    assert_eq!(
        client.simple("SELECT count(*) FROM cards").await.unwrap(),
        ["0"]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_a_transaction_redefines_is_decided_as_what_it_becomes() {
    if skipped("a_view_that_a_transaction_redefines_is_decided_as_what_it_becomes") {
        return;
    }
    let world = workshop().await;
    let mut client = along(&world, "public").await;
    client
        .simple("CREATE VIEW scratch.seen AS SELECT name AS it FROM products")
        .await
        .unwrap();
    client
        .simple("CREATE VIEW scratch.above AS SELECT it FROM scratch.seen")
        .await
        .unwrap();
    assert_eq!(
        client
            .simple("SELECT it FROM scratch.above LIMIT 1")
            .await
            .unwrap(),
        ["p1"]
    );
    client.simple("BEGIN").await.unwrap();
    client
        .simple("CREATE OR REPLACE VIEW scratch.seen AS SELECT number AS it FROM cards")
        .await
        .unwrap();
    refused_by(
        "SQL-DEFINED",
        client.simple("SELECT it FROM scratch.seen LIMIT 1").await,
    );
    client.simple("ROLLBACK").await.unwrap();
    client.simple("BEGIN").await.unwrap();
    client
        .simple("CREATE OR REPLACE VIEW scratch.seen AS SELECT number AS it FROM cards")
        .await
        .unwrap();
    refused_by(
        "SQL-DEFINED",
        client.simple("SELECT it FROM scratch.above LIMIT 1").await,
    );
    client.simple("ROLLBACK").await.unwrap();
    client
        .simple("CREATE OR REPLACE VIEW scratch.seen AS SELECT number AS it FROM cards")
        .await
        .unwrap();
    // Not a moment later: what was committed is what is decided on.
    let read = client.simple("SELECT it FROM scratch.above LIMIT 1").await;
    assert_eq!(read.unwrap(), ["s1"]);
    let records = world.records("\"select\"");
    let last = records.last().unwrap();
    assert!(last.contains("shop/public/cards"), "{last}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_what_the_next_statement_is_decided_by() {
    if skipped("what_was_committed_is_what_the_next_statement_is_decided_by") {
        return;
    }
    let world = workshop().await;
    let mut client = along(&world, "scratch, public").await;
    for drop in [
        &["DROP TABLE scratch.cards"][..],
        &["BEGIN", "DROP TABLE scratch.cards", "COMMIT"],
    ] {
        client
            .simple("CREATE TABLE scratch.cards (number text)")
            .await
            .unwrap();
        assert_eq!(
            client.simple("SELECT count(*) FROM cards").await.unwrap(),
            ["0"]
        );
        let before = world.records("shop/public/cards").len();
        // All at once: the query waits for what the transaction comes to.
        let mut bytes = Vec::new();
        for sql in drop.iter().chain(&["SELECT count(*) FROM cards"]) {
            bytes.extend(message(b'Q', format!("{sql}\0").as_bytes()));
        }
        client.send(&bytes).await;
        for _ in drop {
            client.answer().await.unwrap();
        }
        assert_eq!(client.answer().await.unwrap(), ["50"]);
        assert!(world.records("shop/public/cards").len() > before);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_migration_passes_in_one_transaction() {
    if skipped("an_ordinary_migration_passes_in_one_transaction") {
        return;
    }
    let world = workshop().await;
    let mut client = along(&world, "scratch, public").await;
    let steps = [
        "BEGIN",
        "CREATE TABLE scratch.lines (id int PRIMARY KEY, note text)",
        "CREATE INDEX lines_by_note ON scratch.lines (note)",
        "CREATE TABLE IF NOT EXISTS versions (version int)",
        "INSERT INTO lines VALUES (1, 'one')",
        "INSERT INTO versions VALUES (1)",
        "CREATE VIEW names AS SELECT name FROM products",
        "CREATE VIEW line_names AS SELECT note FROM lines",
        "UPDATE keep SET id = 1",
        "COMMIT",
    ];
    for step in steps {
        client.simple(step).await.unwrap();
    }
    assert_eq!(
        client.simple("SELECT note FROM line_names").await.unwrap(),
        ["one"]
    );
    let at_once =
        "BEGIN; DROP VIEW IF EXISTS names; CREATE VIEW names AS SELECT id FROM products; COMMIT";
    client.simple(at_once).await.unwrap();
    assert_eq!(
        client.simple("SELECT id FROM names LIMIT 1").await.unwrap(),
        ["1"]
    );
    // Who made a view over what it may read can drop it: its tables are not defined anew.
    client.simple("DROP VIEW names, line_names").await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_whose_names_lead_elsewhere_has_to_be_prepared_again() {
    if skipped("a_prepared_statement_whose_names_lead_elsewhere_has_to_be_prepared_again") {
        return;
    }
    let world = workshop().await;
    let mut client = along(&world, "scratch, public").await;
    client
        .simple("PREPARE p AS SELECT count(*) FROM cards")
        .await
        .unwrap();
    client
        .parse("q", "SELECT count(*) FROM cards")
        .await
        .unwrap();
    assert_eq!(client.simple("EXECUTE p").await.unwrap(), ["50"]);
    assert_eq!(client.execute("q").await.unwrap(), ["50"]);
    let mut other = along(&world, "public").await;
    other
        .simple("CREATE TABLE scratch.cards (number text)")
        .await
        .unwrap();
    // Its next statement waits for the new catalogue.
    other.simple("SELECT 1").await.unwrap();
    for answer in [client.simple("EXECUTE p").await, client.execute("q").await] {
        let (sqlstate, said) = answer.unwrap_err();
        assert_eq!(sqlstate, "0A000", "{said}");
        assert!(said.contains("SQL-PREPARE-AGAIN"), "{said}");
    }
    client.simple("DEALLOCATE p").await.unwrap();
    client
        .simple("PREPARE p AS SELECT count(*) FROM public.cards")
        .await
        .unwrap();
    assert_eq!(client.simple("EXECUTE p").await.unwrap(), ["50"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_the_path_that_the_role_may_not_use_hides_nothing() {
    if skipped("a_schema_of_the_path_that_the_role_may_not_use_hides_nothing") {
        return;
    }
    let world = workshop().await;
    let mut client = along(&world, "hidden, public").await;
    // Policy lets it read hidden.cards, and PostgreSQL would take public.cards.
    refused_by(
        "SQL-SCHEMA-USAGE",
        client.simple("SELECT count(*) FROM cards").await,
    );
    let named = client.simple("SELECT count(*) FROM public.cards").await;
    assert_eq!(named.unwrap(), ["50"]);
    let alone = client.simple("SELECT count(*) FROM products").await;
    assert_eq!(alone.unwrap(), ["1000"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_is_found_by_what_it_gives_back_too() {
    if skipped("a_procedure_is_found_by_what_it_gives_back_too") {
        return;
    }
    let world = workshop().await;
    let mut client = along(&world, "scratch, public").await;
    let (sqlstate, said) = client.simple("CALL tell(NULL)").await.unwrap_err();
    assert_eq!(sqlstate, "42501", "{said}");
    assert!(said.contains("shop/public/tell"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_of_a_type_with_a_check_counts_as_a_write() {
    if skipped("a_parameter_of_a_type_with_a_check_counts_as_a_write") {
        return;
    }
    let world = workshop().await;
    let mut client = along(&world, "public").await;
    let oid = "SELECT 'public.told'::regtype::oid";
    let oid: u32 = world
        .postgres
        .execute("shop", oid)
        .unwrap()
        .parse()
        .unwrap();
    let mut body = b"\0SELECT $1\0\0\x01".to_vec();
    body.extend(oid.to_be_bytes());
    let mut bytes = message(b'P', &body);
    bytes.extend(message(b'B', b"\0\0\0\0\0\x01\0\0\0\x02by\0\0"));
    bytes.extend(execute("", 0));
    bytes.extend(SYNC);
    client.send(&bytes).await;
    assert_eq!(client.answer().await.unwrap(), ["by"]);
    let noted = world.postgres.execute("shop", "SELECT what FROM noted");
    assert_eq!(noted.unwrap(), "by");
    assert_eq!(world.writes(), [": ok SELECT 1 I"]);
    world.stop().await;
}
