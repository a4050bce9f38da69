//! How long a helper waits for its first identity, and whom it tells that it waits.

use super::HelperError;
use facts::Finding;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
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

/// The last word of an agent that had nothing: `CODE: what is wrong`.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Arc<Mutex<Option<String>>>);

impl Said {
    pub(super) fn keep(&self, why: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    fn last(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Patience {
    /// `work`, or [`HelperError::Offline`] when the limit is over, with what the agent has `said`.
    pub(super) async fn wait<T>(
        &self,
        said: &Said,
        work: impl Future<Output = Result<T, HelperError>>,
    ) -> Result<T, HelperError> {
        self.wait_quietly(TOLD_AFTER, said, work).await
    }

    async fn wait_quietly<T>(
        &self,
        quiet: Duration,
        said: &Said,
        work: impl Future<Output = Result<T, HelperError>>,
    ) -> Result<T, HelperError> {
        let mut work = std::pin::pin!(work);
        let quiet = self.limit.map_or(quiet, |limit| limit.min(quiet));
        if let Ok(done) = tokio::time::timeout(quiet, &mut work).await {
            return done;
        }
        let Some(limit) = self.limit else {
            (self.tell)(&nothing(
                quiet,
                said,
                "this goes on waiting, --wait SECONDS ends it",
            ));
            return work.await;
        };
        if limit > quiet {
            let goes_on = format!("this waits {} s in all", limit.as_secs());
            (self.tell)(&nothing(quiet, said, &goes_on));
        }
        tokio::time::timeout(limit.saturating_sub(quiet), work)
            .await
            .unwrap_or_else(|_| Err(HelperError::Offline(nothing(limit, said, "then try again"))))
    }
}

/// Why there is nothing yet, and what to do. `then` is what comes after that.
fn nothing(waited: Duration, said: &Said, then: &str) -> Finding {
    let last = said.last();
    // What to do is said below.
    let last = last
        .as_deref()
        .map(|why| why.split("; next: ").next().unwrap_or(why));
    // A machine that is out: the server runs, and starting it again mends nothing.
    if let Some(out) = last.and_then(|why| why.strip_prefix("AGENT-OUT: ")) {
        return Finding::new("AGENT-OUT", out)
            .observed(format!("nothing for {} s", waited.as_secs()))
            .next(format!(
                "say why, at the server: trilith attest explain NODE; docs/operate/refused-machine.md mends it; {then}"
            ));
    }
    let seconds = waited.as_secs();
    Finding::new(
        "AGENT-OFFLINE",
        "the agent has no answer for this program yet: it has not joined, or cannot reach the server",
    )
    .observed(match last {
        Some(why) => format!("nothing for {seconds} s; the agent said last: {why}"),
        None => format!("nothing for {seconds} s"),
    })
    .next(format!(
        "look whether the server runs and at the agent's log; {then}"
    ))
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
        let said = Said::default();
        let ended = limited.wait_quietly(QUIET, &said, never).await;
        assert!(
            matches!(ended, Err(HelperError::Offline(finding)) if finding.code == "AGENT-OFFLINE")
        );
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
        let late = async {
            tokio::time::sleep(QUIET * 5).await;
            Ok(7)
        };
        let waited = patience(None).wait_quietly(QUIET, &said, late).await;
        assert_eq!(waited.unwrap(), 7);
        assert_eq!(TOLD.load(Ordering::Relaxed), 2);
        let soon = patience(None).wait(&said, async { Ok(()) }).await;
        assert!(soon.is_ok() && TOLD.load(Ordering::Relaxed) == 2);
    }

    /// On a machine that was evicted a program was told that the server does not run, which ran.
    #[tokio::test]
    async fn a_helper_on_a_machine_that_is_out_says_that_and_not_that_the_server_is_down() {
        let said = Said::default();
        let out = "AGENT-OUT: the server gives this machine no identity until it has proved itself again; \
                   saw IMA-FILE; next: the node agent's log says what was found";
        let never = std::future::pending::<Result<(), _>>();
        let patience = Patience {
            limit: Some(QUIET * 2),
            tell: |_| {},
        };
        said.keep("AGENT-OFFLINE: the server cannot be reached");
        let ended = patience.wait_quietly(QUIET, &said, never).await;
        let Err(HelperError::Offline(finding)) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(finding.code, "AGENT-OFFLINE");
        assert!(finding.observed.unwrap().contains("cannot be reached"));
        said.keep(out);
        let never = std::future::pending::<Result<(), _>>();
        let ended = patience.wait_quietly(QUIET, &said, never).await;
        let Err(HelperError::Offline(finding)) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(finding.code, "AGENT-OUT");
        assert!(
            finding.message.ends_with("again; saw IMA-FILE"),
            "{finding}"
        );
        let next = finding.next.unwrap();
        assert!(
            next.contains("attest explain") && !next.contains("start the server"),
            "{next}"
        );
    }
}
