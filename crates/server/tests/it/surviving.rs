//! Restarts, kills and rollbacks: the ledger is what counts, the state follows from it.

use crate::harness::{
    Fixture, Machine, PATIENCE, PROGRAM, Sync, config, config_text, estate, finding, program,
};
use crypto::{Algorithm, KeyPair, Signer as _};
use proto::v1;
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    // Not even that it started, or was asked.
    let request = proto::v1::PackRequest {
        question: r#"{"kind":"record","ledger":"server","index":0}"#.to_owned(),
        ..proto::v1::PackRequest::default()
    };
    let refused = fixture.admin().await.pack(request).await.err().unwrap();
    assert_eq!(finding(&refused).code, "SERVER-BEHIND-PEER");
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(fixture.status().await["ledger"], status["ledger"]);
    let size = status["ledger"]["size"].clone();
    fixture.restart().await;
    assert_eq!(
        fixture.status().await["ledger"]["size"],
        size,
        "stop and start"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_end_that_only_the_key_remembers_is_refused_and_left_alone() {
    let mut fixture = Fixture::start().await;
    fixture.stop().await;
    let ledger = fixture.dir.path().join("data/ledger");
    let published = std::fs::read(ledger.join("checkpoint")).unwrap();
    fixture.server = Some(server::start(config(fixture.dir.path())).await.unwrap());
    fixture.join("m1").await;
    fixture.stop().await;
    // What the ledger has published itself is lost with its end; the head beside the key is not.
    std::fs::write(ledger.join("checkpoint"), published).unwrap();
    let mut segments: Vec<_> = std::fs::read_dir(ledger.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    let last = segments.pop().unwrap();
    let length = std::fs::metadata(&last).unwrap().len();
    let file = std::fs::File::options().write(true).open(&last).unwrap();
    file.set_len(length - 7).unwrap();
    let refused = server::start(config(fixture.dir.path()))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, server::StartError::Ledger(_)),
        "{refused}"
    );
    assert_eq!(std::fs::metadata(&last).unwrap().len(), length - 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_a_power_cut_left_empty_blocks_until_it_is_recovered() {
    let mut fixture = Fixture::start().await;
    fixture.stop().await;
    let head = fixture.dir.path().join("keys/ledger/highest-head");
    std::fs::write(&head, "").unwrap();
    fixture.server = Some(server::start(config(fixture.dir.path())).await.unwrap());
    let status = fixture.status().await;
    assert_eq!(status["signing"]["code"], "SERVER-HEAD-DAMAGED", "{status}");
    let request = proto::v1::RecoverRequest {
        reason: "the power was cut, the disk is the same".to_owned(),
    };
    fixture.admin().await.recover(request).await.unwrap();
    fixture.join("m1").await;
    fixture.restart().await;
    assert_eq!(fixture.status().await["signing"], "allowed");
}

pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

/// This test binary again, as a server process that is killed.
pub(crate) struct Process(Child);

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

pub(crate) fn spawn(config: &std::path::Path) -> (Process, std::net::SocketAddr) {
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

/// What somebody was told is done: the index of a record, and what has to stand in it.
type Told = std::sync::Mutex<Vec<(u64, &'static str, String)>>;

fn told(all: &Told, index: u64, kind: &'static str, what: impl Into<String>) {
    all.lock().unwrap().push((index, kind, what.into()));
}

const KINDS: [&str; 4] = ["issuance", "revocation", "estate-version", "verdict"];

fn has(all: &Told, kind: &str) -> bool {
    all.lock().unwrap().iter().any(|(_, told, _)| *told == kind)
}

/// Asks for new workloads, with keys, and keeps many requests in flight until the server is gone.
async fn asks(machine: Machine, round: u64, all: Arc<Told>) {
    let Ok(Sync {
        sender,
        mut updates,
        ..
    }) = machine.sync().await
    else {
        return;
    };
    let asking = tokio::spawn(async move {
        for number in 0.. {
            let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
            let request = v1::WorkloadRequest {
                request: number,
                workload: format!("w{round}-{number}"),
                facts: serde_json::to_vec(&program(1000, PROGRAM)).unwrap(),
                public_keys: vec![key.public_key().spki_der().to_vec()],
                held: Vec::new(),
            };
            let message = Some(Message::Workload(request));
            let sent = sender.send(v1::NodeMessage { message }).await;
            if sent.is_err() {
                return;
            }
        }
    });
    while let Ok(Some(update)) = updates.message().await {
        if let Some(Update::Issued(issued)) = update.update {
            for svid in issued.svids {
                told(&all, svid.index, "issuance", svid.serial);
            }
        }
    }
    asking.abort();
}

/// A machine that renews, and what it does not know the outcome of.
struct Renewing {
    machine: Machine,
    pending: Option<([u8; 16], crypto::Zeroizing<Vec<u8>>)>,
}

impl Renewing {
    /// Renews again and again until the server is gone; what was cut off is repeated as it was.
    async fn run(&mut self, all: &Told) {
        loop {
            let (id, key) = self.pending.get_or_insert_with(|| {
                let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
                (crypto::random(), key.to_pkcs8().unwrap())
            });
            let key = KeyPair::from_pkcs8(key).unwrap();
            let Some(link) = self.machine.try_link().await else {
                return;
            };
            match self.machine.renew_over(link, *id, key).await {
                Ok(renewed) => {
                    let joined = &renewed.joined;
                    let generation = joined.generation.to_string();
                    told(all, joined.verdict_index, "verdict", generation);
                    self.machine = renewed;
                    self.pending = None;
                }
                Err(status) => {
                    let refused = serde_json::from_slice::<facts::Finding>(status.details());
                    let refused = refused.map(|finding| finding.code.to_string());
                    let going = ["SERVER-STOPPING", "SERVER-LEDGER", "SERVER-BUSY"];
                    assert!(
                        refused
                            .as_ref()
                            .map_or(true, |code| going.contains(&code.as_str())),
                        "a crash locked the machine out: {refused:?}"
                    );
                    return;
                }
            }
        }
    }
}

/// Revokes what was issued, one after the other.
async fn revokes(socket: PathBuf, all: Arc<Told>) {
    let mut admin = crate::harness::admin(&socket).await;
    let mut done = 0;
    loop {
        let next = {
            let all = all.lock().unwrap();
            let issued = all.iter().filter(|(_, kind, _)| *kind == "issuance");
            issued
                .skip(done)
                .map(|(_, _, serial)| serial.clone())
                .next()
        };
        let Some(serial) = next else {
            tokio::task::yield_now().await;
            continue;
        };
        done += 1;
        let request = v1::RevokeRequest {
            kind: "serial".to_owned(),
            value: serial.clone(),
            reason: "under load".to_owned(),
        };
        match admin.revoke(request).await {
            Ok(answer) => {
                let document = answer.into_inner().json;
                let document: serde_json::Value = serde_json::from_str(&document).unwrap();
                told(
                    &all,
                    document["index"].as_u64().unwrap(),
                    "revocation",
                    serial,
                );
            }
            Err(status) if finding_code(&status).as_deref() == Some("REVOKE-UNKNOWN") => {}
            Err(_) => return,
        }
    }
}

/// Applies one version after the other.
async fn applies(socket: PathBuf, round: u64, all: Arc<Told>) {
    let mut admin = crate::harness::admin(&socket).await;
    for number in 0.. {
        let mut files = estate();
        files.insert(
            "policies/more.cedar",
            format!(
                "@id(\"{round}-{number}\") forbid (principal, action == Action::\"truncate\", resource);\n"
            ),
        );
        let request = v1::EstateRequest {
            files: files.to_blob(),
            ..v1::EstateRequest::default()
        };
        let Ok(answer) = admin.estate_apply(request).await else {
            return;
        };
        let document: serde_json::Value = serde_json::from_str(&answer.into_inner().json).unwrap();
        let version = document["version"].as_str().unwrap().to_owned();
        told(
            &all,
            document["index"].as_u64().unwrap(),
            "estate-version",
            version,
        );
    }
}

fn finding_code(status: &tonic::Status) -> Option<String> {
    let finding: facts::Finding = serde_json::from_slice(status.details()).ok()?;
    Some(finding.code.to_string())
}

/// Issuances, renewals, revocations and applies are all on their way when the process is killed.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_state_equals_the_ledgers_and_nothing_acknowledged_is_lost() {
    const LOAD: Duration = Duration::from_secs(10);
    const MANY: usize = 100;
    let mut fixture = Fixture::start().await;
    let mut machine = fixture.join("m1").await;
    let mut renewing = Renewing {
        machine: fixture.join("m2").await,
        pending: None,
    };
    fixture.stop().await;
    let path = fixture.dir.path().join("server.toml");
    std::fs::write(&path, config_text(fixture.dir.path())).unwrap();
    let config = server::Config::load(&path).unwrap();
    let socket = config.admin_socket();
    let all = Arc::new(Told::default());
    let (begun, mut rounds) = (Instant::now(), 0);
    let few = |all: &Told| {
        let all = all.lock().unwrap();
        let issued = all.iter().filter(|(_, kind, _)| *kind == "issuance");
        issued.count() <= MANY
    };
    // On a machine that is busy a start takes seconds, and what is done before the kill is little.
    while begun.elapsed() < LOAD || rounds < 4 || few(&all) {
        let (process, address) = spawn(&path);
        machine.address = address;
        renewing.machine.address = address;
        // Late enough for everything to be under way, and never at the same moment.
        let delay = 20 + u64::from(u16::from_be_bytes(crypto::random())) % 400;
        let seen = Arc::clone(&all);
        let kill = async {
            // The first one at least lives until everything was done once.
            while rounds == 0 && KINDS.iter().any(|kind| !has(&seen, kind)) {
                assert!(
                    begun.elapsed() < PATIENCE,
                    "not everything is done under load"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(delay)).await;
            drop(process);
        };
        let load = [
            tokio::spawn(asks(machine.clone(), rounds, Arc::clone(&all))),
            tokio::spawn(revokes(socket.clone(), Arc::clone(&all))),
            tokio::spawn(applies(socket.clone(), rounds, Arc::clone(&all))),
        ];
        tokio::join!(kill, renewing.run(&all));
        for one in load {
            tokio::time::timeout(PATIENCE, one).await.unwrap().unwrap();
        }
        let kept = server::state_digest(&config).unwrap();
        let rebuilt = server::rebuild_state(&config).unwrap();
        assert_eq!(kept, rebuilt, "round {rounds}, killed after {delay} ms");
        rounds += 1;
    }
    fixture.server = Some(server::start(config).await.unwrap());
    let records: HashMap<u64, serde_json::Value> = fixture.records(&[]).await.into_iter().collect();
    let all = all.lock().unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for (index, kind, what) in all.iter() {
        *counts.entry(*kind).or_insert(0) += 1;
        let record = &records[index];
        assert_eq!(record["type"], *kind, "record {index}");
        let body = &record["body"];
        let found = match *kind {
            "issuance" => &body["serial"],
            "revocation" => &body["target"]["value"],
            "estate-version" => &body["version"],
            _ => continue,
        };
        assert_eq!(found, what, "record {index}");
    }
    assert!(counts["issuance"] > MANY, "{counts:?}");
    println!("{rounds} kills; acknowledged: {counts:?}");
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

/// After a restart agents have told of nothing yet: what they hold is judged by what it was issued on.
#[tokio::test(flavor = "multi_thread")]
async fn an_estate_applied_right_after_a_restart_revokes_only_what_it_does_not_grant() {
    let mut fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let mut serials = Vec::new();
    for (workload, uid) in [("w1", 1000), ("w2", 2000)] {
        let facts = program(uid, PROGRAM);
        let (issued, _) = sync.ask(workload, &facts, Vec::new()).await.unwrap();
        serials.push(issued.svids[0].serial.clone());
    }
    drop(sync);
    fixture.restart().await;

    // Something about `assume` changes, for nobody.
    let mut files = estate();
    files.insert(
        "policies/more.cedar",
        "@id(\"nobody is 7\") forbid (principal, action == Action::\"assume\", resource)\n\
         when { principal has uid && principal.uid == 7 };\n",
    );
    let applied = fixture.apply(&files).await.unwrap();
    assert_eq!(applied["revoked"], 0, "{applied}");

    // And for one of the two.
    let more = files.0["policies/more.cedar"].replace("== 7", "== 2000");
    files.insert("policies/more.cedar", more);
    fixture.apply(&files).await.unwrap();
    let revoked = fixture.records(&["revocation"]).await;
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].1["body"]["target"]["value"], serials[1].as_str());
}

/// A program that has ended is told of no more; its SVID is not said to be refused for that.
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_program_is_not_recorded_as_refused() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let gone = v1::WorkloadGone {
        workload: "w1".to_owned(),
    };
    sync.send(Message::Gone(gone)).await;
    // Answered after the first was taken.
    sync.ask("w2", &program(2000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let mut files = estate();
    files.insert(
        "policies/more.cedar",
        "@id(\"nobody is 7\") forbid (principal, action == Action::\"assume\", resource)\n\
         when { principal has uid && principal.uid == 7 };\n",
    );
    let applied = fixture.apply(&files).await.unwrap();
    assert_eq!(applied["revoked"], 0, "{applied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_svid_rested_on_and_cannot_be_read_revokes_it_with_its_own_reason() {
    let mut fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    sync.ask("w1", &facts, Vec::new()).await.unwrap();
    drop(sync);
    let issued = fixture.records(&["issuance"]).await;
    let mut issued = issued.iter().map(|(_, record)| &record["body"]);
    let ours = "spiffe://example.org/payments/api";
    let workload = issued.rfind(|body| body["spiffe_id"] == ours).unwrap();
    let commit = crypto::base64::decode(workload["commit"].as_str().unwrap()).unwrap();
    let name = crypto::hex::encode(&commit);
    let blobs = fixture.dir.path().join("data/blobs");
    std::fs::remove_file(blobs.join(name.split_at(2).0).join(&name)).unwrap();
    fixture.restart().await;

    // What no `assume` depends on changes nothing.
    let mut files = estate();
    files.insert(
        "policies/more.cedar",
        "@id(\"a name\") forbid (principal, action == Action::\"truncate\", resource);\n",
    );
    let applied = fixture.apply(&files).await.unwrap();
    assert_eq!(applied["revoked"], 0, "{applied}");
    files.insert(
        "policies/more.cedar",
        "@id(\"nobody is 7\") forbid (principal, action == Action::\"assume\", resource)\n\
         when { principal has uid && principal.uid == 7 };\n",
    );
    fixture.apply(&files).await.unwrap();
    let revoked = fixture.records(&["revocation"]).await;
    assert_eq!(revoked.len(), 1);
    let reason = &revoked[0].1["body"]["reason"];
    assert_eq!(reason, "what it rested on cannot be read");
}

/// The server dies after a token is spent and before its machine has an identity: the machine, which
/// never had an answer, gets one.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_spent_before_a_crash_still_admits_the_key_that_it_was_spent_for() {
    use ledger::body::{self, Body as _};
    let mut fixture = Fixture::start().await;
    let token = fixture.token("m1").await;
    let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let key = std::sync::Arc::new(key);
    fixture.stop().await;
    let spent = body::TokenSpent {
        token: ledger::HexDigest(crypto::sha256(token.token.as_bytes())),
        node: "m1".to_owned(),
        key: ledger::HexDigest(crypto::Signer::public_key(key.as_ref()).spki_sha256()),
    };
    let record = spent
        .record()
        .actor("spiffe://example.org/trilith/node/m1", "token");
    append(fixture.dir.path(), record.draft().unwrap());
    fixture.server = Some(server::start(config(fixture.dir.path())).await.unwrap());
    let other = fixture.join_with(&token).await.err().unwrap();
    assert_eq!(finding(&other).code, "JOIN-TOKEN-SPENT");
    let machine = fixture.join_as(&token, key).await.unwrap();
    assert_eq!(machine.joined.generation, 1);
    machine.renew([1; 16]).await.unwrap();
    assert_eq!(fixture.records(&["token-spent"]).await.len(), 1);
}

/// The server dies after a lock and before it has cut what the machine's workloads hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_enforced_by_the_start_after_a_crash() {
    use ledger::body::{self, Body as _};
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
    let lock = body::Lock {
        node: "m1".to_owned(),
        finding: body::Finding {
            code: "AGENT-LOCKED".to_owned(),
            message: "two machines use one state".to_owned(),
            expected: None,
            observed: None,
            next: None,
        },
        generation: ledger::Decimal(1),
    };
    let record = lock
        .record()
        .actor("spiffe://example.org/trilith/server", "self");
    append(fixture.dir.path(), record.draft().unwrap());
    for restart in 0..2 {
        fixture.server = Some(server::start(config(fixture.dir.path())).await.unwrap());
        let revoked = fixture.records(&["revocation"]).await;
        assert_eq!(revoked.len(), 1, "after start {restart}");
        assert_eq!(revoked[0].1["body"]["target"]["value"], serial.as_str());
        fixture.stop().await;
    }
}

/// Appends the record of `files` to the ledger of a stopped server.
pub(crate) fn record_version(dir: &std::path::Path, files: &estate::EstateFiles) {
    use ledger::body::{self, BlobRef, Body as _};
    let blob = files.to_blob();
    let digest = ledger::HexDigest(crypto::sha256(&blob));
    let disk = std::sync::Arc::new(ledger_store::RealDisk);
    let blobs = ledger_store::Blobs::open(&dir.join("data/blobs"), 1 << 20, disk).unwrap();
    let named: BlobRef = blobs.put(&blob).unwrap();
    let version = body::EstateVersion {
        version: digest,
        blob: named,
        parent: None,
        author: "uid:0".to_owned(),
        message: "the last act before the crash".to_owned(),
        proof_index: None,
        floor: ledger::Decimal(0),
    };
    append(
        dir,
        version.record().actor("uid:0", "peercred").draft().unwrap(),
    );
}

/// Appends a record to the ledger of a stopped server: what it had made durable before it died.
fn append(dir: &std::path::Path, draft: ledger::Draft) {
    use crypto::Custody as _;
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
    ledger.append(draft).wait().unwrap();
}

/// A version whose apply was cut short was kept, named by no record: no erasure found it, and no start took it away.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_for_a_record_that_never_came_is_gone_after_the_next_start() {
    let mut fixture = Fixture::start().await;
    let folder = fixture.dir.path().join("data/blobs");
    let applied = fixture.records(&["estate-version"]).await;
    let blob = |(_, record): &(u64, serde_json::Value)| {
        let sha256 = record["body"]["blob"]["sha256"].as_str().unwrap();
        sha256.parse::<ledger::HexDigest>().unwrap()
    };
    let named = blob(applied.last().unwrap());
    fixture.stop().await;
    // As a server that was killed right after each of them was put: one before its record, one after it.
    let disk = Arc::new(ledger_store::RealDisk);
    let blobs = ledger_store::Blobs::open(&folder, 1 << 20, disk).unwrap();
    assert!(blobs.intended().unwrap().is_empty());
    let login = b"login = ada.lovelace@example.org";
    let intended = blobs.put_intended(login, 1).unwrap().unwrap();
    std::fs::write(folder.join(format!("intended/{named}-1")), "").unwrap();
    // Of what a ledger that was put back does not reach, nothing is known.
    let behind = format!("intended/{}-1000000", ledger::HexDigest::of(b"behind"));
    std::fs::write(folder.join(&behind), "").unwrap();
    fixture.go_on().await;
    assert_eq!(blobs.get(&intended.sha256).unwrap(), None);
    assert!(blobs.get(&named).unwrap().is_some());
    assert_eq!(blobs.intended().unwrap().len(), 1);
    assert!(folder.join(behind).exists());
}
