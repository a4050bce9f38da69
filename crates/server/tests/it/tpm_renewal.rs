//! Nodes that joined by TPM: renewal, answers that were lost, another chip, and a state directory that was
//! copied. The chips are software, everything else is what runs: the agents are whole ones.

use crate::harness::{DOMAIN, Fixture, Link, Machine, finding, transcript};
use crate::tpm::{answered, evidence, pin, start};
use agent::{AgentConfig, IdentityError, JoinError, RunError};
use crypto::{Algorithm, KeyPair, Signer as _};
use facts::Finding;
use proto::v1;
use proto::v1::join_client::JoinClient;
use proto::v1::node_client::NodeClient;
use serde_json::Value;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use testkit::swtpm::Swtpm;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Nodes renew after some five seconds.
const SHORT: &str = "[lifetimes]\nnode_s = 10\nskew_s = 0\n";
/// Longer than any wait here takes.
const HUNG: Duration = Duration::from_secs(90);

pub(crate) fn chips(test: &str) -> Option<(Swtpm, Swtpm)> {
    let chips = Swtpm::start().and_then(|chip| Ok((chip.sibling()?, chip)));
    match chips {
        Ok((other, chip)) => Some((chip, other)),
        Err(missing) => {
            testkit::skip(test, &missing.to_string());
            None
        }
    }
}

fn key() -> Arc<KeyPair> {
    Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap())
}

/// A machine that joins with `chip` and presents what it has kept, if anything.
pub(crate) async fn join(
    fixture: &Fixture,
    chip: &Swtpm,
    kept: Option<(&Machine, [u8; 16])>,
) -> Result<Machine, Status> {
    let key = key();
    let (link, mut finish) = evidence(fixture, chip, &key).await;
    if let Some((machine, id)) = kept {
        finish.join_state.clone_from(&machine.joined.join_state);
        finish.renewal_id = id.to_vec();
    }
    let joined = JoinClient::new(link.channel).tpm_finish(finish).await?;
    Ok(Machine {
        address: fixture.address(),
        anchors: fixture.anchors(&pin(fixture).await).await,
        key,
        joined: joined.into_inner(),
    })
}

pub(crate) async fn renew(
    machine: &Machine,
    chip: &Swtpm,
    id: [u8; 16],
    key: Arc<KeyPair>,
) -> Result<Machine, Status> {
    renew_with(machine, chip, id, key, Vec::new()).await
}

/// As [`renew`], with an IMA list.
pub(crate) async fn renew_with(
    machine: &Machine,
    chip: &Swtpm,
    id: [u8; 16],
    key: Arc<KeyPair>,
    ima_list: Vec<u8>,
) -> Result<Machine, Status> {
    renew_showing(machine, chip, id, key, |finish, _| {
        finish.ima_list = ima_list;
    })
    .await
}

/// As [`renew`], with whatever `show` puts beside the chip's answer. It is told what a report of the machine's
/// hardware has to be of.
pub(crate) async fn renew_showing(
    machine: &Machine,
    chip: &Swtpm,
    id: [u8; 16],
    key: Arc<KeyPair>,
    show: impl FnOnce(&mut v1::TpmFinishRequest, &[u8; 64]),
) -> Result<Machine, Status> {
    let link: Link = machine.link().await;
    let spki = key.public_key().spki_der().to_vec();
    let signed = transcript(&[
        b"trilith-renew-v1",
        DOMAIN.as_bytes(),
        &link.exporter,
        &id,
        &crypto::sha256(&machine.joined.join_state),
        &spki,
    ]);
    let (mut finish, asked) = answered(&link, machine.anchors.as_ref(), chip, &key).await;
    show(&mut finish, &asked);
    let request = v1::RenewRequest {
        public_key: spki,
        join_state: machine.joined.join_state.clone(),
        generation: machine.joined.generation,
        renewal_id: id.to_vec(),
        proof: key.sign(&signed).unwrap(),
        tpm: Some(finish),
        enclave: None,
    };
    let joined = NodeClient::new(link.channel).renew(request).await?;
    Ok(Machine {
        key,
        joined: joined.into_inner(),
        ..machine.clone()
    })
}

