//! One connection of a caller, HTTP/1.1 or HTTP/2, for as long as its caller may ask.

use crate::config::ListenConfig;
use crate::service::Asker;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes of a request's head.
const LONGEST_HEAD: usize = 32 * 1024;
/// Requests under way on one connection.
const STREAMS: u32 = 128;
/// A peer that is gone without a word is noticed after twice that.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// What is under way at the end has so long.
const PARTING: Duration = Duration::from_secs(3);

/// Serves until the peer ends the connection, or `over` resolves.
pub(crate) async fn serve<I>(
    stream: I,
    router: Router,
    asker: Arc<Asker>,
    over: impl Future<Output = ()>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let metrics = Arc::clone(&asker.plane.metrics);
    let builder = builder(&asker.plane.config.listen);
    let service = TowerToHyperService::new(router.layer(Extension(asker)));
    metrics.connections.inc();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a caller's connection ended");
            }
        }
        () = over => {
            connection.as_mut().graceful_shutdown();
            drop(tokio::time::timeout(PARTING, connection).await);
        }
    }
    metrics.connections.dec();
}

fn builder(listen: &ListenConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(listen.timeout())
        .max_buf_size(LONGEST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(LONGEST_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}
