//! The attack that rustls's defaults allow: an SVID that outlives itself in a resumed session.

use crate::kit::{Clock, Connection, Domain, NOW, Refusal, handshake};
use rustls::client::Resumption;
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use std::sync::Arc;

/// A client that would resume, with an SVID of thirty seconds.
fn eager_client(domain: &Domain, clock: &Arc<Clock>) -> Arc<ClientConfig> {
    let mut config = domain.client(domain.svid("a", 30), clock);
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    Arc::new(config)
}

/// Connects, lets the client's SVID expire, connects again.
fn after_expiry(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    clock: &Clock,
) -> Result<Connection, Refusal> {
    let first = handshake(client, server).unwrap();
    assert_eq!(first.server.handshake_kind(), Some(HandshakeKind::Full));
    clock.set(NOW.plus_secs(60));
    handshake(client, server)
}

#[test]
fn an_expired_svid_cannot_be_resumed() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let server = Arc::new(domain.server(&clock));
    let client = eager_client(&domain, &clock);
    let refused = after_expiry(&client, &server, &clock).unwrap_err();
    assert!(matches!(refused, Refusal::ByServer(_)));
    assert_eq!(refused.code(), "SVID-EXPIRED");
}

#[test]
fn nothing_is_resumed_before_expiry_either() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let server = Arc::new(domain.server(&clock));
    let client = eager_client(&domain, &clock);
    for _ in 0..3 {
        let mut connection = handshake(&client, &server).unwrap();
        assert_eq!(
            connection.server.handshake_kind(),
            Some(HandshakeKind::Full)
        );
        assert_eq!(connection.client.tls13_tickets_received(), 0);
        assert!(connection.client.early_data().is_none());
    }
}

/// The control: with what `svid_tls::server` turns off turned on again, the attack works. Should this
/// test ever fail, the one above proves nothing any more.
#[test]
fn with_the_defaults_of_the_library_it_could_be() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let mut config = domain.server(&clock);
    config.session_storage = ServerSessionMemoryCache::new(8);
    config.send_tls13_tickets = 2;
    let server = Arc::new(config);
    let client = eager_client(&domain, &clock);
    let resumed = after_expiry(&client, &server, &clock).unwrap();
    assert_eq!(
        resumed.server.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    assert!(resumed.server.peer_certificates().is_some());
}

/// A server elsewhere that hands out tickets: our client does not keep them.
#[test]
fn our_client_does_not_resume() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let mut config = domain.server(&clock);
    config.session_storage = ServerSessionMemoryCache::new(8);
    config.send_tls13_tickets = 2;
    let server = Arc::new(config);
    let client = Arc::new(domain.client(domain.svid("a", 3600), &clock));
    for _ in 0..2 {
        let connection = handshake(&client, &server).unwrap();
        assert_eq!(
            connection.server.handshake_kind(),
            Some(HandshakeKind::Full)
        );
    }
}
