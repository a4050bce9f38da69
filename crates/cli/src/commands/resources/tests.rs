//! The command as it is typed, over estates in folders, a real PostgreSQL and a document.

use super::*;
use crate::arguments::{Arguments, Command};
use std::path::Path;
use testkit::postgres::{Options as Server, Postgres};

const SHOP: &str = include_str!("../../../../../examples/estate-shop/resources/shop.toml");

const SCHEMA: &str = r#"
CREATE TABLE cards (id int PRIMARY KEY, number text);
CREATE TABLE customers (id int, email text, gone text, "Ph""one/%" text);
ALTER TABLE customers DROP COLUMN gone;
CREATE VIEW order_totals AS SELECT 1 AS total;
CREATE MATERIALIZED VIEW products AS SELECT 1 AS id, 2 AS price;
CREATE TABLE "Or""ders/2 é" (id int) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF "Or""ders/2 é" FOR VALUES FROM (1) TO (9);
CREATE FUNCTION area(int) RETURNS int LANGUAGE sql RETURN 1;
CREATE FUNCTION area(int, int) RETURNS int LANGUAGE sql RETURN 2;
CREATE PROCEDURE tidy() LANGUAGE sql AS '';
CREATE SEQUENCE numbers;
CREATE SCHEMA "a.b";
CREATE TABLE "a.b".empty ();
CREATE ROLE reader LOGIN PASSWORD 'let me read';
"#;

fn folder(shop: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("estate.toml"),
        "trust_domain = \"example.org\"\n",
    )
    .unwrap();
    std::fs::create_dir(folder.path().join("resources")).unwrap();
    if let Some(shop) = shop {
        std::fs::write(folder.path().join("resources/shop.toml"), shop).unwrap();
    }
    folder
}

fn text(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join("resources").join(file)).unwrap()
}

fn ran(estate: &Path, words: &[&str]) -> Result<ExitCode, Failure> {
    let estate = estate.to_str().unwrap();
    let line = ["trilith", "resources", "sync"].into_iter();
    let line = line.chain(words.iter().copied());
    // The program of `--command` takes all that follows.
    let at = words.len().min(1) + 3;
    let mut line: Vec<&str> = line.collect();
    line.splice(at..at, ["--estate", estate]);
    let arguments = Arguments::read(line).unwrap();
    let Command::Resources(command) = arguments.command else {
        unreachable!()
    };
    run(*command, &arguments.global)
}

fn code(estate: &Path, words: &[&str]) -> u8 {
    let code = ran(estate, words).unwrap();
    (0..=3)
        .find(|number| format!("{code:?}") == format!("{:?}", ExitCode::from(*number)))
        .unwrap()
}

