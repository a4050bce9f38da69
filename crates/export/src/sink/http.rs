//! A collector over HTTP: one request a batch, `application/cloudevents-batch+json` (the CloudEvents HTTP binding)
//! or JSON lines. No redirects; what it answers beyond its status is read within bounds and thrown away.

use super::address::Address;
use super::{Refusal, Secrets, lines};
use crate::{Event, Format};
use facts::Finding;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use std::path::Path;
use std::time::Duration;

/// From the first packet to the last byte.
const DEADLINE: Duration = Duration::from_secs(30);
/// What is read of an answer.
const LONGEST_BODY: usize = 64 * 1_024;
/// Bytes of a file of headers.
const LONGEST_FILE: usize = 64 * 1_024;

pub(super) struct HttpSink {
    address: Address,
    format: Format,
    headers: HeaderMap,
}

impl HttpSink {
    pub(super) fn open(
        address: Address,
        format: Format,
        secrets: &Secrets,
    ) -> Result<Self, Finding> {
        let headers = match &secrets.headers {
            Some(path) => headers(path)?,
            None => HeaderMap::new(),
        };
        Ok(Self {
            address,
            format,
            headers,
        })
    }

    pub(super) async fn take(&mut self, events: &[Event]) -> Result<(), Refusal> {
        let exchanged = tokio::time::timeout(DEADLINE, self.exchange(events)).await;
        let (status, after) = exchanged
            .map_err(|_| Refusal::again(format!("no answer within {} s", DEADLINE.as_secs())))?
            .map_err(Refusal::again)?;
        if status.is_success() {
            return Ok(());
        }
        let finding = |what: &str| {
            Box::new(
                Finding::new("EXPORT-SINK-REFUSED", what)
                    .expected("an answer of 2xx")
                    .observed(format!("{} from {}", status, self.address.authority))
                    .next("look at the collector's log, its address and --header-file; then run the same command again"),
            )
        };
        let why = format!("{} answers {status}", self.address.authority);
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Err(Refusal::TooLarge(finding(
                "the collector does not take even one event: it is too large for it",
            ))),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Err(Refusal::Again { why, after })
            }
            status if status.is_server_error() => Err(Refusal::Again { why, after }),
            _ => Err(Refusal::Never(finding("the collector refuses the events"))),
        }
    }

    /// The status, and how long the collector asks to be left alone.
    async fn exchange(&self, events: &[Event]) -> Result<(StatusCode, Option<Duration>), String> {
        let (body, kind) = match self.format {
            Format::CloudEvents => (
                array(events),
                "application/cloudevents-batch+json; charset=UTF-8",
            ),
            Format::Ocsf => (lines(events), "application/x-ndjson"),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.address.path.as_str())
            .header(header::HOST, self.address.authority.as_str())
            .header(header::USER_AGENT, "trilith")
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        request.headers_mut().extend(self.headers.clone());
        let stream = self.address.connect().await?;
        let mut answering = listen::ask(stream, request).await?;
        let mut read = 0_usize;
        while let Some(frame) = answering.body().frame().await {
            let frame = frame.map_err(|error| format!("half an answer: {error}"))?;
            read = read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            if read > LONGEST_BODY {
                break;
            }
        }
        let after = answering
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        Ok((answering.status(), after))
    }
}

/// A JSON array of them.
fn array(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        bytes.push(if bytes.is_empty() { b'[' } else { b',' });
        bytes.extend_from_slice(event.json.as_bytes());
    }
    bytes.push(b']');
    bytes
}

fn headers(path: &Path) -> Result<HeaderMap, Finding> {
    let unreadable = |observed: &str| {
        Finding::new("EXPORT-SINK-HEADERS", "the headers to send cannot be read")
            .expected("a line `Name: value` for each, such as `Authorization: Bearer …`")
            .observed(format!("{}: {observed}", path.display()))
            .next("correct the file that --header-file names")
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error.to_string()))?;
    if text.len() > LONGEST_FILE {
        return Err(unreadable("more than 64 KiB"));
    }
    let mut headers = HeaderMap::new();
    let lines = text.lines().enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        // The value is a secret: it is not shown.
        let wrong = || unreadable(&format!("line {} is no header", number + 1));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
