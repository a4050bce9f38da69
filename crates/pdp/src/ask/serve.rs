//! The questions over HTTP: whoever may search may ask. That a question was asked is recorded before its
//! answer goes out; a long answer goes out line by line as it is found.

use super::listed::{Listed, Made, Page, Part};
use super::{
    BlastRadiusBody, DiffBody, Kind, LintBody, WhatCanBody, WhoCanBody, WhyBody, action, principal,
    read, resource,
};
use crate::authzen;
use crate::callers::Right;
use crate::decider::Version;
use crate::question::{Known, Refused};
use crate::service::{Asker, Failure, task};
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, body};
use facts::Timestamp;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub(crate) const LINES: &str = "application/x-ndjson";

/// Accesses found before the first lines go out, and from then on.
const FIRST: usize = 64;
const FURTHER: usize = 1_000;

pub(crate) fn routes() -> Router {
    let mut router = Router::new();
    for kind in Kind::ALL {
        let handler = move |Extension(asker): Extension<Arc<Asker>>, request: Request| async move {
            let answer = asker.ask(kind, request).await;
            answer.unwrap_or_else(|failure| asker.respond(Err(failure)))
        };
        router = router.route(kind.path(), post(handler));
    }
    router
}

impl Asker {
    async fn ask(self: &Arc<Self>, kind: Kind, request: Request) -> Result<Response, Failure> {
        let lines = wants_lines(&request);
        let (rights, body) = self.take(request, Right::Search).await?;
        let now = Timestamp::now();
        let version = self.version(now)?;
        let domain = self.plane.core.trust_domain();
        let estate = version.estate();
        match kind {
            Kind::Why => {
                let asked: WhyBody = read(&body)?;
                let may_state = rights.has(Right::StateFacts);
                let known = match authzen::stated(asked.context.as_ref(), may_state, now)? {
                    Some(facts) => Known::Stated(facts),
                    None => Known::Nothing,
                };
                let principal = principal(estate, domain, &asked.principal)?;
                let action = action(estate, &asked.action)?;
                let resource = resource(&asked.resource)?;
                let about = format!("{principal} {action} {resource}");
                self.answered(kind, &about, version, move |version| {
                    Ok(super::why(version, &known, &principal, action, &resource))
                })
                .await
            }
            Kind::WhoCan => {
                let asked: WhoCanBody = read(&body)?;
                let action = action(estate, &asked.action)?;
                let listed = Listed::Who(action, resource(&asked.resource)?);
                let wanted = (asked.limit, asked.after);
                self.listed(kind, version, listed, wanted, lines).await
            }
            Kind::WhatCan => {
                let asked: WhatCanBody = read(&body)?;
                let listed = Listed::What(principal(estate, domain, &asked.principal)?);
                let wanted = (asked.limit, asked.after);
                self.listed(kind, version, listed, wanted, lines).await
            }
            Kind::BlastRadius => {
                let asked: BlastRadiusBody = read(&body)?;
                let listed = Listed::Blast(asked.taken.into());
                let wanted = (asked.limit, asked.after);
                self.listed(kind, version, listed, wanted, lines).await
            }
            Kind::Lint => {
                let asked: LintBody = read(&body)?;
                let wanted = (asked.limit, asked.after);
                self.made(kind, version, wanted, lines, |version| {
                    Ok(Made::lint(version))
                })
                .await
            }
            Kind::Diff => {
                let asked: DiffBody = read(&body)?;
                let (files, wanted) = (asked.files, (asked.limit, asked.after));
                let diff = move |version: &Version| Made::diff(version, files);
                self.made(kind, version, wanted, lines, diff).await
            }
        }
    }

    /// INVARIANT 5: nothing is answered before it stands in the ledger that it was asked.
    pub(crate) async fn asked(
        &self,
        statement: &str,
        about: &str,
        version: &Version,
    ) -> Result<(), Failure> {
        let estate = (
            version.estate().version().to_owned(),
            version.index().unwrap_or_default(),
        );
        self.recorder
            .searched(statement, &crate::names::shown(about), &estate)
            .await
            .map_err(|error| Failure::unavailable(error.finding()))?;
        self.plane.metrics.searches.inc();
        Ok(())
    }

    /// Off the async threads, one at a time.
    async fn found<T: Send + 'static>(
        &self,
        version: &Version,
        find: impl FnOnce(&Version) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Failure> {
        let _permit = self.plane.searching.acquire().await;
        let version = version.clone();
        let finding = tokio::task::spawn_blocking(move || find(&version));
        Ok(finding.await.map_err(|error| task(&error))??)
    }

