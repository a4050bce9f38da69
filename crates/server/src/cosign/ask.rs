//! One witness over HTTP, asked within bounds: header and body bytes, one deadline, no redirects, no cookies. What
//! it is sent is public and what it answers is checked by signature, so that plain HTTP makes nothing of it untrue. What
//! it does not answer is not checked: whoever stands between keeps a newer head from being shown, and has an old one
//! in its place. Whether this server was rewound is asked over `https`, or of lines that are made now.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use ledger::mirror;
use ledger::witness::{Answer, origin_hash};
use listen::{Peer, Unfit, Url};
use rustls::ClientConfig;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const TEXT: &str = "text/plain; charset=utf-8";
/// A note with 64 lines of post-quantum witnesses, or an answer with as many.
const LONGEST_BODY: usize = 256 * 1024;
/// 256 records of 64 KiB, each with its length.
const LONGEST_BUNDLE: usize = 256 * (2 + 65_535);

/// Where a witness is.
pub(super) struct Address {
    peer: Peer,
    authority: String,
    /// Without a slash at its end.
    prefix: String,
}

/// An answer as it came.
struct Came {
    status: u16,
    kind: Option<String>,
    body: Vec<u8>,
}

impl Address {
    /// Reads `http[s]://HOST[:PORT][/PREFIX]`; `tls` is asked for where it is `https`.
    pub(super) fn parse(
        url: &str,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Self, String> {
        let beside = || format!("{url:?} has a user, a query or a fragment");
        let read = Url::parse(url).map_err(|unfit| match unfit {
            Unfit::NoAddress => format!("{url:?} is no address"),
            Unfit::Secret => beside(),
            Unfit::Scheme => format!("{url:?} is neither http nor https"),
        })?;
        if url.contains('?') {
            return Err(beside());
        }
        let peer = if read.tls {
            Peer::by_tls(read.host, read.port, tls)?
                .ok_or_else(|| format!("{url:?} names no host"))?
        } else {
            Peer::plain(read.host, read.port)
        };
        Ok(Self {
            peer,
            authority: read.authority,
            prefix: read.path.trim_end_matches('/').to_owned(),
        })
    }

    /// `POST <submission prefix>/add-checkpoint`. A mirror may answer without a line.
    pub(super) async fn add_checkpoint(
        &self,
        body: String,
        mirror: bool,
        within: Duration,
    ) -> Result<Answer, String> {
        let came = self
            .ask(
                Method::POST,
                "/add-checkpoint",
                TEXT,
                body.into_bytes(),
                within,
            )
            .await?;
        // "responding with an empty response body."
        if mirror && came.status == 200 && came.body.is_empty() {
            return Ok(Answer::Cosigned(Vec::new()));
        }
        Answer::parse(came.status, came.kind.as_deref(), &came.body)
            .map_err(|error| facts::with_causes(&error))
    }

    /// `POST <submission prefix>/add-entries`.
    pub(super) async fn add_entries(
        &self,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<mirror::Answer, String> {
        let came = self
            .ask(
                Method::POST,
                "/add-entries",
                mirror::ENTRIES_TYPE,
                body,
                within,
            )
            .await?;
        mirror::Answer::parse(came.status, came.kind.as_deref(), &came.body)
            .map_err(|error| facts::with_causes(&error))
    }

    /// `GET <monitoring prefix>/<origin hash>/checkpoint`, where both prefixes are one. Verified by nobody yet.
    pub(super) async fn latest(&self, origin: &str, within: Duration) -> Result<String, String> {
        let shown = self.shown(origin, within).await?;
        shown.ok_or_else(|| "status 404".to_owned())
    }

    /// As [`Address::latest`]; `None` where it has cosigned none of that log.
    pub(super) async fn shown(
        &self,
        origin: &str,
        within: Duration,
    ) -> Result<Option<String>, String> {
        let path = format!("/{}/checkpoint", origin_hash(origin));
        let came = self
            .ask(Method::GET, &path, TEXT, Vec::new(), within)
            .await?;
        match came.status {
            404 => Ok(None),
            200 => String::from_utf8(came.body)
                .map(Some)
                .map_err(|_| "it is not UTF-8".to_owned()),
            other => Err(format!("status {other}")),
        }
    }

    /// A checkpoint or an entry bundle that lies there for everybody. Verified by nobody yet.
    pub(super) async fn read(&self, path: &str, within: Duration) -> Result<Vec<u8>, String> {
        let (kind, most) = (TEXT, LONGEST_BUNDLE);
        let came = self.ask_within(Method::GET, path, (kind, Vec::new()), most, within);
        let came = came.await?;
        match came.status {
            200 => Ok(came.body),
            other => Err(format!("status {other} for {path}")),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Came, String> {
        self.ask_within(method, path, (kind, body), LONGEST_BODY, within)
            .await
    }

    async fn ask_within(
        &self,
        method: Method,
        path: &str,
        content: (&'static str, Vec<u8>),
        most: usize,
        within: Duration,
    ) -> Result<Came, String> {
        let asked = self.exchange(method, path, content, most);
        match tokio::time::timeout(within, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no whole answer within {} ms", within.as_millis())),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        (kind, body): (&'static str, Vec<u8>),
        most: usize,
    ) -> Result<Came, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, self.authority.as_str())
            .header(header::USER_AGENT, "trilith")
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let stream = self.peer.connect().await;
        let stream = stream.map_err(|unreached| unreached.to_string())?;
        let mut answering = listen::ask(stream, request).await?;
        let body = Limited::new(answering.body(), most)
            .collect()
            .await
            .map_err(|error| format!("half an answer: {error}"))?;
        let kind = answering.headers().get(header::CONTENT_TYPE);
        Ok(Came {
            status: answering.status().as_u16(),
            kind: kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned),
            body: body.to_bytes().to_vec(),
        })
    }
}

/// The authorities that may certify witnesses. Blocks on the disk.
pub(super) fn tls(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    crypto::client_trusting(authorities)
        .map(Arc::new)
        .map_err(|error| format!("{error}, expected {}: name a file as `ca`", error.expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_or_https_and_nothing_beside() {
        let none = || Err("no authorities".to_owned());
        let prefix = |url: &str| Address::parse(url, none).map(|at| (at.peer.port(), at.prefix));
        assert_eq!(prefix("http://w.example"), Ok((80, String::new())));
        assert_eq!(
            prefix("http://[::1]:7446/a/b/"),
            Ok((7446, "/a/b".to_owned()))
        );
        for bad in [
            "",
            "w.example",
            "ftp://w.example",
            "http://u@w.example/",
            "http://w.example/?x",
            "file:///x",
        ] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
        // It is not asked in the clear where TLS cannot be had.
        assert_eq!(
            prefix("https://w.example"),
            Err("no authorities".to_owned())
        );
    }
}
