//! A TLS session that was begun with an SVID which is no longer worth anything, resumed at the running
//! gateway by clients that would love to.

use crate::client::{asked_for_tls, config, error, startup};
use crate::plane::{BRIEF, Svid};
use crate::world::{World, skipped};
use ledger::body::TargetKind;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A client that keeps every ticket and uses it.
fn eager(world: &World, svid: &Svid) -> Arc<ClientConfig> {
    let mut config = config(&world.plane, svid);
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    Arc::new(config)
}

/// Connects and asks for a session: how the handshake went, and the error that the gateway answered with.
/// With a session in the end there is none.
async fn session(
    world: &World,
    config: &Arc<ClientConfig>,
) -> std::io::Result<(HandshakeKind, Option<(String, String)>)> {
    let tcp = asked_for_tls(world.address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let mut tls = connector.connect(svid_tls::server_name(), tcp).await?;
    let kind = tls.get_ref().1.handshake_kind().unwrap();
    tls.write_all(&startup(&[("user", "x"), ("database", "shop")]))
        .await?;
    tls.flush().await?;
    loop {
        let tag = tls.read_u8().await?;
        let length = tls.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        tls.read_exact(&mut body).await?;
        // Tickets would have come before this.
        assert_eq!(tls.get_ref().1.tls13_tickets_received(), 0);
        match tag {
            b'E' => return Ok((kind, Some(error(&body)))),
            b'Z' => return Ok((kind, None)),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_resumed_after_its_svid_has_expired() {
    if skipped("a_session_is_not_resumed_after_its_svid_has_expired") {
        return;
    }
    let world = World::start().await;
    let config = eager(&world, &world.plane.issue_briefly("payments/api"));
    for _ in 0..2 {
        let (kind, refused) = session(&world, &config).await.unwrap();
        assert_eq!((kind, refused), (HandshakeKind::Full, None));
    }
    tokio::time::sleep(Duration::from_secs(BRIEF + 1)).await;
    // The gateway's end of the handshake fails; the client hears of it when it reads.
    let refused = session(&world, &config).await.unwrap_err();
    assert!(
        refused.to_string().contains("received fatal alert"),
        "{refused}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_resumed_after_its_svid_was_revoked() {
    if skipped("a_session_is_not_resumed_after_its_svid_was_revoked") {
        return;
    }
    let world = World::start().await;
    let svid = world.plane.issue("payments/api");
    let config = eager(&world, &svid);
    for _ in 0..2 {
        let (kind, refused) = session(&world, &config).await.unwrap();
        assert_eq!((kind, refused), (HandshakeKind::Full, None));
    }
    world.plane.revoke(TargetKind::Serial, &svid.serial);
    world.recorded("\"type\":\"session-end\"").await;
    let cut = async {
        loop {
            let (kind, refused) = session(&world, &config).await.unwrap();
            assert_eq!(kind, HandshakeKind::Full);
            if let Some(refused) = refused {
                return refused;
            }
        }
    };
    let (sqlstate, message) = tokio::time::timeout(Duration::from_secs(60), cut)
        .await
        .expect("the revocation arrives");
    assert_eq!(sqlstate, "28000");
    assert!(message.contains("GATEWAY-REVOKED"), "{message}");
    world.stop().await;
}

/// What `openssl s_client` says of a connection that stays open for a second.
fn openssl(world: &World, svid: &Svid, more: &str) -> String {
    let (certificate, key) = world.files(svid);
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!(
            "sleep 1 | openssl s_client -starttls postgres -connect {} -cert {2} -cert_chain {2} -key {} {more} 2>&1",
            world.address,
            key.display(),
            certificate.display(),
        ))
        .current_dir(world.folder.path())
        .stdin(Stdio::null());
    String::from_utf8_lossy(&shell.output().unwrap().stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_is_given_nothing_to_resume_by() {
    if skipped("openssl_is_given_nothing_to_resume_by") {
        return;
    }
    let world = World::start().await;
    let svid = world.plane.issue("payments/api");
    let ticket = world.folder.path().join("ticket");
    let said = openssl(&world, &svid, "-sess_out ticket");
    assert!(said.contains("New, TLSv1.3"), "{said}");
    assert!(!ticket.exists(), "the gateway gave out a ticket");
    // Nor is there an older protocol, in which sessions have numbers.
    let said = openssl(&world, &svid, "-tls1_2 -sess_out ticket");
    assert!(said.contains("New, (NONE)"), "{said}");
    assert!(!ticket.exists());
    world.stop().await;
}
