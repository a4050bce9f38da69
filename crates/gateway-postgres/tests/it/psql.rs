//! psql, psycopg and pgbench, unmodified.

use crate::world::{World, estate_without_cards, skipped};
use ledger::body::TargetKind;

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_that_policy_allows_pass() {
    if skipped("reads_and_writes_that_policy_allows_pass") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let said = world
        .psql(
            &payments,
            "SELECT count(*) FROM cards;
             INSERT INTO orders (note) VALUES ('third') RETURNING id;
             BEGIN; UPDATE orders SET note = 'x' WHERE id = 1; COMMIT;
             SELECT note FROM orders WHERE id = 1;
             SELECT what FROM events;
             PREPARE p(int) AS SELECT name FROM products WHERE id = $1; EXECUTE p(7); DEALLOCATE p;
             BEGIN; DECLARE c CURSOR FOR SELECT id FROM products ORDER BY id; FETCH 2 FROM c; CLOSE c; COMMIT;
             SELECT name FROM product_names WHERE name = 'p9';
             EXPLAIN (COSTS off) SELECT 1;
             SHOW server_encoding;
             SELECT current_user;",
        )
        .await;
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "50",
            "3",
            "INSERT 0 1",
            "BEGIN",
            "UPDATE 1",
            "COMMIT",
            "x",
            "x",
            "PREPARE",
            "p7",
            "DEALLOCATE",
            "BEGIN",
            "DECLARE CURSOR",
            "1",
            "2",
            "CLOSE CURSOR",
            "COMMIT",
            "p9",
            "Result",
            "UTF8",
            "trilith/payments/api@pg-1/shop",
        ],
        "{said}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ai_agent_reaches_cards_by_no_way() {
    if skipped("the_ai_agent_reaches_cards_by_no_way") {
        return;
    }
    let world = World::start().await;
    let agent = world.plane.issue("agents/helper");
    for statement in [
        "SELECT * FROM cards",
        "SELECT * FROM card_numbers",
        "WITH q AS (SELECT * FROM cards) SELECT * FROM q",
        "COPY cards TO STDOUT",
        "COPY (SELECT number FROM cards) TO STDOUT",
        "SELECT card_of(1)",
        "SELECT 1 FROM products WHERE EXISTS (SELECT FROM cards)",
        "TABLE cards",
        "SELECT * FROM cards TABLESAMPLE SYSTEM (100)",
        "PREPARE s AS SELECT * FROM cards",
        "DECLARE c CURSOR FOR SELECT * FROM cards",
        "EXPLAIN SELECT * FROM cards",
        "EXPLAIN ANALYZE SELECT * FROM cards",
        "DELETE FROM cards",
        "INSERT INTO products SELECT id, number FROM cards",
        "CREATE TABLE mine AS SELECT * FROM cards",
        "SELECT * FROM undeclared",
        "DO $$ BEGIN PERFORM * FROM cards; END $$",
        "SELECT query_to_xml('SELECT * FROM cards', true, false, '')",
        "SELECT pg_read_file('/etc/hostname')",
        "SELECT ('/etc/hostname'::text).pg_read_file",
        "SELECT set_config('role', 'postgres', false)",
        "SELECT lo_get(1)",
        "SELECT query FROM pg_stat_activity",
        "SELECT dblink('dbname=shop', 'SELECT * FROM cards')",
        "SELECT most_common_vals FROM pg_stats",
        "SELECT rolpassword FROM pg_authid",
        "SET ROLE postgres",
        "SET search_path = pg_temp, public",
        "EXECUTE never_prepared",
    ] {
        let said = world.psql(&agent, &format!("{statement};")).await;
        assert!(said.contains("ERROR:  42501"), "{statement}: {said}");
        assert!(said.contains("(decision pg-1:"), "{statement}: {said}");
        assert!(
            !said.contains("s1\n") && !said.contains("vm"),
            "{statement}: {said}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_enforces_what_was_decided() {
    if skipped("the_database_itself_enforces_what_was_decided") {
        return;
    }
    let world = World::start().await;
    let agent = world.plane.issue("agents/helper");
    world.psql(&agent, "SELECT 1;").await;
    let grants = world
        .postgres
        .execute(
            "shop",
            "SELECT grantee, table_name, string_agg(privilege_type, ',' ORDER BY privilege_type)
             FROM information_schema.role_table_grants WHERE grantee LIKE 'trilith/%' GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .unwrap();
    assert_eq!(
        grants.lines().collect::<Vec<_>>(),
        [
            "trilith/agents/helper@pg-1/shop|pgbench_accounts|SELECT",
            "trilith/agents/helper@pg-1/shop|product_names|SELECT",
            "trilith/agents/helper@pg-1/shop|products|SELECT",
            "trilith/gateway/pg@pg-1/shop|pgbench_accounts|SELECT",
            "trilith/gateway/pg@pg-1/shop|product_names|SELECT",
            "trilith/gateway/pg@pg-1/shop|products|SELECT",
            "trilith/payments/api@pg-1/shop|card_numbers|SELECT",
            "trilith/payments/api@pg-1/shop|cards|SELECT",
            "trilith/payments/api@pg-1/shop|events|SELECT",
            "trilith/payments/api@pg-1/shop|events_2026|SELECT",
            "trilith/payments/api@pg-1/shop|orders|DELETE,INSERT,SELECT,TRUNCATE,UPDATE",
            "trilith/payments/api@pg-1/shop|pgbench_accounts|SELECT",
            "trilith/payments/api@pg-1/shop|product_names|SELECT",
            "trilith/payments/api@pg-1/shop|products|SELECT",
        ]
    );
    let roles = "SELECT rolname, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolinherit FROM pg_roles WHERE rolname LIKE 'trilith/agents/%'";
    assert_eq!(
        world.postgres.execute("shop", roles).unwrap(),
        "trilith/agents/helper@pg-1/shop|t|f|f|f|f"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_granted_stops_no_revocation_and_no_login() {
    if skipped("an_object_that_cannot_be_granted_stops_no_revocation_and_no_login") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    assert_eq!(
        world.psql(&payments, "SELECT count(*) FROM cards;").await,
        "50\n"
    );
    // Policy allows it and the gateway's role may not hand it out.
    world
        .postgres
        .execute(
            "shop",
            "CREATE VIEW foreign_names AS SELECT name FROM products; CREATE ROLE somebody; ALTER VIEW foreign_names OWNER TO somebody",
        )
        .unwrap();
    let mut files = estate_without_cards();
    let identities = files.0.get("identities/shop.toml").unwrap().clone();
    let more = "[[identity]]\npath = \"jobs/new\"\nkind = \"service\"\nowner = \"data\"\n";
    files.insert("identities/shop.toml", format!("{identities}{more}"));
    world.apply(&files).await;
    let held = "SELECT has_table_privilege('trilith/payments/api@pg-1/shop', 'cards', 'SELECT')";
    for _ in 0..1_200 {
        if world.postgres.execute("shop", held).unwrap() == "f" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(world.postgres.execute("shop", held).unwrap(), "f");
    let new = world.plane.issue("jobs/new");
    assert_eq!(
        world.psql(&new, "SELECT count(*) FROM products;").await,
        "1000\n"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_deletes_nothing_that_policy_forbids() {
    if skipped("a_foreign_key_deletes_nothing_that_policy_forbids") {
        return;
    }
    let world = World::start().await;
    let mut client =
        crate::client::Client::connect(&world, &world.plane.issue("payments/api")).await;
    world
        .postgres
        .execute(
            "shop",
            "CREATE TABLE refunds (id int, order_id int REFERENCES orders ON DELETE CASCADE ON UPDATE SET NULL);
             INSERT INTO refunds VALUES (1, 1), (2, 2)",
        )
        .unwrap();
    for (statement, action) in [
        ("DELETE FROM orders", "delete"),
        ("UPDATE orders SET id = id + 10", "update"),
    ] {
        let mut refused = None;
        for _ in 0..1_200 {
            client.simple("BEGIN").await.unwrap();
            refused = client.simple(statement).await.err();
            client.simple("ROLLBACK").await.unwrap();
            if refused.is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let (sqlstate, message) = refused.expect("the foreign key is seen");
        assert_eq!(sqlstate, "42501");
        assert!(
            message.contains(&format!("{action} on Table::\"shop/public/refunds\"")),
            "{message}"
        );
    }
    assert_eq!(
        world
            .postgres
            .execute(
                "shop",
                "SELECT count(*) FROM refunds WHERE order_id IN (1, 2)"
            )
            .unwrap(),
        "2"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_in_a_transaction_fails_it_on_both_sides() {
    if skipped("a_denial_in_a_transaction_fails_it_on_both_sides") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let said = world
        .psql(
            &payments,
            "BEGIN;
             INSERT INTO orders (note) VALUES ('lost');
             SELECT * FROM undeclared;
             SELECT 1;
             COMMIT;
             SELECT count(*) FROM orders WHERE note = 'lost';",
        )
        .await;
    assert!(said.contains("42501"), "{said}");
    // 25P02: the server itself says that the transaction is aborted.
    assert!(said.contains("25P02"), "{said}");
    assert!(said.contains("ROLLBACK\n0\n"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_before_a_change_is_decided_again() {
    if skipped("what_was_prepared_before_a_change_is_decided_again") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let mut client = crate::client::Client::connect(&world, &payments).await;
    client
        .simple("PREPARE s AS SELECT count(*) FROM cards")
        .await
        .unwrap();
    client
        .parse("p", "SELECT count(*) FROM cards")
        .await
        .unwrap();
    assert_eq!(client.simple("EXECUTE s").await.unwrap(), ["50"]);
    assert_eq!(client.execute("p").await.unwrap(), ["50"]);
    world.apply(&estate_without_cards()).await;
    for refused in [client.simple("EXECUTE s").await, client.execute("p").await] {
        let (sqlstate, message) = refused.unwrap_err();
        assert_eq!(sqlstate, "42501", "{message}");
        assert!(
            message.contains("select on Table::\"shop/public/cards\""),
            "{message}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_describes_what_is_there() {
    if skipped("psql_describes_what_is_there") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    for (command, part) in [
        ("\\dt", "public|cards|table|postgres"),
        ("\\d", "public|card_numbers|view|postgres"),
        (
            "\\d orders",
            "id|integer||not null|nextval('orders_id_seq'::regclass)",
        ),
        ("\\d+ cards", "number|text"),
        ("\\d events", "what|text"),
        ("\\dv", "card_numbers"),
        ("\\l", "shop|"),
        ("\\dn", "public|"),
        ("\\df", "card_of"),
        ("\\d+ card_numbers", "number|text"),
        ("\\d+ events", "what|text"),
        ("\\di", "cards_pkey"),
        ("\\ds", "orders_id_seq"),
        ("\\dP", "events"),
        ("\\d cards_pkey", "id|integer"),
        ("\\dp cards", "public|cards|table"),
        ("\\conninfo", "SSL connection"),
    ] {
        let said = world.psql(&payments, &format!("{command}\n")).await;
        assert!(
            said.contains(part) && !said.contains("ERROR"),
            "{command}: {said}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_rows_a_table_holds_is_not_told_by_the_catalogue() {
    if skipped("how_many_rows_a_table_holds_is_not_told_by_the_catalogue") {
        return;
    }
    let world = World::start().await;
    world.postgres.execute("shop", "ANALYZE cards").unwrap();
    let agent = world.plane.issue("agents/helper");
    for (query, code) in [
        (
            "SELECT reltuples FROM pg_class WHERE relname = 'cards'",
            "SQL-STATISTICS",
        ),
        (
            "SELECT * FROM pg_class WHERE relname = 'cards'",
            "SQL-STATISTICS",
        ),
        ("SELECT pg_relation_size('cards')", "POLICY-NONE"),
        ("SELECT pg_database_size('shop')", "POLICY-NONE"),
        ("\\dt+", "POLICY-NONE"),
    ] {
        let said = world.psql(&agent, &format!("{query};\n")).await;
        assert!(
            said.contains("42501") && said.contains(code),
            "{query}: {said}"
        );
    }
    // Whoever is to see sizes is allowed to call what tells them.
    let mut files = crate::world::estate();
    let policies = files.0.get("policies/shop.cedar").unwrap().clone();
    let sizes = r#"@id("sizes are for the helper")
permit (principal == Identity::"agents/helper", action == Action::"execute", resource == Function::"shop/pg_catalog/pg_table_size");"#;
    files.insert("policies/shop.cedar", format!("{policies}\n{sizes}\n"));
    let catalog = "name = \"pg_catalog\"\nclassification = \"catalog\"\n";
    let function = "[[database.schema.function]]\nname = \"pg_table_size\"\n";
    let resources = files.0.get("resources/shop.toml").unwrap();
    let resources = resources.replace(catalog, &format!("{catalog}{function}"));
    files.insert("resources/shop.toml", resources);
    world.apply(&files).await;
    let said = world.psql(&agent, "\\dt+\n").await;
    assert!(said.contains("kB") && !said.contains("ERROR"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_goes_both_ways() {
    if skipped("copy_goes_both_ways") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let said = world
        .psql(
            &payments,
            "COPY orders (note) FROM STDIN;\nfourth\nfifth\n\\.\nCOPY (SELECT note FROM orders ORDER BY id) TO STDOUT;\n",
        )
        .await;
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["COPY 2", "first", "second", "fourth", "fifth"],
        "{said}"
    );
    let outcomes = world.recorded("\"tag\":\"COPY\"").await;
    assert!(
        outcomes
            .iter()
            .any(|record| record.contains("\"rows\":\"2\"")),
        "{outcomes:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_is_streamed() {
    if skipped("a_large_result_is_streamed") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let sum = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    let said = world.psql(&payments, &format!("{sum};")).await;
    assert_eq!(said.len(), 100_000 * 1001);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_does_not_come_in() {
    if skipped("what_was_revoked_does_not_come_in") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    world.plane.revoke(TargetKind::Identity, &payments.id);
    let mut said = String::new();
    for _ in 0..50 {
        said = world.psql(&payments, "SELECT 1;").await;
        if said.contains("REVOKED") {
            break;
        }
    }
    assert!(said.contains("28000") || said.contains("REVOKED"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_runs_in_every_mode() {
    if skipped("pgbench_runs_in_every_mode") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    for mode in ["simple", "extended", "prepared"] {
        // -n: no VACUUM; the script is pgbench's own SELECT.
        let script = world.folder.path().join("select.sql");
        std::fs::write(
            &script,
            "\\set aid random(1, 1000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
        )
        .unwrap();
        let file = format!("{}", script.display());
        let arguments = ["-n", "-M", mode, "-c", "4", "-t", "50", "-f", &file];
        let output = world.program("pgbench", &payments, &arguments, "").await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let erred = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{mode}: {said}{erred}");
        assert!(
            said.contains("transactions actually processed: 200/200"),
            "{mode}: {said}"
        );
    }
    world.stop().await;
}

const PSYCOPG: &str = r#"
import psycopg
with psycopg.connect("") as connection:
    with connection.cursor() as cursor:
        for number in range(1, 12):
            # Prepared by the driver after five executions.
            cursor.execute("SELECT name FROM products WHERE id = %s", (number,), prepare=number > 5 or None)
            assert cursor.fetchone() == (f"p{number}",)
        cursor.executemany("INSERT INTO orders (note) VALUES (%s)", [("a",), ("b",)])
        with cursor.copy("COPY orders (note) FROM STDIN") as copy:
            copy.write_row(("c",))
        with cursor.copy("COPY (SELECT note FROM orders ORDER BY id) TO STDOUT") as copy:
            print(",".join(row[0] for row in copy.rows()))
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(3)]
        print([cursor.fetchone()[0] for cursor in cursors])
    with connection.cursor(name="server_side") as cursor:
        cursor.execute("SELECT id FROM products ORDER BY id")
        print(len(cursor.fetchmany(10)), len(cursor.fetchall()))
    connection.commit()
    try:
        with connection.transaction():
            connection.execute("SELECT * FROM undeclared")
    except psycopg.errors.InsufficientPrivilege as error:
        print(error.sqlstate, connection.info.transaction_status.name)
    try:
        with connection.transaction():
            connection.execute("SELECT 1/0")
    except psycopg.errors.DivisionByZero:
        print("goes on")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_works_unmodified() {
    if skipped("psycopg_works_unmodified") {
        return;
    }
    let Some(python) = testkit::venv_python(&["psycopg"]) else {
        testkit::skip(
            "psycopg_works_unmodified",
            "psycopg is not installed: cargo xtask test",
        );
        return;
    };
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let mut command = std::process::Command::new(python);
    command
        .args(["-c", PSYCOPG])
        .envs(world.environment(&payments));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "first,second,a,b,c",
            "[0, 1, 2]",
            "10 990",
            "42501 IDLE",
            "goes on"
        ],
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    world.stop().await;
}
