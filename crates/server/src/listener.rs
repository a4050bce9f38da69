//! The TLS port: agents and gateways, with an SVID or, at first contact, without one.
//!
//! A connection carries who is on the other side and the exporter that join proofs are bound to; which
//! service wants what of it is decided in the services.

use crate::config::Limits;
use facts::Timestamp;
use rustls::ServerConfig;
use spiffe_core::ValidatedSvid;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use svid_tls::BundleSource;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Who is on the other side of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Differs for every connection and is the same at both ends.
    pub(crate) exporter: [u8; 32],
    /// Valid at the handshake, under this trust domain's bundle.
    pub(crate) svid: Option<Arc<ValidatedSvid>>,
}

/// An accepted connection after its handshake.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Given back when the connection ends.
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Accepts until `stop`. Handshakes run beside one another and end in time or not at all.
pub(crate) fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    bundles: Arc<dyn BundleSource>,
    limits: &Limits,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(64);
    let places = Arc::new(Semaphore::new(limits.connections));
    let within = Duration::from_millis(limits.handshake_ms);
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: others must close first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(%address, "turned away: too many connections");
                continue;
            };
            let (acceptor, sender, bundles) =
                (acceptor.clone(), sender.clone(), Arc::clone(&bundles));
            tokio::spawn(async move {
                let handshake = handshake(&acceptor, stream, address, bundles.as_ref(), place);
                match tokio::time::timeout(within, handshake).await {
                    Ok(Ok(connection)) => drop(sender.send(Ok(connection)).await),
                    Ok(Err(error)) => tracing::debug!(%address, %error, "handshake refused"),
                    Err(_) => tracing::debug!(%address, "handshake not finished in time"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    bundles: &dyn BundleSource,
    place: OwnedSemaphorePermit,
) -> io::Result<Connection> {
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
    Ok(Connection {
        stream,
        peer: Peer {
            address,
            exporter,
            svid,
        },
        _place: place,
    })
}
