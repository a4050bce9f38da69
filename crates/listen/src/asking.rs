//! One request over a connection of its own. How long that may take, and how much is read of what comes, is for whoever
//! asks; the head of an answer has its bounds here.

use crate::Stream;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;
use tokio::task::JoinSet;

const LONGEST_HEAD: usize = 32 * 1_024;
const MOST_HEADERS: usize = 64;

/// An answer whose body is still to be read, and the connection that it comes over, which ends with it.
pub struct Answering<B> {
    response: Response<Incoming>,
    _sender: SendRequest<B>,
    _connection: JoinSet<()>,
}

impl<B> Answering<B> {
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub fn body(&mut self) -> &mut Incoming {
        self.response.body_mut()
    }
}

/// Sends `request` and reads the head of the answer. The connection ends where this is dropped.
///
/// # Errors
/// There is none, for this reason.
pub async fn ask<B>(stream: Box<dyn Stream>, request: Request<B>) -> Result<Answering<B>, String>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut sender, connection) = Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {error}"))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| format!("no answer: {error}"))?;
    Ok(Answering {
        response,
        _sender: sender,
        _connection: driver,
    })
}
