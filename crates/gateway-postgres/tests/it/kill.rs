//! The gateway's process is killed under load, again and again: what a client was told is recorded, what
//! was under way is resolved at the next start, and nothing was written that no intent tells of.

mod new_log;

use crate::client::Client;
use crate::world::{Site, followed, skipped};
use gateway::Core;
use gateway_postgres::{Config, run};
use ledger::body::Outcome;
use ledger::{Record, RecordType};
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::watch;

const CONFIG: &str = "TRILITH_KILL_CONFIG";
const ROUNDS: usize = 12;

/// Not a test of its own: what the killed process runs.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(path) = std::env::var_os(CONFIG) else {
        return;
    };
    let config = Config::read(std::path::Path::new(&path)).unwrap();
    let (_stop, stopping) = watch::channel(false);
    run(config, stopping).await.unwrap();
}

fn gateway(config: &std::path::Path) -> Child {
    started("kill::child", CONFIG, config)
}

/// A test of this program in a process of its own, told what it works on.
fn started(test: &str, variable: &str, on: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(variable, on)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn file(site: &Site) -> String {
    let (gateway, database) = (&site.config.gateway, &site.config.databases[0]);
    format!(
        r#"
        [gateway]
        trust_domain = "{}"
        name = "{}"
        identity = "{}"
        server = "{}"
        pin = "{}"
        workload_socket = "{}"
        data_dir = "{}"
        [listen]
        address = "{}"
        [[postgres]]
        database = "shop"
        upstream = {{ socket_folder = "{}", port = {} }}
        admin = {{ role = "trilith_gateway", password_file = "{}" }}
        "#,
        gateway.trust_domain,
        gateway.name,
        gateway.identity,
        gateway.server,
        gateway.pin,
        gateway.workload_socket.display(),
        gateway.data_dir.display(),
        site.config.listen.address,
        site.postgres.socket_folder().display(),
        site.postgres.port(),
        database.admin.password_file.as_ref().unwrap().display(),
    )
}

/// Whoever judges the gateway's folder finds each kill, and nothing that its records do not account for.
fn whole(site: &Site) {
    let ledgers = record_index::Site::open(&site.config.gateway.data_dir, None).unwrap();
    let times = record_index::TimeRange {
        since: None,
        until: None,
    };
    let answers = record_index::completeness(&ledgers, &times, false).unwrap();
    assert_eq!(answers[0].unexplained(), 0, "{:?}", answers[0].found);
    assert!(!answers[0].found.is_empty());
}

async fn connect(site: &Site, svid: &crate::plane::Svid) -> Client {
    let address = site.config.listen.address;
    let trying = async {
        loop {
            match Client::connect_to(address, &site.plane, svid, &[]).await {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), trying)
        .await
        .expect("the gateway starts")
}

/// Writes until the connection breaks; how many writes were acknowledged. One was by now, however slow the machine is.
async fn loading(mut client: Client) -> tokio::task::JoinHandle<u64> {
    const WRITE: &str = "INSERT INTO orders (note) VALUES ('load')";
    client.simple(WRITE).await.unwrap();
    tokio::spawn(async move {
        let mut acknowledged = 1;
        while client.simple(WRITE).await.is_ok() {
            acknowledged += 1;
        }
        acknowledged
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_under_load_keeps_what_was_acknowledged_and_resolves_the_rest() {
    if skipped("a_gateway_killed_under_load_keeps_what_was_acknowledged_and_resolves_the_rest") {
        return;
    }
    let site = Site::start(testkit::port::free().unwrap()).await;
    let config = site.folder.path().join("gateway.toml");
    std::fs::write(&config, file(&site)).unwrap();
    let payments = site.plane.issue("payments/api");
    let (mut acknowledged, mut unknown) = (0, 0);
    for round in 0..ROUNDS {
        let mut process = gateway(&config);
        let mut writers = Vec::new();
        for _ in 0..4 {
            let client = connect(&site, &payments).await;
            writers.push(loading(client).await);
        }
        tokio::time::sleep(Duration::from_millis(150 + 37 * round as u64)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        for writer in writers {
            acknowledged += writer.await.unwrap();
        }

        // The next start, here in this process.
        let core = Core::open(site.config.gateway.clone()).await.unwrap();
        followed(&core).await;
        let reader = core.reader().clone();
        let records: Vec<Record> = (0..reader.size())
            .map(|index| reader.record(index).unwrap())
            .collect();
        let mut open = BTreeSet::new();
        let (mut intents, mut lasting) = (0, 0);
        unknown = 0;
        for record in &records {
            match record.kind() {
                RecordType::Intent => {
                    intents += 1;
                    open.insert(record.seq());
                }
                RecordType::Outcome => {
                    let outcome: Outcome = record.expect_body().unwrap();
                    open.remove(&outcome.intent.0);
                    unknown += u64::from(outcome.result == "unknown");
                    lasting += u64::from(
                        outcome.result == "ok" && outcome.transaction.as_deref() == Some("I"),
                    );
                }
                _ => {}
            }
        }
        assert!(open.is_empty(), "resolved at the start: {open:?}");
        assert!(lasting >= acknowledged, "{lasting} of {acknowledged}");
        let rows: u64 = site
            .postgres
            .execute("shop", "SELECT count(*) FROM orders WHERE note = 'load'")
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            rows >= acknowledged && rows <= intents,
            "{rows} of {intents}"
        );
        core.close().await.unwrap();
        whole(&site);
        if round >= 2 && unknown > 0 {
            break;
        }
    }
    assert!(
        acknowledged > 0 && unknown > 0,
        "the load was cut: {acknowledged} {unknown}"
    );
}
