//! Opening a connection to the database: socket, TLS, startup, authentication.

use super::scram::{Exchange, RoleSecret, ScramError, Secret};
use crate::wire::{self, CancelKey, WireError};
use bytes::{Buf, BytesMut};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Longest message that the gateway reads itself while it logs in.
const MAX_LOGIN_MESSAGE: usize = 64 * 1024;
/// SQLSTATE of a server, a database or a role that has as many connections as it may.
pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("cannot reach the database at {address}")]
    Reach {
        address: String,
        source: std::io::Error,
    },
    #[error("the database does not answer in time")]
    Timeout,
    #[error("the database does not speak TLS on this address")]
    NoTls,
    #[error("the connection to the database broke")]
    Broken(#[source] std::io::Error),
    #[error("the database's answer is malformed")]
    Wire(#[from] WireError),
    #[error("SCRAM with the database failed")]
    Scram(#[from] ScramError),
    #[error("the database asks for authentication of kind {0}, SCRAM-SHA-256 is what we answer")]
    Authentication(u32),
    #[error("the database refused: {message} (SQLSTATE {sqlstate})")]
    Refused { sqlstate: String, message: String },
}

/// Where the database is.
#[derive(Clone)]
pub(crate) enum Address {
    Unix {
        socket: PathBuf,
    },
    Tls {
        host: String,
        port: u16,
        config: Arc<rustls::ClientConfig>,
    },
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix { socket } => write!(f, "{}", socket.display()),
            Self::Tls { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// Who logs in, and how.
pub(crate) enum Login<'a> {
    /// The operating system says who we are.
    Peer,
    Password(&'a crypto::SecretBytes),
    Role(&'a RoleSecret),
}

pub(crate) enum UpstreamStream {
    Unix(UnixStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// A session of the database, ready for queries.
pub(crate) struct Connected {
    pub(crate) stream: UpstreamStream,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) cancel: Option<CancelKey>,
    /// Read but not yet used.
    pub(crate) buffer: BytesMut,
}

impl Address {
    async fn open(&self) -> Result<UpstreamStream, UpstreamError> {
        let reach = |source| UpstreamError::Reach {
            address: self.to_string(),
            source,
        };
        match self {
            Self::Unix { socket } => {
                let stream = UnixStream::connect(socket).await.map_err(reach)?;
                Ok(UpstreamStream::Unix(stream))
            }
            Self::Tls { host, port, config } => {
                let mut stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(reach)?;
                stream.set_nodelay(true).map_err(reach)?;
                // SSLRequest, 55.2.10.
                let request = [0, 0, 0, 8, 4, 210, 22, 47];
                stream
                    .write_all(&request)
                    .await
                    .map_err(UpstreamError::Broken)?;
                if stream.read_u8().await.map_err(UpstreamError::Broken)? != b'S' {
                    return Err(UpstreamError::NoTls);
                }
                let name = rustls::pki_types::ServerName::try_from(host.clone())
                    .map_err(|_| UpstreamError::NoTls)?;
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name, stream).await.map_err(reach)?;
                Ok(UpstreamStream::Tls(Box::new(stream)))
            }
        }
    }

    /// Logs in and waits for ReadyForQuery.
    pub(crate) async fn connect(
        &self,
        parameters: &[(&str, &str)],
        login: &Login<'_>,
    ) -> Result<Connected, UpstreamError> {
        let connecting = async {
            let mut stream = self.open().await?;
            let mut out = BytesMut::new();
            wire::startup_message(&mut out, parameters);
            stream
                .write_all(&out)
                .await
                .map_err(UpstreamError::Broken)?;
            let mut session = Connected {
                stream,
                parameters: Vec::new(),
                cancel: None,
                buffer: BytesMut::with_capacity(4096),
            };
            session.log_in(login).await?;
            Ok(session)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| UpstreamError::Timeout)?
    }

    /// Asks the database to cancel what the session with `key` does.
    pub(crate) async fn cancel(&self, key: CancelKey) -> Result<(), UpstreamError> {
        let cancelling = async {
            let mut stream = self.open().await?;
            let message = wire::cancel_message(key);
            stream
                .write_all(&message)
                .await
                .map_err(UpstreamError::Broken)?;
            stream.shutdown().await.map_err(UpstreamError::Broken)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, cancelling)
            .await
            .map_err(|_| UpstreamError::Timeout)?
    }
}

impl Connected {
    /// The next whole message: its tag and its body.
    pub(crate) async fn message(&mut self, most: usize) -> Result<(u8, BytesMut), UpstreamError> {
        loop {
            if let Some((head, _)) = wire::frame(&self.buffer, most)? {
                let mut message = self.buffer.split_to(head.length);
                message.advance(5);
                return Ok((head.tag, message));
            }
            let read = self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .map_err(UpstreamError::Broken)?;
            if read == 0 {
                return Err(UpstreamError::Broken(
                    std::io::ErrorKind::UnexpectedEof.into(),
                ));
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), UpstreamError> {
        self.stream
            .write_all(bytes)
            .await
            .map_err(UpstreamError::Broken)
    }

    async fn log_in(&mut self, login: &Login<'_>) -> Result<(), UpstreamError> {
        let mut exchange = Exchange::new(crypto::random());
        loop {
            let (tag, body) = self.message(MAX_LOGIN_MESSAGE).await?;
            match tag {
                b'R' => self.authenticate(&body, login, &mut exchange).await?,
                b'S' => {
                    let pair = wire::text_at(&body)
                        .and_then(|(name, rest)| Some((name, wire::text_at(rest)?.0)));
                    let (name, value) = pair.ok_or(WireError::Malformed("parameter status"))?;
                    self.parameters.push((name.to_owned(), value.to_owned()));
                }
                b'K' => {
                    let (process, rest) = body
                        .split_first_chunk::<4>()
                        .ok_or(WireError::Malformed("backend key"))?;
                    let secret = rest
                        .first_chunk::<4>()
                        .ok_or(WireError::Malformed("backend key"))?;
                    self.cancel = Some(CancelKey {
                        process: u32::from_be_bytes(*process),
                        secret: u32::from_be_bytes(*secret),
                    });
                }
                b'Z' => return Ok(()),
                b'E' => {
                    let (sqlstate, message) = wire::sqlstate(&body);
                    return Err(UpstreamError::Refused { sqlstate, message });
                }
                b'N' => {}
                other => return Err(WireError::UnknownTag(char::from(other)).into()),
            }
        }
    }

    async fn authenticate(
        &mut self,
        body: &[u8],
        login: &Login<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), UpstreamError> {
        let malformed = WireError::Malformed("authentication");
        let Some((kind, rest)) = body.split_first_chunk::<4>() else {
            return Err(malformed.into());
        };
        let secret = match login {
            Login::Peer => None,
            Login::Password(password) => Some(Secret::Password(password)),
            Login::Role(role) => Some(Secret::Role(role)),
        };
        let text = std::str::from_utf8(rest).unwrap_or_default();
        match (u32::from_be_bytes(*kind), secret) {
            (0, _) => Ok(()),
            (10, Some(_)) if text.split('\0').any(|name| name == "SCRAM-SHA-256") => {
                let first = exchange.first();
                let mut answer = b"SCRAM-SHA-256\0".to_vec();
                answer.extend_from_slice(&u32::try_from(first.len()).unwrap_or(0).to_be_bytes());
                answer.extend_from_slice(first.as_bytes());
                self.answer(&answer).await
            }
            (11, Some(secret)) => {
                let last = exchange.last(text, &secret)?;
                self.answer(last.as_bytes()).await
            }
            (12, Some(_)) => Ok(exchange.check(text)?),
            (other, _) => Err(UpstreamError::Authentication(other)),
        }
    }

    async fn answer(&mut self, body: &[u8]) -> Result<(), UpstreamError> {
        let mut out = BytesMut::new();
        wire::raw(&mut out, b'p', body);
        self.send(&out).await
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
