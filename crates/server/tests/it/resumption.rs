//! A TLS session that was begun with an SVID which is no longer worth anything, resumed at the running
//! server by clients that would love to.

use crate::harness::{Fixture, Link, Machine, PATIENCE};
use proto::v1;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use svid_tls::OwnSvid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Nodes' SVIDs live for ten seconds.
const SHORT: &str = "[lifetimes]\nnode_s = 10\nskew_s = 0\n";

/// A client that keeps every ticket and uses it. Its clones share what they keep.
fn eager(machine: &Machine) -> ClientConfig {
    let chain = machine.joined.certificate_chain.clone();
    let own = OwnSvid::new(chain, Arc::clone(&machine.key) as _).unwrap();
    let mut config = Link::member(own, Arc::clone(&machine.anchors));
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// How the handshake went, once the server has said something under TLS.
async fn handshake(fixture: &Fixture, config: &ClientConfig) -> std::io::Result<HandshakeKind> {
    let tcp = tokio::net::TcpStream::connect(fixture.address()).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
    let mut tls = connector.connect(svid_tls::server_name(), tcp).await?;
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await?;
    tls.flush().await?;
    let said = tokio::time::timeout(PATIENCE, tls.read_u8()).await;
    said.expect("the server answers or ends it")?;
    let (_, session) = tls.get_ref();
    // Tickets would have come before this.
    assert_eq!(session.tls13_tickets_received(), 0);
    Ok(session.handshake_kind().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_resumed_after_its_svid_has_expired() {
    let fixture = Fixture::start_with(SHORT).await;
    let config = eager(&fixture.join("m1").await);
    for _ in 0..2 {
        let kind = handshake(&fixture, &config).await.unwrap();
        assert_eq!(kind, HandshakeKind::Full);
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let refused = handshake(&fixture, &config).await.unwrap_err();
    assert!(
        refused.to_string().contains("received fatal alert"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_resumed_after_its_machine_was_revoked() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let config = eager(&machine);
    handshake(&fixture, &config).await.unwrap();
    machine.sync().await.unwrap();
    let request = v1::RevokeRequest {
        kind: "machine".to_owned(),
        value: "m1".to_owned(),
        reason: "stolen".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    // It may say who it was, in full, and is given nothing.
    let kind = handshake(&fixture, &config).await.unwrap();
    assert_eq!(kind, HandshakeKind::Full);
    let link = Link::over(fixture.address(), config).await;
    let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let renewed = machine.renew_over(link, [1; 16], key).await;
    let code = crate::harness::finding(&renewed.err().unwrap()).code;
    assert_eq!(code, "CALLER-REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_is_given_nothing_to_resume_by() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let chain = crate::harness::pem(
        &fixture,
        "chain.pem",
        "CERTIFICATE",
        &machine.joined.certificate_chain,
    );
    let key = [machine.key.to_pkcs8().unwrap().to_vec()];
    let key = crate::harness::pem(&fixture, "key.pem", "PRIVATE KEY", &key);
    let ticket = fixture.dir.path().join("ticket");
    for (protocol, expected) in [("-tls1_3", "New, TLSv1.3"), ("-tls1_2", "New, (NONE)")] {
        // It stays for a second, in which a ticket would come.
        let command = format!(
            "sleep 1 | openssl s_client {protocol} -alpn h2 -connect {} -cert {chain} -cert_chain {chain} -key {} -sess_out {} 2>&1",
            fixture.address(),
            key.display(),
            ticket.display(),
            chain = chain.display(),
        );
        let said = tokio::task::spawn_blocking(move || {
            let mut shell = Command::new("sh");
            shell.args(["-c", &command]).stdin(Stdio::null());
            String::from_utf8_lossy(&shell.output().unwrap().stdout).into_owned()
        });
        let said = said.await.unwrap();
        assert!(said.contains(expected), "{said}");
        assert!(!ticket.exists(), "the server gave out a ticket");
    }
}
