//! Whole agents on machines with a chip that is measured into as real machines' were.

use super::{HUNG, JUDGED, OLD};
use crate::harness::{DOMAIN, Fixture, estate};
use crate::tpm::pin;
use agent::{AgentConfig, IdentityError, JoinError, RunError};
use attest_tpm::eventlog::Log;
use attest_tpm::seal::ApprovalSet;
use crypto::{Hash, hex, sha256};
use estate::EstateFiles;
use facts::Finding;
use proto::v1;
use references::{
    Artefact, ArtefactKind, Digest, Generation, PcrEvent, PcrValue, ReferenceFile, Source,
    SourceKind, Withdrawal,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::swtpm::Swtpm;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A machine with a chip, and the evidence that it boots by.
pub(super) struct Machine {
    pub(super) chip: Swtpm,
    pub(super) extend: PathBuf,
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
        let extend = match testkit::tools(["tpm2_pcrextend"]) {
            Ok([path]) => path,
            Err(why) => {
                testkit::skip(test, &why);
                return None;
            }
        };
        let chip = match Swtpm::start() {
            Ok(chip) => chip,
            Err(why) => {
                testkit::skip(test, &why.to_string());
                return None;
            }
        };
        let mut tpm = device::tpm::Tpm::open(&chip.uri()).unwrap();
        let ek = hex::encode(&sha256(&tpm.endorsement().unwrap().public));
        drop(tpm);
        let machine = Self {
            chip,
            extend,
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
        let parsed = Log::parse(&bytes).unwrap();
        let events: Vec<String> = parsed
            .measured()
            .filter(|event| event.pcr < 15)
            .map(|event| {
                let digest = event.digest(Hash::Sha256).unwrap();
                format!("{}:sha256={}", event.pcr, hex::encode(digest))
            })
            .collect();
        for some in events.chunks(64) {
            self.extend(some);
        }
        std::fs::write(self.log(), bytes).unwrap();
    }

    pub(super) fn extend(&self, events: &[String]) {
        let mut command = Command::new(&self.extend);
        command.env("TPM2TOOLS_TCTI", self.chip.tcti()).args(events);
        assert!(command.status().unwrap().success());
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The artefact that predicts what `log` gives.
    pub(super) fn artefact(&self, name: &str, log: &str) -> Artefact {
        let bytes = std::fs::read(self.evidence.join(log)).unwrap();
        let log = Log::parse(&bytes).unwrap();
        let pcrs = JUDGED.map(|pcr| {
            let events = log.measured().filter(|event| event.pcr == pcr);
            let events: Vec<PcrEvent> = events
                .map(|event| PcrEvent {
                    what: event.title(),
                    sha256: Digest(event.digest(Hash::Sha256).unwrap().try_into().unwrap()),
                })
                .collect();
            PcrValue {
                index: u8::try_from(pcr).unwrap(),
                sha256: references::pcr::replay(&events),
                events,
            }
        });
        Artefact {
            kind: ArtefactKind::BootChain,
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: String::new(),
            sha256: Digest::of(name.as_bytes()),
            source: "pinned".to_owned(),
            made_of: Vec::new(),
            files: Vec::new(),
            pcrs: pcrs.to_vec(),
            unpredicted: Vec::new(),
            parts: references::Parts::default(),
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
        let at = facts::Timestamp::from_secs(1_700_000_000);
        let generations = boots.iter().map(|(name, log)| Generation {
            name: format!("generation-{name}"),
            rings: vec!["demo".to_owned()],
            valid_from: at,
            valid_until: None,
            imported_at: at,
            sources: vec![Source {
                id: "pinned".to_owned(),
                kind: SourceKind::Pinned,
                name: "recorded".to_owned(),
                sha256: Digest([7; 32]),
                signed_by: Vec::new(),
                signed_at: None,
            }],
            artefacts: vec![self.artefact(name, log)],
        });
        let file = ReferenceFile {
            generations: generations.collect(),
            boots: Vec::new(),
            withdrawn: withdrawn
                .iter()
                .map(|name| Withdrawal {
                    name: (*name).to_owned(),
                    version: None,
                    at,
                    reason: "CVE-2026-1234".to_owned(),
                })
                .collect(),
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
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap().to_string();
        drop(nobody);
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
    let waited = async {
        while states(fixture, "renewed").await < least {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(HUNG, waited).await;
    waited.expect("the machine renews");
}

pub(super) async fn approvals(fixture: &Fixture, ring: &str) -> String {
    let request = v1::BootApprovalsRequest {
        ring: ring.to_owned(),
    };
    let answer = fixture.admin().await.boot_approvals(request).await;
    answer.unwrap().into_inner().json
}
