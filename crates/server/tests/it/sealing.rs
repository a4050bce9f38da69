//! Sealed startup, with whole agents, the real server and a chip that is measured into as real machines' were:
//! what opens in which boot, what a crash leaves, and what a withdrawal takes away.

mod machine;
mod withdrawing;

use crate::harness::Fixture;
use crate::tpm::pin;
use agent::client::ClientError;
use agent::{AgentConfig, IdentityError, JoinError, RunError};
use attest_tpm::seal::ApprovalSet;
use machine::{Agent, Machine, approvals, approved, epoch, is_sealed, states, until_renewed};
use proto::v1;
use references::ReferenceFile;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What two real machines booted: the one stands for the kernel of today, the other for the next.
const OLD: &str = "eventlog/rhel8-uefi.bin";
const NEW: &str = "eventlog/cos-101-amd-sev.bin";
const JUDGED: [u32; 4] = [4, 7, 8, 9];
/// Longer than any wait here takes.
const HUNG: Duration = Duration::from_secs(90);
/// Names the configuration of an agent that is to run in a process of its own.
const OWN_PROCESS: &str = "TRILITH_TEST_AGENT";

/// A machine whose boot is the one that is approved: it has joined, and its state is sealed.
async fn sealed() -> Option<(Machine, Fixture, Agent)> {
    let machine = Machine::boot("server.sealing")?;
    let fixture = Fixture::configured("").await;
    let files = machine.estate(&[("old", OLD)], &[]);
    fixture.apply(&files).await.unwrap();
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    machine.until(is_sealed).await;
    Some((machine, fixture, agent))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_reboots_into_an_approved_kernel_and_goes_on_without_joining_again() {
    let Some((mut machine, fixture, mut agent)) = sealed().await else {
        return;
    };
    // What it holds is not to be seen: neither the key, nor anything else of the state.
    let disk = std::fs::read_to_string(machine.state()).unwrap();
    assert!(
        !disk.contains("join_state") && !disk.contains("node_id"),
        "{disk}"
    );

    let records = fixture.records(&["seal-approval"]).await;
    let [(_, record)] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(record["actor"], "spiffe://example.org/trilith/server");
    assert_eq!(record["body"]["ring"], "demo");
    let epoch = record["body"]["epoch"].clone();
    assert_eq!(record["body"]["label"], "old 1 (generation-old)");
    assert_eq!(record["body"]["pcrs"].as_array().unwrap().len(), 4);
    let rotations = fixture.records(&["key-rotation"]).await;
    let seal = rotations
        .iter()
        .filter(|(_, one)| one["body"]["what"] == "seal");
    assert_eq!(seal.count(), 1);

    // The next kernel is known before anybody boots it.
    fixture
        .apply(&machine.estate(&[("old", OLD), ("new", NEW)], &[]))
        .await
        .unwrap();
    let told = machine
        .until(|state| is_sealed(state) && approved(state) == 2)
        .await;
    assert_eq!(told["epoch"], epoch, "nothing is sealed anew for it");
    assert_eq!(fixture.records(&["seal-approval"]).await.len(), 2);
    agent.stop().await;

    machine.reboot(NEW);
    let mut agent = machine.start_offline(&fixture).await;
    agent.serves().await;
    agent.stop().await;
    assert_eq!(states(&fixture, "joined").await, 1);

    // With the server: the chip vouches for this boot by a renewal, and nothing is joined.
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    until_renewed(&fixture, 1).await;
    assert_eq!(states(&fixture, "joined").await, 1);
    machine.until(is_sealed).await;
    agent.stop().await;

    // A restart of the agent alone is no join either.
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    agent.stop().await;
    assert_eq!(states(&fixture, "joined").await, 1);
    assert!(fixture.records(&["lock"]).await.is_empty());
}

/// Nothing is issued before a quote on the very stream: neither a restart of the agent, nor one of the server,
/// nor a boot that the agent has to renew in, may cost a workload more than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_gets_its_workloads_svids_after_restarts_and_a_reboot() {
    let Some(mut machine) = Machine::boot("server.sealing") else {
        return;
    };
    let mut fixture = Fixture::configured("").await;
    let mut files = machine.estate(&[("old", OLD), ("new", NEW)], &[]);
    files.insert(
        "policies/this.cedar",
        format!(
            "@id(\"this process\") permit (principal in Pool::\"demo\", \
             action == Action::\"assume\", resource == Identity::\"payments/api\") \
             when {{ principal has uid && principal.uid == {} }};",
            rustix::process::getuid().as_raw()
        ),
    );
    fixture.apply(&files).await.unwrap();
    let mut joined = 0;
    for then in ["joined", "the agent again", "the server again", "rebooted"] {
        match then {
            "the server again" => fixture.restart().await,
            "rebooted" => machine.reboot(NEW),
            _ => {}
        }
        let mut agent = machine.start(&fixture).await;
        agent.serves().await;
        let address = format!("unix://{}", agent.config.workload_socket.display());
        let begun = std::time::Instant::now();
        // Until it is connected the agent has clients try again; from then on nobody is refused.
        let first = async {
            loop {
                let client = agent::client::Client::connect(&address).await.unwrap();
                let first = async { client.x509().await?.next().await };
                match first.await {
                    Err(ClientError::Unavailable(_)) => {}
                    first => return first,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let svids = tokio::time::timeout(HUNG, first).await;
        let svids = svids.expect(then).expect(then);
        println!("{then}: {:?}", begun.elapsed());
        assert_eq!(svids[0].spiffe_id, "spiffe://example.org/payments/api");
        joined = states(&fixture, "joined").await;
        machine.until(is_sealed).await;
        agent.stop().await;
    }
    assert_eq!(joined, 1);
    assert!(fixture.records(&["revocation"]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unapproved_boot_opens_nothing_until_it_is_approved() {
    let Some((mut machine, fixture, mut agent)) = sealed().await else {
        return;
    };
    agent.stop().await;
    let sealed = std::fs::read(machine.state()).unwrap();

    machine.reboot(NEW);
    for offline in [true, false] {
        let agent = match offline {
            true => machine.start_offline(&fixture).await,
            false => machine.start(&fixture).await,
        };
        let refused = agent.refused().await;
        assert_eq!(refused.code, "AGENT-SEALED", "{refused}");
        let (expected, observed) = (refused.expected.unwrap(), refused.observed.unwrap());
        assert!(expected.contains("PCR 4 ") && expected.contains("old 1 (generation-old)"));
        assert!(observed.contains("PCR 4 "), "{observed}");
        assert_eq!(
            std::fs::read(machine.state()).unwrap(),
            sealed,
            "it is left as it was"
        );
    }

    // Measured by something else in the approved boot: the same.
    machine.reboot(OLD);
    machine.chip.extend(&[(4, [0x77; 32])]).unwrap();
    let agent = machine.start_offline(&fixture).await;
    assert_eq!(agent.refused().await.code, "AGENT-SEALED");

    // Approved, and brought to the machine by hand.
    machine.reboot(NEW);
    fixture
        .apply(&machine.estate(&[("old", OLD), ("new", NEW)], &[]))
        .await
        .unwrap();
    let folder = machine.data().join("approvals");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a-broken.json"), b"{").unwrap();
    std::fs::write(folder.join("b.json"), approvals(&fixture, "demo").await).unwrap();
    let mut agent = machine.start_offline(&fixture).await;
    agent.serves().await;
    agent.stop().await;

    // Without the file it is the server that has it; who asks shows no identity.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(machine.state(), &sealed).unwrap();
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    until_renewed(&fixture, 1).await;
    agent.stop().await;
    assert_eq!(states(&fixture, "joined").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_may_join_anew_sets_aside_what_it_cannot_open() {
    let Some((mut machine, fixture, mut agent)) = sealed().await else {
        return;
    };
    agent.stop().await;
    let sealed = std::fs::read(machine.state()).unwrap();

    // The server judges the boot that joins, and would take this one: what was sealed is for another epoch.
    machine.reboot(NEW);
    fixture
        .apply(&machine.estate(&[("old", OLD), ("new", NEW)], &["old"]))
        .await
        .unwrap();
    let refused = machine.start(&fixture).await.refused().await;
    assert_eq!(refused.code, "AGENT-SEALED");
    let epoch = epoch(&fixture).await;
    let now = format!("of epoch {epoch} by now");
    assert!(refused.observed.unwrap().contains(&now));
    let (server, pin) = (fixture.address().to_string(), pin(&fixture).await);
    let text = machine.text(&server, &pin, "seal = \"rejoin\"\n");
    let mut agent = Agent::start(&machine, &text);
    agent.serves().await;
    let state = machine.until(is_sealed).await;
    assert_eq!(state["epoch"], epoch);
    agent.stop().await;
    assert_eq!(states(&fixture, "joined").await, 2);
    let aside = std::fs::read_dir(machine.data()).unwrap().flatten();
    let aside: Vec<PathBuf> = aside
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "unopened"))
        .collect();
    let [aside] = aside.as_slice() else {
        panic!("{aside:?}");
    };
    assert_eq!(std::fs::read(aside).unwrap(), sealed);

    // And one that keeps nothing opens what it has once more.
    let text = machine.text(&server, &pin, "seal = \"off\"\n");
    let mut agent = Agent::start(&machine, &text);
    agent.serves().await;
    let state = machine.until(|state| !is_sealed(state)).await;
    assert_eq!(state["key"], "", "no key is there in the clear");
    agent.stop().await;
    assert_eq!(states(&fixture, "joined").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_opens_nothing_that_is_sealed_from_then_on() {
    let Some(mut machine) = Machine::boot("server.sealing") else {
        return;
    };
    let fixture = Fixture::configured("").await;
    let both = [("old", OLD), ("new", NEW)];
    fixture.apply(&machine.estate(&both, &[])).await.unwrap();
    machine.reboot(NEW);
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    let before = machine.until(is_sealed).await;
    assert_eq!(approved(&before), 2);
    let old_approvals = approvals(&fixture, "demo").await;

    fixture
        .apply(&machine.estate(&both, &["old"]))
        .await
        .unwrap();
    let another = |state: &Value| is_sealed(state) && state["epoch"] != before["epoch"];
    let after = machine.until(another).await;
    assert_eq!(approved(&after), 1);
    assert_ne!(before["private"], after["private"], "sealed anew");
    agent.stop().await;

    // Somebody boots the old kernel, and has kept its approval.
    machine.reboot(OLD);
    let folder = machine.data().join("approvals");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("old.json"), old_approvals).unwrap();
    let refused = machine.start_offline(&fixture).await.refused().await;
    assert_eq!(refused.code, "AGENT-SEALED", "{refused}");

    // When nothing is approved any more, nothing is kept.
    machine.reboot(NEW);
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    fixture.apply(&machine.estate(&[], &[])).await.unwrap();
    let plain = machine.until(|state| !is_sealed(state)).await;
    assert_eq!(plain["key"], "");
    agent.stop().await;

    // The server remembers what it has approved, and does not sign it again.
    let count = fixture.records(&["seal-approval"]).await.len();
    fixture
        .apply(&machine.estate(&both, &["old"]))
        .await
        .unwrap();
    let approved = approvals(&fixture, "demo").await;
    let set = ApprovalSet::parse(approved.as_bytes()).unwrap();
    assert_eq!(set.approvals().len(), 1, "{approved}");
    let sealed = after["epoch"].as_str().unwrap();
    assert!(set.scope.epoch > sealed.parse().unwrap(), "{approved}");
    let mut fixture = fixture;
    fixture.restart().await;
    assert_eq!(approvals(&fixture, "demo").await, approved);
    assert_eq!(fixture.records(&["seal-approval"]).await.len(), count + 1);
}

/// As `refs import debian` predicts: another initrd, or a shell as the command line's init, gives the same PCRs.
#[tokio::test(flavor = "multi_thread")]
async fn a_boot_whose_initrd_and_command_line_nobody_predicts_is_not_approved() {
    let Some(machine) = Machine::boot("server.sealing") else {
        return;
    };
    let fixture = Fixture::configured("").await;
    let good = machine.estate(&[("old", OLD)], &[]);
    let only = |judged: &[u8]| {
        let mut files = good.clone();
        let text = &files.0["references/boot.json"];
        let mut file = ReferenceFile::parse(text).unwrap();
        let pcrs = &mut file.generations[0].artefacts[0].pcrs;
        pcrs.retain(|pcr| judged.contains(&pcr.index));
        assert_eq!(pcrs.len(), judged.len());
        let text = file.to_json();
        files.insert("references/boot.json", text);
        files
    };
    let said = async || {
        let request = v1::BootApprovalsRequest {
            ring: "demo".to_owned(),
        };
        let answer = fixture.admin().await.boot_approvals(request).await;
        let answer = answer.unwrap().into_inner();
        let set = ApprovalSet::parse(answer.json.as_bytes()).unwrap();
        (set.approvals().len(), set.scope.epoch, answer.finding)
    };
    for judged in [&[7][..], &[4, 7], &[4, 7, 9], &[4, 8], &[8, 9]] {
        fixture.apply(&only(judged)).await.unwrap();
        let (approved, _, finding) = said().await;
        assert_eq!(approved, 0, "{judged:?}");
        assert!(finding.contains("SEAL-UNPINNED"), "{judged:?}: {finding}");
    }
    assert!(fixture.records(&["seal-approval"]).await.is_empty());
    fixture.apply(&good).await.unwrap();
    let (approved, first, finding) = said().await;
    assert_eq!((approved, finding), (1, String::new()));
    // What was approved is taken back with the last value that told it from others.
    fixture.apply(&only(&[4, 7])).await.unwrap();
    let (approved, epoch, finding) = said().await;
    assert!(approved == 0 && epoch > first);
    assert!(finding.contains("PCR 11, or PCR 8 and 9"), "{finding}");
}

/// A state of a version before sealing, or of a ring that nobody predicts, is plain: it is read, and sealed
/// once boots are approved.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_state_is_sealed_once_boots_are_approved() {
    let Some(machine) = Machine::boot("server.sealing") else {
        return;
    };
    let fixture = Fixture::configured("").await;
    fixture.apply(&machine.estate(&[], &[])).await.unwrap();
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    let plain = machine.until(|state| state["v"] == 1).await;
    assert_eq!(plain["key"], "", "no key without a seal");
    agent.stop().await;
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    assert_eq!(states(&fixture, "joined").await, 2, "nothing was kept");
    fixture
        .apply(&machine.estate(&[("old", OLD)], &[]))
        .await
        .unwrap();
    machine.until(is_sealed).await;
    agent.stop().await;
    let mut agent = machine.start_offline(&fixture).await;
    agent.serves().await;
    agent.stop().await;
    assert_eq!(states(&fixture, "joined").await, 2);
    // Rings that nobody has are not asked about; those without approvals are.
    assert!(approvals(&fixture, "").await.contains("\"approvals\": []"));
}

/// As after the theft of the key: the server makes another, and machines seal anew when they connect.
#[tokio::test(flavor = "multi_thread")]
async fn machines_that_connect_seal_anew_under_another_key() {
    let Some((machine, mut fixture, mut agent)) = sealed().await else {
        return;
    };
    let before = machine.until(is_sealed).await;
    agent.stop().await;
    let stolen = approvals(&fixture, "demo").await;

    fixture.stop().await;
    std::fs::remove_file(fixture.dir.path().join("keys/ca/seal.pk8")).unwrap();
    let config = crate::harness::config(fixture.dir.path());
    fixture.server = Some(server::start(config).await.unwrap());
    assert_ne!(approvals(&fixture, "demo").await, stolen);
    let rotations = fixture.records(&["key-rotation"]).await;
    let seal = rotations.iter().map(|(_, record)| &record["body"]);
    let seal: Vec<&Value> = seal.filter(|body| body["what"] == "seal").collect();
    assert_eq!(seal.len(), 2);
    assert_eq!(seal[1]["old"], seal[0]["new"]);

    // It opens by what it has, and goes on under the new key.
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    let another = |state: &Value| is_sealed(state) && state["epoch"] != before["epoch"];
    let after = machine.until(another).await;
    assert_ne!(before["key"], after["key"]);
    agent.stop().await;
    assert_eq!(states(&fixture, "joined").await, 1);
    let mut agent = machine.start_offline(&fixture).await;
    agent.serves().await;
    agent.stop().await;
}

/// Not a test of its own: the agent of the one below, in a process that can be killed.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_in_a_process_of_its_own() {
    let Some(path) = std::env::var_os(OWN_PROCESS) else {
        return;
    };
    let config = AgentConfig::load(Path::new(&path)).unwrap();
    // As a service manager runs it: again, while the server still works on what the one before had asked.
    loop {
        match agent::run(config.clone(), CancellationToken::new()).await {
            Err(RunError::Identity(error)) if is_busy(&error) => {}
            ended => return ended.unwrap(),
        }
    }
}

fn is_busy(error: &IdentityError) -> bool {
    matches!(error, IdentityError::Join(JoinError::Refused(finding)) if finding.code == "SERVER-BUSY")
}

fn spawn(machine: &Machine, text: &str) -> Child {
    drop(std::fs::remove_file(machine.folder.path().join("api.sock")));
    let path = machine.folder.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sealing::an_agent_in_a_process_of_its_own"])
        .env(OWN_PROCESS, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_around_the_switch_loses_nothing() {
    let Some(machine) = Machine::boot("server.sealing") else {
        return;
    };
    let fixture = Fixture::configured("").await;
    let (none, good) = (
        machine.estate(&[], &[]),
        machine.estate(&[("old", OLD)], &[]),
    );
    fixture.apply(&none).await.unwrap();
    let (server, pin) = (fixture.address().to_string(), pin(&fixture).await);
    let text = machine.text(&server, &pin, "");
    let mut sealed_before = 0;
    for delay in [0, 15, 40, 80, 130, 200, 320, 500] {
        let mut child = spawn(&machine, &text);
        let connected = async {
            let agents = async || {
                let answer = fixture.admin().await.agents(v1::StatusRequest {}).await;
                let json = answer.unwrap().into_inner().json;
                serde_json::from_str::<Value>(&json).unwrap()
            };
            while agents().await["agents"][0]["connected"] != true {
                assert!(
                    child.try_wait().unwrap().is_none(),
                    "it starts, after {delay} ms"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(HUNG, connected)
            .await
            .expect("a connection");
        // To the seal, or away from it.
        let is = serde_json::from_slice::<Value>(&std::fs::read(machine.state()).unwrap()).unwrap();
        let target = if is_sealed(&is) { &none } else { &good };
        sealed_before += usize::from(is_sealed(&is));
        fixture.apply(target).await.unwrap();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        // Old or new, and whole.
        let left = std::fs::read(machine.state()).unwrap();
        let left: Value = serde_json::from_slice(&left).unwrap();
        assert!(left["v"] == 1 || left["v"] == 2, "{left}");
    }
    println!("it was sealed before {sealed_before} of 8 kills");
    fixture.apply(&good).await.unwrap();
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    machine.until(is_sealed).await;
    agent.stop().await;
    // Nothing looked like a second machine, or like another.
    assert!(fixture.records(&["lock"]).await.is_empty());
    assert!(fixture.records(&["revocation"]).await.is_empty());
    let mut agent = machine.start_offline(&fixture).await;
    agent.serves().await;
    agent.stop().await;
}
