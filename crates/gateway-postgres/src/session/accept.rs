//! From a TCP connection to a session: TLS, SVID, admission, startup, login upstream.
//!
//! Everything until the session is bounded in bytes and in time; nobody is asked for a password.

use super::cancel::{Cancels, cancel};
use super::open::open;
use super::refusal::{Refusal, fatal, say};
use super::run::run;
use super::startup::first;
use crate::config::Limits;
use crate::database::Database;
use crate::wire::{FirstMessage, Notice};
use gateway::{Core, Cut};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What all connections share.
pub(crate) struct Front {
    pub(crate) core: Arc<Core>,
    pub(crate) databases: HashMap<String, Arc<Database>>,
    pub(crate) tls: TlsAcceptor,
    pub(crate) cancels: Arc<Cancels>,
    /// Of sessions.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) limits: Limits,
}

/// Accepts until `shutdown` becomes true; then lets the sessions end.
pub(crate) async fn serve(
    front: Arc<Front>,
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) {
    // Whoever is not admitted yet can take these only, and no place of a session.
    let handshakes = Arc::new(Semaphore::new(front.limits.handshakes));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, above all: those in use come back.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(handshake) = Arc::clone(&handshakes).try_acquire_owned() else {
            tracing::warn!(%peer, most = front.limits.handshakes, "too many connections begin");
            continue;
        };
        let front = Arc::clone(&front);
        connections.spawn(async move { connection(&front, stream, handshake).await });
    }
    drop(listener);
    let over = Cut {
        reason: gateway::CutReason::Shutdown,
        detail: "the gateway stops".to_owned(),
    };
    front.core.following().sessions().cut_where(&over, |_| true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(5), all)
        .await
        .is_err()
    {
        tracing::warn!("some sessions did not end in time");
    }
}

async fn connection(front: &Front, mut stream: TcpStream, handshake: OwnedSemaphorePermit) {
    let began = async {
        stream.set_nodelay(true)?;
        before_tls(front, &mut stream).await
    };
    match tokio::time::timeout(front.limits.handshake, began).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) | Err(_) => return,
        Ok(Err(refusal)) => return say(&mut stream, refusal).await,
    }
    let accepting = front.tls.accept(stream);
    let mut tls = match tokio::time::timeout(front.limits.handshake, accepting).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            let inner = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let finding = inner.and_then(svid_tls::finding).map(ToString::to_string);
            tracing::info!(%error, finding, "TLS was not established");
            return;
        }
        Err(_) => return,
    };
    let opened = tokio::time::timeout(front.limits.handshake, open(front, &mut tls)).await;
    match opened {
        Ok(Ok(Some(session))) => {
            drop(handshake);
            run(front, tls, session).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(refusal)) => say(&mut tls, refusal).await,
        Err(_) => {
            say(
                &mut tls,
                fatal("57014", "the connection took too long to begin"),
            )
            .await
        }
    }
}

/// True when TLS comes next.
async fn before_tls(front: &Front, stream: &mut TcpStream) -> Result<bool, Refusal> {
    // GSS is asked for at most once, then TLS.
    for _ in 0..2 {
        match first(stream).await? {
            FirstMessage::Gss => stream.write_all(b"N").await?,
            FirstMessage::Tls => {
                stream.write_all(b"S").await?;
                return Ok(true);
            }
            FirstMessage::Cancel(key) => {
                cancel(front, key, &[]).await;
                return Ok(false);
            }
            FirstMessage::Startup(_) => {
                return Err(Refusal::Said(Notice {
                    hint: Some(
                        "connect with sslmode=require and the SVID as sslcert and sslkey"
                            .to_owned(),
                    ),
                    ..Notice::fatal("28000", "this gateway speaks TLS only")
                }));
            }
        }
    }
    Err(fatal("08P01", "TLS was not asked for"))
}
