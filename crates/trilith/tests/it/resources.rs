//! `trilith resources sync` as a process: what it prints where, its exit codes, and what it never prints.

use estate::{Estate, EstateFiles, ResourceRef};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use testkit::postgres::{Options, Postgres};

fn sync(estate: &Path, words: &[&str], password: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
    command.args(["resources", "sync"]).args(words);
    command.arg("--estate").arg(estate);
    command.env_remove("PGPASSWORD");
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    command.output().expect("the binary starts")
}

fn estate() -> tempfile::TempDir {
    let folder = testkit::temp_dir().expect("a folder");
    let file = folder.path().join("estate.toml");
    std::fs::write(file, "trust_domain = \"example.org\"\n").expect("a file");
    folder
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[test]
fn a_check_says_what_there_is_to_do_and_writes_nothing() {
    let (estate, elsewhere) = (estate(), testkit::temp_dir().expect("a folder"));
    let openapi = elsewhere.path().join("openapi.json");
    std::fs::write(
        &openapi,
        r#"{"openapi":"3.1.0","paths":{"/invoices":{"get":{},"post":{}}}}"#,
    )
    .expect("a file");
    let file = openapi.to_str().expect("UTF-8");
    let words = ["openapi", "--file", file, "--api", "billing", "--json"];
    let check = [&words[..], &["--check"]].concat();

    let checked = sync(estate.path(), &check, None);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let told = document(&checked);
    assert_eq!(told["changed"], json!(["resources/billing.toml"]));
    assert_eq!(told["written"], false);
    let route = json!({ "kind": "route", "path": "billing/GET/invoices" });
    assert_eq!(told["report"]["unclassified"][0], route);
    assert!(!estate.path().join("resources").exists());

    let written = sync(estate.path(), &words, None);
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    assert_eq!(document(&written)["report"]["added"][1], route);
    let again = sync(estate.path(), &check, None);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(document(&again)["changed"], json!([]));
    // No half of a file, and nothing beside it.
    let files = std::fs::read_dir(estate.path().join("resources")).expect("a folder");
    assert_eq!(files.count(), 1);
}

#[test]
fn a_password_comes_from_the_environment_and_is_not_printed() {
    if let Some(why) = Postgres::missing() {
        testkit::skip("cli::resources_postgres", &why);
        return;
    }
    let options = Options {
        tcp: true,
        ..Options::default()
    };
    let server = Postgres::start_with(&options).expect("a server");
    let made =
        "CREATE ROLE reader LOGIN PASSWORD 'let-me-read'; CREATE TABLE notes (id int, body text)";
    server.execute("postgres", made).expect("a table");
    let url = format!(
        "postgresql://reader@localhost:{}/postgres?sslrootcert={}",
        server.port(),
        server.certificate().display()
    );
    let words = ["postgres", "--url", &url, "--database", "shop"];
    let estate = estate();
    for (password, code) in [(Some("let-me-in"), 1), (None, 1), (Some("let-me-read"), 0)] {
        let output = sync(estate.path(), &words, password);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors.contains("SYNC-PG: "), code == 1, "{errors}");
        assert!(!errors.contains("let-me"), "{errors}");
        assert_eq!(output.stdout.is_empty(), code == 1);
    }
    let text = std::fs::read_to_string(estate.path().join("resources/shop.toml"));
    assert!(text.expect("a file").contains("name = \"body\""));
}

/// What was written for a name is what is looked for the next time, and what the estate then declares.
#[test]
fn names_with_quotes_and_backslashes_are_declared_once() {
    if let Some(why) = Postgres::missing() {
        testkit::skip("cli::resources_odd_names", &why);
        return;
    }
    let options = Options {
        tcp: true,
        ..Options::default()
    };
    let server = Postgres::start_with(&options).expect("a server");
    let made = "CREATE ROLE reader LOGIN PASSWORD 'let-me-read'; \
                CREATE TABLE \"o'brien\" (\"it's\" int, \"say \"\"x\"\"\" int); \
                CREATE TABLE \"a\"\"b\" (id int); CREATE TABLE \"c\\d\" (\"e\\f\" int)";
    server.execute("postgres", made).expect("tables");
    let url = format!(
        "postgresql://reader@localhost:{}/postgres?sslrootcert={}",
        server.port(),
        server.certificate().display()
    );
    let words = ["postgres", "--url", &url, "--database", "shop", "--json"];
    let folder = estate();
    let written = sync(folder.path(), &words, Some("let-me-read"));
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    let check = [&words[..], &["--check"]].concat();
    let again = sync(folder.path(), &check, Some("let-me-read"));
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(document(&again)["changed"], json!([]));

    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"example.org\"\n[[administrator]]\nuid = 0\n",
    );
    let text = std::fs::read_to_string(folder.path().join("resources/shop.toml"));
    files.insert("resources/shop.toml", text.expect("a file"));
    let declared = Estate::compile(&files).expect("an estate");
    for path in [
        "shop/public/o'brien",
        "shop/public/o'brien/it's",
        "shop/public/o'brien/say %22x%22",
        "shop/public/a%22b",
        "shop/public/c%5Cd",
        "shop/public/c%5Cd/e%5Cf",
    ] {
        let resource = path.parse::<ResourceRef>().expect("a resource");
        assert!(declared.object(&resource).declared, "{path}");
    }
}
