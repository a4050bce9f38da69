//! Plain HTTP for health, metrics and what else is public. No peer holds a connection, its memory or its
//! place for longer than the limits here, whatever it sends and however slowly it reads.

use crate::{Places, Source, accept};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once: scrapers, verifiers and a person. When there are more, the oldest of the source
/// that has the most gives way.
pub const CONNECTIONS: usize = 256;
/// A request's head must have come within this time, the next one of a kept connection as well.
pub const HEAD: Duration = Duration::from_secs(5);
/// Bytes of a request's head. A body is read by nobody but a router that takes one, and says how much of it.
pub const LONGEST_HEAD: usize = 32 * 1024;
/// However slowly somebody reads or asks, the connection ends after this.
pub const AGE: Duration = Duration::from_secs(120);
/// What is under way at the end has so long.
const PARTING: Duration = Duration::from_secs(3);

/// Serves until `stop`. Dropped, it closes every connection.
pub async fn serve_http(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_each(listener, move |_source| router.clone(), stop).await;
}

/// As [`serve_http`], with a router for each connection that may know whose it is.
pub async fn serve_each(
    listener: TcpListener,
    router: impl Fn(Source) -> Router,
    stop: CancellationToken,
) {
    let places = Places::new(CONNECTIONS);
    let mut open = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            _ = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener) => accepted,
        };
        let source = Source::of(peer);
        let place = places.take(source);
        let (service, stop) = (TowerToHyperService::new(router(source)), stop.clone());
        open.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(LONGEST_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let until = Instant::now() + AGE;
            let served = async {
                tokio::select! {
                    ended = connection.as_mut() => drop(ended),
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        drop(tokio::time::timeout(PARTING, connection).await);
                    }
                }
            };
            if let Err(ended) = place.hold(until, served).await {
                tracing::debug!(%peer, ?ended, "an HTTP connection is closed");
            }
        });
    }
    while open.join_next().await.is_some() {}
}
