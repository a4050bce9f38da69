//! The questions to records over HTTP: whoever has the right `records` may ask. That a question was asked is recorded
//! before its answer goes out; ledgers are read on threads of their own, one question at a time.

use super::Kind;
use super::answer::{Answer, Part, unconfigured};
use super::question::{Parsed, parse};
use crate::ask::{LINES, wants_lines};
use crate::callers::Right;
use crate::question::Refused;
use crate::service::{Asker, Failure, task};
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router, body};
use facts::Timestamp;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Lines of one part of a stream: the first soon, the others in few reads.
const FIRST: usize = 64;
const FURTHER: usize = 1_000;

pub(crate) fn routes() -> Router {
    let mut router = Router::new();
    for kind in Kind::ALL {
        let handler = move |Extension(asker): Extension<Arc<Asker>>, request: Request| async move {
            let answer = asker.ask_records(kind, request).await;
            answer.unwrap_or_else(|failure| asker.respond(Err(failure)))
        };
        router = router.route(kind.path(), post(handler));
    }
    router
}

impl Asker {
    async fn ask_records(
        self: &Arc<Self>,
        kind: Kind,
        request: Request,
    ) -> Result<Response, Failure> {
        let lines = wants_lines(&request);
        let (_rights, body) = self.take(request, Right::Records).await?;
        let now = Timestamp::now();
        let version = self.version(now)?;
        let domain = self.plane.core.trust_domain();
        let Parsed {
            question,
            limit,
            after,
            about,
            digest,
        } = parse(kind, &body, domain, now)?;
        let records = self.plane.config.records.as_ref();
        let records = records.ok_or_else(unconfigured)?;
        let folders = records.folders.clone();
        let indices = records.indices(&self.plane.config.pdp.data_dir);
        let statement = format!("ask/{}", kind.as_str());
        self.asked(&statement, &about, &version).await?;

        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX).max(1));
        let most = if lines {
            FIRST
        } else {
            self.plane.config.listen.max_page
        };
        let first = limit.unwrap_or(most).min(most);
        // What cannot be asked is told by a status, in a stream as well.
        let (answer, part) = self
            .reading(move || {
                let mut answer =
                    Answer::open(&folders, &indices, question, &digest, after.as_deref())?;
                let part = answer.part(first)?;
                Ok((answer, part))
            })
            .await?;
        if lines {
            return Ok(self.stream_records(answer, part, limit.unwrap_or(usize::MAX)));
        }
        let Part { lines, next } = part;
        Ok(Json(json!({
            "searched": answer.searched(),
            "summary": answer.summary(),
            "page": {"count": lines.len(), "next": next},
            "lines": lines,
        }))
        .into_response())
    }

    /// Off the async threads, one at a time, and never in the way of questions to the estate.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Failure> {
        let _permit = self.plane.reading.acquire().await;
        let reading = tokio::task::spawn_blocking(read);
        Ok(reading.await.map_err(|error| task(&error))??)
    }

    /// One part after another, up to the same heads; whoever does not read gets no further part made.
    fn stream_records(
        self: &Arc<Self>,
        mut answer: Answer,
        mut part: Part,
        mut left: usize,
    ) -> Response {
        let (sender, receiver) = mpsc::channel::<Result<body::Bytes, Infallible>>(1);
        let asker = Arc::clone(self);
        tokio::spawn(async move {
            let mut shown = 0;
            loop {
                shown += part.lines.len();
                left = left.saturating_sub(part.lines.len());
                let ended = part.next.is_none() || left == 0;
                let mut text: String = part.lines.iter().map(|line| format!("{line}\n")).collect();
                if ended {
                    let end = json!({"end": {
                        "searched": answer.searched(),
                        "summary": answer.summary(),
                        "count": shown,
                        "next": part.next,
                    }});
                    text.push_str(&format!("{end}\n"));
                }
                let limit = asker.plane.config.listen.timeout();
                let sending = sender.send(Ok(text.into()));
                let sent = tokio::time::timeout(limit, sending).await;
                if ended || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
                let wanted = left.min(FURTHER);
                let read = asker
                    .reading(move || {
                        let part = answer.part(wanted)?;
                        Ok((answer, part))
                    })
                    .await;
                // A stream without its `end` is cut short, and whoever reads it knows.
                let Ok(next) = read else { return };
                (answer, part) = next;
            }
        });
        let body = Body::from_stream(ReceiverStream::new(receiver));
        ([(header::CONTENT_TYPE, LINES)], body).into_response()
    }
}
