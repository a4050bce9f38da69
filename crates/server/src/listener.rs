//! The TLS port: agents and gateways, with an SVID or, at first contact, without one.
//!
//! A connection carries who is on the other side and the exporter that join proofs are bound to; which
//! service wants what of it is decided in the services.
//!
//! Strangers cost members nothing, and the greedy cost the others nothing: when all places of handshakes,
//! or of connections without an SVID, are taken, the oldest of the address that has the most gives way;
//! whoever has no SVID has a minute. Members have places of their own, where one identity with more
//! connections than others gives way to those.

use crate::config::Limits;
use crate::connection::Connection;
use crate::people::Guest;
use facts::Timestamp;
use listen::{Place, Places, Source};
use rustls::ServerConfig;
use spiffe_core::ValidatedSvid;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use svid_tls::BundleSource;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Who is on the other side of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Differs for every connection and is the same at both ends.
    pub(crate) exporter: [u8; 32],
    /// Valid at the handshake, under this trust domain's bundle.
    pub(crate) svid: Option<Arc<ValidatedSvid>>,
    /// Cancelled, the connection is closed at once, whatever its peer reads or not.
    pub(crate) close: CancellationToken,
    /// A person may enter.
    pub(crate) guest: Arc<Guest>,
}

/// What is not over so long after the server began to stop is closed.
const PARTING: Duration = Duration::from_secs(3);

/// An accepted connection after its handshake.
pub(crate) type TlsConnection = Connection<TlsStream<TcpStream>, Peer, Held>;

/// Places of those whose handshake is over.
struct Established {
    strangers: Places<Source>,
    /// By SPIFFE ID.
    members: Places<String>,
    /// A stranger's time.
    stranger: Duration,
}

pub(crate) enum Held {
    Stranger(Place<Source>),
    Member(Place<String>),
}

/// Accepts until `stop`. Handshakes run beside one another and end in time or not at all.
pub(crate) fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    bundles: Arc<dyn BundleSource>,
    limits: &Limits,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<TlsConnection>> {
    let (sender, receiver) = mpsc::channel(64);
    let established = Arc::new(Established {
        strangers: Places::new(limits.strangers),
        members: Places::new(limits.connections),
        stranger: Duration::from_secs(limits.stranger_s),
    });
    let handshakes = Places::new(limits.handshakes);
    let within = Duration::from_millis(limits.handshake_ms);
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        loop {
            let (stream, address) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listen::accept(&listener) => accepted,
            };
            let (acceptor, sender, bundles) =
                (acceptor.clone(), sender.clone(), Arc::clone(&bundles));
            let (established, stop) = (Arc::clone(&established), stop.clone());
            let place = handshakes.take(Source::of(address));
            tokio::spawn(async move {
                let until = Instant::now() + within;
                let handshake = handshake(&acceptor, stream, address, bundles.as_ref());
                let done = place.hold(until, handshake).await;
                drop(place);
                match done {
                    Ok(Ok((stream, peer))) => {
                        if let Some(connection) = placed(&established, stream, peer, &stop) {
                            drop(sender.send(Ok(connection)).await);
                        }
                    }
                    Ok(Err(error)) => tracing::debug!(%address, %error, "handshake refused"),
                    Err(ended) => tracing::debug!(%address, ?ended, "handshake not finished"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// Finds a place for a connection after its handshake.
fn placed(
    places: &Established,
    stream: TlsStream<TcpStream>,
    peer: Peer,
    stop: &CancellationToken,
) -> Option<TlsConnection> {
    let held = match &peer.svid {
        None => Some(Held::Stranger(
            places.strangers.take(Source::of(peer.address)),
        )),
        // Who works here is not disturbed by who comes, unless it takes more than its part.
        Some(svid) => places
            .members
            .take_fairly(svid.spiffe_id.to_string())
            .map(Held::Member),
    };
    let Some(held) = held else {
        tracing::warn!(address = %peer.address, "turned away: too many connections");
        return None;
    };
    let given_away: Pin<Box<dyn Future<Output = ()> + Send>> = match &held {
        Held::Stranger(place) => Box::pin(place.given_away()),
        Held::Member(place) => Box::pin(place.given_away()),
    };
    let (close, stop) = (peer.close.clone(), stop.clone());
    let age = peer.svid.is_none().then_some(places.stranger);
    let guest = Arc::clone(&peer.guest);
    let end = async move {
        let parted = async {
            stop.cancelled().await;
            tokio::time::sleep(PARTING).await;
        };
        tokio::select! {
            () = close.cancelled() => {}
            () = given_away => {}
            () = parted => {}
            () = guest.leaves(age) => {}
        }
    };
    Some(Connection::new(stream, peer, held, end))
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    bundles: &dyn BundleSource,
) -> io::Result<(TlsStream<TcpStream>, Peer)> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let (_, session) = stream.get_ref();
    let exporter = svid_tls::channel_binding(session).map_err(io::Error::other)?;
    let svid = match session.peer_certificates() {
        None | Some([]) => None,
        Some(chain) => {
            let svid = svid_tls::peer::validate(chain, bundles, Timestamp::now())
                .map_err(io::Error::other)?;
            Some(Arc::new(svid))
        }
    };
    let peer = Peer {
        address,
        exporter,
        svid,
        close: CancellationToken::new(),
        guest: Arc::default(),
    };
    Ok((stream, peer))
}
