//! `/ledgers`: those of gateways, decision points and agents, each in the form of c2sp.org/tlog-tiles below
//! `/ledgers/NAME`, with the limits and refusals of the server's own.

use super::{FOR_A_WHILE, IMMUTABLE, Shared, served};
use crate::core::Core;
use crate::ledgers::Shown;
use crate::refusal::Refusal;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use ledger::label::LabelPath;
use ledger::tile::{Kind, TilePath};
use serde_json::{Value, json};
use std::sync::Arc;

/// Where they are not `served`, each is forbidden alike: whether there is one is not said.
pub(super) fn routes(served: bool) -> Router<Shared> {
    if !served {
        let forbidden = || async { StatusCode::FORBIDDEN };
        return Router::new()
            .route("/ledgers", any(forbidden))
            .route("/ledgers/{*path}", any(forbidden));
    }
    Router::new()
        .route("/ledgers", get(list))
        .route("/ledgers/{name}/checkpoint", get(checkpoint))
        .route("/ledgers/{name}/anchor", get(anchor))
        .route("/ledgers/{name}/tile/{*path}", get(tile))
        .route("/ledgers/{name}/labels/{*path}", get(labels))
}

/// Which there are: nothing that their checkpoints do not say, but the key and the anchor.
async fn list(State(shared): State<Shared>) -> Response {
    let core = &shared.core;
    let all = core.ledgers.all(core);
    let all: Vec<Value> = all.iter().map(listed).collect();
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, json!({ "ledgers": all }).to_string()).into_response()
}

fn listed(shown: &Shown) -> Value {
    json!({
        "name": shown.name,
        "origin": shown.row.origin,
        "key": shown.key.to_string(),
        "lineage": ledger::lineage::links(&shown.key),
        "size": shown.row.size,
        "anchor": shown.row.anchor,
    })
}

/// The note that the gateway signed and the server anchored.
async fn checkpoint(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    match shared.core.ledgers.of(&shared.core, &name) {
        Some(shown) => text(shown.row.checkpoint),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The server's record that anchors it, under the server's own checkpoint.
async fn anchor(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let core = Arc::clone(&shared.core);
    let read = tokio::task::spawn_blocking(move || core.ledgers.anchor(&core, &name)).await;
    match read {
        Ok(Ok(Some(proof))) => text(proof),
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(refusal)) => unavailable(&refusal),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn tile(
    State(shared): State<Shared>,
    Path((name, path)): Path<(String, String)>,
) -> Response {
    let Ok(path) = format!("tile/{path}").parse::<TilePath>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if matches!(path.kind, Kind::Entries) && !shared.entries {
        return StatusCode::FORBIDDEN.into_response();
    }
    let core = Arc::clone(&shared.core);
    let read = move || read(&core, &name, |shown, kept| shown.tile(kept, &path));
    answer(tokio::task::spawn_blocking(read).await, IMMUTABLE)
}

async fn labels(
    State(shared): State<Shared>,
    Path((name, path)): Path<(String, String)>,
) -> Response {
    let core = Arc::clone(&shared.core);
    let (Some(labels), Ok(path)) = (
        core.labels.clone(),
        format!("labels/{path}").parse::<LabelPath>(),
    ) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // What cannot be told from a rolled-back ledger signs nothing.
    if core.signing.check().is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let making = Arc::clone(&labels);
    let made = move || {
        read(&core, &name, |shown, kept| {
            shown.labels(kept, &making, &path)
        })
    };
    match labels.in_turn(made).await {
        Some(made) => answer(made, FOR_A_WHILE),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn text(text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

type Bytes = Result<Option<Vec<u8>>, ledger_store::StoreError>;

/// Of the ledger of that name, if it is shown and here. Blocks on the disk.
fn read(
    core: &Core,
    name: &str,
    read: impl FnOnce(&Shown, &crate::mirrors::Kept) -> Bytes,
) -> Result<Bytes, Refusal> {
    let Some(shown) = core.ledgers.of(core, name) else {
        return Ok(Ok(None));
    };
    let kept = shown.kept(core)?;
    Ok(read(&shown, &kept))
}

fn answer(
    read: Result<Result<Bytes, Refusal>, tokio::task::JoinError>,
    kept: &'static str,
) -> Response {
    match read {
        Ok(Ok(bytes)) => served(Ok(bytes), kept),
        Ok(Err(refusal)) => unavailable(&refusal),
        Err(error) => served(Err(error), kept),
    }
}

/// It is not here up to its anchor, or as another than was anchored: `LEDGER-MIRROR`, `LEDGER-MIRROR-OTHER`.
fn unavailable(refusal: &Refusal) -> Response {
    tracing::warn!(%refusal, "a gateway's ledger cannot be served");
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
