//! Where statements are read that take long: a few threads beside those that serve sockets, so that
//! neither the stream from the server nor anybody's cut waits behind them.

use facts::Finding;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{AcquireError, Semaphore};

/// Identities that are remembered before those that have nothing to do are forgotten.
const REMEMBERED: usize = 1024;

pub(crate) struct Pool {
    threads: Arc<Semaphore>,
    /// One job at a time of each identity: nobody waits for more than one of anybody else's.
    turns: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Pool {
    /// Half of what the machine has: the rest serves sockets.
    pub(crate) fn new() -> Self {
        let machine = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: Arc::new(Semaphore::new((machine / 2).max(1))),
            turns: Mutex::default(),
        }
    }

    /// Runs `job` when it is `identity`'s turn. It runs to its end even if nobody waits for it any more.
    ///
    /// # Errors
    /// `GATEWAY-JOB`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        identity: &str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Finding> {
        // In this order: whoever waits for its own turn holds no thread.
        let turn = self.turn(identity).acquire_owned().await.map_err(closed)?;
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let thread = thread.map_err(closed)?;
        let running = tokio::task::spawn_blocking(move || {
            let done = job();
            drop((turn, thread));
            done
        });
        running.await.map_err(|error| {
            tracing::error!(%error, "a statement was not read");
            failed()
        })
    }

    fn turn(&self, identity: &str) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(identity).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() >= REMEMBERED {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Semaphore::new(1));
        turns.insert(identity.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

fn closed(_: AcquireError) -> Finding {
    failed()
}

fn failed() -> Finding {
    Finding::new("GATEWAY-JOB", "the statement could not be read")
        .next("report the statement's shape; the gateway's log has more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_long_job_keeps_its_own_identity_waiting_and_no_socket() {
        let pool = Arc::new(Pool {
            threads: Arc::new(Semaphore::new(2)),
            turns: Mutex::default(),
        });
        let (go, gone) = mpsc::channel::<()>();
        let run = |identity: &'static str, job: Box<dyn FnOnce() -> u8 + Send>| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.run(identity, job).await.unwrap() })
        };
        let long = run(
            "a",
            Box::new(move || {
                gone.recv().unwrap();
                1
            }),
        );
        tokio::task::yield_now().await;
        let same = run("a", Box::new(|| 2));
        tokio::task::yield_now().await;
        // The only thread of this runtime is free, and so is somebody else's turn.
        assert_eq!(run("b", Box::new(|| 3)).await.unwrap(), 3);
        assert!(!same.is_finished() && !long.is_finished());
        go.send(()).unwrap();
        assert_eq!((long.await.unwrap(), same.await.unwrap()), (1, 2));
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_gives_its_turn_back() {
        let pool = Pool::new();
        let (go, gone) = mpsc::channel::<()>();
        {
            let cut = pool.run("a", move || gone.recv().is_ok());
            let waited = tokio::time::timeout(std::time::Duration::from_millis(20), cut);
            waited.await.unwrap_err();
        }
        go.send(()).unwrap();
        assert_eq!(pool.run("a", || 1).await.unwrap(), 1);
        assert!(pool.run("a", || panic!("on purpose")).await.is_err());
        assert_eq!(pool.run("a", || 2).await.unwrap(), 2);
    }
}
