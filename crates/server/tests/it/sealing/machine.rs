//! Whole agents on machines with a chip that is measured into as real machines' were.

use super::{HUNG, JUDGED, OLD};
use crate::booting::{measure, predicted, withdrawal};
use crate::harness::{DOMAIN, Fixture, estate};
use crate::tpm::pin;
use agent::{AgentConfig, IdentityError, JoinError, RunError};
use attest_tpm::seal::ApprovalSet;
use crypto::{hex, sha256};
use estate::EstateFiles;
use facts::Finding;
use proto::v1;
use references::{Artefact, ArtefactKind, ReferenceFile};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::pinned;
use testkit::swtpm::Swtpm;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A machine with a chip, and the evidence that it boots by.
pub(super) struct Machine {
    pub(super) chip: Swtpm,
    pub(super) evidence: PathBuf,
    pub(super) folder: tempfile::TempDir,
    pub(super) ek: String,
}

impl Machine {
    /// Booted into [`OLD`].
    pub(super) fn boot(test: &str) -> Option<Self> {
        let evidence = testkit::evidence().filter(|all| all.join(OLD).exists());
        let Some(evidence) = evidence else {
            testkit::skip(test, &format!("no evidence {OLD}"));
            return None;
        };
        let chip = Swtpm::for_test(test)?;
        let mut tpm = device::tpm::Tpm::open(&chip.uri()).unwrap();
        let ek = hex::encode(&sha256(&tpm.endorsement().unwrap().public));
        drop(tpm);
        let machine = Self {
            chip,
            evidence,
            folder: testkit::temp_dir().unwrap(),
            ek,
        };
        machine.measure(OLD);
        Some(machine)
    }

    pub(super) fn reboot(&mut self, log: &str) {
        self.chip.power_off();
        self.chip.power_on().unwrap();
        self.measure(log);
    }

    /// As the firmware does: into the chip, and into the log.
    pub(super) fn measure(&self, log: &str) {
        let bytes = std::fs::read(self.evidence.join(log)).unwrap();
        measure(&self.chip, &bytes, |pcr| pcr < 15);
        std::fs::write(self.log(), bytes).unwrap();
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The artefact that predicts what `log` gives.
    pub(super) fn artefact(&self, name: &str, log: &str) -> Artefact {
        let log = std::fs::read(self.evidence.join(log)).unwrap();
        let pcrs = JUDGED.map(|pcr| predicted(&log, pcr, |_| {}));
        Artefact {
            pcrs: pcrs.to_vec(),
            ..pinned::artefact(ArtefactKind::BootChain, name)
        }
    }

    /// An estate where this machine is `m1` of the pool `demo`, and these boots are good there.
    pub(super) fn estate(&self, boots: &[(&str, &str)], withdrawn: &[&str]) -> EstateFiles {
        let pem = [self.chip.root_pem(), self.chip.issuer_pem()];
        let pem = pem.map(|path| std::fs::read_to_string(path).unwrap());
        let mut files = estate();
        files.insert(
            "references/tpm.toml",
            format!(
                "[[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n\
                 [[machine]]\nname = \"m1\"\nek_sha256 = [\"{}\"]\npool = \"demo\"\n",
                pem.concat(),
                self.ek
            ),
        );
        let generations = boots.iter().map(|(name, log)| {
            let artefact = self.artefact(name, log);
            pinned::generation(&format!("generation-{name}"), &["demo"], artefact)
        });
        let file = ReferenceFile {
            generations: generations.collect(),
            boots: Vec::new(),
            withdrawn: withdrawn.iter().map(|name| withdrawal(name)).collect(),
        };
        if !boots.is_empty() {
            files.insert("references/boot.json", file.to_json());
        }
        files
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.data().join("node.json")
    }

    /// `agent.toml` of this machine.
    pub(super) fn text(&self, server: &str, pin: &str, more: &str) -> String {
        let here = self.folder.path().display();
        format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"{server}\"\npin = \"{pin}\"\n\
             data_dir = \"{here}/data\"\nworkload_socket = \"{here}/api.sock\"\n{more}\
             [join]\nmethod = \"tpm\"\ntpm = \"{}\"\nevent_log = \"{}\"\n",
            self.chip.uri(),
            self.log().display()
        )
    }

