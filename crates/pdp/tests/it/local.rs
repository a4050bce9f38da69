//! Decisions in the process of a node agent: who asks is what the agent says, and never what the caller does.

use crate::plane::Svid;
use crate::world::{World, exchange, post};
use device::process::Caller;
use facts::Finding;
use ledger::RecordType;
use pdp::authzen::{EVALUATION, EVALUATIONS, SEARCH_SUBJECT, WELL_KNOWN};
use pdp::{Attest, Attested, Held};
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// An agent that knows this process by what the test says.
pub(crate) struct Agent {
    held: Mutex<Result<Vec<Held>, &'static str>>,
    /// To whom alone it gives anything.
    pid: AtomicU32,
}

impl Agent {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::new(Ok(Vec::new())),
            pid: AtomicU32::new(std::process::id()),
        })
    }

    pub(crate) fn knows(&self, pid: u32) {
        self.pid.store(pid, Ordering::SeqCst);
    }

    pub(crate) fn gives(&self, svids: &[&Svid]) {
        let held = svids.iter().map(|svid| Held {
            spiffe_id: svid.id.parse().unwrap(),
            chain: svid.chain.clone(),
        });
        *self.held.lock().unwrap() = Ok(held.collect());
    }

    fn fails(&self, code: &'static str) {
        *self.held.lock().unwrap() = Err(code);
    }
}

impl Attest for Agent {
    fn attest(
        &self,
        caller: Arc<Caller>,
    ) -> Pin<Box<dyn Future<Output = Result<Attested, Finding>> + Send + '_>> {
        let same = u32::try_from(caller.pid()).unwrap() == self.pid.load(Ordering::SeqCst);
        let held = if same {
            self.held.lock().unwrap().clone()
        } else {
            Ok(Vec::new())
        };
        Box::pin(async move {
            let held = held.map_err(|code| Finding::new(code, "the agent cannot say"))?;
            let kept = Arc::new(());
            Ok(Attested { held, kept })
        })
    }
}

fn asked(subject: &str, action: &str) -> Value {
    json!({
        "subject": {"type": "identity", "id": subject},
        "action": {"name": action},
        "resource": {"type": "table", "id": "app/public/record-1"},
    })
}

