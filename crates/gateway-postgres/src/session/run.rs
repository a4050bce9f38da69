//! A session from its first statement to its end.

use super::accept::Front;
use super::open::Opened;
use super::pump::{PumpError, pump};
use super::refusal::{LAST_WORDS, fatal, say};
use super::relay::End;
use crate::database::cause;
use crate::wire::{self, Notice};
use bytes::BytesMut;
use gateway::Cut;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub(super) async fn run(front: &Front, mut tls: TlsStream<TcpStream>, opened: Opened) {
    let Opened {
        mut handle,
        mut upstream,
        mut relay,
        database,
        _cancel,
        _share,
    } = opened;
    front.core.metrics().sessions.inc();
    let mut buffer = std::mem::take(&mut upstream.buffer);
    let (reason, detail) = tokio::select! {
        biased;
        cut = handle.cut() => {
            last_words(&mut tls, &cut).await;
            front.core.metrics().cuts.inc();
            (cut.reason.as_str(), cut.detail)
        }
        ended = pump(&mut tls, &mut upstream.stream, &mut relay, &mut buffer) => {
            conclude(&mut tls, &ended).await
        }
    };
    // INVARIANT: the client's socket is closed before anything else is waited for.
    drop(tls);
    if relay.is_busy()
        && let Some(key) = upstream.cancel
        && let Err(error) = database.address.cancel(key).await
    {
        tracing::warn!(%error, "what ran was not cancelled");
    }
    drop(upstream);
    let _told = relay.cut().await;
    if let Err(error) = relay.recorder().session_end(reason, &detail).await {
        tracing::error!(%error, "the end of a session is not recorded");
    }
    front.core.metrics().sessions.dec();
    tracing::info!(
        session = relay.recorder().id(),
        identity = relay.judge().principal.path,
        reason,
        detail,
        "session ended"
    );
}

async fn last_words(tls: &mut TlsStream<TcpStream>, cut: &Cut) {
    let mut out = BytesMut::new();
    let notice = Notice::fatal("57P01", format!("terminating connection by trilith: {cut}"));
    wire::error(&mut out, &notice);
    let saying = async {
        tls.write_all(&out).await?;
        tls.shutdown().await
    };
    let _gone = tokio::time::timeout(LAST_WORDS, saying).await;
}

/// What a session ended by itself is recorded as; a client that is still there hears why.
async fn conclude(tls: &mut TlsStream<TcpStream>, ended: &PumpError) -> (&'static str, String) {
    let sqlstate = match ended {
        PumpError::End(End::Terminate) | PumpError::ClientClosed => {
            return ("closed", String::new());
        }
        PumpError::Client(_) => return ("closed", ended.to_string()),
        PumpError::UpstreamClosed => return ("error", ended.to_string()),
        PumpError::Upstream(_) | PumpError::End(End::Upstream(_) | End::OutOfStep { .. }) => {
            "08006"
        }
        PumpError::End(End::Client(_) | End::Misuse(_)) => "08P01",
        PumpError::End(End::Recording(_)) => "58030",
    };
    let detail = format!("{ended}: {}", cause(ended));
    tracing::warn!(detail, "a session ends with an error");
    say(tls, fatal(sqlstate, ended.to_string())).await;
    ("error", detail)
}
