//! What a gateway hears.

use crate::follower::Gateway;
use crate::harness::{DOMAIN, Fixture, PROGRAM, finding, program};
use ledger::{Checkpoint, LedgerKey, Receipt};
use proto::v1::gateway_message::Message;
use proto::v1::{RevokeRequest, delta};
use std::sync::Arc;

/// The checkpoint that anybody may see.
async fn published(fixture: &Fixture) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = fixture.running().http_listen;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /checkpoint HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, note) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    note.to_owned()
}

/// Follows checkpoints strictly, as a gateway does.
struct Chain {
    key: LedgerKey,
    head: Option<Checkpoint>,
}

impl Chain {
    fn take(&mut self, delta: &proto::v1::CheckpointDelta) {
        let next = Checkpoint::open(&delta.checkpoint, &self.key).unwrap();
        if let Some(head) = &self.head {
            assert_eq!(delta.old_size, head.size);
            let proof: Vec<[u8; 32]> = delta
                .consistency
                .iter()
                .map(|hash| hash.as_slice().try_into().unwrap())
                .collect();
            ledger::merkle::verify_consistency(
                head.size, &head.root, next.size, &next.root, &proof,
            )
            .unwrap();
        }
        self.head = Some(next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_hears_state_checkpoints_and_the_cut_before_the_record() {
    let fixture = Fixture::start().await;
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    let mut chain = Chain {
        key: fixture.ledger_key().await,
        head: None,
    };
    let mut initial = Vec::new();
    while initial.len() < 2 {
        match gateway.next().await.unwrap() {
            delta::Delta::Checkpoint(checkpoint) => chain.take(&checkpoint),
            delta::Delta::Record(record) => {
                let receipt = Receipt::decode(&record.receipt).unwrap();
                let verified = receipt.verify(&chain.key).unwrap();
                initial.push(verified.record.kind().as_str().to_owned());
                if verified.record.kind() == ledger::RecordType::EstateVersion {
                    assert_eq!(record.blob, crate::harness::estate().to_blob());
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(initial, ["bundle", "estate-version"]);

    let request = RevokeRequest {
        kind: "identity".to_owned(),
        value: "payments/api".to_owned(),
        reason: "stolen".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    let mut cut = false;
    loop {
        match gateway.next().await.unwrap() {
            delta::Delta::Checkpoint(checkpoint) => chain.take(&checkpoint),
            delta::Delta::Cut(delta) => {
                assert_eq!(delta.value, "spiffe://example.org/payments/api");
                cut = true;
            }
            delta::Delta::Record(record) => {
                assert!(cut, "the cut comes first");
                let receipt = Receipt::decode(&record.receipt).unwrap();
                let verified = receipt.verify(&chain.key).unwrap();
                assert_eq!(verified.record.kind(), ledger::RecordType::Revocation);
                assert!(verified.checkpoint.size <= chain.head.unwrap().size);
                break;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_gateways_follow() {
    let fixture = Fixture::start().await;
    let refused = Gateway::connect(&fixture, 1000).await.err().unwrap();
    assert_eq!(finding(&refused).code, "FOLLOW-KIND");
}

/// Its ledger was taken for the server's, wherever people say `server`.
#[tokio::test(flavor = "multi_thread")]
async fn no_gateway_begins_a_ledger_by_the_name_of_the_servers() {
    let fixture = Fixture::start().await;
    let gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    let refused = async |origin: &str| {
        let mut gateway = gateway.reconnect(&fixture).await;
        let mut hello = gateway.greeting(0, Vec::new());
        hello.origin = origin.to_owned();
        gateway.send(Message::Hello(hello)).await;
        gateway.refusal().await.code
    };
    for origin in ["gateway/server", "site/server"] {
        let origin = format!("{DOMAIN}/{origin}");
        assert_eq!(refused(&origin).await, "FOLLOW-ORIGIN-SERVER");
    }
    let own = format!("{DOMAIN}/server");
    assert_eq!(refused(&own).await, "FOLLOW-ORIGIN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_claims_more_than_it_can_show_stops_nobody() {
    let fixture = Fixture::start().await;
    let token = fixture.token("m9").await;
    let stranger = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
    let origin = format!("{DOMAIN}/server");
    let signer = ledger::LedgerSigner::new(&origin, Arc::new(stranger)).unwrap();
    let claimed = Checkpoint {
        origin: signer.key().origin().clone(),
        size: 1_000_000,
        root: [7; 32],
    };
    let forged = signer.sign(&claimed).unwrap();
    let real = published(&fixture).await;
    let claims = [
        (String::new(), "FOLLOW-UNSHOWN"),
        (forged, "FOLLOW-HELLO-CHECKPOINT"),
        (real, "FOLLOW-HELLO-CHECKPOINT"),
        ("x".repeat(1 << 20), "FOLLOW-HELLO-CHECKPOINT"),
    ];
    for (number, (checkpoint, code)) in claims.into_iter().enumerate() {
        let node = format!("g{number}");
        let mut gateway = Gateway::connect_from(&fixture, &node, 2000).await.unwrap();
        let mut hello = gateway.greeting(1_000_000, vec![7; 32]);
        hello.followed_checkpoint = checkpoint;
        gateway.send(Message::Hello(hello)).await;
        assert_eq!(gateway.refusal().await.code, code);
    }
    assert_eq!(fixture.status().await["signing"], "allowed");
    fixture.join_with(&token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_machines_stream_does_not_survive_through_another_machines_svid() {
    let fixture = Fixture::start().await;
    let mut taken = Gateway::connect_from(&fixture, "ga", 2000).await.unwrap();
    taken.hello(0, Vec::new()).await;
    taken.next().await.unwrap();
    let mut other = Gateway::connect_from(&fixture, "gb", 2000).await.unwrap();
    other.hello(0, Vec::new()).await;
    other.next().await.unwrap();
    let request = RevokeRequest {
        kind: "machine".to_owned(),
        value: "ga".to_owned(),
        reason: "taken".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    assert_eq!(taken.refusal().await.code, "CALLER-REVOKED");
    loop {
        // The other one goes on.
        if let delta::Delta::Record(record) = other.next().await.unwrap()
            && !record.initial
        {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_ledger_is_fetched_kept_and_anchored() {
    let fixture = Fixture::start().await;
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    let dir = fixture.dir.path().join("gateway");
    let origin = format!("{DOMAIN}/gateway/pg");
    let signer = Arc::clone(&gateway.signer);
    let options = ledger_store::Options::default();
    let own = ledger_store::Ledger::open(&dir, signer, &origin, &options).unwrap();
    for number in 0..5 {
        let gap = ledger::body::Gap {
            cause: "crash".to_owned(),
            from: number,
            to: number,
            lost: None,
            detail: String::new(),
        };
        let draft = ledger::body::Body::record(&gap).draft().unwrap();
        own.append(draft).wait().unwrap();
    }
    let head = own.reader().head();
    gateway
        .send(Message::Head(proto::v1::GatewayHead {
            checkpoint: head.note.as_ref().to_owned(),
            consistency: Vec::new(),
            old_size: 0,
        }))
        .await;
    let anchored = loop {
        match gateway.next().await.unwrap() {
            delta::Delta::Fetch(fetch) => {
                let range = fetch.from_index..fetch.from_index + u64::from(fetch.limit);
                let records = own.reader().read(range).unwrap();
                gateway
                    .send(Message::Segment(proto::v1::SegmentData {
                        request: fetch.request,
                        first_index: fetch.from_index,
                        records,
                        checkpoint: String::new(),
                    }))
                    .await;
            }
            delta::Delta::Anchored(anchored) => break anchored,
            _ => {}
        }
    };
    assert_eq!(anchored.size, 5);
    let anchors = fixture.records(&["anchor"]).await;
    assert_eq!(anchors[0].0, anchored.index);
    let request = proto::v1::RecordsRequest {
        ledger: "pg".to_owned(),
        ..proto::v1::RecordsRequest::default()
    };
    let mut stream = fixture
        .admin()
        .await
        .records(request)
        .await
        .unwrap()
        .into_inner();
    let mut count = 0;
    while stream.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_cuts_what_workloads_hold_and_the_freed_machine_is_issued_anew() {
    let fixture = Fixture::start().await;
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    let original = fixture.join("m1").await;
    let copy = original.clone();
    let mut sync = original.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let serial = issued.svids[0].serial.clone();
    let renewed = original.renew([1; 16]).await.unwrap();
    let caught = copy.renew([2; 16]).await.err().unwrap();
    assert_eq!(finding(&caught).code, "AGENT-LOCKED");

    let mut cut = false;
    loop {
        match gateway.next().await.unwrap() {
            delta::Delta::Cut(told) => {
                assert_eq!((told.kind.as_str(), &told.value), ("serial", &serial));
                cut = true;
            }
            delta::Delta::Record(record) => {
                let record = Receipt::decode(&record.receipt).unwrap().record;
                let record = ledger::Record::parse(&record).unwrap();
                if record.kind() == ledger::RecordType::Revocation {
                    let body: ledger::body::Revocation = record.expect_body().unwrap();
                    assert_eq!(body.target.value, serial);
                    break;
                }
            }
            _ => {}
        }
    }
    assert!(cut, "the cut comes before its record");
    // The workload's agent is told too, on the stream that ends then.
    let told = loop {
        match sync.next().await {
            Ok(proto::v1::node_update::Update::Withdrawn(withdrawn)) => break withdrawn,
            Ok(_) => {}
            Err(status) => panic!("{status:?}"),
        }
    };
    assert_eq!(told.serial, serial);

    fixture.readmit("m1").await;
    let freed = renewed.renew([3; 16]).await.unwrap();
    let mut sync = freed.sync().await.unwrap();
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    assert_ne!(issued.svids[0].serial, serial);
    let revoked = fixture.records(&["revocation"]).await;
    assert_eq!(revoked.len(), 1, "not the node's own SVID");
}

/// What a hello shows is verified, link by link: one stream had that done as often as its sender liked.
#[tokio::test(flavor = "multi_thread")]
async fn a_hello_is_said_once_a_stream_by_gateways_and_by_agents() {
    let fixture = Fixture::start().await;
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    gateway.next().await.unwrap();
    gateway.hello(0, Vec::new()).await;
    assert_eq!(gateway.refusal().await.code, "FOLLOW-HELLO-AGAIN");
    let mut next = gateway.again().await;
    next.hello(0, Vec::new()).await;
    next.next().await.unwrap();

    let machine = fixture.join("m1").await;
    let hello = || proto::v1::node_message::Message::Hello(proto::v1::NodeHello::default());
    let mut sync = machine.sync().await.unwrap();
    sync.send(hello()).await;
    sync.send(hello()).await;
    let ended = loop {
        if let Err(status) = sync.next().await {
            break finding(&status);
        }
    };
    assert_eq!(ended.code, "SYNC-HELLO-AGAIN");
    let mut sync = machine.sync().await.unwrap();
    sync.send(hello()).await;
    let asked = sync.ask("w1", &program(1000, PROGRAM), Vec::new()).await;
    assert_eq!(asked.unwrap().1.len(), 1);
}