    async fn answered(
        &self,
        kind: Kind,
        about: &str,
        version: Version,
        find: impl FnOnce(&Version) -> Result<Value, Refused> + Send + 'static,
    ) -> Result<Response, Failure> {
        self.asked(&statement(kind), about, &version).await?;
        Ok(Json(self.found(&version, find).await?).into_response())
    }

    /// A list that is made as a whole, once, before any part of it goes out.
    async fn made(
        self: &Arc<Self>,
        kind: Kind,
        version: Version,
        wanted: (Option<u64>, Option<String>),
        lines: bool,
        make: impl FnOnce(&Version) -> Result<Made, Refused> + Send + 'static,
    ) -> Result<Response, Failure> {
        self.asked(&statement(kind), "estate", &version).await?;
        let made = self.found(&version, make).await?;
        let listed = Listed::Made(Arc::new(made));
        self.parts(version, listed, wanted, lines).await
    }

    async fn listed(
        self: &Arc<Self>,
        kind: Kind,
        version: Version,
        listed: Listed,
        wanted: (Option<u64>, Option<String>),
        lines: bool,
    ) -> Result<Response, Failure> {
        let about = listed.about();
        self.asked(&statement(kind), &about, &version).await?;
        self.parts(version, listed, wanted, lines).await
    }

    async fn parts(
        self: &Arc<Self>,
        version: Version,
        listed: Listed,
        (limit, after): (Option<u64>, Option<String>),
        lines: bool,
    ) -> Result<Response, Failure> {
        let listen = &self.plane.config.listen;
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX).max(1));
        let most = if lines { FIRST } else { listen.max_page };
        let part = Part {
            limit: limit.unwrap_or(most).min(most),
            tries: listen.max_tries,
            after,
        };
        // What cannot be asked is told by a status, in a stream as well.
        let (first, asked) = (listed.clone(), part.clone());
        let page = self
            .found(&version, move |version| first.page(version, &asked))
            .await?;
        if lines {
            let left = limit.unwrap_or(usize::MAX);
            return Ok(self.stream(version, listed, part, page, left));
        }
        let mut answer = listed.head(&version);
        answer.extend(listed.lists());
        page.document(&mut answer);
        Ok(Json(Value::Object(answer)).into_response())
    }

    /// One page after another by one version; whoever does not read gets no further page made.
    fn stream(
        self: &Arc<Self>,
        version: Version,
        listed: Listed,
        mut part: Part,
        mut page: Page,
        mut left: usize,
    ) -> Response {
        let (sender, receiver) = mpsc::channel::<Result<body::Bytes, Infallible>>(1);
        let asker = Arc::clone(self);
        tokio::spawn(async move {
            let (mut shown, mut errors) = (0, 0);
            loop {
                let found = page.items.len();
                shown += found - page.errors();
                errors += page.errors();
                left = left.saturating_sub(found);
                let ended = page.next.is_none() || left == 0;
                let mut text = page.lines();
                part.after = page.next.take();
                if ended {
                    let mut end = listed.head(&version);
                    end.insert("count".to_owned(), shown.into());
                    end.insert("errors".to_owned(), errors.into());
                    end.insert("next".to_owned(), json!(part.after));
                    text.push_str(&format!("{}\n", json!({ "end": end })));
                }
                let limit = asker.plane.config.listen.timeout();
                let sending = sender.send(Ok(text.into()));
                let sent = tokio::time::timeout(limit, sending).await;
                if ended || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
                part.limit = left.min(FURTHER);
                let (listed, asked) = (listed.clone(), part.clone());
                let next = asker
                    .found(&version, move |version| listed.page(version, &asked))
                    .await;
                // A stream without its `end` is cut short, and whoever reads it knows.
                let Ok(next) = next else { return };
                page = next;
            }
        });
        let body = Body::from_stream(ReceiverStream::new(receiver));
        ([(header::CONTENT_TYPE, LINES)], body).into_response()
    }
}

/// Whether an answer is wanted line by line, as it is found.
pub(crate) fn wants_lines(request: &Request) -> bool {
    let wanted = request.headers().get(header::ACCEPT);
    wanted.is_some_and(|wanted| {
        let wanted = wanted.to_str().unwrap_or_default();
        wanted.split(',').any(|one| {
            let essence = one.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case(LINES)
        })
    })
}

fn statement(kind: Kind) -> String {
    format!("ask/{}", kind.as_str())
}
