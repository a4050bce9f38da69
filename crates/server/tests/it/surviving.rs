//! Restarts, kills and rollbacks: the ledger is what counts, the state follows from it.

use crate::harness::{Fixture, PROGRAM, config, config_text, estate, finding, program};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_state_is_computed_again_and_equal() {
    let mut fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    for number in 0..20 {
        let workload = format!("w{number}");
        sync.ask(&workload, &program(1000, PROGRAM), Vec::new())
            .await
            .unwrap();
    }
    machine.renew([1; 16]).await.unwrap();
    drop(sync);
    fixture.stop().await;
    let config = config(fixture.dir.path());
    let kept = server::state_digest(&config).unwrap();
    let rebuilt = server::rebuild_state(&config).unwrap();
    assert_eq!(kept, rebuilt);
    assert_eq!(server::state_digest(&config).unwrap(), rebuilt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_goes_on_where_it_was() {
    let mut fixture = Fixture::start().await;
    let mut machine = fixture.join("m1").await;
    fixture.restart().await;
    machine.address = fixture.address();
    let mut sync = machine.sync().await.unwrap();
    let (issued, _) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(issued.svids.len(), 1);
    assert_eq!(fixture.records(&["start"]).await.len(), 2);
    assert_eq!(fixture.records(&["begin"]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_old_backup_signs_nothing() {
    let mut fixture = Fixture::start().await;
    fixture.stop().await;
    let data = fixture.dir.path().join("data");
    let backup = fixture.dir.path().join("backup");
    copy(&data, &backup);
    fixture.server = Some(server::start(config(fixture.dir.path())).await.unwrap());
    fixture.join("m1").await;
    fixture.stop().await;
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&backup, &data).unwrap();

    fixture.server = Some(server::start(config(fixture.dir.path())).await.unwrap());
    let status = fixture.status().await;
    assert_eq!(status["signing"]["code"], "SERVER-BEHIND-PEER", "{status}");
    let refused = fixture.apply(&estate()).await.unwrap_err();
    assert_eq!(finding(&refused).code, "SERVER-BEHIND-PEER");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

/// This test binary again, as a server process that is killed.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const CHILD: &str = "TRILITH_TEST_SERVER_CONFIG";

/// Not a test of its own: what [`Process`] runs.
#[test]
fn child_server() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let config = server::Config::load(std::path::Path::new(&path)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let running = server::start(config).await.unwrap();
        println!("listening {}", running.listen);
        running.stopping().await;
    });
}

fn spawn(config: &std::path::Path) -> (Process, std::net::SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["surviving::child_server", "--exact", "--nocapture"])
        .env(CHILD, config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let process = Process(child);
    for line in output.lines() {
        if let Some((_, address)) = line.unwrap().split_once("listening ") {
            return (process, address.trim().parse().unwrap());
        }
    }
    panic!("the child server did not start");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_state_equals_the_ledgers_and_nothing_acknowledged_is_lost() {
    let mut fixture = Fixture::start().await;
    let mut machine = fixture.join("m1").await;
    fixture.stop().await;
    let path = fixture.dir.path().join("server.toml");
    std::fs::write(&path, config_text(fixture.dir.path())).unwrap();
    let config = server::Config::load(&path).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..6_u64 {
        let (process, address) = spawn(&path);
        machine.address = address;
        let mut sync = machine.sync().await.unwrap();
        // Killed under load, after a number of answers that differs from round to round.
        for number in 0..5 + 7 * round {
            let workload = format!("w{number}");
            let asked = sync
                .ask(&workload, &program(1000, PROGRAM), Vec::new())
                .await;
            acknowledged.extend(asked.unwrap().1.iter().map(|held| held.svid.serial.clone()));
        }
        for number in 0..50 {
            let request = proto::v1::WorkloadRequest {
                request: 1_000 + number,
                workload: format!("k{number}"),
                facts: serde_json::to_vec(&program(1000, PROGRAM)).unwrap(),
                public_keys: Vec::new(),
                held: Vec::new(),
            };
            sync.send(proto::v1::node_message::Message::Workload(request))
                .await;
        }
        drop(process);
        let kept = server::state_digest(&config).unwrap();
        let rebuilt = server::rebuild_state(&config).unwrap();
        assert_eq!(kept, rebuilt, "round {round}");
    }
    fixture.server = Some(server::start(config).await.unwrap());
    let recorded: std::collections::HashSet<String> = fixture
        .records(&["issuance"])
        .await
        .iter()
        .map(|(_, record)| record["body"]["serial"].as_str().unwrap().to_owned())
        .collect();
    assert!(acknowledged.iter().all(|serial| recorded.contains(serial)));
    assert!(acknowledged.len() > 100);
}

/// The server dies after an estate's record and before it has revoked what that does not grant: the next
/// start does it.
#[tokio::test(flavor = "multi_thread")]
async fn an_estate_is_enforced_by_the_start_after_a_crash() {
    let mut fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let (issued, _) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let serial = issued.svids[0].serial.clone();
    drop(sync);
    fixture.stop().await;

    // What the dead server had made durable: the version and its blob, and nothing after them.
    let mut files = estate();
    files.insert(
        "policies/assume.cedar",
        "@id(\"nobody\") forbid (principal, action == Action::\"assume\", resource);\n",
    );
    record_version(fixture.dir.path(), &files);

    for restart in 0..2 {
        fixture.server = Some(server::start(config(fixture.dir.path())).await.unwrap());
        let revoked = fixture.records(&["revocation"]).await;
        assert_eq!(revoked.len(), 1, "after start {restart}");
        assert_eq!(revoked[0].1["body"]["target"]["value"], serial.as_str());
        fixture.stop().await;
    }
}

/// Appends the record of `files` to the ledger of a stopped server.
fn record_version(dir: &std::path::Path, files: &estate::EstateFiles) {
    use crypto::Custody as _;
    use ledger::body::{self, BlobRef, Body as _};
    let blob = files.to_blob();
    let digest = ledger::HexDigest(crypto::sha256(&blob));
    let disk = std::sync::Arc::new(ledger_store::RealDisk);
    let blobs = ledger_store::Blobs::open(&dir.join("data/blobs"), 1 << 20, disk).unwrap();
    let named: BlobRef = blobs.put(&blob).unwrap();
    let custody = custody::FileCustody::open(&dir.join("keys/ledger")).unwrap();
    let signer = custody
        .load_or_generate("ledger", crypto::Algorithm::Ed25519)
        .unwrap();
    let ledger = ledger_store::Ledger::open(
        &dir.join("data/ledger"),
        signer,
        "example.org/server",
        &ledger_store::Options::default(),
    )
    .unwrap();
    let version = body::EstateVersion {
        version: digest,
        blob: named,
        parent: None,
        author: "uid:0".to_owned(),
        message: "the last act before the crash".to_owned(),
        proof_index: None,
        floor: ledger::Decimal(0),
    };
    let draft = version.record().actor("uid:0", "peercred").draft().unwrap();
    ledger.append(draft).wait().unwrap();
}
