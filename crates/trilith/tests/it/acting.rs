//! From a person to a table: Ada logs in at a provider that nobody here wrote, lets an AI agent act for her, which
//! lets another, which reads from PostgreSQL through the gateway and asks the node agent what it may. Each of them is
//! decided by what it is itself, each record names all of them, and Ada takes it back.
//!
//! Server, node agent, gateway and the helper are this binary; the sub-agent is the process of this test.

use crate::pdp::{Site, free_port, uid};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use spiffe_client::WorkloadApiClient;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use testkit::oidc::{self, Provider};
use testkit::postgres::Postgres;
use tokio_postgres_rustls::MakeRustlsConnect;

const IDENTITIES: &str = r#"
[[identity]]
path = "gateway/pg"
kind = "gateway"
owner = "platform"
dns_names = ["localhost"]
[[identity]]
path = "gateway/decisions"
kind = "gateway"
owner = "platform"
[[identity]]
path = "people/ada"
kind = "person"
owner = "people"
login = { issuer = "ISSUER", subject = "ada-1" }
[[identity]]
path = "agents/helper"
kind = "ai-agent"
owner = "support"
visible = ["workload.path"]
[[identity]]
path = "agents/summary"
kind = "ai-agent"
owner = "support"
visible = ["workload.path"]
"#;

const GRANTS: &str = r#"
[[delegation]]
id = "ada has a helper"
from = 'Identity::"people/ada"'
to = 'Identity::"agents/helper"'
max_hops = 2
[[delegation]]
id = "the helper has a summariser"
from = 'Identity::"agents/helper"'
to = 'Identity::"agents/summary"'
"#;

const RESOURCES: &str = r#"
[[database]]
name = "shop"
[[database.schema]]
name = "public"
[[database.schema.table]]
name = "notes"
classification = "internal"
[[database.schema.table]]
name = "drafts"
classification = "internal"
[[database.schema]]
name = "pg_catalog"
classification = "public"
"#;

/// The helper reads notes by its own program alone, and drafts by the summariser's, which it is not.
const POLICIES: &str = r#"
@id("administrators") permit (principal == Admin::"uid:UID", action, resource);
@id("the gateway") permit (principal in Pool::"demo", action == Action::"assume", resource == Identity::"gateway/pg")
when { principal has path && principal.path like "*/gateway/trilith" };
@id("the agent decides") permit (principal in Pool::"demo", action == Action::"assume", resource == Identity::"gateway/decisions")
when { principal has path && principal.path like "*/agent/trilith" };
@id("the helper") permit (principal in Pool::"demo", action == Action::"assume", resource == Identity::"agents/helper")
when { principal has path && principal.path like "*/helper/trilith" };
@id("the summariser") permit (principal in Pool::"demo", action == Action::"assume", resource == Identity::"agents/summary")
when { principal has path && principal.path like "*/deps/it-*" };
@id("ada reads") permit (principal == Identity::"people/ada", action == Action::"select", resource in Database::"shop");
@id("the summariser reads") permit (principal == Identity::"agents/summary", action == Action::"select", resource in Database::"shop");
@id("the helper reads notes") permit (principal == Identity::"agents/helper", action == Action::"select", resource == Table::"shop/public/notes")
when { context has workload && context.workload has path && context.workload.path like "*/helper/trilith" };
@id("the helper reads drafts") permit (principal == Identity::"agents/helper", action == Action::"select", resource == Table::"shop/public/drafts")
when { context has workload && context.workload has path && context.workload.path like "*/deps/it-*" };
@id("the helper reads the catalogue") permit (principal == Identity::"agents/helper", action == Action::"select", resource in Schema::"shop/pg_catalog");
"#;

/// A copy of the binary, so that the agent sees another program.
fn copy(site: &Site, name: &str) -> String {
    let path = site.at(&format!("{name}/trilith"));
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::copy(env!("CARGO_BIN_EXE_trilith"), &path).expect("a copy");
    path.display().to_string()
}

fn member<'a>(document: &'a Value, name: &str) -> &'a str {
    let found = document.pointer(name).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{name} in {document}"))
}

