//! Why a connection does not become a session, and how its client is told.

use crate::upstream::TOO_MANY_CONNECTIONS;
use crate::wire::{self, Notice};
use bytes::BytesMut;
use facts::Finding;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// A client that is cut has this long to take the reason.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why a connection does not become a session.
pub(super) enum Refusal {
    /// Nobody to talk to, or nothing to say.
    Silent(io::Error),
    Said(Notice),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Silent(error)
    }
}

pub(super) fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::Said(Notice::fatal(sqlstate, message))
}

pub(super) fn refused(finding: &Finding) -> Refusal {
    Refusal::Said(Notice {
        detail: Some(finding.to_string()),
        hint: finding.next.clone(),
        ..Notice::fatal(
            "28000",
            format!("not admitted by trilith: {}", finding.code),
        )
    })
}

/// There is no place for a session that is otherwise admitted.
pub(super) fn full(finding: &Finding) -> Refusal {
    Refusal::Said(Notice {
        detail: Some(finding.to_string()),
        hint: finding.next.clone(),
        ..Notice::fatal(TOO_MANY_CONNECTIONS, finding.message.clone())
    })
}

pub(super) async fn say<S: AsyncWrite + Unpin>(stream: &mut S, refusal: Refusal) {
    match refusal {
        Refusal::Silent(error) => tracing::debug!(%error, "a connection ended before it began"),
        Refusal::Said(notice) => {
            tracing::info!(message = notice.message, detail = notice.detail, "refused");
            let mut out = BytesMut::new();
            wire::error(&mut out, &notice);
            let saying = async {
                stream.write_all(&out).await?;
                stream.shutdown().await
            };
            let _gone = tokio::time::timeout(LAST_WORDS, saying).await;
        }
    }
}
