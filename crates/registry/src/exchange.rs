//! One request over one connection, with an end to everything: time, header bytes, body bytes. It follows nothing
//! and knows no secret but the header that it is given.

use crate::origin::{Origin, Reach, Stream};
use attest_code::image::BlobDigest;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(30);

/// Why there is no answer that counts.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Where somebody else pointed is not of the public internet.
    Inside(String),
    /// More than was announced or is taken.
    TooLong(u64),
    /// Other bytes than were named.
    Other(BlobDigest),
    /// The file system's.
    Disk(std::io::Error),
    /// No answer came, or half of one.
    Broken(String),
}

impl Failure {
    pub(crate) fn broken(why: impl Into<String>) -> Self {
        Self::Broken(why.into())
    }
}

/// Ends the connection with whoever waits for it.
struct Ended(tokio::task::JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The head of an answer, and what follows.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: Ended,
}

/// What is asked of a place.
pub(crate) struct Question<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) reach: Reach,
    pub(crate) path: &'a str,
    pub(crate) accept: &'static str,
    pub(crate) authorization: Option<HeaderValue>,
}

pub(crate) async fn ask(
    question: Question<'_>,
    tls: &Arc<ClientConfig>,
) -> Result<Answer, Failure> {
    let stream = question.origin.connect(question.reach, tls).await?;
    let answered = exchange(stream, question);
    tokio::time::timeout(SILENCE, answered)
        .await
        .map_err(|_| Failure::broken(format!("no answer within {} s", SILENCE.as_secs())))?
}

async fn exchange(stream: Box<dyn Stream>, question: Question<'_>) -> Result<Answer, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::broken(format!("no HTTP: {error}")))?;
    let connection = Ended(tokio::spawn(async move { drop(connection.await) }));
    let mut request = Request::get(question.path)
        .header(header::HOST, question.origin.authority())
        .header(header::USER_AGENT, "trilith")
        .header(header::ACCEPT, question.accept)
        .header(header::CONNECTION, "close");
    if let Some(authorization) = question.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::broken(format!("no request: {error}")))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| Failure::broken(format!("no answer: {error}")))?;
    let (head, body) = response.into_parts();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
        _connection: connection,
    })
}

impl Answer {
    /// A short body, whole.
    pub(crate) async fn whole(self, most: usize) -> Result<Vec<u8>, Failure> {
        let body = Limited::new(self.body, most).collect();
        let body = tokio::time::timeout(SILENCE, body)
            .await
            .map_err(|_| {
                Failure::broken(format!("no whole answer within {} s", SILENCE.as_secs()))
            })?
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Failure::TooLong(u64::try_from(most).unwrap_or(u64::MAX))
                } else {
                    Failure::broken(format!("half an answer: {error}"))
                }
            })?;
        Ok(body.to_bytes().to_vec())
    }

    /// A body of `size` bytes with this digest, piece by piece: nothing of it is held in memory.
    pub(crate) async fn write(
        mut self,
        file: &mut (impl AsyncWrite + Unpin),
        digest: BlobDigest,
        size: u64,
    ) -> Result<(), Failure> {
        let mut left = size;
        let mut hash = crypto::Sha256::new();
        loop {
            let piece = tokio::time::timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_| Failure::broken(format!("silent for {} s", SILENCE.as_secs())))?;
            let Some(piece) = piece else { break };
            let piece =
                piece.map_err(|error| Failure::broken(format!("half an answer: {error}")))?;
            let Some(data) = piece.data_ref() else {
                continue;
            };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(length).ok_or(Failure::TooLong(size))?;
            hash.update(data);
            file.write_all(data).await.map_err(Failure::Disk)?;
        }
        file.flush().await.map_err(Failure::Disk)?;
        let found = BlobDigest::new(hash.finish());
        if left > 0 || found != digest {
            return Err(Failure::Other(found));
        }
        Ok(())
    }
}
