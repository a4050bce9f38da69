//! Code that runs although no statement names it: functions of constraints, defaults, indexes, types and policies of
//! rows, and triggers of partitions. What it touches nobody knows: records say so, and its errors are withheld.

use crate::client::Client;
use crate::columns::decided;
use crate::world::{World, skipped};
use ledger::Record;
use ledger::body::{Coverage, Intent};
use std::time::Duration;

/// `leak` writes down what it is given, and reads all cards for whoever breaks the rule.
const SCHEMA: &str = r"
CREATE TABLE audit (what text);
CREATE FUNCTION leak(text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  INSERT INTO audit VALUES ($1);
  IF $1 = 'break' THEN
    RAISE EXCEPTION 'broken' USING DETAIL = (SELECT string_agg(number, ' ') FROM cards), ERRCODE = '23514';
  END IF;
  RETURN true;
END $$;
CREATE FUNCTION same(text) RETURNS text LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER AS
  $$ BEGIN PERFORM leak($1); RETURN $1; END $$;
CREATE FUNCTION part(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
  $$ BEGIN PERFORM leak(new.x); RETURN new; END $$;
CREATE DOMAIN watched AS text CHECK (leak(value));
CREATE TYPE pair AS (a int, b watched);
CREATE DOMAIN plain AS text CHECK (value <> '');
CREATE TYPE mood AS ENUM ('calm');
CREATE TABLE t_check (id int, x text CHECK (leak(x)));
CREATE TABLE t_default (id int, x text DEFAULT leak('x')::text);
CREATE TABLE t_index (id int, x text); CREATE INDEX ON t_index (same(x));
CREATE TABLE t_domain (id int, x watched);
CREATE TABLE t_pair (id int, x text, p pair[]);
CREATE TABLE t_generated (id int, x text, y text GENERATED ALWAYS AS (same(x)) STORED);
CREATE TABLE t_rows (id int, x text); ALTER TABLE t_rows ENABLE ROW LEVEL SECURITY; INSERT INTO t_rows VALUES (1, 'x');
CREATE POLICY p ON t_rows USING (leak(x));
CREATE TABLE t_others (id int, x text); ALTER TABLE t_others ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t_others USING (id IN (SELECT id FROM cards));
CREATE TABLE t_trigger (id int, x text) PARTITION BY RANGE (id);
CREATE TABLE t_trigger_1 PARTITION OF t_trigger FOR VALUES FROM (0) TO (9);
CREATE TRIGGER t BEFORE INSERT ON t_trigger_1 FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TABLE t_key (id int, x text) PARTITION BY RANGE (part(id));
CREATE TABLE t_key_1 PARTITION OF t_key FOR VALUES FROM (0) TO (9);
CREATE TABLE t_plain (id int PRIMARY KEY, x plain NOT NULL CHECK (x <> 'y'), m mood, at timestamptz DEFAULT now());
ALTER TABLE t_plain ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t_plain USING (x <> current_user);
GRANT ALL ON ALL TABLES IN SCHEMA public TO trilith_gateway WITH GRANT OPTION;
";

const TABLES: [&str; 12] = [
    "t_check",
    "t_default",
    "t_index",
    "t_domain",
    "t_pair",
    "t_generated",
    "t_rows",
    "t_others",
    "t_trigger",
    "t_key",
    "t_key_1",
    "t_plain",
];

/// As columns are decided on, with these tables, in which payments reads and inserts.
async fn apply(world: &World) {
    let mut files = decided();
    let mut resources = files.0.get("resources/shop.toml").cloned().unwrap();
    for table in TABLES {
        resources.push_str(&format!(
            "\n[[database.schema.table]]\nname = \"{table}\"\nclassification = \"internal\"\n"
        ));
    }
    files.insert("resources/shop.toml", resources);
    let policies = files.0.get("policies/shop.cedar").cloned().unwrap();
    let permit = "\n@id(\"all of it\")\npermit (principal == Identity::\"payments/api\",\n  \
                  action in [Action::\"select\", Action::\"insert\"], resource in Schema::\"shop/public\");\n";
    files.insert("policies/shop.cedar", format!("{policies}{permit}"));
    world.apply(&files).await;
}

/// As soon as the rights in the database have followed the estate.
async fn granted(client: &mut Client) {
    let granted = async {
        for table in TABLES {
            let sql = format!("SELECT count(*) FROM {table}");
            while client.simple(&sql).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), granted)
        .await
        .expect("the rights come");
}

/// The coverage of the intent that was recorded last.
async fn last_coverage(world: &World) -> Coverage {
    world.core.recorder().flush().await.unwrap();
    let intents = world.records("\"type\":\"intent\"");
    let intent: Intent = Record::parse(intents.last().unwrap().as_bytes())
        .unwrap()
        .expect_body()
        .unwrap();
    intent.coverage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_does_not_say_complete_where_code_runs_that_nobody_named() {
    if skipped("a_record_does_not_say_complete_where_code_runs_that_nobody_named") {
        return;
    }
    let world = World::start().await;
    world.postgres.execute("shop", SCHEMA).unwrap();
    apply(&world).await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    granted(&mut client).await;
    for (sql, expected) in [
        ("INSERT INTO t_check VALUES (1, 'x')", Coverage::ParsedOnly),
        (
            "INSERT INTO t_default (id) VALUES (1)",
            Coverage::ParsedOnly,
        ),
        ("INSERT INTO t_index VALUES (1, 'x')", Coverage::ParsedOnly),
        ("INSERT INTO t_domain VALUES (1, 'x')", Coverage::ParsedOnly),
        ("INSERT INTO t_pair (id) VALUES (1)", Coverage::ParsedOnly),
        (
            "INSERT INTO t_generated (id, x) VALUES (1, 'x')",
            Coverage::ParsedOnly,
        ),
        (
            "INSERT INTO t_trigger VALUES (1, 'x')",
            Coverage::ParsedOnly,
        ),
        ("INSERT INTO t_key VALUES (1, 'x')", Coverage::ParsedOnly),
        ("INSERT INTO t_key_1 VALUES (2, 'x')", Coverage::ParsedOnly),
        (
            "INSERT INTO t_plain (id, x) VALUES (1, 'x')",
            Coverage::Complete,
        ),
        ("SELECT x FROM t_check", Coverage::Complete),
        ("SELECT x FROM t_trigger", Coverage::Complete),
        ("SELECT x FROM t_plain", Coverage::Complete),
        ("SELECT x FROM t_rows", Coverage::ParsedOnly),
        ("SELECT x FROM t_others", Coverage::ParsedOnly),
        (
            "SELECT a FROM jsonb_to_recordset('[{\"a\":\"x\"}]') AS r(a watched), t_plain",
            Coverage::ParsedOnly,
        ),
        (
            "SELECT a FROM jsonb_to_recordset('[{\"a\":\"x\"}]') AS r(a text), t_plain",
            Coverage::Complete,
        ),
    ] {
        client
            .simple(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(last_coverage(&world).await, expected, "{sql}");
    }
    // What a rule of rows or a type does may last.
    client
        .simple("SELECT a FROM jsonb_to_recordset('[{\"a\":\"x\"}]') AS r(a watched)")
        .await
        .unwrap();
    let writes = world.writes();
    assert_eq!(writes.last().unwrap(), ": ok SELECT 1 I");

    // A rule that comes later is seen although its table is none the newer.
    world
        .postgres
        .execute("shop", "CREATE POLICY q ON t_plain USING (leak(x))")
        .unwrap();
    let seen = async {
        loop {
            client.simple("SELECT x FROM t_plain").await.unwrap();
            if last_coverage(&world).await == Coverage::ParsedOnly {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen)
        .await
        .expect("the catalogue is read again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_code_that_nobody_named_quotes_no_column_that_may_not_be_read() {
    if skipped("an_error_of_code_that_nobody_named_quotes_no_column_that_may_not_be_read") {
        return;
    }
    let world = World::start().await;
    world.postgres.execute("shop", SCHEMA).unwrap();
    apply(&world).await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    granted(&mut client).await;
    world
        .postgres
        .execute("shop", "INSERT INTO t_rows VALUES (2, 'break')")
        .unwrap();
    for sql in [
        "INSERT INTO t_check VALUES (1, 'break')",
        "INSERT INTO t_index VALUES (1, 'break')",
        "INSERT INTO t_domain VALUES (1, 'break')",
        "INSERT INTO t_generated (id, x) VALUES (1, 'break')",
        "INSERT INTO t_trigger VALUES (1, 'break')",
        "SELECT x FROM t_rows",
        "SELECT a FROM jsonb_to_recordset('[{\"a\":\"break\"}]') AS r(a watched)",
    ] {
        let (sqlstate, message) = client.simple(sql).await.expect_err(sql);
        assert_eq!(sqlstate, "23514", "{sql}: {message}");
        assert!(
            message.contains("POLICY-COLUMN-WITHHELD"),
            "{sql}: {message}"
        );
        assert!(!message.contains("s1 s2"), "{sql}: {message}");
    }
    world.stop().await;
}
