//! A machine joins with the pin of a ledger key that was replaced because somebody had read it.

use crate::authority::Authority;
use crate::machine::Machine;
use crate::server::Server;
use agent::{IdentityError, RunError};
use ledger::body::KeyRotation;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};

fn code(ended: Result<(), RunError>) -> String {
    match ended {
        Err(RunError::Identity(error)) => match error.as_ref() {
            IdentityError::Refused(finding) => finding.code.to_string(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A server whose ledger went on, which tells `links` of it besides its own.
async fn server(links: impl FnOnce(&Authority) -> Vec<KeyRotation>, own: bool) -> Server {
    let mut authority = Authority::new();
    let (next, link) = authority.succession();
    let mut told = links(&authority);
    if own {
        told.push(link);
    }
    authority.goes_on(next);
    authority.tells(&told);
    Server::of(authority).await
}

/// Sends the connection of that number to the thief, and every other to the server.
async fn between(server: SocketAddr, thief: SocketAddr, number: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut count = 0;
        while let Ok((mut tcp, _)) = listener.accept().await {
            count += 1;
            let to = if count == number { thief } else { server };
            tokio::spawn(async move {
                let mut there = TcpStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut tcp, &mut there).await);
            });
        }
    });
    address
}

#[tokio::test]
async fn a_machine_joins_by_the_first_keys_pin_and_learns_the_newest() {
    let server = server(|_| Vec::new(), true).await;
    let mut machine = Machine::started(&server).await;
    machine.stop().await;
    let kept = std::fs::read_to_string(machine.config.data_dir.join("lineage")).unwrap();
    assert_eq!(kept, server.state.authority.lineage);
    machine.config.token_given = None;
    machine.start();
    machine.ready().await;
}

#[tokio::test]
async fn one_connection_to_a_thief_of_the_old_key_leaves_nothing_behind() {
    let mut stolen = Vec::new();
    let server = server(
        |authority| {
            stolen = vec![authority.succession().1, authority.succession().1];
            Vec::new()
        },
        true,
    )
    .await;
    let mut thief = Authority::new();
    thief.tells(&stolen[..1]);
    let thief = Server::of(thief).await;
    for number in 1..=4 {
        let mut machine = Machine::new(&server);
        let address = between(server.address, thief.address, number).await;
        machine.config.server = address.to_string();
        machine.start();
        if number <= 3 {
            machine.ended().await.unwrap_err();
        } else {
            machine.ready().await;
            machine.stop().await;
        }
        // Nobody between: whatever the thief said is gone.
        machine.start();
        machine.ready().await;
        machine.stop().await;
        let kept = std::fs::read_to_string(machine.config.data_dir.join("lineage")).unwrap();
        assert_eq!(kept, server.state.authority.lineage, "connection {number}");
    }

    // Nor is it heard where it shows a fork, which it can make alone.
    let mut thief = Authority::new();
    thief.tells(&stolen);
    let thief = Server::of(thief).await;
    let mut machine = Machine::new(&server);
    let address = between(server.address, thief.address, 3).await;
    machine.config.server = address.to_string();
    machine.start();
    assert_eq!(code(machine.ended().await), "SVID-RECEIPT-LEDGER");
}

#[tokio::test]
async fn a_fork_is_told_as_one_and_links_that_lead_elsewhere_are_not_kept() {
    let forked = server(|authority| vec![authority.succession().1], true).await;
    let mut machine = Machine::new(&forked);
    machine.start();
    assert_eq!(code(machine.ended().await), "AGENT-LINEAGE-FORKED");
    assert!(!machine.config.data_dir.join("lineage").exists());

    // The SVID was not recorded in the log that they lead to.
    let elsewhere = server(|authority| vec![authority.succession().1], false).await;
    let mut machine = Machine::new(&elsewhere);
    machine.start();
    assert_eq!(code(machine.ended().await), "SVID-RECEIPT-LEDGER");
    assert!(!machine.config.data_dir.join("lineage").exists());
}