#[test]
fn a_real_database_is_declared_once_and_kept_in_step() {
    if let Some(why) = Postgres::missing() {
        testkit::skip("cli::resources_postgres", &why);
        return;
    }
    let server = Postgres::start_with(&Server {
        tcp: true,
        ..Server::default()
    })
    .unwrap();
    server.execute("postgres", "CREATE DATABASE shop").unwrap();
    server.execute("shop", SCHEMA).unwrap();
    let url = format!(
        "postgresql://postgres@/shop?host={}&port={}",
        server.socket_folder().display(),
        server.port()
    );
    let folder = folder(Some(SHOP));
    let estate = folder.path();
    let sync = ["postgres", "--url", &url];
    let check = [&sync[..], &["--check"]].concat();

    // `orders` of the example is not there; nothing is written by a check.
    assert_eq!(code(estate, &check), 1);
    assert_eq!(text(estate, "shop.toml"), SHOP);
    assert_eq!(code(estate, &sync), 0);
    let after = text(estate, "shop.toml");
    let before: Vec<&str> = SHOP.lines().collect();
    let mut kept = after.lines();
    assert!(before.iter().all(|line| kept.any(|other| other == *line)));
    assert_eq!(code(estate, &sync), 0);
    assert_eq!(
        text(estate, "shop.toml"),
        after,
        "a second run changes nothing"
    );

    let compiled = Estate::compile(&read(estate).unwrap()).unwrap();
    let table = |path: &str| compiled.table(path).unwrap();
    assert_eq!(table("shop/public/cards").classification, "pii");
    assert_eq!(
        table("shop/public/products")
            .columns
            .keys()
            .collect::<Vec<_>>(),
        ["id", "price"]
    );
    assert_eq!(table("shop/public/products").classification, "public");
    // Somebody had listed columns of it, and not this one.
    let customers = table("shop/public/customers");
    assert_eq!(customers.columns["Ph\"one/%"].classification, "restricted");
    assert_eq!(customers.columns.len(), 3);
    let odd = table("shop/public/Or%22ders%2F2 é");
    assert!(odd.unclassified && odd.classification == "restricted");
    assert!(table("shop/a.b/empty").columns.is_empty());
    assert_eq!(after.matches("name = \"area\"").count(), 1);
    assert!(after.contains("name = \"tidy\""));
    assert!(!after.contains("part_1") && !after.contains("numbers") && !after.contains("pg_toast"));

    // What came, and what went.
    server
        .execute("shop", "DROP TABLE cards; CREATE TABLE notes (id int)")
        .unwrap();
    assert_eq!(code(estate, &check), 1);
    let prune = [&sync[..], &["--prune"]].concat();
    assert_eq!(code(estate, &prune), 0);
    let pruned = text(estate, "shop.toml");
    assert!(!pruned.contains("\"cards\"") && !pruned.contains("\"orders\""));
    assert!(pruned.contains("name = \"notes\"") && pruned.contains("\"pg_catalog\""));
    assert!(pruned.contains("# One column makes the whole table as restricted as itself."));
    assert_eq!(code(estate, &check), 0);

    // Another role, with a password, over TLS, and one schema of the system.
    let secret = folder.path().join("estate-password");
    std::fs::write(&secret, "let me read\n").unwrap();
    let other = tempfile::tempdir().unwrap();
    let estate = other.path();
    std::fs::write(
        estate.join("estate.toml"),
        "trust_domain = \"example.org\"\n",
    )
    .unwrap();
    let url = format!("postgresql://reader@localhost:{}/shop", server.port());
    let certificate = server.certificate();
    let certificate = certificate.to_str().unwrap();
    let words = [
        "postgres",
        "--url",
        &url,
        "--schema",
        "information_schema",
        "--database",
        "mine/1",
        "--password-file",
        secret.to_str().unwrap(),
        "--ca-file",
        certificate,
    ];
    assert_eq!(code(estate, &words), 0);
    let made = text(estate, "mine_1.toml");
    assert!(made.contains("name = \"mine/1\"") && made.contains("name = \"sql_features\""));
    assert!(!made.contains("name = \"public\""));

    std::fs::write(&secret, "wrong").unwrap();
    let refused = ran(estate, &words).unwrap_err();
    assert_eq!(refused.findings()[0].code, "SYNC-PG");
    assert!(!refused.to_string().contains("wrong"), "{refused}");
}

#[test]
fn a_document_is_declared_and_a_bad_one_leaves_nothing() {
    let folder = folder(None);
    let estate = folder.path();
    // Not in the estate, which has no file of that name.
    let elsewhere = tempfile::tempdir().unwrap();
    let document = elsewhere.path().join("openapi.json");
    let path = document.to_str().unwrap();
    std::fs::write(
        &document,
        r#"{"openapi":"3.0.3","servers":[{"url":"/v1"}],"paths":{"/invoices/{id}":{"get":{},"put":{}}}}"#,
    )
    .unwrap();
    let words = ["openapi", "--file", path, "--api", "billing"];
    assert_eq!(code(estate, &words), 0);
    let compiled = Estate::compile(&read(estate).unwrap()).unwrap();
    let declared: Vec<String> = compiled
        .resources()
        .map(|one| one.resource.to_string())
        .collect();
    assert!(declared.contains(&"Route::\"billing/PUT/v1/invoices/{id}\"".to_owned()));
    let before = text(estate, "billing.toml");
    std::fs::write(&document, "openapi: 3.0.3\n").unwrap();
    let refused = ran(estate, &words).unwrap_err();
    assert_eq!(refused.findings()[0].code, "SYNC-OPENAPI");
    assert_eq!(text(estate, "billing.toml"), before);
}

