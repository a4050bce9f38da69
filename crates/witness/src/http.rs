//! The witness over plain HTTP: `add-checkpoint` and the last checkpoints for everybody, health and metrics on a
//! listener of their own. A body is read to its cap and for so long, and not at all of whoever asks too often.

use crate::limits::Clients;
use crate::metrics::Metrics;
use crate::mirror::{Mirror, MirrorRefused, Receiving, encoding};
use crate::refused::Refused;
use crate::witness::{Moment, Witness};
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use facts::Finding;
use ledger::HexDigest;
use ledger::mirror::{Answer as MirrorAnswer, INFO_TYPE};
use ledger::tile::TilePath;
use ledger::witness::{Answer, MAX_REQUEST, SIZE_TYPE};
use listen::{Places, Source};
use std::sync::Arc;
use std::time::Duration;

/// A request's body must have come within this time.
const BODY: Duration = Duration::from_secs(10);
/// Then it is answered within this one, or told to come again; what is under way goes on to its end.
const WORK: Duration = Duration::from_secs(10);
/// Seconds to come again after, where nothing else is known.
const AGAIN: u64 = 5;
/// An upload is over after this; what was kept of it is kept.
const UPLOAD: Duration = Duration::from_secs(110);
/// A tile's bytes, also a partial one's, are those for ever.
const IMMUTABLE: &str = "public, max-age=604800, immutable";
const TEXT: &str = "text/plain; charset=utf-8";

/// What every request sees.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) witness: Arc<Witness>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mirror: Option<Arc<Mirror>>,
    /// Uploads that are under way.
    pub(crate) uploads: Places<Source>,
}

/// Submission and monitoring. [`Source`] is an extension of each request.
pub(crate) fn public(shared: Shared) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{log}/checkpoint", get(latest))
        .route("/healthz", get(healthz))
        .route("/add-entries", post(add_entries))
        .route("/mirror/{log}/checkpoint", get(mirrored))
        .route("/mirror/{log}/tile/{*path}", get(tile))
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
    if let Some(response) = shared.too_often(source, now) {
        return response;
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

/// Entries for the mirror, as they come.
async fn add_entries(
    State(shared): State<Shared>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let now = Moment::now();
    if let Some(response) = shared.too_often(source, now) {
        return response;
    }
    let Some(mirror) = &shared.mirror else {
        return shared.no_mirror();
    };
    let Some(encoding) = encoding(&headers) else {
        let finding = Finding::new(
            "WITNESS-MIRROR-KIND",
            "entries are of another kind or encoding",
        )
        .expected("application/octet-stream, as it is or by gzip")
        .next("send what c2sp.org/tlog-mirror says of add-entries");
        return shared.turned_away(StatusCode::UNSUPPORTED_MEDIA_TYPE, &finding, None);
    };
    let place = shared.uploads.take(source);
    let until = tokio::time::Instant::now() + UPLOAD;
    let mut receiving = Receiving::new(Arc::clone(mirror));
    let received = match place.hold(until, receiving.receive(body, encoding)).await {
        Ok(received) => received,
        // Another needs the place, or it takes too long.
        Err(_ended) if receiving.packages == 0 => Err(MirrorRefused::Busy),
        Err(_ended) => receiving.interrupted().await,
    };
    shared.metrics.mirror_packages.inc_by(receiving.packages);
    shared.upload_answer(received.as_ref())
}

/// The mirror checkpoint of a log.
async fn mirrored(State(shared): State<Shared>, Path(log): Path<String>) -> Response {
    let log = log.parse::<HexDigest>().ok();
    if let Some(response) = shared.unread(log.as_ref()) {
        return response;
    }
    let mirror = shared.mirror.as_ref();
    let Some(note) = mirror
        .zip(log)
        .and_then(|(mirror, log)| mirror.latest(&log))
    else {
        return shared.no_mirror();
    };
    let headers = [
        (header::CONTENT_TYPE, TEXT),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, note.as_ref().to_owned()).into_response()
}

async fn tile(State(shared): State<Shared>, Path((log, path)): Path<(String, String)>) -> Response {
    let log = log.parse::<HexDigest>().ok();
    if let Some(response) = shared.unread(log.as_ref()) {
        return response;
    }
    let path = format!("tile/{path}").parse::<TilePath>().ok();
    let (Some(mirror), Some((log, path))) = (shared.mirror.clone(), log.zip(path)) else {
        return shared.no_mirror();
    };
    let read = tokio::task::spawn_blocking(move || mirror.tile(&log, &path)).await;
    match read {
        Ok(Ok(Some(bytes))) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::CACHE_CONTROL, IMMUTABLE),
            ];
            (headers, bytes).into_response()
        }
        Ok(Ok(None)) => shared.no_mirror(),
        Ok(Err(error)) => {
            tracing::error!(finding = %error.finding(), "a tile cannot be served");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Shared {
    fn too_often(&self, source: Source, now: Moment) -> Option<Response> {
        if let Err(wait) = self.clients.take(source, now.clock) {
            let finding = Finding::new("WITNESS-TOO-OFTEN", "this address asks too often")
                .next("ask less often, or let the operator of the witness raise `limits`");
            return Some(self.turned_away(StatusCode::TOO_MANY_REQUESTS, &finding, Some(wait)));
        }
        None
    }

    fn no_mirror(&self) -> Response {
        let finding = Finding::new("WITNESS-MIRROR-ABSENT", "that is not mirrored here")
            .next("name the log by the SHA-256 of its origin, in lower-case hex; the operator adds logs, and `[mirror]`, in witness.toml");
        self.turned_away(StatusCode::NOT_FOUND, &finding, None)
    }

    /// Of a log whose files could not be believed at the start: neither gone nor there.
    fn unread(&self, log: Option<&HexDigest>) -> Option<Response> {
        let finding = self.mirror.as_ref()?.unread(log?)?;
        Some(self.turned_away(StatusCode::SERVICE_UNAVAILABLE, finding, None))
    }

    fn upload_answer(
        &self,
        received: Result<&Vec<ledger::NoteSignature>, &MirrorRefused>,
    ) -> Response {
        let answer = match received {
            Ok(lines) => MirrorAnswer::Mirrored(lines.clone()),
            Err(refused) => {
                let finding = refused.finding();
                match refused {
                    MirrorRefused::Store(_)
                    | MirrorRefused::Full { .. }
                    | MirrorRefused::Sign(_) => {
                        tracing::error!(%finding, "entries are not kept");
                    }
                    // Whoever likes can send these.
                    _ => tracing::debug!(%finding, "an upload is not over"),
                }
                let answer = refused.answer();
                if let MirrorAnswer::Refused { status: number } = answer {
                    let wait = matches!(
                        refused,
                        MirrorRefused::Store(_) | MirrorRefused::Full { .. } | MirrorRefused::Busy
                    );
                    let wait = wait.then(|| Duration::from_secs(AGAIN));
                    return self.turned_away(status(number), &finding, wait);
                }
                answer
            }
        };
        let kind = match answer {
            MirrorAnswer::Part(_) | MirrorAnswer::Conflict(_) => INFO_TYPE,
            _ => TEXT,
        };
        // "mirrors SHOULD send an `Accept-Encoding` header that includes `gzip`".
        let headers = [
            (header::CONTENT_TYPE, kind),
            (header::ACCEPT_ENCODING, "gzip"),
        ];
        (status(answer.status()), headers, answer.body()).into_response()
    }

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
    for (origin, damaged) in shared.mirror.iter().flat_map(|mirror| mirror.damaged()) {
        shared.metrics.damaged(origin, damaged);
    }
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
