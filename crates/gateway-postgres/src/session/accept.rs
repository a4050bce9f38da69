//! From a TCP connection to a session: TLS, SVID, admission, startup, login upstream.
//!
//! Everything until the session is bounded in bytes and in time; nobody is asked for a password.
//!
//! Whoever keeps silent costs the others nothing. A connection begins in a place of its source's, and in
//! one of its identity's once it has shown an SVID; when all are taken, the oldest of whoever has the most
//! gives way. One deadline counts over all that the client has to say, however it divides its time.

use super::cancel::{Cancels, cancel};
use super::open::{Hello, hello, open};
use super::refusal::{Refusal, fatal, full, say};
use super::run::run;
use super::shares::Shares;
use super::startup::first;
use crate::application::Applications;
use crate::config::Limits;
use crate::database::Database;
use crate::wire::{CancelKey, FirstMessage, Notice};
use facts::Finding;
use gateway::{Core, Cut};
use listen::{Ended, Place, Places, Source};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What all connections share.
pub(crate) struct Front {
    pub(crate) core: Arc<Core>,
    pub(crate) databases: HashMap<String, Arc<Database>>,
    pub(crate) tls: TlsAcceptor,
    pub(crate) cancels: Arc<Cancels>,
    /// Of sessions.
    pub(crate) shares: Shares,
    /// Of those that have shown an SVID and have no session yet, by identity.
    pub(crate) members: Places<String>,
    pub(crate) limits: Limits,
    pub(crate) applications: Applications,
}

/// Accepts until `shutdown` becomes true; then lets the sessions end.
pub(crate) async fn serve(
    front: Arc<Front>,
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) {
    let strangers = Places::new(front.limits.handshakes);
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let place = strangers.take(Source::of(peer));
        let front = Arc::clone(&front);
        connections.spawn(async move { connection(&front, stream, place).await });
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

async fn connection(front: &Front, mut stream: TcpStream, stranger: Place<Source>) {
    let until = Instant::now() + front.limits.handshake;
    let beginning = async {
        stream.set_nodelay(true)?;
        before_tls(&mut stream).await
    };
    match stranger.hold(until, beginning).await {
        Ok(Ok(Before::Tls)) => {}
        Ok(Ok(Before::Cancel(key))) => {
            drop(stranger);
            return cancel(front, key, &[]).await;
        }
        Ok(Err(refusal)) => return say(&mut stream, refusal).await,
        Err(ended) => return tracing::debug!(?ended, "a connection did not begin"),
    }
    let mut tls = match stranger.hold(until, front.tls.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            let inner = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let finding = inner.and_then(svid_tls::finding).map(ToString::to_string);
            return tracing::info!(%error, finding, "TLS was not established");
        }
        Err(ended) => return tracing::debug!(?ended, "TLS was not established"),
    };
    let member = front.members.take(identity(&tls));
    drop(stranger);
    let said = match member.hold(until, hello(&mut tls)).await {
        Ok(Ok(Hello::Startup(startup))) => startup,
        Ok(Ok(Hello::Cancel(key, chain))) => {
            drop(member);
            return cancel(front, key, &chain).await;
        }
        Ok(Err(refusal)) => return say(&mut tls, refusal).await,
        Err(ended) => return say(&mut tls, not_begun(ended)).await,
    };
    // What comes now is for the database and for us to do, and has as long again.
    let until = Instant::now() + front.limits.handshake;
    match member.hold(until, open(front, &mut tls, &said)).await {
        Ok(Ok(session)) => {
            drop(member);
            run(front, tls, session).await;
        }
        Ok(Err(refusal)) => say(&mut tls, refusal).await,
        Err(ended) => say(&mut tls, not_begun(ended)).await,
    }
}

/// As the peer's SVID has it, which TLS has validated.
fn identity(tls: &TlsStream<TcpStream>) -> String {
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    svid_tls::peer::claimed_id(chain).map_or_else(|_| String::new(), |id| id.to_string())
}

fn not_begun(ended: Ended) -> Refusal {
    match ended {
        Ended::GaveWay => full(
            &Finding::new(
                "GATEWAY-HANDSHAKES",
                "too many connections of this identity begin at once",
            )
            .next("look for the workload of this identity that connects without end"),
        ),
        Ended::Late => fatal("57014", "the connection took too long to begin"),
    }
}

/// What a client wants before it has said who it is.
enum Before {
    Tls,
    Cancel(CancelKey),
}

async fn before_tls(stream: &mut TcpStream) -> Result<Before, Refusal> {
    // GSS is asked for at most once, then TLS.
    for _ in 0..2 {
        match first(stream).await? {
            FirstMessage::Gss => stream.write_all(b"N").await?,
            FirstMessage::Tls => {
                stream.write_all(b"S").await?;
                return Ok(Before::Tls);
            }
            FirstMessage::Cancel(key) => return Ok(Before::Cancel(key)),
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