/// Ada at her browser: the provider's pages, and then where they send it.
fn log_in(site: &Site, server: &str, issuer: &str, pin: &str) {
    let mut command = site.command(&[
        "login",
        "--admin-server",
        server,
        "--session",
        "ada.json",
        "--issuer",
        issuer,
        "--trust-domain",
        "example.org",
        "--pin",
        pin,
        "--timeout",
        "60",
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let told = BufReader::new(child.stderr.take().expect("stderr"));
    let mut said = String::new();
    for line in told.lines() {
        let line = line.expect("text");
        if let Some(url) = line.trim().strip_prefix("http://") {
            let back = oidc::log_in(&format!("http://{url}"), "ada-1").expect("a login");
            let rest = back.strip_prefix("http://").expect("loopback");
            let (host, target) = rest.split_once('/').expect("a path");
            let request = format!("GET /{target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let _page = testkit::http::raw(host.parse().expect("an address"), request.as_bytes());
        }
        said.push_str(&line);
        said.push('\n');
    }
    assert!(child.wait().expect("it ends").success(), "{said}");
}

/// What the node agent says of this process: nothing is shown to it but the token.
fn ask(site: &Site, token: &str, table: &str) -> Option<Value> {
    let body = json!({
        "subject": {"type": "identity", "id": "agents/summary", "properties": {"delegation": token}},
        "action": {"name": "select"},
        "resource": {"type": "table", "id": format!("shop/public/{table}")},
    })
    .to_string();
    let mut stream = UnixStream::connect(site.at("decisions.sock")).ok()?;
    let request = format!(
        "POST /access/v1/evaluation HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    // Until the estate has come nothing is answered, and no JSON says so.
    serde_json::from_str(body).ok()
}

/// A session of this process at the gateway, for whom `token` says.
async fn connect(
    site: &Site,
    port: u16,
    token: &str,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let socket = format!("unix://{}", site.at("workload.sock").display());
    let client = WorkloadApiClient::connect_to(&socket)
        .await
        .expect("the agent");
    let context = client.fetch_x509_context().await.expect("an identity");
    let svid = context.default_svid().expect("an SVID");
    let mut roots = RootCertStore::empty();
    for (_, bundle) in context.bundle_set().iter() {
        for authority in bundle.authorities() {
            let der = CertificateDer::from(authority.as_bytes().to_vec());
            roots.add(der).expect("a root");
        }
    }
    let chain = svid.cert_chain().iter();
    let chain = chain.map(|one| CertificateDer::from(one.as_bytes().to_vec()));
    let key = PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.collect(), key.into())
        .expect("a key");
    let mut config = tokio_postgres::Config::new();
    config
        .host("localhost")
        .hostaddr(std::net::Ipv4Addr::LOCALHOST.into())
        .port(port)
        .user("summary")
        .dbname("shop")
        .options(format!("-c trilith.delegation={token}"))
        .ssl_mode(tokio_postgres::config::SslMode::Require);
    let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn refusal(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(refused) => format!("{} {:?}", refused.message(), refused.detail()),
        None => error.to_string(),
    }
}

/// `on_behalf_of` of a record of `kind` that the folder's ledger has, once it has one.
fn acted_for(site: &Site, folder: &str, kind: &str) -> Vec<Value> {
    let index = site.at(&format!("{folder}-index")).display().to_string();
    let place = site.at(folder).display().to_string();
    let mut found = Vec::new();
    site.wait(folder, || {
        let printed = site.ask(&[
            "ledger",
            "search",
            "--on-behalf-of",
            "people/ada",
            "--type",
            kind,
            "--folder",
            &place,
            "--index",
            &index,
            "--json",
        ]);
        let lines = printed
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let records = lines.filter_map(|line: Value| line.get("record").cloned());
        found = records
            .filter_map(|record| {
                let body = record.get("body")?;
                let own = body.get("on_behalf_of");
                own.or_else(|| body.pointer("/about/on_behalf_of")).cloned()
            })
            .collect();
        !found.is_empty()
    });
    found
}

#[test]
fn a_person_lets_an_agent_let_another_read_and_all_records_name_them() {
    const NAME: &str = "trilith::a_person_lets_an_agent_let_another_read_and_all_records_name_them";
    if let Err(missing) = oidc::installed() {
        return testkit::skip(NAME, &missing);
    }
    if let Some(missing) = Postgres::missing() {
        return testkit::skip(NAME, &missing);
    }
    let provider = Provider::start().expect("a provider");
    let postgres = Postgres::start().expect("PostgreSQL");
    let set_up = [
        ("postgres", "CREATE DATABASE shop"),
        (
            "shop",
            "CREATE TABLE notes (id int); INSERT INTO notes VALUES (1), (2)",
        ),
        ("shop", "CREATE TABLE drafts (id int)"),
    ];
    for (database, sql) in set_up {
        postgres.execute(database, sql).expect("SQL");
    }
    let mut site = Site::new();
    let issuer = provider.issuer();
    for (name, text) in [
        (
            "estate.toml",
            "trust_domain = \"example.org\"\nclassifications = [\"public\", \"internal\", \"restricted\"]\n",
        ),
        ("identities/all.toml", IDENTITIES),
        ("delegations/all.toml", GRANTS),
        ("resources/all.toml", RESOURCES),
        ("references/all.toml", "[[pool]]\nname = \"demo\"\n"),
        ("policies/all.cedar", POLICIES),
    ] {
        let text = text
            .replace("ISSUER", issuer)
            .replace("UID", &uid().to_string());
        site.write(&format!("estate/{name}"), &text);
    }
    let (port, gateway) = (free_port(), free_port());
    let server = format!("127.0.0.1:{port}");
    let folder = site.at("").display().to_string();
    let folder = folder.trim_end_matches('/');
    site.write(
        "server.toml",
        &format!(
            "trust_domain = \"example.org\"\ndata_dir = \"{folder}/server\"\nlisten = \"{server}\"\n\
             [custody.ca]\nkind = \"file\"\ndir = \"{folder}/keys-ca\"\n\
             [custody.ledger]\nkind = \"file\"\ndir = \"{folder}/keys-ledger\"\n\
             [[oidc]]\nissuer = \"{issuer}\"\nclient_id = \"trilith\"\n"
        ),
    );
    site.run("server");
    let admin = site.at("server/admin.sock");
    site.wait("server", || UnixStream::connect(&admin).is_ok());
    site.ask(&["estate", "apply", "estate", "--message", "the office"]);
    let token = site.ask(&[
        "token", "create", "--node", "m1", "--pool", "demo", "--json",
    ]);
    let token: Value = serde_json::from_str(&token).expect("JSON");
    site.write("token", member(&token, "/token"));
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(site.at("token"), private).expect("a mode");
    let pin = member(&token, "/pin");
    site.write(
        "agent.toml",
        &format!(
            "trust_domain = \"example.org\"\nserver = \"{server}\"\npin = \"{pin}\"\n\
             data_dir = \"{folder}/node\"\nworkload_socket = \"{folder}/workload.sock\"\n\
             [join]\nmethod = \"token\"\ntoken_file = \"{folder}/token\"\n\
             [decisions]\nname = \"m1\"\nidentity = \"gateway/decisions\"\nown = true\n\
             socket = \"{folder}/decisions.sock\"\ndata_dir = \"{folder}/decisions\"\n"
        ),
    );
    let program = copy(&site, "agent");
    site.run_by(&program, "agent");
    let workload = site.at("workload.sock");
    site.wait("agent", || workload.exists());
    site.write(
        "gateway.toml",
        &format!(
            "[gateway]\ntrust_domain = \"example.org\"\nname = \"pg\"\nidentity = \"gateway/pg\"\n\
             server = \"{server}\"\npin = \"{pin}\"\nworkload_socket = \"{folder}/workload.sock\"\n\
             data_dir = \"{folder}/pg\"\n[listen]\naddress = \"127.0.0.1:{gateway}\"\n\
             [[postgres]]\ndatabase = \"shop\"\n[postgres.upstream]\nsocket_folder = \"{}\"\nport = {}\n\
             [postgres.admin]\nrole = \"postgres\"\n",
            postgres.socket_folder().display(),
            postgres.port()
        ),
    );
    let program = copy(&site, "gateway");
    site.run_by(&program, "gateway");

    // Ada, who administers nothing, lets the helper; the helper, by its own SVID, lets the summariser.
    log_in(&site, &server, issuer, pin);
    let as_ada = ["--admin-server", server.as_str(), "--session", "ada.json"];
    let made = site.ask(
        &[
            &["delegate", "--to", "agents/helper", "--json"][..],
            &as_ada[..],
        ]
        .concat(),
    );
    let first: Value = serde_json::from_str(&made).expect("JSON");
    site.write("first.jwt", member(&first, "/token"));
    let socket = format!("unix://{folder}/workload.sock");
    let made = Command::new(copy(&site, "helper"))
        .args([
            "delegate",
            "--socket",
            socket.as_str(),
            "--server",
            server.as_str(),
            "--wait",
            "60",
        ])
        .args(["--token", "first.jwt", "--to", "agents/summary", "--json"])
        .current_dir(site.at(""))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{said}");
    let second: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let token = member(&second, "/token").to_owned();

    // The node agent knows who this process is, and what each of the chain is.
    let mut answer = Value::Null;
    site.wait("agent", || {
        answer = ask(&site, &token, "notes").unwrap_or_default();
        answer.get("decision").is_some()
    });
    assert_eq!(answer.pointer("/decision"), Some(&json!(true)), "{answer}");
    let hops = answer
        .pointer("/context/on_behalf_of/hops")
        .and_then(Value::as_array);
    let hops = hops.expect("hops").iter();
    let hops: Vec<_> = hops
        .map(|hop| (member(hop, "/subject"), member(hop, "/facts")))
        .collect();
    assert_eq!(
        hops,
        [
            ("people/ada", "session"),
            ("agents/helper", "own"),
            ("agents/summary", "session")
        ]
    );
    // What the helper might only do as the summariser's program, nobody may do for it.
    let answer = ask(&site, &token, "drafts").expect("an answer");
    assert_eq!(answer.pointer("/decision"), Some(&json!(false)), "{answer}");
    assert!(
        member(&answer, "/context/reason").contains("agents/helper"),
        "{answer}"
    );

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let session = loop {
            match connect(&site, gateway, &token).await {
                Ok(session) => break session,
                Err(error) => {
                    let late = std::time::Instant::now() > until;
                    assert!(!late, "{}: {}", refusal(&error), site.log("gateway"));
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        };
        let rows = session.query("SELECT id FROM notes ORDER BY id", &[]).await;
        assert_eq!(
            rows.map_err(|error| refusal(&error)).expect("rows").len(),
            2
        );
        let refused = session.query("SELECT id FROM drafts", &[]).await;
        let refused = refusal(&refused.expect_err("denied"));
        assert!(refused.contains("agents/helper"), "{refused}");

        // Each record names who let whom, by which delegation, and by whose facts it was decided.
        let expected = [
            (
                "spiffe://example.org/people/ada",
                member(&first, "/jti"),
                false,
            ),
            (
                "spiffe://example.org/agents/helper",
                member(&second, "/jti"),
                true,
            ),
        ];
        for (folder, kind) in [
            ("pg", "session-start"),
            ("pg", "decision"),
            ("decisions", "decision"),
        ] {
            for chain in acted_for(&site, folder, kind) {
                let links = chain.as_array().expect("a list").iter();
                let said: Vec<_> = links
                    .map(|link| {
                        let facts = link.get("issuance").is_some();
                        (member(link, "/spiffe_id"), member(link, "/jti"), facts)
                    })
                    .collect();
                assert_eq!(said, expected, "{folder} {kind}");
            }
        }

        // Ada takes it back, with no administrator: the session ends, and the agent answers no more.
        let words = [
            "delegation",
            "revoke",
            member(&first, "/jti"),
            "--reason",
            "done",
        ];
        site.ask(&[&words[..], &as_ada[..]].concat());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while session.query("SELECT id FROM notes", &[]).await.is_ok() {
            assert!(std::time::Instant::now() < until, "{}", site.log("gateway"));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    site.wait("agent", || {
        let answer = ask(&site, &token, "notes").unwrap_or_default();
        let code = answer
            .pointer("/context/error/code")
            .and_then(Value::as_str);
        code == Some("DELEGATION-TOKEN-REVOKED")
    });
}
