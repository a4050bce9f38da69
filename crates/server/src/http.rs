//! Plain HTTP, on loopback unless configured: health, metrics, the ledger's public side, the bundle.
//! Nothing here is secret; entry bundles name identities and are served on loopback or when configured, as are the
//! ledgers of gateways.

mod ledgers;

use crate::core::Core;
use crate::cosign::Witnesses;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ledger::label::LabelPath;
use ledger::tile::{Kind, TilePath};
use ledger_store::StoreError;
use serde_json::json;
use std::sync::Arc;

/// A tile's bytes, also a partial one's, are those for ever.
const IMMUTABLE: &str = "public, max-age=604800, immutable";
/// Labels change with who is an owner and what is his.
const FOR_A_WHILE: &str = "public, max-age=60";

pub(crate) fn router(core: Arc<Core>, entries: bool, ledgers: bool) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/checkpoint", get(checkpoint))
        .route("/bundle.json", get(bundle))
        .route("/crl.pem", get(revocation_lists))
        .route("/tile/{*path}", get(tile))
        .route("/labels/{*path}", get(labels))
        .merge(ledgers::routes(ledgers))
        .with_state(Shared { core, entries })
}

#[derive(Clone)]
struct Shared {
    core: Arc<Core>,
    entries: bool,
}

/// Alive: the process answers and its ledger has not failed.
async fn healthz(State(shared): State<Shared>) -> Response {
    if shared.core.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ok\n".into_response()
}

/// Ready: an estate is in force and nothing keeps the server from signing.
async fn readyz(State(shared): State<Shared>) -> Response {
    let finding = match (shared.core.signing.check(), shared.core.estate()) {
        (Ok(()), Ok(_)) => return "ready\n".into_response(),
        (Err(refusal), _) | (_, Err(refusal)) => refusal.finding().clone(),
    };
    let body = json!(finding).to_string();
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::SERVICE_UNAVAILABLE, kind, body).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let core = &shared.core;
    let size = core.journal.reader().size();
    core.metrics
        .ledger_size
        .set(i64::try_from(size).unwrap_or(i64::MAX));
    core.metrics
        .workloads
        .set(i64::try_from(core.workloads.total()).unwrap_or(i64::MAX));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], core.metrics.text()).into_response()
}

/// c2sp.org/tlog-tiles, "Checkpoints": "text/plain; charset=utf-8", short caching. Where there are witnesses, the
/// newest that enough of them have cosigned: what somebody else may be shown differently is not handed out.
async fn checkpoint(State(shared): State<Shared>) -> Response {
    let witnesses = shared.core.witnesses.as_ref();
    let note = match witnesses.and_then(Witnesses::newest) {
        Some(witnessed) => witnessed.note.as_ref().to_owned(),
        None => shared.core.journal.reader().head().note.as_ref().to_owned(),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, note).into_response()
}

async fn bundle(State(shared): State<Shared>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, shared.core.authority.bundle().to_jwks()).into_response()
}

/// For peers that follow no stream: `openssl verify -crl_check_all -CRLfile crl.pem`.
async fn revocation_lists(State(shared): State<Shared>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
    (kind, shared.core.lists.pem()).into_response()
}

async fn tile(State(shared): State<Shared>, Path(path): Path<String>) -> Response {
    let Ok(path) = format!("tile/{path}").parse::<TilePath>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if matches!(path.kind, Kind::Entries) && !shared.entries {
        return StatusCode::FORBIDDEN.into_response();
    }
    let reader = shared.core.journal.reader().clone();
    let read = tokio::task::spawn_blocking(move || reader.tile(&path)).await;
    served(read, IMMUTABLE)
}

/// Decision 0027. They mean nothing to whoever has no owner's key, so that they are served wherever hashes are.
async fn labels(State(shared): State<Shared>, Path(path): Path<String>) -> Response {
    let (Some(labels), Ok(path)) = (
        shared.core.labels.clone(),
        format!("labels/{path}").parse::<LabelPath>(),
    ) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // What cannot be told from a rolled-back ledger signs nothing.
    if shared.core.signing.check().is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let making = Arc::clone(&labels);
    match labels.in_turn(move || making.tile(&path)).await {
        Some(made) => served(made, FOR_A_WHILE),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

type Read = Result<Result<Option<Vec<u8>>, StoreError>, tokio::task::JoinError>;

fn served(read: Read, kept: &'static str) -> Response {
    match read {
        Ok(Ok(Some(bytes))) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::CACHE_CONTROL, kept),
            ];
            (headers, bytes).into_response()
        }
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        // c2sp.org/tlog-tiles, "Pruning": what is gone is no fault.
        Ok(Err(error @ StoreError::Pruned { .. })) => {
            let said = [(header::CACHE_CONTROL, FOR_A_WHILE)];
            (StatusCode::GONE, said, format!("LEDGER-PRUNED: {error}\n")).into_response()
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "a tile cannot be served");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
