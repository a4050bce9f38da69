//! Metrics and health over plain HTTP. Their names are listed in `docs/reference/metrics.md`.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a gateway counts.
pub struct Metrics {
    registry: Registry,
    /// 1 while the server is followed, else 0.
    pub following: Gauge,
    pub sessions: Gauge,
    pub operations: Counter,
    pub denials: Counter,
    pub refused: Counter,
    pub cuts: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("trilith_gateway"),
            following: Gauge::default(),
            sessions: Gauge::default(),
            operations: Counter::default(),
            denials: Counter::default(),
            refused: Counter::default(),
            cuts: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "following",
            "Whether the server is followed",
            metrics.following.clone(),
        );
        registry.register("sessions", "Open sessions", metrics.sessions.clone());
        registry.register(
            "operations",
            "Operations that were forwarded",
            metrics.operations.clone(),
        );
        registry.register(
            "denials",
            "Operations that were denied",
            metrics.denials.clone(),
        );
        registry.register(
            "refused",
            "Peers that were not admitted",
            metrics.refused.clone(),
        );
        registry.register("cuts", "Sessions that were cut", metrics.cuts.clone());
        metrics
    }
}

impl Metrics {
    /// In the Prometheus text format, without its last line: others may follow.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).ok()?;
        Some(text.trim_end_matches("# EOF\n").to_owned())
    }

    /// Serves `/metrics`, `/healthz` and, as `ready` says, `/readyz`, until the task is aborted.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn serve(
        self: Arc<Self>,
        address: SocketAddr,
        ready: impl Fn() -> bool + Clone + Send + Sync + 'static,
    ) -> std::io::Result<tokio::task::JoinHandle<()>> {
        let text = move || {
            let mut text = String::new();
            encode(&mut text, &self.registry).ok()?;
            Some(text)
        };
        serve(address, text, ready).await
    }
}

/// Serves `text` as `/metrics`, `/healthz` and, as `ready` says, `/readyz`, until the task is aborted.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    text: impl Fn() -> Option<String> + Clone + Send + Sync + 'static,
    ready: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let text = move || std::future::ready(text().ok_or(StatusCode::INTERNAL_SERVER_ERROR));
    let readiness = move || {
        std::future::ready(if ready() {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready")
        })
    };
    let router = Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(|| std::future::ready("ok")))
        .route("/readyz", get(readiness));
    let stop = CancellationToken::new();
    Ok(tokio::spawn(listen::serve_http(listener, router, stop)))
}
