//! What kernels of machines enforce, as their agents say it: what is sent to them, what becomes of it, and what
//! ends when it ends. The kernel's own side is in the guests of `crates/trilith/tests/it/boots`.

use crate::harness::{Fixture, PATIENCE, Sync, program};
use crate::kernel::{Kernel, content, references};
use crypto::{KeyPair, hex, sha256};
use estate::{EnforcementPlan, Estate, EstateFiles};
use facts::{FactSet, Source, Timestamp};
use proto::v1;
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use references::Digest;
use testkit::guest::Owner;

const RUNS: &str = "/usr/bin/program";
const SLOW: &str = "[attestation]\ninterval_s = 2\nwindow_s = 600\n";
const POLICY: &str = "@id(\"where nothing else runs\") permit (principal in Pool::\"demo\", \
     action == Action::\"assume\", resource == Identity::\"payments/api\") \
     when { principal has uid && principal.uid == 1000 && principal has code && \
     principal.code has enforcement && principal.code.enforcement == \"enforced\" && \
     principal.machine has enforcement && principal.machine.enforcement == \"enforced\" };";

/// A digest of the tree of [`RUNS`].
fn tree() -> [u8; 32] {
    sha256(b"its tree")
}

struct Signer {
    certificate: Vec<u8>,
    key: KeyPair,
}

impl Signer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::new(folder.path()).unwrap();
        let key = std::fs::read_to_string(owner.key("db")).unwrap();
        let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        Self {
            certificate: std::fs::read(owner.certificate("db")).unwrap(),
            key: KeyPair::from_pkcs8(&crypto::base64::decode(&body).unwrap()).unwrap(),
        }
    }

    /// Puts a policy for what `files` list into them. Its SHA-256 and version.
    fn emit(&self, files: &mut EstateFiles, enforce: bool) -> ([u8; 32], String) {
        let estate = Estate::compile(files).unwrap();
        let plan = EnforcementPlan {
            ring: "demo",
            name: "trilith",
            boot_verified: true,
            enforce,
            now: Timestamp::now(),
        };
        let emitted = estate
            .emit_enforcement(plan, &self.certificate, &self.key)
            .unwrap();
        files.insert("references/enforcement.json", emitted.document);
        let version = emitted.policy.version().to_string();
        (emitted.policy.sha256(), version)
    }
}

/// Where [`RUNS`] and `more` are listed by their trees.
fn files(kernel: &Kernel, more: &[&str]) -> EstateFiles {
    let mut values = references(&[&[RUNS], more].concat());
    for file in &mut values.generations[0].artefacts[0].files {
        let of = sha256(file.path.as_bytes());
        let digest = if file.path == RUNS { tree() } else { of };
        file.fsverity = Some(Digest(digest));
    }
    let mut files = kernel.estate(Some(&values));
    files.insert("policies/enforced.cedar", POLICY);
    files
}

fn says(tree: [u8; 32]) -> FactSet {
    let mut facts = program(1000, &hex::encode(&content(RUNS)));
    let tree = format!("sha256:{}", hex::encode(&tree));
    facts.state("code.fsverity", tree, Source::Asserted, Timestamp::now());
    facts
}

fn report(sha256: [u8; 32], version: &str, enforce: bool) -> v1::Enforcement {
    v1::Enforcement {
        supported: true,
        enforce,
        policy: "trilith".to_owned(),
        version: version.to_owned(),
        policy_sha256: sha256.to_vec(),
        agent_sha256: content(RUNS).to_vec(),
        ..v1::Enforcement::default()
    }
}

async fn tell(sync: &Sync, report: v1::Enforcement) {
    sync.send(Message::Enforcement(report)).await;
}

async fn connect(kernel: &Kernel, fixture: &Fixture) -> Sync {
    let machine = kernel.join(fixture).await.unwrap();
    let sync = machine.sync().await.unwrap();
    let hello = v1::NodeHello {
        version: "1".to_owned(),
        enforces: true,
        ..v1::NodeHello::default()
    };
    sync.send(Message::Hello(hello)).await;
    sync
}

async fn sent(sync: &mut Sync) -> v1::Enforce {
    loop {
        if let Update::Enforce(sent) = sync.next().await.unwrap() {
            return sent;
        }
    }
}

async fn withdrawn(sync: &mut Sync) -> v1::Withdrawn {
    loop {
        if let Update::Withdrawn(withdrawn) = sync.next().await.unwrap() {
            return withdrawn;
        }
    }
}

async fn reconsidered(sync: &mut Sync) {
    while !matches!(sync.next().await.unwrap(), Update::Reconsider(_)) {}
}

