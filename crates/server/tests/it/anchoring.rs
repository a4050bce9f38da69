//! Taking gateways' ledgers: after outages, beside cuts, and from gateways that name what they like.

mod alone;
mod succeeding;

use crate::follower::Gateway;
use crate::harness::{DOMAIN, Fixture, finding};
use crate::recovering::{Scene, until};
use crypto::Signer;
use ledger::body::{Body as _, Gap};
use ledger_store::{Ledger, Options};
use proto::v1::gateway_message::Message;
use proto::v1::{GatewayHead, RevokeRequest, SegmentData, delta};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// More than a mirror takes at once.
const OUTAGE: usize = 36 << 20;

/// Appends records until they have so many bytes.
pub(crate) fn fill(ledger: &Ledger, bytes: usize) {
    let detail = "x".repeat(15_000);
    let draft = || {
        let gap = Gap {
            cause: "crash".to_owned(),
            from: 0,
            to: 0,
            lost: None,
            detail: detail.clone(),
        };
        gap.record().draft().unwrap()
    };
    for _ in 0..bytes.div_ceil(100 * detail.len()) {
        let drafts = (0..100).map(|_| draft()).collect();
        ledger.append_many(drafts).wait().unwrap();
    }
}

pub(crate) fn open(dir: &Path, signer: Arc<dyn Signer>) -> Ledger {
    let origin = format!("{DOMAIN}/gateway/pg");
    Ledger::open(dir, signer, &origin, &Options::default()).unwrap()
}

