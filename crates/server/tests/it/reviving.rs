//! A machine's SVID on a new connection: nothing is issued to it before it has proved on that very connection
//! that it is still what it was.

use crate::attesting::{SLOW, connect, hello, locked, refused};
use crate::harness::{PROGRAM, Sync, program};
use crate::kernel::{Kernel, question};
use crypto::{Algorithm, KeyPair, sha256};
use facts::Finding;
use proto::v1;
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use serde_json::Value;

/// A token for `workload`.
async fn jwt(sync: &mut Sync, workload: &str) -> Result<v1::JwtIssued, Finding> {
    sync.requests += 1;
    let request = v1::JwtRequest {
        request: sync.requests,
        workload: workload.to_owned(),
        audience: vec!["ledger".to_owned()],
        spiffe_id: String::new(),
        without_receipt: false,
    };
    sync.send(Message::Jwt(request)).await;
    loop {
        match sync.next().await.unwrap() {
            Update::Jwt(issued) => return Ok(issued),
            Update::Refused(refused) => {
                return Err(serde_json::from_slice(&refused.finding).unwrap());
            }
            _ => {}
        }
    }
}

/// What is sealed on the disk opens in another boot as well: whoever is root there has the SVID and its key,
/// and asked for what the facts of the boot before granted.
#[tokio::test(flavor = "multi_thread")]
async fn an_svid_that_was_revived_in_another_boot_gets_nothing_on_the_facts_of_the_one_before() {
    let Some(mut kernel) = Kernel::boot("server.attest-revived") else {
        return;
    };
    let mut fixture = kernel.fixture(SLOW).await;
    let mut machine = kernel.join(&fixture).await.unwrap();
    let facts = program(1000, PROGRAM);
    let mut honest = connect(&machine).await;
    kernel.prove(&mut honest).await;
    let (_, held) = honest.ask("w1", &facts, Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    jwt(&mut honest, "w1").await.unwrap();

    kernel.reboot();
    kernel.extend(9, &sha256(b"another initrd"));
    let both = async |sync: &mut Sync, how: &str| {
        // At once: each waits for a quote for a while.
        let token = v1::JwtRequest {
            workload: "w1".to_owned(),
            audience: vec!["ledger".to_owned()],
            ..v1::JwtRequest::default()
        };
        sync.send(Message::Jwt(token)).await;
        let refused = sync.ask("w1", &facts, Vec::new()).await.err();
        assert_eq!(refused.expect(how).code, "ATTEST-AWAITED", "{how}");
    };
    for how in ["without a hello", "attests: false", "attests: true, silent"] {
        let mut sync = machine.sync().await.unwrap();
        if how != "without a hello" {
            hello(&sync, how != "attests: false").await;
        }
        both(&mut sync, how).await;
        let Update::Refused(other) = sync.next().await.unwrap() else {
            panic!("{how}: both are refused");
        };
        let other: Finding = serde_json::from_slice(&other.finding).unwrap();
        assert_eq!(other.code, "ATTEST-AWAITED", "{how}");
        if how == "attests: false" {
            // The server has forgotten what it knew of the machine.
            fixture.stop().await;
            let path = fixture.dir.path().join("server.toml");
            let config = server::Config::load(&path).unwrap();
            fixture.server = Some(server::start(config).await.unwrap());
            machine.address = fixture.address();
        }
    }
    assert_eq!(locked(&fixture).await, Value::Null);
    // And if it answers, it is out.
    let mut sync = connect(&machine).await;
    kernel.prove(&mut sync).await;
    assert_eq!(refused(&fixture, 1).await[0].code, "ATTEST-REBOOTED");
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");
}

/// The network held an answer back until its machine had booted something else, and brought it on a new stream.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_asked_for_on_another_stream_proves_nothing_here() {
    let Some(kernel) = Kernel::boot("server.attest-held-back") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let machine = kernel.join(&fixture).await.unwrap();
    let mut before = connect(&machine).await;
    let asked = question(&mut before).await;
    let answer = kernel.answer(&asked).await;
    // By somebody who says no hello, for that has it asked anew.
    let mut after = machine.sync().await.unwrap();
    after.send(Message::Attestation(answer)).await;
    let refused = after.ask("w1", &program(1000, PROGRAM), Vec::new()).await;
    assert_eq!(refused.err().unwrap().code, "ATTEST-AWAITED");
    assert_eq!(locked(&fixture).await, Value::Null);
    // It is asked there at once, and may ask then.
    hello(&after, true).await;
    kernel.prove(&mut after).await;
    let (_, held) = after
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(held.len(), 1);
}

/// An agent with many workloads connects, and its chip is slow: those that wait leave a place for the answer,
/// and those that find none are told to ask again.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_quote_do_not_keep_it_from_the_server() {
    let Some(kernel) = Kernel::boot("server.attest-many") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let asked = question(&mut sync).await;
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let spki = crypto::Signer::public_key(&key).spki_der().to_vec();
    for number in 0..200 {
        let request = v1::WorkloadRequest {
            request: number,
            workload: format!("w{number}"),
            facts: serde_json::to_vec(&program(7, PROGRAM)).unwrap(),
            public_keys: vec![spki.clone()],
            held: Vec::new(),
        };
        sync.send(Message::Workload(request)).await;
    }
    let mut refusals = 0;
    while refusals < 136 {
        if let Update::Refused(refused) = sync.next().await.unwrap() {
            let finding: Finding = serde_json::from_slice(&refused.finding).unwrap();
            assert_eq!(finding.code, "ATTEST-AWAITED");
            refusals += 1;
        }
    }
    let answer = kernel.answer(&asked).await;
    sync.send(Message::Attestation(answer)).await;
    let (mut answered, mut again) = (0, false);
    while answered < 64 || !again {
        match sync.next().await.unwrap() {
            Update::Issued(_) => answered += 1,
            Update::Reconsider(told) => again = told.workloads.is_empty(),
            Update::Refused(_) => panic!("one that waited was refused"),
            _ => {}
        }
    }
}
