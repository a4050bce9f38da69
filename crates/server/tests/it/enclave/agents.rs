//! Whole agents in enclaves: the security module is an emulator's socket, Gramine's files are pipes.

use super::{Asked, Site, nitro, of_nitro, sgx};
use crate::harness::DOMAIN;
use crate::tee_forged::sgx_enclave;
use crate::tpm::pin;
use agent::AgentConfig;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SHORT: &str = "[lifetimes]\nnode_s = 10\nskew_s = 0\n";

async fn config(site: &Site, enclave: &str, device: &Path) -> AgentConfig {
    let pin = pin(&site.fixture).await;
    let here = site.fixture.dir.path().display();
    let text = format!(
        "trust_domain = \"{DOMAIN}\"\nserver = \"{}\"\npin = \"{pin}\"\n\
         data_dir = \"{here}/agent\"\nworkload_socket = \"{here}/api.sock\"\n\
         [join]\nmethod = \"enclave\"\nenclave = \"{enclave}\"\ndevice = \"{}\"\n",
        site.fixture.address(),
        device.display(),
    );
    AgentConfig::parse(&text, Path::new("agent.toml")).unwrap()
}

/// Runs an agent until there are so many states of nodes.
async fn run_until(site: &Site, config: AgentConfig, states: usize) {
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent::run(config, stop.clone()));
    let proved = async {
        while site.count("node-state").await < states {
            assert!(!running.is_finished(), "the agent ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let proved = tokio::time::timeout(Duration::from_secs(90), proved).await;
    proved.expect("a join and its renewals");
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// A byte string of the module's question, by its name.
fn field(asked: &[u8], name: &str) -> Vec<u8> {
    let name = [&[0x60 | u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    let at = asked
        .windows(name.len())
        .position(|window| window == name)
        .unwrap()
        + name.len();
    assert_eq!(asked[at], 0x59);
    let length = usize::from(u16::from_be_bytes([asked[at + 1], asked[at + 2]]));
    asked[at + 3..at + 3 + length].to_vec()
}

/// The module: answers for as long as the test runs.
fn module(path: PathBuf) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            let asked = Asked {
                data: field(&asked, "user_data").try_into().unwrap(),
                nonce: field(&asked, "nonce"),
                spki: field(&asked, "public_key"),
            };
            let document = of_nitro(&asked).document();
            let mut answer = b"\xa1\x6bAttestation\xa1\x68document\x59".to_vec();
            answer.extend(u16::try_from(document.len()).unwrap().to_be_bytes());
            answer.extend(document);
            stream.write_all(&answer).unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_in_a_nitro_enclave_joins_and_renews_and_keeps_no_key() {
    let site = Site::start(&nitro(), SHORT).await;
    let folder = tempfile::tempdir().unwrap();
    let nowhere = config(&site, "nitro", Path::new("/dev/null")).await;
    let ended = agent::run(nowhere, CancellationToken::new()).await;
    assert!(format!("{:?}", ended.unwrap_err()).contains("AGENT-ENCLAVE"));
    assert_eq!(site.count("node-state").await, 0);

    let path = folder.path().join("nsm");
    module(path.clone());
    run_until(&site, config(&site, "nitro", &path).await, 3).await;
    for (_, verdict) in site.fixture.records(&["verdict"]).await {
        assert_eq!(verdict["body"]["outcome"], "affirmed");
    }
    let kept = site.fixture.dir.path().join("agent/node.json");
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    assert_eq!(kept["key"], "", "the key is in memory alone");
    let states = site.fixture.records(&["node-state"]).await;
    let renewed = states
        .iter()
        .filter(|(_, one)| one["body"]["state"] == "renewed");
    assert!(renewed.count() >= 2);

    // A start finds nothing to go on from, and proves itself anew; what it kept tells that it is the same.
    run_until(&site, config(&site, "nitro", &path).await, states.len() + 1).await;
    let states = site.fixture.records(&["node-state"]).await;
    let (_, last) = &states[states.len() - 1];
    assert_eq!(last["body"]["state"], "joined");
    let node = |one: &serde_json::Value| one["body"]["node"].to_string();
    assert_eq!(node(last), node(&states[0].1));
    assert_eq!(site.count("lock").await, 0);
}

fn pipe(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_under_gramine_joins_and_renews() {
    let site = Site::start(&sgx(), SHORT).await;
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_owned();
    std::fs::write(here.join("attestation_type"), "none").unwrap();
    let ended = agent::run(
        config(&site, "gramine", &here).await,
        CancellationToken::new(),
    )
    .await;
    assert!(format!("{:?}", ended.unwrap_err()).contains("AGENT-ENCLAVE"));

    std::fs::write(here.join("attestation_type"), "dcap").unwrap();
    let (asked, answer) = (here.join("user_report_data"), here.join("quote"));
    pipe(&asked);
    pipe(&answer);
    std::thread::spawn(move || {
        loop {
            let Ok(data) = std::fs::read(&asked) else {
                return;
            };
            let quote = sgx_enclave(&data.try_into().unwrap()).quote();
            if std::fs::write(&answer, quote).is_err() {
                return;
            }
        }
    });
    run_until(&site, config(&site, "gramine", &here).await, 3).await;
    let verdicts = site.fixture.records(&["verdict"]).await;
    assert!(verdicts.len() >= 3);
    for (_, verdict) in verdicts {
        assert_eq!(verdict["body"]["outcome"], "affirmed");
    }
}
