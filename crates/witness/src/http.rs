//! The witness over plain HTTP: `add-checkpoint` and the last checkpoints for everybody, health and metrics on a
//! listener of their own. A body is read to its cap and for so long, and not at all of whoever asks too often.

use crate::limits::Clients;
use crate::metrics::Metrics;
use crate::refused::Refused;
use crate::witness::{Moment, Witness};
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use facts::Finding;
use ledger::HexDigest;
use ledger::witness::{Answer, MAX_REQUEST, SIZE_TYPE};
use listen::Source;
use std::sync::Arc;
use std::time::Duration;

/// A request's body must have come within this time.
const BODY: Duration = Duration::from_secs(10);
/// Then it is answered within this one, or told to come again; what is under way goes on to its end.
const WORK: Duration = Duration::from_secs(10);
/// Seconds to come again after, where nothing else is known.
const AGAIN: u64 = 5;
const TEXT: &str = "text/plain; charset=utf-8";

/// What every request sees.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) witness: Arc<Witness>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Submission and monitoring. [`Source`] is an extension of each request.
pub(crate) fn public(shared: Shared) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{log}/checkpoint", get(latest))
        .route("/healthz", get(healthz))
        .with_state(shared)
}

/// For the operator.
pub(crate) fn own(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn add_checkpoint(
    State(shared): State<Shared>,
    Extension(source): Extension<Source>,
    body: Body,
) -> Response {
    let now = Moment::now();
    if let Err(wait) = shared.clients.take(source, now.clock) {
        let finding = Finding::new("WITNESS-TOO-OFTEN", "this address asks too often")
            .next("ask less often, or let the operator of the witness raise `limits`");
        return shared.turned_away(StatusCode::TOO_MANY_REQUESTS, &finding, Some(wait));
    }
    let body = match tokio::time::timeout(BODY, to_bytes(body, MAX_REQUEST)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let message = format!("a request has at most {MAX_REQUEST} bytes, and all it says");
            let finding = Finding::new("WITNESS-BODY", message)
                .next("send one checkpoint and its proof, whole");
            return shared.turned_away(StatusCode::PAYLOAD_TOO_LARGE, &finding, None);
        }
        Err(_) => {
            let finding = Finding::new("WITNESS-SLOW", "the request did not come in time")
                .next("send it again, at once");
            return shared.turned_away(StatusCode::REQUEST_TIMEOUT, &finding, None);
        }
    };
    // Whoever asked may go away; what has begun is done to its end.
    let working = tokio::task::spawn_blocking({
        let shared = shared.clone();
        move || shared.judge(&body)
    });
    match tokio::time::timeout(WORK, working).await {
        Ok(Ok(response)) => response,
        _ => {
            let finding = Finding::new("WITNESS-LATE", "the witness is not done in time")
                .next("ask again; it will say which size it has cosigned");
            let again = Some(Duration::from_secs(AGAIN));
            shared.turned_away(StatusCode::SERVICE_UNAVAILABLE, &finding, again)
        }
    }
}

impl Shared {
    /// Blocks on the disk.
    fn judge(&self, body: &Bytes) -> Response {
        let now = Moment::now();
        match self.witness.add_checkpoint(body, now) {
            Ok(cosigned) => {
                self.metrics.cosigned(&cosigned, now.unix);
                let (origin, size) = (&*cosigned.origin, cosigned.size);
                tracing::debug!(origin, size, new = cosigned.new, "a checkpoint is cosigned");
                answer(&Answer::Cosigned(cosigned.lines))
            }
            Err(refused) => self.refuse(&refused),
        }
    }

    fn refuse(&self, refused: &Refused) -> Response {
        self.metrics.refused(refused);
        let finding = refused.finding();
        match refused {
            Refused::Refusal {
                fork: Some(origin), ..
            } => {
                self.metrics.fork(origin);
                tracing::error!(%origin, %finding, "a log has signed two histories; the second is kept beside the state");
            }
            Refused::Store(_) | Refused::Sign(_) | Refused::Clock => {
                tracing::error!(%finding, "a checkpoint is not cosigned");
            }
            // Whoever likes can send these.
            _ => tracing::debug!(%finding, "a checkpoint is not cosigned"),
        }
        let refusal = refused.answer();
        if let Answer::Conflict { .. } = refusal {
            return answer(&refusal);
        }
        let wait = match refused {
            Refused::Busy { wait, .. } => Some(*wait),
            Refused::Store(_) => Some(Duration::from_secs(AGAIN)),
            _ => None,
        };
        told(status(refusal.status()), &finding, wait)
    }

    fn turned_away(
        &self,
        status: StatusCode,
        finding: &Finding,
        wait: Option<Duration>,
    ) -> Response {
        self.metrics.refused_by(&finding.code);
        tracing::debug!(%finding, "a request is turned away");
        told(status, finding, wait)
    }
}

/// "the witness MUST respond with a 404 … if [it] has never cosigned a checkpoint for that log".
async fn latest(State(shared): State<Shared>, Path(log): Path<String>) -> Response {
    let found = log.parse::<HexDigest>().ok();
    let Some(note) = found.and_then(|log| shared.witness.latest(&log)) else {
        let finding = Finding::new(
            "WITNESS-NOTHING",
            "no checkpoint of such a log was cosigned",
        )
        .next("name the log by the SHA-256 of its origin, in lower-case hex");
        return told(StatusCode::NOT_FOUND, &finding, None);
    };
    let headers = [
        (header::CONTENT_TYPE, TEXT),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, note.as_ref().to_owned()).into_response()
}

async fn healthz(State(shared): State<Shared>) -> Response {
    if shared.witness.is_alive() {
        return "ok\n".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the state cannot be kept\n",
    )
        .into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match shared.metrics.text() {
        Some(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// "The response MUST have a `Content-Type` of `text/x.tlog.size`", of a conflict.
fn answer(answer: &Answer) -> Response {
    let kind = match answer {
        Answer::Conflict { .. } => SIZE_TYPE,
        _ => TEXT,
    };
    let kind = [(header::CONTENT_TYPE, kind)];
    (status(answer.status()), kind, answer.body()).into_response()
}

fn told(status: StatusCode, finding: &Finding, wait: Option<Duration>) -> Response {
    let kind = [(header::CONTENT_TYPE, TEXT)];
    let mut response = (status, kind, format!("{finding}\n")).into_response();
    if let Some(wait) = wait {
        // Rounded up: after that there is a place.
        let seconds = HeaderValue::from(wait.as_secs() + 1);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
