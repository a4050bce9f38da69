//! One request over one connection, with an end to everything: time, header bytes, body bytes. No redirect is
//! followed, no cookie and no credential is sent.

use crate::path::{chain_headers, longest, percent_decoded};
use crate::source::{Base, Source};
use attest_tee::{Answer, Artefact};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Intel's chains of some kilobytes come in headers.
const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The service is well and does not have it.
    Unknown(StatusCode),
    /// The service wants to be left alone, perhaps for so many seconds.
    Busy(StatusCode, Option<u64>),
    /// No answer that counts came, for this reason.
    Broken(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(status) | Self::Busy(status, _) => write!(f, "it answered {status}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

fn broken(why: &str) -> impl Fn(&dyn std::error::Error) -> Failure {
    move |error| Failure::Broken(format!("{why}: {error}"))
}

/// Asks `source` for a document.
pub(crate) async fn get(
    source: &Source,
    artefact: &Artefact,
    timeout: Duration,
) -> Result<Answer, Failure> {
    let (base, path) = source.target(artefact);
    let late = |_| Failure::Broken(format!("no whole answer within {} ms", timeout.as_millis()));
    tokio::time::timeout(timeout, ask(source, base, &path, artefact))
        .await
        .map_err(late)?
}

async fn ask(
    source: &Source,
    base: &Base,
    path: &str,
    artefact: &Artefact,
) -> Result<Answer, Failure> {
    let stream = TcpStream::connect((base.host.as_str(), base.port))
        .await
        .map_err(|error| broken("no connection")(&error))?;
    match &base.name {
        None => exchange(stream, base, path, artefact).await,
        Some(name) => {
            let stream = tokio_rustls::TlsConnector::from(source.tls())
                .connect(name.clone(), stream)
                .await
                .map_err(|error| broken("no TLS")(&error))?;
            exchange(stream, base, path, artefact).await
        }
    }
}

/// Ends the connection with whoever waits for it.
struct Ended(tokio::task::JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    base: &Base,
    path: &str,
    artefact: &Artefact,
) -> Result<Answer, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken("no HTTP")(&error))?;
    let _ended = Ended(tokio::spawn(async move { drop(connection.await) }));
    let host = if base.host.contains(':') {
        format!("[{}]:{}", base.host, base.port)
    } else {
        format!("{}:{}", base.host, base.port)
    };
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "trilith")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken("no request")(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| broken("no answer")(&error))?;
    let (head, body) = response.into_parts();
    let status = head.status;
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST => {
            return Err(Failure::Unknown(status));
        }
        StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::Busy(status, retry_after(&head.headers)));
        }
        _ if status.is_server_error() => {
            return Err(Failure::Busy(status, retry_after(&head.headers)));
        }
        _ if status.is_redirection() => {
            return Err(Failure::Broken(format!(
                "it answered {status}, and redirects are not followed"
            )));
        }
        _ => return Err(Failure::Broken(format!("it answered {status}"))),
    }
    let most = longest(artefact);
    let body = Limited::new(body, most).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::Broken(format!("an answer of more than {most} bytes"))
        } else {
            broken("half an answer")(error.as_ref())
        }
    })?;
    Ok(Answer {
        body: binary(artefact, body.to_bytes().to_vec()),
        chain: chain(artefact, &head.headers)?,
    })
}

/// Seconds alone: a date would be by the service's clock.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::RETRY_AFTER)?;
    value.to_str().ok()?.parse().ok()
}

fn chain(artefact: &Artefact, headers: &HeaderMap) -> Result<String, Failure> {
    let names = chain_headers(artefact);
    if names.is_empty() {
        return Ok(String::new());
    }
    let value = names.iter().find_map(|name| headers.get(*name));
    value
        .and_then(|value| percent_decoded(value.to_str().ok()?))
        .ok_or_else(|| Failure::Broken("no chain of certificates beside it".to_owned()))
}

/// Caching services hand out the list of Intel's root in hexadecimal digits.
fn binary(artefact: &Artefact, body: Vec<u8>) -> Vec<u8> {
    let digits = match artefact {
        Artefact::IntelRootCrl | Artefact::PckCrl { .. } => str::from_utf8(&body).ok(),
        _ => None,
    };
    let decoded = digits.and_then(|digits| crypto::hex::decode(digits.trim()).ok());
    decoded.unwrap_or(body)
}
