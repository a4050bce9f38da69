//! A chip that takes 200 ms to sign, as many do: the TPM's key vouches for a session key once a join or
//! renewal, workloads cost it nothing, and while it signs nobody else waits. Told by counting and by order, never
//! by the clock.

use crate::harness::{DOMAIN, Fixture};
use crate::kernel::Kernel;
use crate::tpm::pin;
use agent::AgentConfig;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::slow_chip::{Signs, SlowChip};
use tokio_util::sync::CancellationToken;

const EACH: Duration = Duration::from_millis(200);
const HUNG: Duration = Duration::from_secs(90);
const MANY: usize = 12;
/// Names the socket at which a process is to ask for its identity.
const WORKLOAD: &str = "TRILITH_TEST_WORKLOAD";

/// Not a test of its own: a workload of the one below.
#[tokio::test]
async fn a_workload_in_a_process_of_its_own() {
    let Ok(address) = std::env::var(WORKLOAD) else {
        return;
    };
    let client = agent::client::Client::connect(&address).await.unwrap();
    let svids = client.x509().await.unwrap().next().await.unwrap();
    println!("\nidentity {}", svids[0].spiffe_id);
    // It lives until it is killed.
    std::future::pending::<()>().await;
}

struct Workload {
    child: Child,
    identity: std::sync::mpsc::Receiver<String>,
}

impl Workload {
    fn start(address: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "slow_chip::a_workload_in_a_process_of_its_own",
                "--nocapture",
            ])
            .env(WORKLOAD, address)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, identity) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(id) = line.strip_prefix("identity ") {
                    drop(sender.send(id.to_owned()));
                }
            }
        });
        Self { child, identity }
    }

    fn identity(&self) -> String {
        self.identity
            .recv_timeout(HUNG)
            .expect("the workload has an identity")
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    testkit::comes_to_hold(async || holds(), || format!("waited in vain for {what}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workloads_of_a_machine_with_a_slow_chip_wait_for_none_of_its_signatures() {
    let Some(kernel) = Kernel::boot("server.slow-chip") else {
        return;
    };
    let chip = SlowChip::before(&kernel.chip, EACH).unwrap();
    let mut files = kernel.estate(None);
    let uid = rustix::process::getuid().as_raw();
    files.insert(
        "policies/uid.cedar",
        format!(
            "@id(\"whoever runs the test\")\n\
             permit (principal in Pool::\"demo\", action == Action::\"assume\", \
             resource == Identity::\"payments/api\")\n\
             when {{ principal has uid && principal.uid == {uid} }};\n"
        ),
    );
    let more = "[attestation]\ninterval_s = 1\nwindow_s = 600\n";
    let fixture = Fixture::configured(more).await;
    fixture.apply(&files).await.unwrap();
    let folder = testkit::temp_dir().unwrap();
    let (here, pin) = (folder.path().display(), pin(&fixture).await);
    let text = format!(
        "trust_domain = \"{DOMAIN}\"\nserver = \"{}\"\npin = \"{pin}\"\ndata_dir = \"{here}/data\"\n\
         workload_socket = \"{here}/api.sock\"\n[join]\nmethod = \"tpm\"\ntpm = \"{}\"\n",
        fixture.address(),
        chip.uri()
    );
    let config = AgentConfig::parse(&text, Path::new("agent.toml")).unwrap();
    let address = format!("unix://{}", config.workload_socket.display());
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent::run(config, stop.clone()));
    // Joined, and asked once over its stream.
    until("an answer", || chip.signed(Signs::Quote) >= 2).await;
    assert_eq!(chip.signed(Signs::Sign), 1, "one vouching signature a join");
    assert_eq!(chip.signed(Signs::Certify), 1);

    let workloads: Vec<Workload> = (0..MANY).map(|_| Workload::start(&address)).collect();
    for workload in &workloads {
        assert_eq!(workload.identity(), "spiffe://example.org/payments/api");
    }
    assert_eq!(
        chip.signed(Signs::Sign),
        1,
        "workloads cost the chip nothing"
    );
    assert_eq!(chip.signed(Signs::Certify), 1);

    // It takes for ever now, in the middle of an answer.
    chip.hold();
    until("a signature that hangs", || chip.held() == 1).await;
    let others: Vec<Workload> = (0..MANY).map(|_| Workload::start(&address)).collect();
    for workload in &others {
        assert_eq!(workload.identity(), "spiffe://example.org/payments/api");
    }
    assert_eq!(chip.held(), 1, "the chip has not signed yet");
    let answered = chip.signed(Signs::Quote);
    chip.release();
    until("the next answer", || chip.signed(Signs::Quote) > answered).await;
    assert_eq!(chip.signed(Signs::Sign), 1);
    stop.cancel();
    let ended = tokio::time::timeout(HUNG, running).await;
    ended.expect("the agent ends").unwrap().unwrap();
}
