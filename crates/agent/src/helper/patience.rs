//! How long a helper waits for its first identity, and whom it tells that it waits.

use super::HelperError;
use facts::Finding;
use std::future::Future;
use std::time::Duration;

/// Waiting that is longer than this is told. An agent and a server that are up answer sooner.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// Waiting for the first identity.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// No longer than this; `None` waits for ever.
    pub limit: Option<Duration>,
    /// Is told once that there is nothing yet.
    pub tell: fn(&Finding),
}

impl Patience {
    /// `work`, or [`HelperError::Offline`] when the limit is over.
    pub(super) async fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, HelperError>>,
    ) -> Result<T, HelperError> {
        self.wait_quietly(TOLD_AFTER, work).await
    }

    async fn wait_quietly<T>(
        &self,
        quiet: Duration,
        work: impl Future<Output = Result<T, HelperError>>,
    ) -> Result<T, HelperError> {
        let mut work = std::pin::pin!(work);
        let quiet = self.limit.map_or(quiet, |limit| limit.min(quiet));
        if let Ok(done) = tokio::time::timeout(quiet, &mut work).await {
            return done;
        }
        let Some(limit) = self.limit else {
            (self.tell)(&offline(quiet).next(
                "look whether the server runs and at the agent's log; this goes on waiting, --wait SECONDS \
                 ends it",
            ));
            return work.await;
        };
        if limit > quiet {
            (self.tell)(&offline(quiet).next(format!(
                "look whether the server runs and at the agent's log; this waits {} s in all",
                limit.as_secs()
            )));
        }
        tokio::time::timeout(limit.saturating_sub(quiet), work)
            .await
            .unwrap_or_else(|_| {
                Err(HelperError::Offline(offline(limit).next(
                    "start the server, look at the agent's log, then try again",
                )))
            })
    }
}

fn offline(waited: Duration) -> Finding {
    Finding::new(
        "AGENT-OFFLINE",
        "the agent has no answer for this program yet: it has not joined, or cannot reach the server",
    )
    .observed(format!("nothing for {} s", waited.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static TOLD: AtomicUsize = AtomicUsize::new(0);

    const QUIET: Duration = Duration::from_millis(20);

    fn patience(limit: Option<Duration>) -> Patience {
        Patience {
            limit,
            tell: |finding| {
                assert_eq!(finding.code, "AGENT-OFFLINE");
                assert!(finding.next.is_some());
                TOLD.fetch_add(1, Ordering::Relaxed);
            },
        }
    }

    #[tokio::test]
    async fn a_helper_whose_agent_has_no_answer_says_so_and_ends() {
        let never = std::future::pending::<Result<(), _>>();
        let limited = patience(Some(QUIET * 3));
        let ended = limited.wait_quietly(QUIET, never).await;
        assert!(
            matches!(ended, Err(HelperError::Offline(finding)) if finding.code == "AGENT-OFFLINE")
        );
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
        let late = async {
            tokio::time::sleep(QUIET * 5).await;
            Ok(7)
        };
        let waited = patience(None).wait_quietly(QUIET, late).await;
        assert_eq!(waited.unwrap(), 7);
        assert_eq!(TOLD.load(Ordering::Relaxed), 2);
        let soon = patience(None).wait(async { Ok(()) }).await;
        assert!(soon.is_ok() && TOLD.load(Ordering::Relaxed) == 2);
    }
}