fn code(answer: &Value) -> &str {
    answer["context"]["error"]["code"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_asks_about_itself_by_what_the_agent_knows() {
    let agent = Agent::new();
    let world = World::beside("own = true", Arc::clone(&agent) as _).await;
    // It is given no identity, and so is nobody who may ask.
    let body = asked("alice", "select").to_string();
    assert_eq!(world.send(EVALUATION, &[], body.as_bytes()).await.status, 0);

    let (alice, bob) = (world.plane.issue("alice"), world.plane.issue("bob"));
    agent.gives(&[&alice]);
    let (status, answer) = world.post(EVALUATION, &asked("alice", "select")).await;
    assert_eq!(
        (status, &answer["decision"]),
        (200, &json!(true)),
        "{answer}"
    );
    // Nothing was shown, and its facts are those of its own SVID.
    assert_eq!(answer["context"]["facts"], "issued", "{answer}");
    let record = world.records(RecordType::Decision).pop().unwrap();
    assert_eq!(record.actor(), alice.id);
    assert!(record.auth().contains("uid="), "{}", record.auth());
    let about = world.decisions().pop().unwrap().about.unwrap();
    assert!(about.issuance.is_some() && about.stated.is_empty());

    // About another it may not ask, whatever it shows of it.
    let (_, answer) = world.post(EVALUATION, &asked("bob", "select")).await;
    assert_eq!(
        (&answer["decision"], code(&answer)),
        (&json!(false), "PDP-CALLER-OWN")
    );
    let mut shown = asked("bob", "select");
    let x5c: Vec<String> = bob
        .chain
        .iter()
        .map(|der| crypto::base64::encode(der))
        .collect();
    shown["subject"]["properties"] = json!({"x5c": x5c});
    let (_, answer) = world.post(EVALUATION, &shown).await;
    assert_eq!(
        (&answer["decision"], code(&answer)),
        (&json!(false), "PDP-CALLER-OWN")
    );
    // Nor in a batch, where the rest is answered.
    let batch = json!({"evaluations": [asked("alice", "select"), asked("bob", "select")]});
    let (_, answer) = world.post(EVALUATIONS, &batch).await;
    assert_eq!(answer["evaluations"][0]["decision"], true, "{answer}");
    assert_eq!(
        code(&answer["evaluations"][1]),
        "PDP-CALLER-OWN",
        "{answer}"
    );
    // What is shown beside counts no more than it does elsewhere: an SVID of bob's is not alice's.
    let mut mixed = asked("alice", "select");
    mixed["subject"]["properties"] = json!({"x5c": x5c});
    let (_, answer) = world.post(EVALUATION, &mixed).await;
    assert_eq!(code(&answer), "PDP-SUBJECT-CERTIFICATE", "{answer}");

    // What speaks of others is not served here.
    for path in [SEARCH_SUBJECT, "/ask/v1/who-can"] {
        let answer = world.send(path, &[], body.as_bytes()).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let get = format!("GET {WELL_KNOWN} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let stream = UnixStream::connect(&world.socket).await.unwrap();
    assert_eq!(exchange(stream, get.as_bytes()).await.status, 404);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_section_names_asks_about_others() {
    let agent = Agent::new();
    let section = "[[caller]]\nidentity = \"envoy/edge\"";
    let world = World::beside(section, Arc::clone(&agent) as _).await;
    agent.gives(&[&world.plane.issue("alice")]);
    let body = asked("alice", "select").to_string();
    // `own` is off, and nobody named alice.
    assert_eq!(world.send(EVALUATION, &[], body.as_bytes()).await.status, 0);
    agent.gives(&[&world.plane.issue("envoy/edge")]);
    let (_, answer) = world.post(EVALUATION, &asked("bob", "select")).await;
    assert_eq!(answer["decision"], true, "{answer}");
    assert_eq!(answer["context"]["facts"], "unknown", "{answer}");
    // An agent that cannot say who calls lets nobody ask.
    agent.fails("AGENT-UNANSWERED");
    assert_eq!(world.send(EVALUATION, &[], body.as_bytes()).await.status, 0);
    world.stop().await;
}

/// The agent is asked at each request: a connection outlives no identity.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_asks_no_more_once_its_identity_is_gone() {
    let agent = Agent::new();
    let world = World::beside("own = true", Arc::clone(&agent) as _).await;
    let alice = world.plane.issue("alice");
    agent.gives(&[&alice]);
    let request = post(
        EVALUATION,
        &[],
        asked("alice", "select").to_string().as_bytes(),
    );
    let kept = String::from_utf8(request.clone()).unwrap();
    let kept = kept.replace("connection: close\r\n", "");
    let mut stream = UnixStream::connect(&world.socket).await.unwrap();
    stream.write_all(kept.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    agent.gives(&[&world.plane.issue("bob")]);
    let answer = exchange(stream, &request).await;
    let said = format!("{}{}", answer.head, answer.body);
    assert!(
        said.contains("PDP-CALLER-CHANGED") && said.contains("403"),
        "{said}"
    );
    // A renewal is no change.
    agent.gives(&[&world.plane.issue("alice")]);
    let (status, _) = world.post(EVALUATION, &asked("alice", "select")).await;
    assert_eq!(status, 200);
    world.stop().await;
}

/// Its delegate need not show what the agent knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_token_counts_with_the_identity_that_the_agent_knows() {
    let agent = Agent::new();
    let world = World::beside("own = true", Arc::clone(&agent) as _).await;
    let (token, jti) = crate::tokens::token(&world, &["select"]);
    let mut body = asked("alice", "select");
    body["subject"]["properties"] = json!({"delegation": token});
    agent.gives(&[&world.plane.issue("alice")]);
    let (_, answer) = world.post(EVALUATION, &body).await;
    assert_eq!(answer["decision"], true, "{answer}");
    let about = world.decisions().pop().unwrap().about.unwrap();
    assert_eq!(about.on_behalf_of[0].jti, jti);
    // Whoever else has it is known to be somebody else.
    agent.gives(&[&world.plane.issue("bob")]);
    body["subject"]["id"] = json!("bob");
    let (_, answer) = world.post(EVALUATION, &body).await;
    assert_eq!(code(&answer), "DELEGATION-TOKEN-PRESENTER", "{answer}");
    world.stop().await;
}
