//! One who wants everything: strangers, and a node that was taken over, leave the others what is theirs.

use crate::harness::{Fixture, Link, PATIENCE, PROGRAM, finding, program};
use crate::recovering::until;
use crypto::{Algorithm, KeyPair, Signer as _};
use proto::v1;
use proto::v1::join_client::JoinClient;
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use std::time::{Duration, Instant};
use svid_tls::OwnSvid;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

fn request(number: u64, workload: &str) -> v1::WorkloadRequest {
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    v1::WorkloadRequest {
        request: number,
        workload: workload.to_owned(),
        facts: serde_json::to_vec(&program(1000, PROGRAM)).unwrap(),
        public_keys: vec![key.public_key().spki_der().to_vec()],
        held: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_take_every_place_keep_no_member_out() {
    const FEW: &str = "strangers = 4\nstranger_s = 10\nhandshakes = 8\nhandshake_ms = 30000\n";
    // Whoever is out by then had to give way; its own time was not over.
    const EARLY: Duration = Duration::from_secs(10);
    let fixture = Fixture::start_with(FEW).await;
    let member = fixture.join("m1").await;
    let pin = fixture.token("m2").await.pin;
    let anchors = fixture.anchors(&pin).await;
    // Handshakes that never go on, and strangers in every place.
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(TcpStream::connect(fixture.address()).await.unwrap());
    }
    let stranger = || Link::member(OwnSvid::empty(), std::sync::Arc::clone(&anchors));
    let begun = Instant::now();
    // Strangers who are there and ask for nothing, in every place and beyond.
    let mut held = Vec::new();
    for _ in 0..12 {
        if let Some(link) = Link::try_over(fixture.address(), stranger()).await {
            held.push(link);
        }
    }
    for _ in 0..20 {
        stalled.push(TcpStream::connect(fixture.address()).await.unwrap());
    }
    let renewed = member.renew([1; 16]).await.unwrap();
    renewed.sync().await.unwrap();
    // The first stalled handshake had to give way, long before its time.
    let mut byte = [0];
    let ended = tokio::time::timeout(PATIENCE, stalled[0].read(&mut byte));
    assert!(!matches!(ended.await.unwrap(), Ok(1..)));
    assert!(begun.elapsed() < EARLY);
    // A stranger who comes gets in as well: the first of those who were there had to go.
    let newcomer = Link::try_over(fixture.address(), stranger()).await.unwrap();
    let mut join = JoinClient::new(newcomer.channel.clone());
    join.anchors(v1::AnchorsRequest {}).await.unwrap();
    let mut first = JoinClient::new(held[0].channel.clone());
    assert!(first.anchors(v1::AnchorsRequest {}).await.is_err());
    assert!(begun.elapsed() < EARLY);
    // And has its time.
    while join.anchors(v1::AnchorsRequest {}).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "no stranger was ever closed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A node that was taken over opens connections without end, each with its SVID.
#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_one_member_keep_no_other_out() {
    let fixture = Fixture::start_with("connections = 6\n").await;
    let (greedy, other) = (fixture.join("m1").await, fixture.join("m2").await);
    let mut sync = other.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    sync.ask("w0", &facts, Vec::new()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..12 {
        held.extend(greedy.try_link().await);
    }
    // Who was there still is, and the other may come again.
    sync.ask("w1", &facts, Vec::new()).await.unwrap();
    other.renew([1; 16]).await.unwrap();
    let newcomer = fixture.join("m3").await;
    newcomer.sync().await.unwrap();
    sync.ask("w2", &facts, Vec::new()).await.unwrap();
}

/// A renewal by TPM begins with a challenge, which strangers may ask for as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_joins_by_strangers_stops_no_members_renewal() {
    let fixture = Fixture::start_with("joins = 5\n").await;
    let member = fixture.join("m1").await;
    let pin = fixture.token("m2").await.pin;
    let anchors = fixture.anchors(&pin).await;
    let link = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let challenge = || v1::TpmChallengeRequest::default();
    let mut strangers = JoinClient::new(link.channel);
    let mut limited = 0;
    for _ in 0..20 {
        let refused = strangers.tpm_challenge(challenge()).await.unwrap_err();
        limited += u32::from(finding(&refused).code == "JOIN-RATE");
    }
    assert!(limited > 10);
    let mut join = JoinClient::new(member.link().await.channel);
    for _ in 0..3 {
        let answered = join.tpm_challenge(challenge()).await.unwrap_err();
        let code = finding(&answered).code;
        assert!(
            code.starts_with("TPM-"),
            "judged, and not turned away: {code}"
        );
    }
    member.renew([1; 16]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_issued_no_more_than_its_share_and_others_theirs() {
    let fixture = Fixture::start_with("issued_per_node = 1\nissued_per_node_burst = 5\n").await;
    let (greedy, other) = (fixture.join("m1").await, fixture.join("m2").await);
    let facts = program(1000, PROGRAM);
    let (mut issued, mut refused) = (0, 0);
    // A new stream finds the same bucket.
    for stream in 0..2 {
        let mut sync = greedy.sync().await.unwrap();
        for number in 0..10 {
            match sync
                .ask(&format!("w{stream}-{number}"), &facts, Vec::new())
                .await
            {
                Ok(_) => issued += 1,
                Err(finding) => {
                    assert_eq!(finding.code, "SYNC-RATE");
                    refused += 1;
                }
            }
        }
    }
    assert!(
        issued >= 5 && refused >= 5,
        "{issued} issued, {refused} refused"
    );
    let mut sync = other.sync().await.unwrap();
    sync.ask("w", &facts, Vec::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_workload_is_issued_the_same_only_now_and_then() {
    let fixture = Fixture::start_with("reissue_s = 7\n").await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let begun = Instant::now();
    // Others do not wait for it, nor does it wait when it is another program.
    sync.ask("w2", &facts, Vec::new()).await.unwrap();
    sync.ask("w1", &program(2000, PROGRAM), Vec::new())
        .await
        .unwrap();
    sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let at_once = begun.elapsed();
    sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let waited = begun.elapsed();
    assert!(at_once < Duration::from_secs(6), "{at_once:?}");
    assert!(waited > Duration::from_secs(6), "{waited:?}");
    // A revocation is a change: what was cut is asked for again at once, and answered.
    let (issued, _) = sync.ask("w2", &facts, Vec::new()).await.unwrap();
    let request = v1::RevokeRequest {
        kind: "serial".to_owned(),
        value: issued.svids[0].serial.clone(),
        reason: "drill".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    let begun = Instant::now();
    sync.ask("w2", &facts, Vec::new()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(6));
}

/// An agent that asks and never reads once kept an answer for every question, and its own `still()` and
/// the server's shutdown waiting.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_read_is_disconnected_and_delays_nobody() {
    let mut fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let sync = machine.sync().await.unwrap();
    let asking = async {
        for number in 0_u64.. {
            let message = Some(Message::Workload(request(number, &format!("w{number}"))));
            let sent = sync.sender.send(v1::NodeMessage { message }).await;
            if sent.is_err() {
                return number;
            }
        }
        0
    };
    let patience = Duration::from_secs(90);
    let asked = tokio::time::timeout(patience, asking).await;
    let asked = asked.expect("whoever does not read is disconnected");
    // What was taken without being read: the queue, what is under way, and a window.
    assert!(asked < 8_000, "{asked} requests were taken");
    let http = fixture.running().http_listen;
    until("nobody is connected any more", async || {
        crate::harness::metric(http, "trilith_server_nodes_connected ").await == 0
    })
    .await;
    machine.renew([1; 16]).await.unwrap();

    // A second one that is stuck while the server stops.
    let mut other = fixture.join("m2").await;
    other.address = fixture.address();
    let stuck = other.sync().await.unwrap();
    for number in 0..3_000 {
        let message = Some(Message::Workload(request(number, &format!("w{number}"))));
        let sent = stuck.sender.try_send(v1::NodeMessage { message });
        if sent.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    tokio::time::timeout(PATIENCE, fixture.stop())
        .await
        .expect("whoever is stuck holds nobody up");
    drop(stuck);
}

/// Two requests at once, or two places in one, once certified one key for two identities.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_certified_for_one_identity_however_it_is_asked() {
    let fixture = Fixture::bare().await;
    fixture
        .apply(&crate::harness::estate_of_two())
        .await
        .unwrap();
    let (one, two) = (fixture.join("m1").await, fixture.join("m2").await);
    let (mut first, mut second) = (one.sync().await.unwrap(), two.sync().await.unwrap());

    // Twice in one request.
    let mut twice = request(1, "w");
    twice.public_keys.push(twice.public_keys[0].clone());
    first.send(Message::Workload(twice)).await;
    let Update::Issued(issued) = first.next().await.unwrap() else {
        panic!("an answer");
    };
    assert_eq!(issued.svids.len(), 1);
    let refused: Vec<facts::Finding> = issued
        .refused
        .iter()
        .flat_map(|refused| serde_json::from_slice::<Vec<_>>(&refused.findings).unwrap())
        .collect();
    assert!(
        refused.iter().any(|finding| finding.code == "KEY-BOUND"),
        "{refused:?}"
    );

    // At once: for another identity on the same machine, and for the same one on another.
    for round in 0..25_u64 {
        let asked = request(10 + round, &format!("a{round}"));
        let mut other = asked.clone();
        other.workload = format!("b{round}");
        other.request += 1_000;
        other.facts = serde_json::to_vec(&program(2000, PROGRAM)).unwrap();
        let mut elsewhere = asked.clone();
        elsewhere.workload = format!("c{round}");
        first.send(Message::Workload(asked)).await;
        second.send(Message::Workload(elsewhere)).await;
        first.send(Message::Workload(other)).await;
        let mut svids = 0;
        for answer in [first.next().await, second.next().await, first.next().await] {
            let Update::Issued(issued) = answer.unwrap() else {
                panic!("an answer");
            };
            svids += issued.svids.len();
        }
        assert_eq!(svids, 1, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_to_the_admin_socket_keep_nobody_out() {
    let fixture = Fixture::start().await;
    let socket = fixture.dir.path().join("data/admin.sock");
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(tokio::net::UnixStream::connect(&socket).await.unwrap());
    }
    // The server says its settings, and then what was too much is closed: there are 64 places.
    for stream in &mut silent[..130] {
        let mut said = Vec::new();
        let end = stream.read_to_end(&mut said);
        let ended = tokio::time::timeout(PATIENCE, end).await;
        let _reset = ended.expect("the oldest give way");
    }
    fixture.token("m1").await;
}
