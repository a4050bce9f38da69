//! `/healthz` and `/metrics` over plain HTTP, where the configuration asks for them. Read-only; nothing
//! secret is told.

use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::shared::Shared;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use facts::Timestamp;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Seen {
    shared: Arc<Shared>,
    identity: Arc<Identity>,
}

/// Binds `address`; the future that comes back serves it until `stop`.
pub(crate) async fn serve(
    address: SocketAddr,
    shared: Arc<Shared>,
    identity: Arc<Identity>,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let listener = TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(Seen { shared, identity });
    Ok(listen::serve_http(listener, router, stop))
}

/// 200 while the node's identity holds and nobody has locked it. A server that is away is told but is no
/// reason to be restarted.
async fn healthz(State(seen): State<Seen>) -> impl IntoResponse {
    let figures = seen.shared.quietly(|core| core.figures());
    let expires = seen.identity.validity().map(|(_, end)| end);
    let valid = expires.is_some_and(|end| end > Timestamp::now());
    let code = if valid && !figures.locked {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({
        "ok": code == StatusCode::OK,
        "node": seen.identity.node_id(),
        "identity_valid": valid,
        "connected": figures.connected,
        "locked": figures.locked,
    });
    (
        code,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
}

async fn metrics(State(seen): State<Seen>) -> impl IntoResponse {
    let figures = seen.shared.quietly(|core| core.figures());
    let expires = seen.identity.validity().map(|(_, end)| end);
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        Metrics::of(figures, expires).text(),
    )
}
