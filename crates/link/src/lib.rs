//! How agents and gateways reach the server: first contact by pin, TLS that authenticates by SVID, and
//! gRPC over it. What is said over the link is the planes' business.
//!
//! Each connection is dialled once and never again behind the caller's back: proofs of a join are bound to
//! the connection's exporter, and a renewed identity is shown only in a new handshake.

#![forbid(unsafe_code)]

mod anchors;

pub use anchors::{AnchorsError, anchors, lineage};

use facts::{Finding, Timestamp};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use spiffe_core::{SpiffeId, TrustDomain, ValidatedSvid};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use svid_tls::{Authorizer, BundleSource, OwnSvid};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Path of the server's SPIFFE ID.
pub const SERVER_PATH: &str = "trilith/server";

const DIAL: Duration = Duration::from_secs(10);
/// A server that is gone without a word is noticed after both.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
pub const MAX_MESSAGE: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{server} cannot be reached")]
    Dial {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} did not answer in time")]
    Timeout(String),
    #[error("the server was not accepted: {0}")]
    Peer(Finding),
    #[error("TLS with {server}")]
    Tls {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("TLS configuration")]
    Config(#[from] svid_tls::Error),
    #[error("gRPC with {server}")]
    Grpc {
        server: String,
        #[source]
        source: tonic::transport::Error,
    },
}

/// An open connection.
#[derive(Debug, Clone)]
pub struct Link {
    pub channel: Channel,
    /// Only the two ends of this connection know it.
    pub exporter: [u8; 32],
    /// The server's certificates as it presented them, leaf first.
    pub server: Vec<CertificateDer<'static>>,
}

impl Link {
    /// The server's SVID, valid under `bundles` now.
    pub fn server_svid(&self, bundles: &dyn BundleSource) -> Result<ValidatedSvid, Finding> {
        svid_tls::peer::validate(&self.server, bundles, Timestamp::now())
    }
}

/// Only the server of the trust domain.
pub fn server_only(trust_domain: &TrustDomain) -> Result<Authorizer, Finding> {
    let id: SpiffeId = trust_domain
        .identity(SERVER_PATH)
        .map_err(|error| Finding::new("LINK-SERVER-ID", error.to_string()))?;
    Ok(svid_tls::peer::exactly(id))
}

/// A connection that presents `own` to a server that chains to `bundles`.
pub async fn authenticated(
    server: &str,
    trust_domain: &TrustDomain,
    own: Arc<OwnSvid>,
    bundles: Arc<dyn BundleSource>,
) -> Result<Link, LinkError> {
    let authorizer = server_only(trust_domain).map_err(LinkError::Peer)?;
    connect(server, svid_tls::client(own, bundles, authorizer)?).await
}

/// A connection to whoever is there; see [`svid_tls::first_contact`].
pub async fn first_contact(server: &str) -> Result<Link, LinkError> {
    connect(server, svid_tls::first_contact()?).await
}

async fn connect(server: &str, mut tls: ClientConfig) -> Result<Link, LinkError> {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let dialled = async {
        let tcp = TcpStream::connect(server)
            .await
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            .map_err(|source| LinkError::Dial {
                server: server.to_owned(),
                source,
            })?;
        let connector = TlsConnector::from(Arc::new(tls));
        connector
            .connect(svid_tls::server_name(), tcp)
            .await
            .map_err(|source| refused(server, source))
    };
    let stream = tokio::time::timeout(DIAL, dialled)
        .await
        .map_err(|_| LinkError::Timeout(server.to_owned()))??;
    let (_, session) = stream.get_ref();
    let exporter = svid_tls::channel_binding(session)?;
    let certificates = session.peer_certificates().unwrap_or_default().to_vec();
    Ok(Link {
        channel: over(server, stream).await?,
        exporter,
        server: certificates,
    })
}

fn refused(server: &str, source: io::Error) -> LinkError {
    let finding = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .and_then(svid_tls::finding);
    match finding {
        Some(finding) => LinkError::Peer(finding.clone()),
        None => LinkError::Tls {
            server: server.to_owned(),
            source,
        },
    }
}

/// gRPC over `stream`, and over nothing else once it has ended.
async fn over(server: &str, stream: TlsStream<TcpStream>) -> Result<Channel, LinkError> {
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection has ended");
        std::future::ready(stream.ok_or_else(gone))
    });
    Endpoint::from_static("http://server.invalid")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(256 << 10)
        .buffer_size(64)
        .connect_with_connector(connector)
        .await
        .map_err(|source| LinkError::Grpc {
            server: server.to_owned(),
            source,
        })
}
