//! First contact, renewal, and a state directory that was copied.

use crate::machine::Machine;
use crate::server::{Server, TOKEN};
use agent::{IdentityError, JoinError, RunError};
use facts::Finding;
use std::error::Error as _;

fn finding(error: &RunError) -> Option<Finding> {
    let RunError::Identity(error) = error else {
        return None;
    };
    match error.as_ref() {
        IdentityError::Refused(finding) | IdentityError::Join(JoinError::Refused(finding)) => {
            Some(finding.clone())
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_server_with_other_anchors_never_sees_the_token() {
    let server = Server::start().await;
    let mut machine = Machine::new(&server);
    machine.config.pin = Server::start().await.state.authority.pin();
    machine.start();
    let error = machine.ended().await.unwrap_err();
    assert_eq!(finding(&error).unwrap().code, "TLS-PIN-MISMATCH");
    assert_eq!(server.state.book(|book| book.tokens_seen), 0);
}

#[tokio::test]
async fn an_unknown_token_is_refused_with_the_servers_finding() {
    let server = Server::start().await;
    let mut machine = Machine::new(&server);
    machine.config.token_given = Some(agent::Token::new("guessed"));
    machine.start();
    let error = machine.ended().await.unwrap_err();
    assert_eq!(finding(&error).unwrap().code, "JOIN-TOKEN");
}

#[tokio::test]
async fn a_joined_machine_starts_again_without_a_token() {
    let server = Server::start().await;
    let mut machine = Machine::started(&server).await;
    machine.stop().await;
    machine.config.token_given = None;
    machine.start();
    machine.ready().await;
    assert_eq!(server.state.book(|book| book.tokens_seen), 1);
    machine.stop().await;
    assert!(!machine.socket().exists());
}

#[tokio::test]
async fn a_second_agent_on_the_same_directory_is_refused() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let mut second = Machine::new(&server);
    second.config.data_dir.clone_from(&machine.config.data_dir);
    second.start();
    let error = second.ended().await.unwrap_err();
    assert!(
        error.source().unwrap().to_string().contains("state"),
        "{error:?}"
    );
    assert_eq!(server.state.book(|book| book.tokens_seen), 1);
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_repeated_as_it_was() {
    let server = Server::start().await;
    // Past half of its life already: renewed at once.
    server.state.book(|book| {
        book.node_life = (3600, 1800);
        book.renewals = vec![Err(Finding::new("LOST", ""))];
    });
    let _machine = Machine::started(&server).await;
    server.state.until(|book| book.renewed.len() >= 2).await;
    let renewed = server.state.book(|book| book.renewed.clone());
    assert_eq!(renewed[0], renewed[1], "the same id and key");
    assert_eq!(renewed[0].0.len(), 16);
}

#[tokio::test]
async fn a_renewal_cut_short_by_a_crash_is_repeated_after_the_start() {
    let server = Server::start().await;
    server.state.book(|book| {
        book.node_life = (3600, 1800);
        book.renewals = vec![Err(Finding::new("LOST", "")); 50];
    });
    let mut machine = Machine::started(&server).await;
    server.state.until(|book| !book.renewed.is_empty()).await;
    machine.stop().await;
    let before = server.state.book(|book| book.renewed.len());
    machine.start();
    server.state.until(|book| book.renewed.len() > before).await;
    let renewed = server.state.book(|book| book.renewed.clone());
    assert_eq!(renewed.first(), renewed.last());
}

#[tokio::test]
async fn a_locked_machine_serves_nobody_new() {
    let server = Server::start().await;
    server.state.book(|book| {
        book.node_life = (3600, 1800);
        book.renewals = vec![Err(Finding::new(
            "AGENT-LOCKED",
            "two machines use one state",
        ))];
    });
    let machine = Machine::started(&server).await;
    server.state.until(|book| !book.renewed.is_empty()).await;
    let client = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    loop {
        let status = client.status(None).await.unwrap();
        if status["refused"]
            .as_str()
            .is_some_and(|text| text.contains("AGENT-LOCKED"))
        {
            break;
        }
        tokio::task::yield_now().await;
    }
    let refused = client.x509().await.unwrap_err();
    assert!(refused.to_string().contains("AGENT-LOCKED"), "{refused}");
}

#[tokio::test]
async fn a_machine_that_missed_its_renewals_comes_back_with_a_new_token() {
    let server = Server::start().await;
    // Past half of its life already, and soon over; no renewal succeeds.
    server.state.book(|book| {
        book.node_life = (3600, 4);
        book.renewals = vec![Err(Finding::new("LOST", "")); 50];
    });
    let mut machine = Machine::new(&server);
    let file = machine.directory.path().join("token");
    write_token(&file);
    machine.config.token_given = None;
    machine.config.join = agent::JoinConfig::Token {
        token_file: Some(file.clone()),
    };
    machine.start();
    server.state.until(|book| !book.renewed.is_empty()).await;
    std::fs::remove_file(&file).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(server.state.book(|book| book.tokens_seen), 1);
    write_token(&file);
    server.state.until(|book| book.tokens_seen == 2).await;
    machine.ready().await;
    machine.stop().await;
}

#[tokio::test]
async fn a_revoked_machine_that_was_readmitted_joins_again_at_once() {
    let server = Server::start().await;
    let revoked = || Finding::new("CALLER-REVOKED", "the caller's SVID was revoked");
    let machine = Machine::started(&server).await;
    server.state.book(|book| {
        book.renewals = vec![Err(revoked())];
        book.syncs_refused = Some(revoked());
    });
    server.kill();
    let server = server.restart().await;
    server.state.until(|book| book.tokens_seen == 2).await;
    server.state.book(|book| book.syncs_refused = None);
    let client = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    while crate::machine::is_offline(&client.status(None).await.unwrap()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.state.book(|book| book.renewed.len()), 1);
}

#[tokio::test]
async fn a_token_join_cut_short_is_repeated_with_its_key() {
    let server = Server::start().await;
    server.state.book(|book| book.joins_lost = 1);
    let mut machine = Machine::new(&server);
    machine.start();
    machine.ended().await.unwrap_err();
    machine.start();
    machine.ready().await;
    let joined = server.state.book(|book| book.joined.clone());
    assert_eq!(joined.len(), 2);
    assert_eq!(joined[0], joined[1], "the same key");
}

#[tokio::test]
async fn a_node_identity_that_was_not_recorded_is_not_taken() {
    let server = Server::start().await;
    server
        .state
        .authority
        .forgets
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let mut machine = Machine::new(&server);
    machine.start();
    let error = machine.ended().await.unwrap_err();
    assert_eq!(finding(&error).unwrap().code, "SVID-RECEIPT-MISSING");
}

#[tokio::test]
async fn a_tpm_renewal_whose_answer_was_lost_is_known_by_its_id_also_after_a_restart() {
    let chip = match testkit::swtpm::Swtpm::start() {
        Ok(chip) => chip,
        Err(missing) => {
            testkit::skip("agent.tpm-renewal-lost", &missing.to_string());
            return;
        }
    };
    let server = Server::start().await;
    server.state.book(|book| {
        book.node_life = (3600, 1800);
        book.renewals = vec![Err(Finding::new("LOST", "")); 50];
    });
    let mut machine = Machine::new(&server);
    machine.config.join = agent::JoinConfig::Tpm {
        tpm: chip.uri(),
        ima_list: None,
        event_log: None,
        tee: None,
    };
    machine.start();
    server.state.until(|book| book.renewed.len() >= 2).await;
    let renewed = server.state.book(|book| book.renewed.clone());
    assert_eq!(renewed[0], renewed[1], "the same id and key");
    machine.ready().await;
    machine.stop().await;
    machine.start();
    server
        .state
        .until(|book| book.joined_by_tpm.len() == 2)
        .await;
    let joined = server.state.book(|book| book.joined_by_tpm.clone());
    assert_eq!(joined[0], (Vec::new(), Vec::new()), "it had nothing then");
    assert_eq!(joined[1], (b"state 1".to_vec(), renewed[0].0.clone()));
}

/// As an administrator puts it there: for the agent alone.
fn write_token(file: &std::path::Path) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::File::options();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(file).unwrap();
    file.write_all(TOKEN.as_bytes()).unwrap();
}
