//! What workloads get, and what those get who are not what they seem.

use crate::machine::{Machine, is_offline};
use crate::server::Server;
use crate::workload::Workload;
use agent::client::ClientError;
use facts::{FactSet, Source, Value, names};
use proto::v1;
use proto::v1::node_update::Update;
use serde_json::json;
use std::time::Duration;

const API: &str = "spiffe://example.org/payments/api";

fn last_facts(server: &Server) -> FactSet {
    server
        .state
        .book(|book| book.facts.last().cloned().unwrap())
}

fn sha256(path: &std::path::Path) -> String {
    crypto::hex::encode(&crypto::sha256(&std::fs::read(path).unwrap()))
}

#[tokio::test]
async fn a_workload_gets_svid_and_token_for_what_it_is() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let Some(mut workload) = Workload::start("agent svid and token", &machine, "payments") else {
        return;
    };
    assert_eq!(workload.ask("x509").await, json!({"ids": [API]}));
    let facts = last_facts(&server);
    assert!(facts.iter().all(|fact| fact.source == Source::Asserted));
    assert_eq!(facts.text(names::WORKLOAD_PATH), workload.program.to_str());
    assert_eq!(
        facts.text(names::CODE_SHA256),
        Some(sha256(&workload.program).as_str())
    );
    let uid = i64::from(rustix::process::getuid().as_raw());
    assert_eq!(facts.value(names::WORKLOAD_UID), Some(&Value::Integer(uid)));
    assert_eq!(facts.text(names::WORKLOAD_CALLER), Some("pidfd"));

    assert_eq!(workload.ask("jwt").await, json!({"token": API}));
    assert_eq!(workload.ask("jwt").await, json!({"token": API}));
    assert_eq!(
        server.state.book(|book| book.jwts_issued),
        1,
        "then from the cache"
    );
}

#[tokio::test]
async fn a_refused_workload_is_told_and_the_operator_is_told_more() {
    let server = Server::start().await;
    server.state.book(|book| book.granted.clear());
    let machine = Machine::started(&server).await;
    let Some(mut workload) = Workload::start("agent refusal", &machine, "other") else {
        return;
    };
    let said = workload.ask("x509").await.to_string();
    assert!(
        said.contains("no identity issued") && said.contains("ASSUME-DENIED"),
        "{said}"
    );
    assert!(!said.contains("code.sha256 =="), "{said}");
    let client = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    let status = client.status(None).await.unwrap();
    let finding = &status["refused_identities"][0]["findings"][0];
    assert_eq!(finding["expected"], "code.sha256 == another", "{status}");
    assert_eq!(status["notes"][0]["code"], "CODE-HELPER", "{status}");
}

#[tokio::test]
async fn what_is_issued_anew_under_a_replaced_ledger_key_is_handed_to_nobody() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let client = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    // The ledger has gone on; who answers has the key that it had before.
    let links = server.state.authority.link();
    server
        .state
        .push(Update::Lineage(v1::Lineage { links }))
        .await;
    let kept = machine.directory.path().join("data/lineage");
    while !kept.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let Some(mut workload) = Workload::start("agent replaced key", &machine, "other") else {
        return;
    };
    let said = workload.ask("x509").await.to_string();
    assert!(said.contains("no identity issued"), "{said}");
    let status = client.status(None).await.unwrap();
    let finding = &status["refused_identities"][0]["findings"][0];
    assert_eq!(finding["code"], "AGENT-RECEIPT-FORMER", "{status}");
}

#[tokio::test]
async fn a_binary_swapped_between_connect_and_attestation_is_judged_by_what_runs() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let Some(mut workload) = Workload::start("agent swapped binary", &machine, "evil") else {
        return;
    };
    let running = sha256(&workload.program);
    assert_eq!(workload.ask("connect").await, json!({"connected": true}));
    // Now the file at its path is one that a policy trusts.
    let trusted = machine.directory.path().join("trusted");
    std::fs::write(&trusted, b"\x7fELF trusted").unwrap();
    std::fs::rename(&trusted, &workload.program).unwrap();
    workload.ask("x509").await;
    let facts = last_facts(&server);
    assert_eq!(facts.text(names::CODE_SHA256), Some(running.as_str()));
    assert_eq!(
        facts.text(names::WORKLOAD_PATH),
        None,
        "no longer what runs there"
    );
}

#[tokio::test]
async fn a_workload_that_changes_its_uid_after_connecting_is_refused() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    if !rustix::process::getuid().is_root() {
        testkit::skip("agent wrong uid", "not root");
        return;
    }
    let Some(mut workload) = Workload::start("agent wrong uid", &machine, "payments") else {
        return;
    };
    assert_eq!(workload.ask("connect").await, json!({"connected": true}));
    assert_eq!(workload.ask("setuid").await, json!({"done": true}));
    let said = workload.ask("x509").await.to_string();
    assert!(said.contains("WORKLOAD-CREDENTIALS"), "{said}");
}

