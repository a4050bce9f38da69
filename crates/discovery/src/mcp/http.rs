//! Streamable HTTP: a POST for each message, and JSON or an event stream for an answer. With an end to
//! everything: header bytes, body bytes. No redirect is followed.

use super::{Failure, MAX_MESSAGE, beyond, malformed};
use facts::Finding;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;
const MAX_SESSION: usize = 1_024;
const PROTOCOL: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

pub(super) struct Http<'a> {
    host: String,
    port: u16,
    authority: String,
    path: String,
    /// `None`: plain, to this machine.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    token: Option<&'a crypto::SecretBytes>,
    /// As the server named it, of the older revisions, with the revision.
    session: Option<(HeaderValue, HeaderValue)>,
}

impl<'a> Http<'a> {
    /// Reads the authorities. Connects to nothing.
    pub(super) fn open(
        url: &str,
        ca: Option<&Path>,
        token: Option<&'a crypto::SecretBytes>,
    ) -> Result<Self, Finding> {
        let uri: Uri = url.parse().map_err(|_| no_url(url))?;
        let authority = uri.authority().ok_or_else(|| no_url(url))?;
        if authority.as_str().contains('@') || url.contains('#') {
            return Err(no_url(url));
        }
        let named = authority.as_str().len() > authority.host().len();
        if named && authority.port_u16().is_none() {
            return Err(no_url(url));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(no_url(url)),
        };
        let tls = if secure {
            let name = ServerName::try_from(host.clone()).map_err(|_| no_url(url))?;
            Some((Arc::new(client(ca)?), name))
        } else {
            None
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host,
            port: authority
                .port_u16()
                .unwrap_or(if secure { 443 } else { 80 }),
            authority: authority.to_string(),
            path: path.to_owned(),
            tls,
            token,
            session: None,
        })
    }

    /// Posts a request; the answer to it.
    pub(super) async fn ask(&mut self, request: &Value, revision: &str) -> Result<Value, Failure> {
        let response = self.send(Method::POST, Some(request), revision).await?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(Failure::Unsupported(format!("it answered {}", head.status)));
        }
        if let Some(session) = head.headers.get(&SESSION) {
            if session.len() > MAX_SESSION {
                return Err(beyond(format!("a session of at most {MAX_SESSION} bytes")).into());
            }
            self.session = Some((session.clone(), value(revision)?));
        }
        let id = request.get("id");
        match kind(&head.headers) {
            "application/json" => {
                let bytes = whole(body).await?;
                let answer: Value = serde_json::from_slice(&bytes)
                    .map_err(|error| malformed(format!("no JSON: {error}")))?;
                answers(&answer, id)
                    .then_some(answer)
                    .ok_or_else(|| malformed("an answer to something else").into())
            }
            "text/event-stream" => streamed(body, id).await,
            other => {
                let other: String = other.chars().take(100).collect();
                Err(malformed(format!("an answer of type {other:?}")).into())
            }
        }
    }

    /// Posts what asks for no answer.
    pub(super) async fn tell(&self, notification: &Value, revision: &str) -> Result<(), Failure> {
        let response = self
            .send(Method::POST, Some(notification), revision)
            .await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(Failure::Unsupported(format!(
            "it answered {}",
            response.status()
        )))
    }

    /// Gives a session back. A server need not care.
    pub(super) async fn end(self) {
        if let Some((_, revision)) = &self.session {
            let revision = revision.to_str().unwrap_or_default();
            let _whatever = self.send(Method::DELETE, None, revision).await;
        }
    }

    async fn send(
        &self,
        method: Method,
        message: Option<&Value>,
        revision: &str,
    ) -> Result<Response<Incoming>, Failure> {
        let body = message.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(self.path.as_str())
            .header(header::HOST, self.authority.as_str())
            .header(header::USER_AGENT, "trilith")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::CONNECTION, "close");
        let name = message
            .and_then(|message| message.get("method"))
            .and_then(Value::as_str);
        if let Some(name) = name {
            request = request.header(header::CONTENT_TYPE, "application/json");
            request = request.header(METHOD, value(name)?);
            // The older revisions agree on one by the first message.
            if name != "initialize" {
                request = request.header(PROTOCOL, value(revision)?);
            }
        }
        if let Some((session, _)) = &self.session {
            request = request.header(SESSION, session);
        }
        if let Some(token) = self.token {
            let bearer = [b"Bearer ", token.expose()].concat();
            let mut bearer =
                HeaderValue::from_maybe_shared(Bytes::from(bearer)).map_err(|_| token_refused())?;
            bearer.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Broken(format!("no request: {error}")))?;
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| Failure::Broken(format!("no connection: {error}")))?;
        match &self.tls {
            None => {
                let peer = stream.peer_addr().map(|peer| peer.ip());
                if !peer.is_ok_and(|peer| peer.is_loopback()) {
                    return Err(plain(&self.authority).into());
                }
                exchange(stream, request).await
            }
            Some((config, name)) => {
                let stream = tokio_rustls::TlsConnector::from(Arc::clone(config))
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|error| Failure::Broken(format!("no TLS: {error}")))?;
                exchange(stream, request).await
            }
        }
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::Broken(format!("no HTTP: {error}")))?;
    // It ends with the response's body, or with this program.
    tokio::spawn(async move { drop(connection.await) });
    sender
        .send_request(request)
        .await
        .map_err(|error| Failure::Broken(format!("no answer: {error}")))
}