    pub(super) async fn start(&self, fixture: &Fixture) -> Agent {
        let (server, pin) = (fixture.address().to_string(), pin(fixture).await);
        Agent::start(self, &self.text(&server, &pin, ""))
    }

    /// Where nobody answers.
    pub(super) async fn start_offline(&self, fixture: &Fixture) -> Agent {
        let address = testkit::port::free().unwrap().to_string();
        Agent::start(self, &self.text(&address, &pin(fixture).await, ""))
    }

    /// What is on the disk, once `holds` of it.
    pub(super) async fn until(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let waited = async {
            loop {
                let text = std::fs::read(self.state()).unwrap_or_default();
                if let Ok(state) = serde_json::from_slice::<Value>(&text)
                    && holds(&state)
                {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(HUNG, waited).await;
        waited.expect("the state comes to be so")
    }
}

pub(super) fn is_sealed(state: &Value) -> bool {
    state["v"] == 2
}

pub(super) fn approved(state: &Value) -> usize {
    let text = state["approvals"].as_str().unwrap_or_default();
    let bytes = crypto::base64::decode(text).unwrap();
    ApprovalSet::parse(&bytes).unwrap().approvals().len()
}

pub(super) struct Agent {
    pub(super) config: AgentConfig,
    pub(super) stop: CancellationToken,
    pub(super) running: Option<JoinHandle<Result<(), RunError>>>,
}

impl Agent {
    pub(super) fn start(machine: &Machine, text: &str) -> Self {
        // One socket is for one agent; the one before has ended.
        drop(std::fs::remove_file(machine.folder.path().join("api.sock")));
        let config = AgentConfig::parse(text, Path::new("agent.toml")).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(agent::run(config.clone(), stop.clone()));
        Self {
            config,
            stop,
            running: Some(running),
        }
    }

    /// It has an identity, and serves workloads.
    pub(super) async fn serves(&mut self) {
        let address = format!("unix://{}", self.config.workload_socket.display());
        let serves = async {
            loop {
                if let Ok(client) = agent::client::Client::connect(&address).await
                    && client.status(None).await.is_ok()
                {
                    return;
                }
                let running = self.running.as_mut().unwrap();
                assert!(!running.is_finished(), "{:?}", running.await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let served = tokio::time::timeout(HUNG, serves).await;
        served.expect("the agent serves");
    }

    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        let running = self.running.take().unwrap();
        let ended = tokio::time::timeout(HUNG, running).await;
        ended.expect("the agent ends").unwrap().unwrap();
        // In this process what it was still writing holds the folder for a moment longer.
        let lock = self.config.data_dir.join("lock");
        let is_free = || std::fs::File::open(&lock).is_ok_and(|lock| lock.try_lock().is_ok());
        testkit::comes_to_hold(async || is_free(), || "the folder stays held".to_owned()).await;
    }

    /// Why it does not start.
    pub(super) async fn refused(mut self) -> Finding {
        let running = self.running.take().unwrap();
        let ended = tokio::time::timeout(HUNG, running).await;
        let ended = ended.expect("the agent is refused").unwrap();
        match ended {
            Err(RunError::Identity(error)) => match *error {
                IdentityError::Refused(finding)
                | IdentityError::Join(JoinError::Refused(finding)) => finding,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) async fn states(fixture: &Fixture, wanted: &str) -> usize {
    let records = fixture.records(&["node-state"]).await;
    let states = records
        .iter()
        .filter(|(_, record)| record["body"]["state"] == wanted);
    states.count()
}

pub(super) async fn until_renewed(fixture: &Fixture, least: usize) {
    testkit::comes_to_hold(
        async || states(fixture, "renewed").await >= least,
        || "the machine does not renew".to_owned(),
    )
    .await;
}

pub(super) async fn approvals(fixture: &Fixture, ring: &str) -> String {
    let request = v1::BootApprovalsRequest {
        ring: ring.to_owned(),
    };
    let answer = fixture.admin().await.boot_approvals(request).await;
    answer.unwrap().into_inner().json
}

/// Of the ring `demo`, as states have it.
pub(super) async fn epoch(fixture: &Fixture) -> String {
    let set = ApprovalSet::parse(approvals(fixture, "demo").await.as_bytes()).unwrap();
    set.scope.epoch.to_string()
}
