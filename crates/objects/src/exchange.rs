//! Requests to one host over HTTP/1.1, each within bounds: header and body bytes, one deadline, no redirects, no
//! cookies. Connections are used again while the store keeps them open.

use crate::place::Place;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 100;
/// Connections that wait for their next request.
const MOST_IDLE: usize = 8;

/// An answer as it came.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Or it has more than was read.
    pub(crate) whole: bool,
}

/// A connection and the task that drives it, which ends with this.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

pub(crate) struct Exchange {
    place: Place,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

impl Exchange {
    /// Reads the authorities where the place is encrypted. Blocks on the disk.
    pub(crate) fn open(
        place: Place,
        authorities: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let tls = place.name.as_ref().map(|_| tls(authorities)).transpose()?;
        Ok(Self {
            place,
            tls,
            timeout,
            idle: Mutex::default(),
        })
    }

    /// Sends `request`, whose repetition does no harm, and reads at most `most` bytes of the answer.
    pub(crate) async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Answer, String> {
        match tokio::time::timeout(self.timeout, self.exchange(request, most)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!(
                "no whole answer within {} ms",
                self.timeout.as_millis()
            )),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, most: usize) -> Result<Answer, String> {
        if let Some(connection) = self.waiting() {
            // The store may have closed it at the same moment.
            if let Ok(answer) = self.over(connection, request.clone(), most).await {
                return Ok(answer);
            }
        }
        let connection = self.connect().await?;
        self.over(connection, request, most).await
    }

    async fn over(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Answer, String> {
        let answer = connection
            .sender
            .send_request(request)
            .await
            .map_err(|error| format!("no answer: {error}"))?;
        let (head, mut body) = answer.into_parts();
        let (mut bytes, mut whole) = (Vec::new(), true);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("half an answer: {error}"))?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref()));
            if bytes.len() > most {
                whole = false;
                break;
            }
        }
        let etag = head.headers.get(header::ETAG);
        let answer = Answer {
            status: head.status,
            etag: etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned),
            body: bytes,
            whole,
        };
        if whole && connection.sender.ready().await.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MOST_IDLE {
                idle.push(connection);
            }
        }
        Ok(answer)
    }

    fn waiting(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.sender.is_closed());
        idle.pop()
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect((self.place.host.as_str(), self.place.port))
            .await
            .map_err(|error| format!("no connection: {error}"))?;
        stream
            .set_nodelay(true)
            .map_err(|error| format!("no connection: {error}"))?;
        let (Some(name), Some(tls)) = (&self.place.name, &self.tls) else {
            return shake(stream).await;
        };
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls))
            .connect(name.clone(), stream)
            .await
            .map_err(|error| format!("no TLS: {error}"))?;
        shake(stream).await
    }
}

async fn shake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> Result<Connection, String> {
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {error}"))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    Ok(Connection {
        sender,
        _driver: driver,
    })
}

fn tls(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    crypto::client_trusting(authorities)
        .map(Arc::new)
        .map_err(|error| format!("{error}, expected {}: name a file as `ca`", error.expected))
}