pub(crate) fn name(machine: &Machine) -> String {
    let (_, name) = machine.joined.node_id.rsplit_once('/').unwrap();
    name.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_by_tpm_whose_answer_was_lost_locks_nobody() {
    let Some((chip, _)) = chips("server.tpm-renewal-lost") else {
        return;
    };
    let fixture = start(&chip, "").await;
    let first = join(&fixture, &chip, None).await.unwrap();
    let renewal_key = key();
    let renewed = renew(&first, &chip, [1; 16], renewal_key.clone())
        .await
        .unwrap();
    assert_eq!(renewed.joined.generation, 2);
    // In the same process: the same id and key again.
    let again = renew(&first, &chip, [1; 16], renewal_key).await.unwrap();
    assert_eq!(again.joined.generation, 2);
    // After a restart the key is gone and the chip joins anew, with what the disk has.
    let joined = join(&fixture, &chip, Some((&first, [1; 16])))
        .await
        .unwrap();
    assert_eq!(joined.joined.generation, 2);
    // That answer may be lost as well.
    let joined = join(&fixture, &chip, Some((&first, [1; 16])))
        .await
        .unwrap();
    assert_eq!(joined.joined.generation, 2);
    let on = renew(&joined, &chip, [2; 16], key()).await.unwrap();
    assert_eq!(on.joined.generation, 3);
    let restarted = join(&fixture, &chip, Some((&on, [3; 16]))).await.unwrap();
    assert_eq!(restarted.joined.generation, 4);
    assert!(fixture.records(&["lock"]).await.is_empty());

    let stolen = renew(&on, &chip, [4; 16], key()).await.err().unwrap();
    assert_eq!(finding(&stolen).code, "AGENT-LOCKED", "a passed generation");
    let late = join(&fixture, &chip, Some((&restarted, [5; 16]))).await;
    assert_eq!(finding(&late.err().unwrap()).code, "AGENT-LOCKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_with_a_state_that_another_went_on_from_locks_both() {
    let Some((chip, _)) = chips("server.tpm-join-passed") else {
        return;
    };
    let fixture = start(&chip, "").await;
    let first = join(&fixture, &chip, None).await.unwrap();
    let renewed = renew(&first, &chip, [1; 16], key()).await.unwrap();
    let copy = join(&fixture, &chip, Some((&first, [2; 16]))).await;
    assert_eq!(finding(&copy.err().unwrap()).code, "AGENT-LOCKED");
    let both = renew(&renewed, &chip, [3; 16], key()).await.err().unwrap();
    assert_eq!(finding(&both).code, "AGENT-LOCKED");
    assert_eq!(fixture.records(&["lock"]).await.len(), 1);

    fixture.readmit(&name(&first)).await;
    let freed = renew(&renewed, &chip, [4; 16], key()).await.unwrap();
    let copy = join(&fixture, &chip, Some((&first, [2; 16]))).await;
    assert_eq!(finding(&copy.err().unwrap()).code, "AGENT-STATE-DEAD");
    renew(&freed, &chip, [5; 16], key()).await.unwrap();
    assert_eq!(fixture.records(&["lock"]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machines_tpm_that_answers_a_renewal_is_refused_and_recorded() {
    let Some((chip, other)) = chips("server.tpm-other") else {
        return;
    };
    let fixture = start(&chip, "").await;
    let machine = join(&fixture, &chip, None).await.unwrap();
    let refused = renew(&machine, &other, [1; 16], key()).await.err().unwrap();
    assert_eq!(finding(&refused).code, "TPM-OTHER");
    let verdicts = fixture.records(&["verdict"]).await;
    let (_, last) = verdicts.last().unwrap();
    assert_eq!(last["body"]["node"], machine.joined.node_id.as_str());
    assert_eq!(last["body"]["outcome"], "refused");
    assert_eq!(last["body"]["findings"][0]["code"], "TPM-OTHER");
    let revoked = fixture.records(&["revocation"]).await;
    assert_eq!(
        revoked.last().unwrap().1["body"]["target"]["value"],
        name(&machine).as_str()
    );
    // Its own chip does not help it now: it is cut, until it is readmitted and joins anew.
    let cut = renew(&machine, &chip, [2; 16], key()).await.err().unwrap();
    assert_eq!(finding(&cut).code, "CALLER-REVOKED");
    let locked = join(&fixture, &chip, Some((&machine, [3; 16]))).await;
    assert_eq!(finding(&locked.err().unwrap()).code, "AGENT-LOCKED");
    fixture.readmit(&name(&machine)).await;
    let freed = join(&fixture, &chip, Some((&machine, [3; 16])))
        .await
        .unwrap();
    renew(&freed, &chip, [4; 16], key()).await.unwrap();
}

/// A machine whose chip nobody vouched for at a renewal was banned, although it had told no lie: a certificate
/// that ended, or an authority that the estate left out, cost an administrator's readmission.
#[tokio::test(flavor = "multi_thread")]
async fn a_chip_that_nobody_vouches_for_evicts_its_machine_and_bans_it_not() {
    let Some((chip, _)) = chips("server.tpm-unvouched") else {
        return;
    };
    let fixture = start(&chip, "").await;
    let mut machine = join(&fixture, &chip, None).await.unwrap();
    for (stranger, code) in [
        (Swtpm::start().unwrap(), "TPM-EK-CHAIN"),
        (Swtpm::uncertified().unwrap(), "TPM-EK-UNKNOWN"),
    ] {
        let refused = renew(&machine, &stranger, [1; 16], key()).await;
        assert_eq!(finding(&refused.err().unwrap()).code, code);
        let revoked = fixture.records(&["revocation"]).await;
        let (_, revoked) = revoked.last().unwrap();
        assert_eq!(revoked["body"]["target"]["value"], name(&machine).as_str());
        let reason = revoked["body"]["reason"].as_str().unwrap();
        assert!(reason.starts_with(code), "{reason}");
        // What it holds is cut; by its own chip it is in again, and nobody has to readmit it.
        let cut = renew(&machine, &chip, [2; 16], key()).await.err().unwrap();
        assert_eq!(finding(&cut).code, "CALLER-REVOKED");
        let joined = join(&fixture, &chip, Some((&machine, [3; 16]))).await;
        machine = joined.unwrap();
        machine = renew(&machine, &chip, [4; 16], key()).await.unwrap();
    }
}

/// Holds whoever reads a blob of evidence that the server keeps, until it is let go.
struct Held(PathBuf);

impl Held {
    /// The evidence of this kind that the last verdict names.
    async fn blob(fixture: &Fixture, kind: &str) -> Self {
        let verdicts = fixture.records(&["verdict"]).await;
        let (_, verdict) = verdicts.last().unwrap();
        let evidence = verdict["body"]["evidence"].as_array().unwrap();
        let of_kind = evidence.iter().find(|one| one["kind"] == kind).unwrap();
        let name = of_kind["sha256"].as_str().unwrap();
        let (shard, _) = name.split_at(2);
        let path = fixture.dir.path().join("data/blobs").join(shard);
        let path = path.join(name);
        std::fs::remove_file(&path).unwrap();
        let (pipe, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, pipe, mode, 0).unwrap();
        Self(path)
    }

    /// Once somebody is held there: lets it go.
    async fn release(self) {
        let waited = async {
            let mut to = std::fs::OpenOptions::new();
            // There is nobody to write to until somebody reads.
            to.write(true).custom_flags(nonblocking());
            while to.open(&self.0).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(HUNG, waited).await;
        waited.expect("the evidence is kept");
    }
}

fn nonblocking() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits().try_into().unwrap()
}

/// The evidence is good and from before the eviction: the renewal would have let the machine in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_overtaken_by_an_eviction_does_not_lift_it() {
    let Some((chip, _)) = chips("server.tpm-renewal-overtaken") else {
        return;
    };
    let fixture = start(&chip, "").await;
    let machine = join(&fixture, &chip, None).await.unwrap();
    let first = Held::blob(&fixture, "tpm-ek-public").await;
    let second = Held::blob(&fixture, "ek-certificate").await;
    let renewing = renew(&machine, &chip, [1; 16], key());
    let evicting = async {
        // It has answered, and is found to be as it should be; then it is evicted.
        first.release().await;
        let request = v1::RevokeRequest {
            kind: "eviction".to_owned(),
            value: name(&machine),
            reason: "we look at it".to_owned(),
        };
        fixture.admin().await.revoke(request).await.unwrap();
        second.release().await;
    };
    let (renewed, ()) = tokio::join!(renewing, evicting);
    let refused = finding(&renewed.err().unwrap());
    assert_eq!(refused.code, "JOIN-OVERTAKEN");
    let still = renew(&machine, &chip, [2; 16], key()).await.err().unwrap();
    assert_eq!(finding(&still).code, "CALLER-REVOKED");
    assert_eq!(renewals_of(&fixture).await, 0);
    join(&fixture, &chip, Some((&machine, [3; 16])))
        .await
        .unwrap();
}

/// As a service manager runs it: again, if another request for the same machine was under way.
async fn run(config: AgentConfig, stop: CancellationToken) -> Result<(), RunError> {
    loop {
        match agent::run(config.clone(), stop.clone()).await {
            Err(RunError::Identity(error)) if code(&error) == Some("SERVER-BUSY") => {}
            ended => return ended,
        }
    }
}

fn code(error: &IdentityError) -> Option<&str> {
    match error {
        IdentityError::Join(JoinError::Refused(finding)) => Some(&finding.code),
        _ => None,
    }
}

/// A whole agent.
struct Agent {
    config: AgentConfig,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<(), RunError>>>,
}

impl Agent {
    /// On its own directory `name` below that of the fixture.
    async fn start(fixture: &Fixture, chip: &Swtpm, name: &str) -> Self {
        let folder = fixture.dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (server, pin, tpm) = (fixture.address(), pin(fixture).await, chip.uri());
        let here = folder.display();
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"{server}\"\npin = \"{pin}\"\n\
             data_dir = \"{here}/data\"\nworkload_socket = \"{here}/api.sock\"\n\
             [join]\nmethod = \"tpm\"\ntpm = \"{tpm}\"\n"
        );
        let config = AgentConfig::parse(&text, Path::new("agent.toml")).unwrap();
        let stop = CancellationToken::new();
        let running = Some(tokio::spawn(run(config.clone(), stop.clone())));
        Self {
            config,
            stop,
            running,
        }
    }

    /// A copy of this agent's state directory, used on another machine.
    async fn copy(&self, fixture: &Fixture, chip: &Swtpm, name: &str) -> Self {
        let folder = fixture.dir.path().join(name).join("data");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        let state = self.config.data_dir.join("node.json");
        std::fs::copy(state, folder.join("node.json")).unwrap();
        Self::start(fixture, chip, name).await
    }

    /// Whether it says that it is locked out.
    async fn is_locked(&self) -> bool {
        let address = format!("unix://{}", self.config.workload_socket.display());
        let Ok(client) = agent::client::Client::connect(&address).await else {
            return false;
        };
        let status = client.status(None).await.unwrap();
        status["refused"]
            .as_str()
            .is_some_and(|text| text.contains("AGENT-LOCKED"))
    }

    /// Why it did not start.
    async fn refused(&mut self) -> Finding {
        let running = self.running.take().unwrap();
        let ended = tokio::time::timeout(HUNG, running).await;
        let ended = ended.expect("the agent is refused").unwrap();
        let Err(RunError::Identity(error)) = ended else {
            panic!("{ended:?}");
        };
        match *error {
            IdentityError::Join(JoinError::Refused(finding)) => finding,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until `holds` of the records of these types.
async fn until(fixture: &Fixture, types: &[&str], holds: impl Fn(&[Value]) -> bool) {
    let seen = async || {
        let records = fixture.records(types).await;
        let records: Vec<Value> = records.into_iter().map(|(_, record)| record).collect();
        holds(&records)
    };
    let vain = || format!("waited in vain for {}", types.join(" "));
    testkit::comes_to_hold(seen, vain).await;
}

fn renewals(records: &[Value]) -> usize {
    let renewed = |record: &&Value| record["body"]["state"] == "renewed";
    records.iter().filter(renewed).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_joins_by_its_tpm_renews_by_it_and_a_copy_with_the_same_chip_is_detected() {
    let Some((chip, _)) = chips("server.tpm-agent") else {
        return;
    };
    let fixture = start(&chip, SHORT).await;
    let original = Agent::start(&fixture, &chip, "original").await;
    until(&fixture, &["node-state"], |records| renewals(records) >= 2).await;
    let evidence = fixture.records(&["verdict"]).await;
    let proved = |(_, record): &(u64, Value)| {
        record["body"]["evidence"]
            .as_array()
            .is_some_and(|evidence| !evidence.is_empty())
    };
    assert!(
        evidence.iter().filter(|verdict| proved(verdict)).count() >= 3,
        "a join and two renewals, each with a quote"
    );
    assert!(fixture.records(&["lock"]).await.is_empty());

    let copy = original.copy(&fixture, &chip, "copy").await;
    until(&fixture, &["lock"], |records| records.len() == 1).await;
    let both = async {
        while !(original.is_locked().await && copy.is_locked().await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(HUNG, both)
        .await
        .expect("both are locked");

    let node = fixture.records(&["lock"]).await[0].1["body"]["node"].clone();
    let before = renewals_of(&fixture).await;
    fixture.readmit(node.as_str().unwrap()).await;
    until(&fixture, &["node-state"], |records| {
        renewals(records) >= before + 2
    })
    .await;
    let locked = (original.is_locked().await, copy.is_locked().await);
    assert!(locked.0 != locked.1, "one is free: {locked:?}");
    assert_eq!(fixture.records(&["lock"]).await.len(), 1);
}

async fn renewals_of(fixture: &Fixture) -> usize {
    let records = fixture.records(&["node-state"]).await;
    let records: Vec<Value> = records.into_iter().map(|(_, record)| record).collect();
    renewals(&records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_state_directory_with_another_chip_is_detected_and_both_are_locked() {
    let Some((chip, other)) = chips("server.tpm-agent-other") else {
        return;
    };
    let fixture = start(&chip, SHORT).await;
    let original = Agent::start(&fixture, &chip, "original").await;
    until(&fixture, &["node-state"], |records| !records.is_empty()).await;
    // The other machine was one of its own before.
    let mut honest = Agent::start(&fixture, &other, "other").await;
    until(&fixture, &["node-state"], |records| {
        let node = |record: &Value| record["body"]["node"].clone();
        records
            .iter()
            .any(|record| node(record) != node(&records[0]))
    })
    .await;
    honest.stop.cancel();
    honest.running.take().unwrap().await.unwrap().unwrap();

    let mut copy = original.copy(&fixture, &other, "copy").await;
    assert_eq!(copy.refused().await.code, "AGENT-STATE-LOCKED");
    let locks = fixture.records(&["lock"]).await;
    let names: Vec<&Value> = locks
        .iter()
        .map(|(_, record)| &record["body"]["node"])
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let locked = async {
        while !original.is_locked().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(HUNG, locked)
        .await
        .expect("the original is locked");

    let before = renewals_of(&fixture).await;
    fixture.readmit(names[0].as_str().unwrap()).await;
    until(&fixture, &["node-state"], |records| {
        renewals(records) >= before + 2
    })
    .await;
    assert!(!original.is_locked().await);
    assert_eq!(fixture.records(&["lock"]).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chip_that_counts_fewer_boots_is_locked_even_after_the_server_restarted() {
    let Some((chip, _)) = chips("server.tpm-rewound") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_clear"]) {
        return testkit::skip("server.tpm-rewound", &why);
    }
    let mut fixture = start(&chip, "").await;
    let machine = join(&fixture, &chip, None).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&machine.joined.verdict).unwrap();
    let boots = verdict.facts.value("machine.boot.reset_count").cloned();
    assert_ne!(boots, Some(facts::Value::Integer(0)));
    fixture.restart().await;
    // Clearing sets the counters back; the endorsement key stays.
    let cleared = std::process::Command::new("tpm2_clear")
        .args(["-c", "platform"])
        .env("TPM2TOOLS_TCTI", chip.tcti())
        .output()
        .unwrap();
    assert!(cleared.status.success(), "{cleared:?}");
    let refused = finding(&join(&fixture, &chip, None).await.err().unwrap());
    assert_eq!(refused.code, "AGENT-LOCKED");
    assert!(
        refused.observed.unwrap().contains("TPM-BOOT-REWOUND"),
        "the reason"
    );
    assert_eq!(fixture.records(&["lock"]).await.len(), 1);
    fixture.readmit(&name(&machine)).await;
    join(&fixture, &chip, None).await.unwrap();
}

pub(crate) fn tool(chip: &Swtpm, arguments: &[&str]) {
    let (program, arguments) = arguments.split_first().unwrap();
    let output = std::process::Command::new(program)
        .args(arguments)
        .env("TPM2TOOLS_TCTI", chip.tcti())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
}

/// It counts the boots that it did, once it has been started so often: its clock does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_chip_that_was_cleared_and_counts_the_same_boots_is_locked_by_its_clock() {
    let Some((mut chip, _)) = chips("server.tpm-clock") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_clear", "tpm2_setclock", "tpm2_shutdown"]) {
        return testkit::skip("server.tpm-clock", &why);
    }
    let fixture = start(&chip, "").await;
    let machine = join(&fixture, &chip, None).await.unwrap();
    // What a power cut does to the clock is no fault.
    chip.power_off();
    chip.power_on().unwrap();
    join(&fixture, &chip, None).await.unwrap();
    // A day.
    tool(&chip, &["tpm2_setclock", "86400000"]);
    let again = join(&fixture, &chip, None).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&again.joined.verdict).unwrap();
    let Some(facts::Value::Integer(boots)) = verdict.facts.value("machine.boot.reset_count") else {
        panic!("a count");
    };
    tool(&chip, &["tpm2_clear", "-c", "platform"]);
    for _ in 0..*boots {
        tool(&chip, &["tpm2_shutdown", "-c"]);
        chip.power_off();
        chip.power_on().unwrap();
    }
    let refused = finding(&join(&fixture, &chip, None).await.err().unwrap());
    assert_eq!(refused.code, "AGENT-LOCKED");
    let observed = refused.observed.unwrap();
    assert!(observed.contains("TPM-CLOCK-BACK"), "{observed}");
    fixture.readmit(&name(&machine)).await;
    join(&fixture, &chip, None).await.unwrap();
}

/// The references of `start`, with this machine in a pool.
async fn declare(fixture: &Fixture, chip: &Swtpm, ek: &str, name: &str, pool: Option<&str>) {
    let pem =
        [chip.root_pem(), chip.issuer_pem()].map(|path| std::fs::read_to_string(path).unwrap());
    let pool = pool.map_or_else(String::new, |pool| format!("pool = \"{pool}\"\n"));
    let mut files = crate::harness::estate();
    files.insert(
        "references/tpm.toml",
        format!(
            "[[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n\
             [[machine]]\nname = \"{name}\"\nek_sha256 = [\"{ek}\"]\n{pool}",
            pem.concat()
        ),
    );
    fixture.apply(&files).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_taken_out_of_a_pool_loses_what_the_pool_gave_at_once() {
    let Some((chip, _)) = chips("server.tpm-moved") else {
        return;
    };
    let fixture = start(&chip, "").await;
    let machine = join(&fixture, &chip, None).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&machine.joined.verdict).unwrap();
    let ek = verdict.facts.text("machine.tpm.ek_sha256").unwrap();
    let mut sync = crate::kernel::attested(&chip, &machine).await;
    let program = crate::harness::program(1000, crate::harness::PROGRAM);
    let (_, held) = sync.ask("w1", &program, Vec::new()).await.unwrap();
    assert!(held.is_empty(), "it is in no pool");

    // The estate names it and places it: nothing has to be proved again for that.
    declare(&fixture, &chip, ek, "named-now", Some("demo")).await;
    let (issued, held) = sync.ask("w1", &program, Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    let serial = issued.svids[0].serial.clone();
    // It is the same machine, so its renewal under the new name is no attack.
    let renewed = renew(&machine, &chip, [1; 16], key()).await.unwrap();
    assert_eq!(renewed.joined.node_id, machine.joined.node_id);

    declare(&fixture, &chip, ek, "named-now", None).await;
    let revoked = fixture.records(&["revocation"]).await;
    assert!(
        revoked
            .iter()
            .any(|(_, record)| record["body"]["target"]["value"] == serial),
        "{revoked:#?}"
    );
    assert!(fixture.records(&["lock"]).await.is_empty());
}
