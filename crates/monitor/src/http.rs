//! One request over one connection, with an end to everything: time, bytes of the head, bytes of the body. No redirect
//! is followed, no cookie is kept, and nothing is asked to be compressed.

use facts::Finding;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode};
use listen::{Peer, Unfit, Url, is_this_machine};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Whom to ask.
pub(crate) struct Address {
    /// As it was configured.
    pub(crate) url: String,
    peer: Peer,
    authority: String,
    /// What stands before each path, without its last slash.
    prefix: String,
    timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No answer that counts.
    None(String),
    /// It did not end in time.
    Slow,
    /// It has more bytes than what was asked for can have.
    TooLarge,
}

impl Address {
    /// `secret`: what is sent is not for whoever listens on the way, so plain HTTP is for this machine alone.
    pub(crate) fn new(
        url: &str,
        authorities: Option<&Path>,
        timeout: Duration,
        secret: bool,
    ) -> Result<Self, Finding> {
        let unusable = |what: &str| {
            Finding::new("MONITOR-ADDRESS", what)
                .expected("https://HOST[:PORT][/PREFIX]; http:// for a log or a witness, and for a webhook on 127.0.0.1 or [::1]")
                .observed(url.chars().take(200).collect::<String>())
                .next("correct the address in monitor.toml")
        };
        let read = Url::parse(url).map_err(|unfit| match unfit {
            Unfit::NoAddress => unusable("this is no address"),
            Unfit::Secret => unusable("an address has neither a user nor a fragment"),
            Unfit::Scheme => unusable("an address is of https or http"),
        })?;
        if !read.tls && secret && !is_this_machine(&read.host) {
            return Err(unusable("what is sent there would be sent in the clear"));
        }
        let trusted = || {
            let config = crypto::client_trusting(authorities).map(Arc::new);
            config.map_err(|error| {
                Finding::new(
                    "MONITOR-CA",
                    "the authorities that may certify an address cannot be read",
                )
                .expected(error.expected)
                .observed(error.observed)
                .next("install ca-certificates, or name a file with `ca_file`")
            })
        };
        let peer = if read.tls {
            Peer::by_tls(read.host, read.port, trusted)?
                .ok_or_else(|| unusable("no certificate can name this host"))?
        } else {
            Peer::plain(read.host, read.port)
        };
        Ok(Self {
            url: url.to_owned(),
            peer,
            authority: read.authority,
            prefix: read.path.trim_end_matches('/').to_owned(),
            timeout,
        })
    }

    /// Status, and the body if it is 200.
    pub(crate) async fn get(
        &self,
        path: &str,
        most: usize,
    ) -> Result<(StatusCode, Vec<u8>), Trouble> {
        let path = format!("{}/{path}", self.prefix);
        self.ask(Method::GET, &path, HeaderMap::new(), Vec::new(), most)
            .await
    }

    pub(crate) async fn post(
        &self,
        headers: HeaderMap,
        body: Vec<u8>,
        most: usize,
    ) -> Result<StatusCode, Trouble> {
        let path = if self.prefix.is_empty() {
            "/"
        } else {
            &self.prefix
        };
        self.ask(Method::POST, path, headers, body, most)
            .await
            .map(|(status, _)| status)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        most: usize,
    ) -> Result<(StatusCode, Vec<u8>), Trouble> {
        let keep = |status: StatusCode| method == Method::GET && status == StatusCode::OK;
        let asked = method.clone();
        let exchanged = self.exchange(asked, path, headers, body, most, keep);
        let exchanged = tokio::time::timeout(self.timeout, exchanged).await;
        let (status, _, body) = exchanged.map_err(|_elapsed| Trouble::Slow)??;
        Ok((status, body))
    }

    /// As [`Address::post`], below the address; with the kind and the body of every answer.
    pub(crate) async fn send(
        &self,
        path: &str,
        kind: &'static str,
        body: Vec<u8>,
        most: usize,
    ) -> Result<(StatusCode, Option<String>, Vec<u8>), Trouble> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        let path = format!("{}/{path}", self.prefix);
        let exchanged = self.exchange(Method::POST, &path, headers, body, most, |_status| true);
        let exchanged = tokio::time::timeout(self.timeout, exchanged).await;
        exchanged.map_err(|_elapsed| Trouble::Slow)?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        most: usize,
        keep: impl Fn(StatusCode) -> bool,
    ) -> Result<(StatusCode, Option<String>, Vec<u8>), Trouble> {
        let none =
            |what: &str, error: &dyn std::error::Error| Trouble::None(format!("{what}: {error}"));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.authority.as_str())
            .header(header::USER_AGENT, "trilith")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| none("no request", &error))?;
        request.headers_mut().extend(headers);
        let stream = self.peer.connect().await;
        let stream = stream.map_err(|unreached| Trouble::None(unreached.to_string()))?;
        let answering = listen::ask(stream, request).await;
        let mut answering = answering.map_err(Trouble::None)?;
        let status = answering.status();
        let kind = answering.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        if !keep(status) {
            return Ok((status, kind, Vec::new()));
        }
        let collected = Limited::new(answering.body(), most).collect().await;
        let body = collected.map_err(|error| match error.is::<LengthLimitError>() {
            true => Trouble::TooLarge,
            false => none("half an answer", error.as_ref()),
        })?;
        Ok((status, kind, body.to_bytes().to_vec()))
    }
}
