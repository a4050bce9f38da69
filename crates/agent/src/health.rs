//! `/healthz` and `/metrics` over plain HTTP, where the configuration asks for them. Read-only; nothing
//! secret is told.

use crate::identity::Identity;
use crate::shared::Shared;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use facts::Timestamp;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
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
    Ok(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "health and metrics are no longer served");
        }
    })
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
        "node": seen.identity.node_id,
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
    let expires = seen.identity.validity().map_or(0, |(_, end)| end.as_secs());
    let integer = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let mut registry = Registry::with_prefix("trilith_agent");
    registry.register(
        "workloads",
        "Workloads with an entry",
        integer(figures.workloads),
    );
    registry.register(
        "svids",
        "X.509-SVIDs held for workloads",
        integer(figures.svids),
    );
    registry.register(
        "connected",
        "Whether the stream to the server is open",
        integer(usize::from(figures.connected)),
    );
    registry.register(
        "locked",
        "Whether the server has locked this machine",
        integer(usize::from(figures.locked)),
    );
    registry.register(
        "node_svid_expiry_seconds",
        "Unix time at which the node's SVID ends",
        ConstGauge::new(i64::try_from(expires).unwrap_or(i64::MAX)),
    );
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => (
            StatusCode::OK,
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        ),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            String::new(),
        ),
    }
}
