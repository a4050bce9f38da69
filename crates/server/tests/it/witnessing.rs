//! A server and its witnesses: what enough of them have seen is served, and nothing waits for them. The witnesses
//! here answer as the specification says, or as it does not; real ones are in the tests of `trilith`.

mod copied;
mod ledgers;
mod new_log;
mod rewound;

use crate::follower::Gateway;
use crate::harness::{DOMAIN, Fixture, PROGRAM, config_with, finding, get, metric, program};
use crate::recovering::{admitted, payments, until, workload_api};
use crate::surviving::copy;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get as read, post};
use ledger::witness::{AddCheckpoint, Answer, Known, SIZE_TYPE, consider};
use ledger::{Cosigner, ForeignCheckpoint, Hash, LedgerKey, LogKey, Note, Policy};
use proto::v1::{self, PackRequest, RecoverRequest, TokenCreateRequest, delta};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How a witness answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    /// Not at all, for longer than anybody waits.
    Silent,
    /// With a line of its key over something else, beside a good one of a key that nobody knows.
    Forging,
    /// It has a million records.
    Boasting,
    /// It refuses what it is shown as not what it has seen, and shows that.
    Contradicting,
    /// By a clock that is a year ahead.
    Ahead,
}

struct Inner {
    cosigner: Cosigner,
    log: Option<LedgerKey>,
    last: Option<(u64, Hash, String)>,
    /// What it has of another log, by the hash of its origin.
    later: Option<(String, String)>,
    mood: Mood,
    conflicts: usize,
    asked: usize,
    at_once: usize,
    most_at_once: usize,
}

/// One witness, that listens.
#[derive(Clone)]
struct Witness {
    inner: Arc<Mutex<Inner>>,
    url: String,
}

fn key(algorithm: crypto::Algorithm) -> Arc<dyn crypto::Signer> {
    Arc::new(crypto::KeyPair::generate(algorithm).unwrap())
}

impl Witness {
    async fn start(name: &str, algorithm: crypto::Algorithm) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/w", listener.local_addr().unwrap());
        let inner = Inner {
            cosigner: Cosigner::new(name, key(algorithm)).unwrap(),
            log: None,
            last: None,
            later: None,
            mood: Mood::Good,
            conflicts: 0,
            asked: 0,
            at_once: 0,
            most_at_once: 0,
        };
        let witness = Self {
            inner: Arc::new(Mutex::new(inner)),
            url,
        };
        let router = axum::Router::new()
            .route("/w/add-checkpoint", post(add_checkpoint))
            .route("/w/{log}/checkpoint", read(latest))
            .with_state(witness.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        witness
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap())
    }

    fn line(&self, name: &str) -> String {
        let key = self.with(|inner| inner.cosigner.key().to_string());
        format!("witness {name} {key} {}\n", self.url)
    }
}

async fn add_checkpoint(State(witness): State<Witness>, body: String) -> Response {
    let mood = witness.with(|inner| {
        inner.asked += 1;
        inner.at_once += 1;
        inner.most_at_once = inner.most_at_once.max(inner.at_once);
        inner.mood
    });
    let _under_way = UnderWay(&witness);
    if mood == Mood::Silent {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    }
    let answer = witness.with(|inner| inner.judge(&body));
    let status = StatusCode::from_u16(answer.status()).unwrap();
    let kind = match answer {
        Answer::Conflict { .. } => SIZE_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    (status, [(header::CONTENT_TYPE, kind)], answer.body()).into_response()
}

/// Until the answer is made, or nobody waits for it any more.
struct UnderWay<'a>(&'a Witness);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.with(|inner| inner.at_once -= 1);
    }
}