/// Reasons of the revocations so far, once there are `count`.
async fn revoked(fixture: &Fixture, count: usize) -> Vec<String> {
    let seen = async {
        loop {
            let records = fixture.records(&["revocation"]).await;
            if records.len() >= count {
                let reason = |record: &serde_json::Value| record["body"]["reason"].to_string();
                return records.iter().map(|(_, record)| reason(record)).collect();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .expect("a revocation")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_asks_for_enforcement_ends_when_it_is_turned_off() {
    let Some(kernel) = Kernel::boot("server.enforcing") else {
        return;
    };
    let signer = Signer::new();
    let fixture = Fixture::configured(SLOW).await;
    let mut files = files(&kernel, &[]);
    let (policy, version) = signer.emit(&mut files, true);
    fixture.apply(&files).await.unwrap();
    let mut sync = connect(&kernel, &fixture).await;
    let sent = sent(&mut sync).await;
    kernel.prove(&mut sync).await;
    assert!(sent.enforce && sha256(&sent.policy) == policy);
    let listed: Vec<&str> = sent.files.iter().map(|file| file.path.as_str()).collect();
    assert!(listed.contains(&RUNS), "{listed:?}");

    let (_, held) = sync.ask("w1", &says(tree()), Vec::new()).await.unwrap();
    assert!(held.is_empty(), "nothing is known of its kernel");
    tell(&sync, report(policy, &version, true)).await;
    let (_, held) = sync.ask("w1", &says(tree()), Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    let (_, other) = sync.ask("w2", &says([7; 32]), Vec::new()).await.unwrap();
    assert!(other.is_empty(), "its digest is not listed");
    let agents = fixture.admin().await.agents(v1::StatusRequest {}).await;
    let agents = agents.unwrap().into_inner().json;
    assert!(agents.contains("\"state\":\"enforced\""), "{agents}");
    // Nothing says that the boot was good: it is the agent's word.
    assert!(agents.contains("\"rooted_in_hardware\":false"), "{agents}");

    tell(&sync, report(policy, &version, false)).await;
    let withdrawn_svid = withdrawn(&mut sync).await;
    assert_eq!(withdrawn_svid.serial, held[0].svid.serial);
    assert!(
        withdrawn_svid.reason.contains("permissive"),
        "{withdrawn_svid:?}"
    );
    let reasons = revoked(&fixture, 1).await;
    assert!(reasons[0].contains("ENFORCEMENT"), "{reasons:?}");
    let (_, held) = sync.ask("w1", &says(tree()), Vec::new()).await.unwrap();
    assert!(held.is_empty(), "it enforces nothing");

    // On again, and then another policy than the estate's.
    tell(&sync, report(policy, &version, true)).await;
    reconsidered(&mut sync).await;
    let (_, held) = sync.ask("w1", &says(tree()), Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    tell(&sync, report([9; 32], &version, true)).await;
    assert_eq!(withdrawn(&mut sync).await.serial, held[0].svid.serial);

    // What a workload holds that has ended goes as well.
    tell(&sync, report(policy, &version, true)).await;
    reconsidered(&mut sync).await;
    let (_, held) = sync.ask("w1", &says(tree()), Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    let gone = v1::WorkloadGone {
        workload: "w1".to_owned(),
    };
    sync.send(Message::Gone(gone)).await;
    tell(&sync, v1::Enforcement::default()).await;
    assert_eq!(withdrawn(&mut sync).await.serial, held[0].svid.serial);
    assert_eq!(revoked(&fixture, 3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_only_observed_enforces_nothing() {
    let Some(kernel) = Kernel::boot("server.enforcing") else {
        return;
    };
    let signer = Signer::new();
    let fixture = Fixture::configured(SLOW).await;
    let mut files = files(&kernel, &[]);
    let (policy, version) = signer.emit(&mut files, false);
    fixture.apply(&files).await.unwrap();
    let mut sync = connect(&kernel, &fixture).await;
    assert!(!sent(&mut sync).await.enforce);
    kernel.prove(&mut sync).await;
    tell(&sync, report(policy, &version, true)).await;
    let (_, held) = sync.ask("w1", &says(tree()), Vec::new()).await.unwrap();
    assert!(held.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_is_sent_and_what_is_held_stays_until_it_is_installed() {
    let Some(kernel) = Kernel::boot("server.enforcing") else {
        return;
    };
    let signer = Signer::new();
    let fixture = Fixture::configured(SLOW).await;
    let mut first = files(&kernel, &[]);
    let (policy, version) = signer.emit(&mut first, true);
    fixture.apply(&first).await.unwrap();
    let mut sync = connect(&kernel, &fixture).await;
    sent(&mut sync).await;
    kernel.prove(&mut sync).await;
    tell(&sync, report(policy, &version, true)).await;
    let (_, held) = sync.ask("w1", &says(tree()), Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);

    let mut second = files(&kernel, &["/usr/bin/more"]);
    let known = first.0["references/enforcement.json"].clone();
    second.insert("references/enforcement.json", known);
    let (newer, higher) = signer.emit(&mut second, true);
    assert_ne!(newer, policy);
    assert_ne!(higher, version);
    fixture.apply(&second).await.unwrap();
    assert_eq!(sha256(&sent(&mut sync).await.policy), newer);
    let (_, still) = sync.ask("w1", &says(tree()), Vec::new()).await.unwrap();
    assert_eq!(still.len(), 1, "the old one counts for a while");
    assert!(fixture.records(&["revocation"]).await.is_empty());
    tell(&sync, report(newer, &higher, true)).await;
    let more = says(sha256(b"/usr/bin/more"));
    let (_, held) = sync.ask("w2", &more, Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    assert!(fixture.records(&["revocation"]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_report_of_enforcement_ends_the_stream() {
    let Some(kernel) = Kernel::boot("server.enforcing") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let good = report([1; 32], "0.0.1", true);
    for bad in [
        v1::Enforcement {
            policy: "a b".to_owned(),
            ..good.clone()
        },
        v1::Enforcement {
            version: "1".repeat(100),
            ..good.clone()
        },
        v1::Enforcement {
            policy_sha256: vec![1; 31],
            ..good.clone()
        },
        v1::Enforcement {
            findings: b"{".to_vec(),
            ..good.clone()
        },
        v1::Enforcement {
            agent_fsverity: "sha256:1".to_owned(),
            ..good.clone()
        },
    ] {
        let mut sync = connect(&kernel, &fixture).await;
        tell(&sync, bad).await;
        let status = loop {
            if let Err(status) = sync.next().await {
                break status;
            }
        };
        assert_eq!(crate::harness::finding(&status).code, "SYNC-REQUEST");
    }
}