/// Answers `tools/list` by the older revision, with a description that is given.
const SERVER: &str = r#"
while read -r line; do
  case "$line" in
    *'"initialize"'*) printf '%s\n' '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}' ;;
    *notifications/*) ;;
    *_meta*) printf '%s\n' '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"initialize first"}}' ;;
    *) printf '%s\n' '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read","description":"'"$DOC"'"},{"name":"a\tb"}]}}' ;;
  esac
done
"#;

#[test]
fn a_tool_that_changed_is_told_until_somebody_accepts_it() {
    let folder = folder(None);
    let estate = folder.path();
    let mcp = |doc: &'static str, more: &[&'static str]| {
        let doc = format!("DOC={doc}");
        let mut words = vec!["mcp", "--server", "notes"];
        words.extend(more);
        words.extend(["--command", "env", &doc, "sh", "-c", SERVER]);
        let refused = ran(estate, &words).unwrap_err();
        let codes = refused
            .findings()
            .iter()
            .map(|finding| finding.code.clone().into_owned());
        codes.collect::<Vec<_>>()
    };
    // A name that no estate can declare is told each time; the other tool is declared all the same.
    let odd = "SYNC-NAME-REFUSED";
    assert_eq!(mcp("one", &[]), [odd]);
    let first = text(estate, "notes.toml");
    assert!(first.contains("name = \"notes/read\"") && first.contains("definition = \"sha256:"));
    assert_eq!(mcp("one", &[]), [odd]);
    assert_eq!(mcp("two", &[]), ["SYNC-DEFINITION-CHANGED", odd]);
    assert_eq!(mcp("two", &[]), ["SYNC-DEFINITION-CHANGED", odd]);
    assert_eq!(text(estate, "notes.toml"), first);
    assert_eq!(mcp("two", &["--accept-changed"]), [odd]);
    assert_ne!(text(estate, "notes.toml"), first);
    assert_eq!(mcp("two", &[]), [odd]);
}

/// A new table counts as the most restricted, so that what may be read in its schema may break an invariant: the sync
/// says so, before anybody plans.
#[test]
fn a_table_that_breaks_an_invariant_today_is_told() {
    let folder = folder(Some(
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\nclassification = \"public\"\n\
         [[database.schema.table]]\nname = \"prices\"\n",
    ));
    let put = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put(
        "identities/i.toml",
        "[[identity]]\npath = \"agents/helper\"\nkind = \"ai-agent\"\nowner = \"us\"\n",
    );
    put(
        "policies/p.cedar",
        "permit (principal == Identity::\"agents/helper\", action == Action::\"select\", resource in Schema::\"shop/public\");\n",
    );
    put(
        "invariants/i.cedar",
        "@id(\"agents keep off\") @proof(\"today\")\nnever (principal, action == Action::\"select\", resource is Table)\n\
         when { principal.kind == \"ai-agent\" && resource.classification == \"restricted\" };\n\
         @id(\"tables have teams\")\nnever (principal, action == Action::\"delete\", resource is Table)\n\
         given { resource.hasTag(\"team\") };\n",
    );
    let files = read(folder.path()).unwrap();
    let found = |tables: &[&str]| {
        let tables = tables.iter().map(|name| ((*name).to_owned(), Vec::new()));
        let schema = discovery::Schema {
            tables: tables.collect(),
            ..discovery::Schema::default()
        };
        Found::Database(discovery::Database {
            name: "shop".to_owned(),
            schemas: [("public".to_owned(), schema)].into(),
            scope: discovery::Scope::default(),
        })
    };
    let told = |found: &Found| {
        let options = Options {
            prune: false,
            inherit: false,
            accept_changed: false,
        };
        let outcome = discovery::merge(&files, found, &options).unwrap();
        let after = compiled(&files, &outcome).unwrap();
        let broken = after.map_or_else(Vec::new, |after| broken(&files, &after));
        broken.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(&found(&["prices"])), [""; 0]);
    // The second was broken before: `prices` is no team's.
    assert_eq!(
        told(&found(&["prices", "cards"])),
        [
            "invariants/i.cedar:1 \"agents keep off\": Identity::\"agents/helper\" select Table::\"shop/public/cards\""
        ]
    );
}

/// As it is typed: it is written, and the command fails.
#[test]
fn a_sync_that_breaks_an_invariant_fails_and_says_which() {
    let folder = folder(None);
    let estate = folder.path();
    let put = |file: &str, text: &str| {
        let path = estate.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put(
        "identities/i.toml",
        "[[identity]]\npath = \"agents/helper\"\nkind = \"ai-agent\"\nowner = \"us\"\n",
    );
    put(
        "resources/billing.toml",
        "[[resource]]\nkind = \"Api\"\nname = \"billing\"\nclassification = \"public\"\n\
         [[resource]]\nkind = \"Route\"\nname = \"billing/GET/v1/a\"\n",
    );
    put(
        "policies/p.cedar",
        "permit (principal == Identity::\"agents/helper\", action == Action::\"call\", resource in Api::\"billing\");\n",
    );
    put(
        "invariants/i.cedar",
        "@id(\"agents keep off\") @proof(\"today\")\nnever (principal, action == Action::\"call\", resource is Route)\n\
         when { principal.kind == \"ai-agent\" && resource.classification == \"restricted\" };\n",
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let document = elsewhere.path().join("openapi.json");
    std::fs::write(
        &document,
        r#"{"openapi":"3.0.3","servers":[{"url":"/v1"}],"paths":{"/a":{"get":{}},"/b":{"get":{}}}}"#,
    )
    .unwrap();
    let path = document.to_str().unwrap();
    let words = ["openapi", "--file", path, "--api", "billing"];
    let refused = ran(estate, &words).unwrap_err();
    let findings = refused.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].code, "SYNC-INVARIANT");
    let observed = findings[0].observed.as_deref().unwrap();
    assert!(
        observed.contains("agents keep off") && observed.contains("Route::\"billing/GET/v1/b\""),
        "{observed}"
    );
    assert!(text(estate, "billing.toml").contains("billing/GET/v1/b"));
    // It is as it is now: whoever plans is told.
    assert_eq!(code(estate, &words), 0);
}