/// The next bytes of a body, added to `bytes`; false at its end.
async fn more(
    body: &mut Incoming,
    bytes: &mut Vec<u8>,
    taken: &mut usize,
) -> Result<bool, Failure> {
    let Some(frame) = body.frame().await else {
        return Ok(false);
    };
    let frame = frame.map_err(|error| Failure::Broken(format!("half an answer: {error}")))?;
    if let Some(data) = frame.data_ref() {
        *taken += data.len();
        if *taken > MAX_MESSAGE {
            return Err(beyond(format!("an answer of at most {MAX_MESSAGE} bytes")).into());
        }
        bytes.extend_from_slice(data);
    }
    Ok(true)
}

async fn whole(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let (mut bytes, mut taken) = (Vec::new(), 0);
    while more(&mut body, &mut bytes, &mut taken).await? {}
    Ok(bytes)
}

/// Reads events until one is the answer; a server may say other things before it, and go on after it.
async fn streamed(mut body: Incoming, id: Option<&Value>) -> Result<Value, Failure> {
    let (mut bytes, mut taken) = (Vec::new(), 0);
    let mut data = String::new();
    let mut searched = 0;
    loop {
        let fresh = bytes.get(searched..).unwrap_or_default();
        let last = fresh.iter().rposition(|byte| *byte == b'\n');
        let lines: Vec<u8> = match last {
            Some(last) => bytes.drain(..=searched + last).collect(),
            None => Vec::new(),
        };
        searched = bytes.len();
        for line in String::from_utf8_lossy(&lines).lines() {
            if let Some(value) = line.strip_prefix("data:") {
                data.push_str(value.strip_prefix(' ').unwrap_or(value));
                data.push('\n');
            } else if line.is_empty() && !data.is_empty() {
                let event = std::mem::take(&mut data);
                // What is no JSON is no message of this protocol.
                if let Ok(answer) = serde_json::from_str::<Value>(&event)
                    && answers(&answer, id)
                {
                    return Ok(answer);
                }
            }
        }
        if !more(&mut body, &mut bytes, &mut taken).await? {
            return Err(Failure::Broken(
                "the stream ended without the answer".to_owned(),
            ));
        }
    }
}

/// Whether a message is the answer to the request `id`.
pub(super) fn answers(message: &Value, id: Option<&Value>) -> bool {
    let said = message
        .get("result")
        .or_else(|| message.get("error"))
        .is_some();
    // Of what could not be read, nobody knows the request.
    let nameless = message.get("id").is_none_or(Value::is_null) && message.get("error").is_some();
    said && (message.get("id") == id || nameless)
}

/// Without its parameters.
fn kind(headers: &HeaderMap) -> &str {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| Failure::Broken("no header".to_owned()))
}

fn no_url(url: &str) -> Finding {
    Finding::new("SYNC-MCP-URL", "this is no address of an MCP server")
        .expected(
            "https://HOST[:PORT]/PATH without user and fragment; http:// to this machine alone",
        )
        .observed(url)
        .next("correct --url; a token goes into --token-file")
}

fn plain(authority: &str) -> Finding {
    Finding::new(
        "SYNC-MCP-URL",
        "what comes unencrypted from another machine is anybody's answer",
    )
    .expected("https://, or http:// to an address of this machine")
    .observed(authority)
    .next("give the server's https address, and --ca-file if its authority is your own")
}

fn token_refused() -> Finding {
    Finding::new("SYNC-MCP-URL", "the token cannot stand in a header")
        .next("give a file with the token alone, in one line")
}

fn client(ca: Option<&Path>) -> Result<ClientConfig, Finding> {
    crypto::client_trusting(ca).map_err(|error| {
        Finding::new(
            "SYNC-MCP-CA",
            "the authorities that may certify the server cannot be read",
        )
        .expected(error.expected)
        .observed(error.observed)
        .next("install ca-certificates, or name a file with --ca-file")
    })
}