#[tokio::test]
async fn withdrawal_ends_the_stream_and_a_new_estate_begins_it_again() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let client = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    let mut stream = client.x509().await.unwrap();
    assert_eq!(stream.next().await.unwrap()[0].spiffe_id, API);
    server.state.book(|book| book.granted.clear());
    let withdrawn = v1::Withdrawn {
        spiffe_id: API.to_owned(),
        serial: String::new(),
        reason: "revoked".to_owned(),
    };
    server.state.push(Update::Withdrawn(withdrawn)).await;
    let ended = stream.next().await.unwrap_err();
    assert!(
        matches!(&ended, ClientError::Denied(why) if why.contains("AGENT-WITHDRAWN")),
        "{ended}"
    );
    let refused = client.x509().await.unwrap_err();
    assert!(matches!(refused, ClientError::Denied(_)), "{refused}");

    server
        .state
        .book(|book| book.granted = vec!["payments/api"]);
    let all = v1::Reconsider {
        workloads: Vec::new(),
        estate_index: 2,
    };
    let asked = server.state.book(|book| book.facts.len());
    server.state.push(Update::Reconsider(all)).await;
    server.state.until(|book| book.facts.len() > asked).await;
    let mut stream = loop {
        match client.x509().await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(stream.next().await.unwrap()[0].spiffe_id, API);
}

#[tokio::test]
async fn a_changed_estate_reaches_an_open_stream() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let Some(mut workload) = Workload::start("agent push", &machine, "payments") else {
        return;
    };
    assert_eq!(workload.ask("watch").await, json!({"update": [API]}));
    server
        .state
        .book(|book| book.granted = vec!["payments/api", "payments/batch"]);
    let all = v1::Reconsider {
        workloads: Vec::new(),
        estate_index: 2,
    };
    server.state.push(Update::Reconsider(all)).await;
    assert_eq!(
        workload.says().await,
        json!({"update": [API, "spiffe://example.org/payments/batch"]})
    );
}

#[tokio::test]
async fn while_the_server_is_away_what_is_held_is_served() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let Some(mut workload) = Workload::start("agent offline", &machine, "payments") else {
        return;
    };
    assert_eq!(workload.ask("x509").await, json!({"ids": [API]}));
    server.kill();
    let client = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    loop {
        // This process has asked before, so that only a lost connection makes it wait.
        let status = client.status(Some("/bin/true".as_ref())).await.unwrap();
        if is_offline(&status) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(workload.ask("x509").await, json!({"ids": [API]}));
    let asked = server.state.book(|book| book.facts.len());
    let server = server.restart().await;
    server.state.until(|book| book.facts.len() > asked).await;
    assert_eq!(workload.ask("x509").await, json!({"ids": [API]}));
}

#[tokio::test]
async fn when_a_process_ends_the_server_is_told() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let Some(mut workload) = Workload::start("agent gone", &machine, "payments") else {
        return;
    };
    workload.ask("x509").await;
    workload.kill().await;
    server.state.until(|book| book.gone.len() == 1).await;
}

#[tokio::test]
async fn an_svid_that_was_not_recorded_is_handed_to_nobody() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let client = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    client.x509().await.unwrap().next().await.unwrap();
    let forgets = &server.state.authority.forgets;
    forgets.store(true, std::sync::atomic::Ordering::Relaxed);
    let asked = server.state.book(|book| book.facts.len());
    let all = v1::Reconsider {
        workloads: Vec::new(),
        estate_index: 2,
    };
    server.state.push(Update::Reconsider(all)).await;
    server.state.until(|book| book.facts.len() > asked).await;
    let refused = async {
        loop {
            let status = client.status(None).await.unwrap();
            if status["refused_identities"][0].is_object() {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    let status = tokio::time::timeout(std::time::Duration::from_secs(60), refused)
        .await
        .expect("it is refused");
    let finding = &status["refused_identities"][0]["findings"][0];
    assert_eq!(finding["code"], "SVID-RECEIPT-MISSING", "{status}");
    let refused = client.x509().await.unwrap_err();
    assert!(matches!(refused, ClientError::Denied(_)), "{refused}");
}

/// What the agent says of `token`.
async fn validated(machine: &Machine, token: String) -> Result<String, tonic::Status> {
    let path = machine.socket();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = tonic::transport::Endpoint::from_static("http://agent.invalid")
        .connect_with_connector(connector)
        .await
        .unwrap();
    let mut request = tonic::Request::new(proto::workload::ValidateJwtsvidRequest {
        audience: "db".to_owned(),
        svid: token,
    });
    let (name, value) = workload_api::SECURITY_HEADER;
    let value = tonic::metadata::MetadataValue::from_static(value);
    request.metadata_mut().insert(name, value);
    let mut client =
        proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient::new(channel);
    let answer = client.validate_jwtsvid(request).await?;
    Ok(answer.into_inner().spiffe_id)
}

#[tokio::test]
async fn a_token_that_was_not_recorded_is_not_valid_unless_tokens_go_without_receipts() {
    let server = Server::start().await;
    let mut machine = Machine::started(&server).await;
    let authority = &server.state.authority;
    let recorded = authority.jwt("payments/api", &["db".to_owned()]).token;
    authority
        .forgets
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let forged = authority.jwt("payments/api", &["db".to_owned()]).token;
    authority
        .forgets
        .store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(validated(&machine, recorded.clone()).await.unwrap(), API);
    let refused = validated(&machine, forged.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(
        refused.message().contains("SVID-RECEIPT-MISSING"),
        "{refused:?}"
    );
    machine.stop().await;
    machine.config.jwt_receipt = false;
    machine.start();
    machine.ready().await;
    assert_eq!(validated(&machine, forged).await.unwrap(), API);
    assert_eq!(validated(&machine, recorded).await.unwrap(), API);
}