async fn latest(
    State(witness): State<Witness>,
    axum::extract::Path(log): axum::extract::Path<String>,
) -> Response {
    let (mood, later) = witness.with(|inner| (inner.mood, inner.later.clone()));
    if mood == Mood::Silent {
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    }
    if let Some((_, note)) = later.filter(|(of, _)| *of == log) {
        return note.into_response();
    }
    let shows = |mood| matches!(mood, Mood::Good | Mood::Contradicting);
    let last = witness.with(|inner| inner.last.clone().filter(|_| shows(inner.mood)));
    match last {
        Some((_, _, note)) => note.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Inner {
    fn judge(&mut self, body: &str) -> Answer {
        let request: AddCheckpoint = body.parse().unwrap();
        if self.mood == Mood::Contradicting {
            return Answer::Refused { status: 422 };
        }
        if self.mood == Mood::Boasting {
            return Answer::Conflict { size: 1_000_000 };
        }
        let Some(log) = self.log.clone() else {
            return Answer::Refused { status: 404 };
        };
        // F4: a log shows its own line.
        assert_eq!(request.note.signatures.len(), 1);
        let keys = [LogKey::Note(log)];
        let last = self.last.as_ref().map(|(size, root, _)| (*size, *root));
        if let Err(refusal) = consider(&request, Some(&Known { keys: &keys, last })) {
            self.conflicts += usize::from(matches!(refusal.answer(), Answer::Conflict { .. }));
            return refusal.answer();
        }
        let now = facts::Timestamp::now().as_millis() / 1_000;
        if self.mood == Mood::Forging {
            let other = ForeignCheckpoint {
                root: [9; 32],
                ..request.checkpoint
            };
            let stranger =
                Cosigner::new("stranger.example", key(crypto::Algorithm::Ed25519)).unwrap();
            let lines = [&self.cosigner, &stranger].map(|one| one.cosign(&other, now).unwrap());
            return Answer::Cosigned(lines.to_vec());
        }
        let now = match self.mood {
            Mood::Ahead => now + 400 * 86_400,
            _ => now,
        };
        let line = self.cosigner.cosign(&request.checkpoint, now).unwrap();
        let mut note = request.note.clone();
        note.merge(vec![line.clone()]).unwrap();
        self.last = Some((
            request.checkpoint.size,
            request.checkpoint.root,
            note.to_string(),
        ));
        Answer::Cosigned(vec![line])
    }
}

/// Three witnesses, of which two are enough, and the server that asks them.
struct Scene {
    fixture: Fixture,
    witnesses: [Witness; 3],
    policy: Policy,
    more: String,
}

impl Scene {
    async fn set() -> Self {
        Self::with_moods([Mood::Good; 3]).await
    }

    /// Its witnesses are so from the beginning.
    async fn with_moods(moods: [Mood; 3]) -> Self {
        let scene = Self::unset().await;
        scene.moods(moods);
        let key = scene.fixture.ledger_key().await;
        for witness in &scene.witnesses {
            witness.with(|inner| inner.log = Some(key.clone()));
        }
        scene
    }

    /// Its witnesses do not know the ledger yet.
    async fn unset() -> Self {
        let witnesses = [
            Witness::start("witness.example/1", crypto::Algorithm::MlDsa44).await,
            Witness::start("witness.example/2", crypto::Algorithm::Ed25519).await,
            Witness::start("witness.example/3", crypto::Algorithm::Ed25519).await,
        ];
        let lines: Vec<String> = witnesses
            .iter()
            .zip(["a", "b", "c"])
            .map(|(it, name)| it.line(name))
            .collect();
        let policy = format!("{}group g 2 a b c\nquorum g\n", lines.concat());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witnesses.policy");
        std::fs::write(&path, &policy).unwrap();
        let more = format!(
            "[witnesses]\npolicy = \"{}\"\ncadence_ms = 50\nrefresh_s = 1\ntimeout_ms = 1000\n",
            path.display()
        );
        let server = server::start(config_with(dir.path(), &more)).await.unwrap();
        let fixture = Fixture {
            dir,
            server: Some(server),
        };
        fixture.apply(&crate::harness::estate()).await.unwrap();
        Self {
            fixture,
            witnesses,
            policy: policy.parse().unwrap(),
            more,
        }
    }

    fn moods(&self, moods: [Mood; 3]) {
        for (witness, mood) in self.witnesses.iter().zip(moods) {
            witness.with(|inner| inner.mood = mood);
        }
    }

    async fn go_on(&mut self) {
        let config = config_with(self.fixture.dir.path(), &self.more);
        self.fixture.server = Some(server::start(config).await.unwrap());
    }

    /// Size of the checkpoint that is served, if the quorum has cosigned it.
    async fn served(&self) -> Option<u64> {
        let (_, note) = get(self.fixture.running().http_listen, "/checkpoint").await;
        self.size(&note).await
    }

    async fn size(&self, note: &str) -> Option<u64> {
        // Before a new log is witnessed, the last of the one before it is served.
        let checkpoint = ledger::Checkpoint::open(note, &self.fixture.ledger_key().await).ok()?;
        let quorum = self.policy.judge(&Note::parse(note).unwrap()).unwrap();
        quorum.reached.then_some(checkpoint.size)
    }

    async fn head(&self) -> u64 {
        self.fixture.status().await["ledger"]["size"]
            .as_u64()
            .unwrap()
    }

    /// Until the newest head has been seen by enough.
    async fn witnessed(&self) -> u64 {
        let mut size = 0;
        until("the newest head is witnessed", async || {
            size = self.head().await;
            self.served().await == Some(size)
        })
        .await;
        size
    }

    /// The checkpoint that is served, once the quorum has cosigned one.
    async fn seen(&self) -> ledger::Checkpoint {
        self.witnessed().await;
        let (_, note) = get(self.fixture.running().http_listen, "/checkpoint").await;
        ledger::Checkpoint::open(&note, &self.fixture.ledger_key().await).unwrap()
    }

    async fn pack(&self, index: u64) -> Vec<u8> {
        let question = format!("{{\"kind\":\"record\",\"ledger\":\"\",\"index\":{index}}}");
        let mut stream = self
            .fixture
            .admin()
            .await
            .pack(PackRequest {
                question,
                ..PackRequest::default()
            })
            .await
            .unwrap()
            .into_inner();
        let mut pack = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            pack.extend_from_slice(&chunk.data);
        }
        pack
    }

    async fn verified(&self, pack: &[u8]) -> ledger::pack::Report {
        let trust = ledger::pack::Trust {
            trust_domain: DOMAIN.to_owned(),
            ledger_key: self.fixture.ledger_key().await,
            x509_authorities: Vec::new(),
            policy: Some(self.policy.clone()),
        };
        ledger::pack::verify(pack, &trust).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_enough_witnesses_have_seen_is_served_and_in_packs_and_in_nothing_else() {
    // Two of three are enough.
    let mut scene = Scene::with_moods([Mood::Good, Mood::Good, Mood::Silent]).await;
    let size = scene.witnessed().await;
    until(
        "status says what is witnessed and by whom not",
        async || {
            let status = scene.fixture.status().await;
            let shown = &status["witnesses"];
            shown["witnessed"]["behind"] == 0
                && shown["witnessed"]["size"].as_u64() >= Some(size)
                && shown["asked"][0]["failed"].is_null()
                && shown["asked"][2]["failed"].is_string()
        },
    )
    .await;
    let http = scene.fixture.running().http_listen;
    assert!(metric(http, "trilith_server_witnessed_size").await >= size);

    // One that grows is witnessed again, and a pack is made under what they have seen.
    scene.fixture.token("m1").await;
    let index = scene.head().await - 1;
    let report = scene.verified(&scene.pack(index).await).await;
    let quorum = report.quorum.clone().unwrap();
    assert!(
        quorum.reached && report.is_complete(),
        "{:?}",
        report.doubts
    );

    // F4: what gateways hear of each head is the ledger's own line; the cosigned note is a delta of its own.
    let mut gateway = Gateway::connect(&scene.fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    let (mut plain, mut cosigned) = (0, None);
    let mut known = 0;
    while cosigned.is_none() {
        match gateway.next().await.unwrap() {
            delta::Delta::Checkpoint(next) => {
                let note = Note::parse(&next.checkpoint).unwrap();
                assert_eq!(note.signatures.len(), 1);
                known = ledger::Checkpoint::parse(&note.text).unwrap().size;
                plain += 1;
            }
            delta::Delta::Record(record) => {
                let receipt = ledger::Receipt::decode(&record.receipt).unwrap();
                assert_eq!(
                    Note::parse(&receipt.checkpoint).unwrap().signatures.len(),
                    1
                );
            }
            delta::Delta::Witnessed(witnessed) => {
                assert_eq!(witnessed.known_size, known);
                cosigned = scene.size(&witnessed.checkpoint).await;
            }
            _ => {}
        }
    }
    assert!(plain > 0 && cosigned > Some(size));

    // One request at a time.
    for witness in &scene.witnesses[..2] {
        assert_eq!(witness.with(|inner| inner.most_at_once), 1);
    }

    // What was cosigned outlives a restart, also where no witness can be reached.
    let size = scene.witnessed().await;
    scene.moods([Mood::Silent; 3]);
    scene.fixture.stop().await;
    scene.go_on().await;
    assert!(scene.served().await >= Some(size));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_witnesses_and_what_they_have_not_seen_says_so() {
    let scene = Scene::set().await;
    let before = scene.witnessed().await;
    scene.moods([Mood::Good, Mood::Silent, Mood::Silent]);
    let begun = Instant::now();
    // Each would take a second.
    for number in 0..60 {
        scene.fixture.token(&format!("m{number}")).await;
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");
    // One is not enough.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let served = scene.served().await.unwrap();
    let head = scene.head().await;
    assert!(served < head && served >= before, "{served} of {head}");
    let behind = scene.fixture.status().await["witnesses"]["witnessed"]["behind"].clone();
    assert!(behind.as_u64().unwrap() >= 20, "{behind}");
    let report = scene.verified(&scene.pack(head - 1).await).await;
    assert!(!report.quorum.unwrap().reached);
    // They come back.
    scene.moods([Mood::Good; 3]);
    scene.witnessed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_says_another_size_is_given_the_proof_from_there() {
    let mut scene = Scene::set().await;
    let size = scene.witnessed().await;
    scene.fixture.stop().await;
    // What was kept of it is lost: the server knows nothing of what they have seen.
    std::fs::remove_file(scene.fixture.dir.path().join("data/witnessed")).unwrap();
    let before: usize = scene
        .witnesses
        .iter()
        .map(|it| it.with(|inner| inner.conflicts))
        .sum();
    scene.go_on().await;
    assert!(scene.witnessed().await > size);
    let after: usize = scene
        .witnesses
        .iter()
        .map(|it| it.with(|inner| inner.conflicts))
        .sum();
    assert!(after >= before + 2, "{before} {after}");
    // What is not what it was is asked for again, not believed.
    scene.fixture.stop().await;
    std::fs::write(scene.fixture.dir.path().join("data/witnessed"), "no note").unwrap();
    scene.moods([Mood::Silent; 3]);
    scene.go_on().await;
    assert_eq!(scene.served().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_others_and_forged_ones_never_count() {
    let scene = Scene::with_moods([Mood::Good, Mood::Forging, Mood::Forging]).await;
    let size = scene.head().await;
    until("they have all answered", async || {
        let asked = scene
            .witnesses
            .iter()
            .map(|it| it.with(|inner| inner.asked));
        asked.min() >= Some(3)
    })
    .await;
    assert_eq!(scene.served().await, None);
    scene.moods([Mood::Good, Mood::Good, Mood::Forging]);
    assert!(scene.witnessed().await >= size);
    let (_, note) = get(scene.fixture.running().http_listen, "/checkpoint").await;
    assert_eq!(Note::parse(&note).unwrap().signatures.len(), 3);
}

/// Also where the head beside the ledger's key went back with it: the witnesses remember.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_its_witnesses_have_seen_longer_signs_nothing_and_is_not_recovered_in_place()
{
    let mut scene = Scene::set().await;
    scene.witnessed().await;
    let dir = scene.fixture.dir.path().to_owned();
    scene.fixture.stop().await;
    std::fs::create_dir(dir.join("backup")).unwrap();
    for folder in ["data", "keys"] {
        copy(&dir.join(folder), &dir.join("backup").join(folder));
    }
    scene.go_on().await;
    scene.fixture.token("m1").await;
    let seen = scene.witnessed().await;
    scene.fixture.stop().await;
    for folder in ["data", "keys"] {
        restore(&dir, folder);
    }
    // A size that nobody shows stops nobody.
    scene.moods([Mood::Boasting; 3]);
    scene.go_on().await;
    until("they have been asked", async || {
        let status = scene.fixture.status().await;
        status["witnesses"]["asked"][0]["failed"].is_string()
    })
    .await;
    assert_eq!(scene.fixture.status().await["signing"], "allowed");
    // They show it.
    scene.moods([Mood::Good; 3]);
    until("the server is stopped", async || {
        scene.fixture.status().await["signing"]["code"] == "SERVER-BEHIND-PEER"
    })
    .await;
    let ours = scene.head().await;
    assert!(seen > 0);
    let token = TokenCreateRequest {
        node: "m9".to_owned(),
        pool: "demo".to_owned(),
        ttl_s: 60,
    };
    let refused = scene
        .fixture
        .admin()
        .await
        .token_create(token)
        .await
        .unwrap_err();
    assert_eq!(finding(&refused).code, "SERVER-BEHIND-PEER");

    // F2: the same origin and key would go on from where the witnesses have not been.
    let request = RecoverRequest {
        reason: "the disk was lost".to_owned(),
    };
    let refused = scene
        .fixture
        .admin()
        .await
        .recover(request)
        .await
        .unwrap_err();
    let refused = finding(&refused);
    assert_eq!(refused.code, "SERVER-WITNESSED-RECOVERY");
    assert!(
        refused
            .next
            .unwrap_or_default()
            .contains("trilith server new-log")
    );
    assert_eq!(scene.head().await, ours, "nothing was recorded");
}

/// The operator gave it up before there were witnesses: a witness that was shown it then stops nobody. Neither does one
/// that shows what it has not cosigned.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_recovery_gave_up_and_what_a_witness_has_not_cosigned_stop_no_server() {
    let mut scene = Scene::unset().await;
    let dir = scene.fixture.dir.path().to_owned();
    let plain = async || Some(server::start(config_with(&dir, "")).await.unwrap());
    scene.fixture.stop().await;
    std::fs::create_dir(dir.join("backup")).unwrap();
    copy(&dir.join("data"), &dir.join("backup").join("data"));
    scene.fixture.server = plain().await;
    for number in 0..3 {
        scene.fixture.token(&format!("m{number}")).await;
    }
    let (_, given_up) = get(scene.fixture.running().http_listen, "/checkpoint").await;
    scene.fixture.stop().await;
    restore(&dir, "data");
    scene.fixture.server = plain().await;
    // The head beside the key is longer.
    let request = RecoverRequest {
        reason: "the disk was lost".to_owned(),
    };
    let recovered = scene.fixture.admin().await.recover(request).await;
    recovered.unwrap();
    scene.fixture.stop().await;

    let keys = custody::FileCustody::open(&dir.join("keys/ledger")).unwrap();
    let signer = crypto::Custody::load_or_generate(&keys, "ledger", crypto::Algorithm::Ed25519);
    let origin = ledger::Checkpoint::parse(&Note::parse(&given_up).unwrap().text)
        .unwrap()
        .origin;
    let signer = ledger::LedgerSigner::new(origin.as_str(), signer.unwrap()).unwrap();
    let beyond = ledger::Checkpoint {
        origin,
        size: 1_000_000,
        root: [7; 32],
    };
    let beyond = signer.sign(&beyond).unwrap();
    let shows = |note: &str, cosigned: bool| {
        for witness in &scene.witnesses {
            witness.with(|inner| {
                let mut note = Note::parse(note).unwrap();
                if cosigned {
                    let checkpoint = ForeignCheckpoint::parse(&note.text).unwrap();
                    let now = facts::Timestamp::now().as_millis() / 1_000;
                    let line = inner.cosigner.cosign(&checkpoint, now).unwrap();
                    note.merge(vec![line]).unwrap();
                }
                inner.last = Some((0, [0; 32], note.to_string()));
                inner.asked = 0;
            });
        }
    };
    scene.moods([Mood::Contradicting; 3]);
    shows(&given_up, true);
    let config = config_with(&dir, &scene.more);
    scene.fixture.server = Some(server::start(config).await.unwrap());
    let asked = async || {
        until("they have been asked again and again", async || {
            let asked = scene.witnesses.iter();
            asked.map(|it| it.with(|inner| inner.asked)).min() >= Some(4)
        })
        .await;
        scene.fixture.status().await["signing"].clone()
    };
    assert_eq!(asked().await, "allowed");
    shows(&beyond, false);
    assert_eq!(asked().await, "allowed");
    // With its line it counts.
    shows(&beyond, true);
    until("the server is stopped", async || {
        scene.fixture.status().await["signing"]["code"] == "SERVER-BEHIND-PEER"
    })
    .await;
}

fn restore(dir: &Path, folder: &str) {
    std::fs::remove_dir_all(dir.join(folder)).unwrap();
    copy(&dir.join("backup").join(folder), &dir.join(folder));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_lets_nobody_in_while_the_witnesses_are_away() {
    let scene = Scene::set().await;
    let token = scene.fixture.token("m1").await;
    let machine = scene.fixture.join_with(&token).await.unwrap();
    let mut sync = machine.sync().await.unwrap();
    let (_, mut held) = sync
        .ask("gateway", &program(2000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let dir = scene.fixture.dir.path();
    let gateway = gateway::Config {
        trust_domain: DOMAIN.to_owned(),
        name: "pg".to_owned(),
        identity: "gateway/pg".to_owned(),
        server: scene.fixture.address().to_string(),
        pin: token.pin.clone(),
        workload_socket: workload_api(dir, &held.remove(0)),
        data_dir: dir.join("gateway"),
        http_listen: None,
        witnesses: Some(gateway::Witnesses {
            policy: dir.join("witnesses.policy"),
            max_unwitnessed_s: 5,
        }),
    };
    let core = gateway::Core::open(gateway).await.unwrap();
    let svid = payments(&machine, "w1").await;
    until("it is let in", async || {
        admitted(&core, &svid).await.is_ok()
    })
    .await;
    scene.moods([Mood::Good, Mood::Silent, Mood::Silent]);
    until("nobody is let in", async || {
        admitted(&core, &svid).await.err().as_deref() == Some("GATEWAY-UNWITNESSED")
    })
    .await;
    scene.moods([Mood::Good; 3]);
    until("it is let in again", async || {
        admitted(&core, &svid).await.is_ok()
    })
    .await;
    let (size, _) = core.following().witnessed().unwrap();
    assert!(size > svid.svid.index);
    core.close().await.unwrap();
}

/// F3: only who keeps them hears of them, from the head that it keeps.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_hears_of_what_witnesses_saw_from_where_it_says_that_it_is() {
    let scene = Scene::set().await;
    let before = scene.seen().await;
    let first = before.size;
    let key = scene.fixture.ledger_key().await;
    let machine = scene.fixture.join("m1").await;
    let later = scene.witnessed().await;
    assert!(later > first);
    let mut sync = machine.sync().await.unwrap();
    let keeps = v1::Keeps { size: first };
    sync.send(v1::node_message::Message::Keeps(keeps)).await;
    let told = loop {
        if let v1::node_update::Update::Witnessed(told) = sync.next().await.unwrap() {
            break told;
        }
    };
    assert_eq!(told.known_size, first);
    assert!(scene.size(&told.checkpoint).await >= Some(later));
    let next = ledger::Checkpoint::open(&told.checkpoint, &key).unwrap();
    let proof: Vec<Hash> = told
        .consistency
        .iter()
        .map(|hash| hash.as_slice().try_into().unwrap())
        .collect();
    ledger::merkle::verify_consistency(first, &before.root, next.size, &next.root, &proof).unwrap();

    // Another that has not asked hears of workloads and nothing else.
    let machine = scene.fixture.join("m2").await;
    let mut sync = machine.sync().await.unwrap();
    scene.witnessed().await;
    let heard = tokio::time::timeout(Duration::from_secs(3), async {
        loop {
            if let v1::node_update::Update::Witnessed(told) = sync.next().await.unwrap() {
                break told;
            }
        }
    });
    assert!(heard.await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_could_never_be_met_starts_no_server() {
    let key = Cosigner::new("witness.example/1", key(crypto::Algorithm::Ed25519)).unwrap();
    let key = key.key();
    let refused = async |policy: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witnesses.policy");
        std::fs::write(&path, policy).unwrap();
        let more = format!("[witnesses]\npolicy = \"{}\"\n", path.display());
        let started = server::start(config_with(dir.path(), &more)).await;
        started.err().map(|error| error.finding())
    };
    for (policy, why) in [
        ("quorum nobody\n".to_owned(), "no witness or group"),
        ("quorum none\n".to_owned(), "its quorum is `none`"),
        (format!("witness a {key}\nquorum a\n"), "have an address"),
        (
            format!("witness a {key} ftp://w.example\nquorum a\n"),
            "neither http nor https",
        ),
    ] {
        let finding = refused(&policy).await.unwrap();
        assert_eq!(finding.code, "SERVER-CONFIG");
        assert!(finding.message.contains(why), "{finding}");
    }
}