async fn mirrored(fixture: &Fixture) -> u64 {
    let request = proto::v1::RecordsRequest {
        ledger: "pg".to_owned(),
        ..proto::v1::RecordsRequest::default()
    };
    let mut admin = fixture.admin().await;
    let Ok(stream) = admin.records(request).await else {
        return 0;
    };
    let mut stream = stream.into_inner();
    let mut count = 0;
    while let Ok(Some(_)) = stream.message().await {
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_far_ahead_of_its_mirror_is_anchored_again_and_so_is_one_whose_mirror_was_lost() {
    let mut scene = Scene::prepared(|data| {
        let keys = custody::FileCustody::open(&data.join("keys")).unwrap();
        let signer = crypto::Custody::load_or_generate(&keys, "ledger", crypto::Algorithm::Ed25519);
        fill(&open(&data.join("ledger"), signer.unwrap()), OUTAGE);
    })
    .await;
    let size = async |scene: &Scene| {
        let status = scene.fixture.status().await;
        status["gateways"][0]["size"].as_u64().unwrap_or_default()
    };
    let whole = scene.core().reader().size();
    until("the whole outage is anchored", async || {
        size(&scene).await == whole
    })
    .await;
    assert_eq!(mirrored(&scene.fixture).await, whole);
    // A mirror elsewhere, and a witness, are given its key as it stands there.
    let shown = scene.fixture.status().await["gateways"][0].clone();
    let key: ledger::LedgerKey = shown["key"].as_str().unwrap().parse().unwrap();
    assert_eq!(key.origin().as_str(), shown["origin"]);

    scene.fixture.stop().await;
    std::fs::remove_dir_all(scene.data().join("mirrors")).unwrap();
    scene.start().await;
    until("all of it is fetched again", async || {
        mirrored(&scene.fixture).await == whole
    })
    .await;
    assert_eq!(size(&scene).await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_does_not_wait_behind_a_gateways_records() {
    let fixture = Fixture::start().await;
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    let dir = fixture.dir.path().join("gateway");
    let own = open(&dir, Arc::clone(&gateway.signer) as _);
    fill(&own, 26 << 20);
    let head = own.reader().head();
    let size = head.checkpoint.size;
    gateway
        .send(Message::Head(GatewayHead {
            checkpoint: head.note.as_ref().to_owned(),
            consistency: Vec::new(),
            old_size: 0,
        }))
        .await;
    // Without the notes between, all of it is kept at once: the longest that one segment can take.
    let mut revoking = None;
    let mut cut = None;
    loop {
        match gateway.next().await.unwrap() {
            delta::Delta::Fetch(fetch) => {
                let end = fetch.from_index + u64::from(fetch.limit).min(130);
                let records = own.reader().read(fetch.from_index..end).unwrap();
                let last = fetch.from_index + records.len() as u64 == size;
                gateway
                    .send(Message::Segment(SegmentData {
                        request: fetch.request,
                        first_index: fetch.from_index,
                        records,
                        checkpoint: String::new(),
                    }))
                    .await;
                if last {
                    let mut admin = fixture.admin().await;
                    revoking = Some(tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        let request = RevokeRequest {
                            kind: "identity".to_owned(),
                            value: "payments/api".to_owned(),
                            reason: "stolen".to_owned(),
                        };
                        admin.revoke(request).await.unwrap();
                    }));
                }
            }
            delta::Delta::Cut(_) => cut = Some(std::time::Instant::now()),
            delta::Delta::Anchored(anchored) => {
                assert_eq!(anchored.size, size);
                let cut = cut.expect("the cut is not behind the anchor");
                println!("the cut came {:?} before the anchor", cut.elapsed());
                break;
            }
            _ => {}
        }
    }
    revoking.unwrap().await.unwrap();
}

/// The signed head of a ledger of one record.
fn head_of(name: &str, signer: Arc<dyn Signer>) -> GatewayHead {
    let origin = format!("{DOMAIN}/gateway/{name}");
    let signer = ledger::LedgerSigner::new(&origin, signer).unwrap();
    let checkpoint = ledger::Checkpoint {
        origin: signer.key().origin().clone(),
        size: 1,
        root: [1; 32],
    };
    GatewayHead {
        checkpoint: signer.sign(&checkpoint).unwrap(),
        consistency: Vec::new(),
        old_size: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_names_ever_new_ledgers_opens_no_more_than_one() {
    let fixture = Fixture::start().await;
    let first = Gateway::connect(&fixture, 2000).await.unwrap();
    let mirrors = fixture.dir.path().join("data/mirrors");
    let open = || std::fs::read_dir(&mirrors).map_or(0, Iterator::count);
    let say = async |origin: &str| {
        let mut stream = first.again().await;
        let mut hello = stream.greeting(0, Vec::new());
        hello.origin = format!("{DOMAIN}/gateway/{origin}");
        stream.send(Message::Hello(hello)).await;
        let taken = stream.next().await;
        taken.map(|_| stream)
    };
    for number in 0..10 {
        let name = format!("n{number}");
        let mut stream = None;
        // Until the server has seen that the stream before ended, its name is the one that counts.
        until("the name is taken", async || {
            stream = say(&name).await.ok();
            stream.is_some()
        })
        .await;
        // It has a ledger of that name, so that a mirror of it is opened.
        let mut stream = stream.unwrap();
        let head = head_of(&name, Arc::clone(&stream.signer) as _);
        stream.send(Message::Head(head)).await;
        while !matches!(stream.next().await.unwrap(), delta::Delta::Fetch(_)) {}
        let digest = crypto::sha256(format!("{DOMAIN}/gateway/{name}").as_bytes());
        let mirror = mirrors.join(crypto::hex::encode(&digest));
        assert!(mirror.exists());
        let beside = say("other").await.err().unwrap();
        assert_eq!(finding(&beside).code, "FOLLOW-ORIGIN");
        drop(stream);
    }
    // The last one, and one or two that were still being let go of when it came.
    assert!(open() <= 3, "{} mirrors", open());
}

/// Sends the ledger's head, and its records as they are asked for; what the server says of it in the end.
pub(crate) async fn anchored(
    gateway: &mut Gateway,
    ledger: &Ledger,
    old_size: u64,
) -> Result<u64, String> {
    let head = ledger.reader().head();
    let head = GatewayHead {
        checkpoint: head.note.as_ref().to_owned(),
        consistency: Vec::new(),
        old_size,
    };
    gateway.send(Message::Head(head)).await;
    loop {
        match gateway.next().await {
            Ok(delta::Delta::Fetch(fetch)) => {
                let end = ledger.reader().size().min(fetch.from_index + 130);
                let records = ledger.reader().read(fetch.from_index..end).unwrap();
                let segment = SegmentData {
                    request: fetch.request,
                    first_index: fetch.from_index,
                    records,
                    checkpoint: String::new(),
                };
                gateway.send(Message::Segment(segment)).await;
            }
            Ok(delta::Delta::Anchored(anchored)) => return Ok(anchored.size),
            Ok(_) => {}
            Err(status) => {
                let finding = finding(&status);
                let observed = finding.observed.unwrap_or_default();
                return Err(format!("{}: {observed}", finding.code));
            }
        }
    }
}

/// A gateway whose ledger is anchored.
async fn with_anchor() -> (Fixture, Gateway, Ledger) {
    let fixture = Fixture::start().await;
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    let signer = Arc::clone(&gateway.signer) as _;
    let own = open(&fixture.dir.path().join("own"), signer);
    fill(&own, 1);
    let size = own.reader().size();
    assert_eq!(anchored(&mut gateway, &own, 0).await, Ok(size));
    (fixture, gateway, own)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_as_many_records_and_another_root_is_refused() {
    let (fixture, mut gateway, own) = with_anchor().await;
    let size = own.reader().size();
    let signer = ledger::LedgerSigner::new(
        &format!("{DOMAIN}/gateway/pg"),
        Arc::clone(&gateway.signer) as _,
    );
    let signer = signer.unwrap();
    let checkpoint = ledger::Checkpoint {
        origin: signer.key().origin().clone(),
        size,
        root: [7; 32],
    };
    // From 0 on no proof is looked at, and of so many records none is fetched.
    let head = GatewayHead {
        checkpoint: signer.sign(&checkpoint).unwrap(),
        consistency: Vec::new(),
        old_size: 0,
    };
    gateway.send(Message::Head(head)).await;
    let refusal = gateway.refusal().await;
    assert_eq!(refusal.code, "ANCHOR-REFUSED");
    let observed = refusal.observed.unwrap_or_default();
    assert!(
        observed.contains("which those kept here do not have"),
        "{observed}"
    );
    assert!(refusal.next.unwrap_or_default().contains("revoked"));
    told(&fixture, "fork", true).await;
    // It is out, and not told of twice.
    let refused = gateway.try_again().await.err().unwrap();
    assert_eq!(finding(&refused).code, "CALLER-REVOKED");
}

/// A head that is late, of a stream that goes on beside a newer one, is no regress.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_head_of_the_same_history_is_refused_and_nobody_is_cut_off() {
    let (fixture, mut gateway, own) = with_anchor().await;
    let late = own.reader().head().note.as_ref().to_owned();
    fill(&own, 1);
    let mut newer = gateway.again().await;
    newer.hello(0, Vec::new()).await;
    // Once it is anchored by the other stream.
    let size = own.reader().size();
    assert_eq!(anchored(&mut newer, &own, 0).await, Ok(size));
    let head = GatewayHead {
        checkpoint: late,
        consistency: Vec::new(),
        old_size: 0,
    };
    gateway.send(Message::Head(head)).await;
    assert_eq!(gateway.refusal().await.code, "ANCHOR-REFUSED");
    assert_eq!(fixture.records(&["misbehaviour", "revocation"]).await, []);
}

/// Notes are public: whoever has the identity too, and old notes, shows nothing of who signed them.
#[tokio::test(flavor = "multi_thread")]
async fn old_notes_of_a_gateway_in_the_hands_of_another_machine_cut_nobody_off() {
    let (fixture, mut gateway, own) = with_anchor().await;
    let first = own.reader().head().note.as_ref().to_owned();
    fill(&own, 1);
    let size = own.reader().size();
    assert_eq!(anchored(&mut gateway, &own, 0).await, Ok(size));
    let mut other = Gateway::connect_from(&fixture, "other", 2000)
        .await
        .unwrap();
    // It names the other's key, and cannot sign with it.
    other.signer = Arc::clone(&gateway.signer);
    fill(&own, 1);
    let newer = own.reader().head().note.as_ref().to_owned();
    for (checkpoint, old_size) in [(first, 0), (newer, size)] {
        let mut stream = other.again().await;
        stream.hello(0, Vec::new()).await;
        let head = GatewayHead {
            checkpoint,
            // Of the newer one a proof that proves nothing.
            consistency: vec![vec![9; 32]],
            old_size,
        };
        stream.send(Message::Head(head)).await;
        assert_eq!(stream.refusal().await.code, "ANCHOR-REFUSED");
    }
    assert_eq!(fixture.records(&["misbehaviour", "revocation"]).await, []);
    // The gateway goes on, on the stream that it had.
    let size = own.reader().size();
    assert_eq!(anchored(&mut gateway, &own, 0).await, Ok(size));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_one_machine_leaves_the_others_of_its_identity_in() {
    let (fixture, mut gateway, own) = with_anchor().await;
    let other = Gateway::connect_from(&fixture, "other", 2000)
        .await
        .unwrap();
    let origin = format!("{DOMAIN}/gateway/pg");
    let signer = ledger::LedgerSigner::new(&origin, Arc::clone(&gateway.signer) as _).unwrap();
    let checkpoint = ledger::Checkpoint {
        origin: signer.key().origin().clone(),
        size: own.reader().size(),
        root: [7; 32],
    };
    let head = GatewayHead {
        checkpoint: signer.sign(&checkpoint).unwrap(),
        consistency: Vec::new(),
        old_size: 0,
    };
    gateway.send(Message::Head(head)).await;
    assert_eq!(gateway.refusal().await.code, "ANCHOR-REFUSED");
    let records = fixture.records(&["misbehaviour", "revocation"]).await;
    let [(at, told), (next, revoked)] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!((&told["body"]["kind"], *next), (&"fork".into(), at + 1));
    let target = &revoked["body"]["target"];
    assert_eq!(
        (&target["kind"], &target["value"]),
        (&"machine".into(), &"g2000".into())
    );
    let refused = gateway.try_again().await.err().unwrap();
    assert_eq!(finding(&refused).code, "CALLER-REVOKED");
    let mut stream = other.again().await;
    let mut hello = stream.greeting(0, Vec::new());
    hello.origin = format!("{DOMAIN}/gateway/other");
    stream.send(Message::Hello(hello)).await;
    assert!(matches!(
        stream.next().await,
        Ok(delta::Delta::Checkpoint(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_set_back_is_cut_off() {
    let (fixture, gateway, own) = with_anchor().await;
    let before = own.reader().head().note.as_ref().to_owned();
    fill(&own, 1);
    let mut stream = gateway.again().await;
    stream.hello(0, Vec::new()).await;
    let size = own.reader().size();
    assert_eq!(anchored(&mut stream, &own, 0).await, Ok(size));
    drop(stream);
    let mut stream = gateway.again().await;
    stream.hello(0, Vec::new()).await;
    let head = GatewayHead {
        checkpoint: before,
        consistency: Vec::new(),
        old_size: 0,
    };
    stream.send(Message::Head(head)).await;
    assert_eq!(stream.refusal().await.code, "ANCHOR-REFUSED");
    told(&fixture, "rollback", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_cut_off_after_its_mirror_was_lost() {
    let (fixture, refused) = after_the_mirror_was_lost(4_000_000).await;
    assert!(refused.starts_with("ANCHOR-REFUSED"), "{refused}");
    assert!(
        refused.contains("which those kept here do not have"),
        "{refused}"
    );
    told(&fixture, "unproven", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_ledger_is_cut_off_after_its_mirror_was_lost() {
    let (fixture, refused) = after_the_mirror_was_lost(1).await;
    assert!(refused.starts_with("ANCHOR-REFUSED"), "{refused}");
    assert!(refused.contains("are anchored"), "{refused}");
    told(&fixture, "rollback", false).await;
}

/// What a gateway hears that presents another ledger of so many bytes than the one that was anchored.
async fn after_the_mirror_was_lost(bytes: usize) -> (Fixture, String) {
    let (mut fixture, gateway, own) = with_anchor().await;
    fill(&own, 1);
    let size = own.reader().size();
    let other = open(
        &fixture.dir.path().join("other"),
        Arc::clone(&gateway.signer) as _,
    );
    fill(&other, bytes);
    assert_ne!(other.reader().size(), size);
    let mut stream = gateway.again().await;
    stream.hello(0, Vec::new()).await;
    assert_eq!(anchored(&mut stream, &own, 0).await, Ok(size));
    fixture.stop().await;
    std::fs::remove_dir_all(fixture.dir.path().join("data/mirrors")).unwrap();
    fixture.go_on().await;
    let mut stream = gateway.reconnect(&fixture).await;
    stream.hello(0, Vec::new()).await;
    let refused = anchored(&mut stream, &other, 0).await.unwrap_err();
    let known = fixture.status().await["gateways"][0]["size"].as_u64();
    assert_eq!(known, Some(size));
    (fixture, refused)
}

/// One record tells of it, right before the revocation; the notes are kept, and show what it says.
async fn told(fixture: &Fixture, kind: &str, proved: bool) {
    let records = fixture.records(&["misbehaviour", "revocation"]).await;
    let [(at, told), (next, revoked)] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(
        (told["type"].as_str(), *next),
        (Some("misbehaviour"), at + 1)
    );
    let gateway = format!("spiffe://{DOMAIN}/gateway/pg");
    assert_eq!(revoked["body"]["target"]["value"], gateway);
    let body = &told["body"];
    assert_eq!(
        (&body["by"], &body["kind"]),
        (&gateway.as_str().into(), &kind.into())
    );
    assert_eq!(body["proved"], proved);
    let origin = format!("{DOMAIN}/gateway/pg");
    let shown = &fixture.status().await["misbehaviour"][0];
    assert_eq!(
        (&shown["origin"], &shown["kind"]),
        (&origin.as_str().into(), &kind.into())
    );
    assert_eq!(shown["record"], *at);

    // Whoever has a pack of the record needs nobody's word for it.
    let question = format!("{{\"kind\":\"record\",\"ledger\":\"\",\"index\":{at}}}");
    let report = verified(fixture, question).await;
    assert_eq!(
        (report.blobs.len(), report.is_complete()),
        (2, true),
        "{:?}",
        report.doubts
    );
}

/// The pack that answers the question, verified by the key that the server has.
async fn verified(fixture: &Fixture, question: String) -> ledger::pack::Report {
    let mut stream = fixture
        .admin()
        .await
        .pack(proto::v1::PackRequest {
            question,
            certificates: false,
        })
        .await
        .unwrap()
        .into_inner();
    let mut pack = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        pack.extend_from_slice(&chunk.data);
    }
    let trust = ledger::pack::Trust {
        trust_domain: DOMAIN.to_owned(),
        ledger_key: fixture.ledger_key().await,
        x509_authorities: Vec::new(),
        policy: None,
    };
    ledger::pack::verify(&pack, &trust).unwrap()
}

/// As [`anchored`], with the gateway's checkpoint after every segment. The first index of each that was asked for, and
/// what was said in the end.
async fn fetched(gateway: &mut Gateway, ledger: &Ledger) -> (Vec<u64>, String) {
    let origin = format!("{DOMAIN}/gateway/pg");
    let signer = ledger::LedgerSigner::new(&origin, Arc::clone(&gateway.signer) as _).unwrap();
    let head = ledger.reader().head();
    let head = GatewayHead {
        checkpoint: head.note.as_ref().to_owned(),
        consistency: Vec::new(),
        old_size: 0,
    };
    gateway.send(Message::Head(head)).await;
    let mut from = Vec::new();
    loop {
        match gateway.next().await {
            Ok(delta::Delta::Fetch(fetch)) => {
                from.push(fetch.from_index);
                let end = ledger.reader().size().min(fetch.from_index + 40);
                let checkpoint = ledger::Checkpoint {
                    origin: signer.key().origin().clone(),
                    size: end,
                    root: ledger.reader().root(end).unwrap(),
                };
                let segment = SegmentData {
                    request: fetch.request,
                    first_index: fetch.from_index,
                    records: ledger.reader().read(fetch.from_index..end).unwrap(),
                    checkpoint: signer.sign(&checkpoint).unwrap(),
                };
                gateway.send(Message::Segment(segment)).await;
            }
            Ok(delta::Delta::Anchored(_)) => return (from, "anchored".to_owned()),
            Ok(_) => {}
            Err(status) => return (from, finding(&status).code.into_owned()),
        }
    }
}

/// What is said to whoever reads the mirrored ledger.
async fn read(fixture: &Fixture) -> Result<u64, String> {
    let request = proto::v1::RecordsRequest {
        ledger: "pg".to_owned(),
        ..proto::v1::RecordsRequest::default()
    };
    let code = |status: tonic::Status| finding(&status).code.into_owned();
    let stream = fixture.admin().await.records(request).await;
    let mut stream = stream.map_err(code)?.into_inner();
    let mut count = 0;
    while stream.message().await.map_err(code)?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// A gateway that was taken waits for its mirror to be lost, and brings another past to it, with more records.
#[tokio::test(flavor = "multi_thread")]
async fn another_past_for_a_lost_mirror_is_found_at_the_anchor_and_read_by_nobody() {
    let (mut fixture, gateway, own) = with_anchor().await;
    let size = own.reader().size();
    assert_eq!(read(&fixture).await, Ok(size));
    let other = open(
        &fixture.dir.path().join("other"),
        Arc::clone(&gateway.signer) as _,
    );
    fill(&other, 9_000_000);
    assert!(other.reader().size() > size + 400);

    fixture.stop().await;
    std::fs::remove_dir_all(fixture.dir.path().join("data/mirrors")).unwrap();
    fixture.go_on().await;
    assert_eq!(read(&fixture).await, Err("LEDGER-MIRROR".to_owned()));
    let mut stream = gateway.reconnect(&fixture).await;
    stream.hello(0, Vec::new()).await;
    let (from, said) = fetched(&mut stream, &other).await;
    assert_eq!(said, "ANCHOR-REFUSED");
    let last = from.last().copied().unwrap();
    assert!(last < size, "{last} was still fetched, {size} are anchored");
    assert_eq!(read(&fixture).await, Err("LEDGER-MIRROR-OTHER".to_owned()));
    let known = fixture.status().await["gateways"][0]["size"].as_u64();
    assert_eq!(known, Some(size));
}
