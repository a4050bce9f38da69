//! Threads for work that would hold up the async ones: signing, building, deciding.
//!
//! As many as there are cores. Jobs start in the order in which they came.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tokio::sync::oneshot;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that wait and have not been called; never fewer than do. One that wakes uncalled is counted
    /// twice, which costs a call that nobody hears.
    idle: usize,
    closed: bool,
}

/// A handle; the threads end when the last one is dropped and no job waits.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Handle>);

struct Handle {
    shared: Arc<(Mutex<Queue>, Condvar)>,
    threads: usize,
}

/// The pool ended, or the job did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("the work was not done: it failed, or the server is stopping")]
pub(crate) struct Ended;

impl Pool {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("work-{number}"))
                .spawn(move || work(&shared))?;
        }
        Ok(Self(Arc::new(Handle { shared, threads })))
    }

    pub(crate) fn threads(&self) -> usize {
        self.0.threads
    }

    /// Runs `job` on one of the threads. It is queued at once, not when the answer is awaited.
    pub(crate) fn run<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        job: F,
    ) -> impl Future<Output = Result<T, Ended>> + Send + use<T, F> {
        let (done, wait) = oneshot::channel();
        let job: Job = Box::new(move || {
            // A caller that went away wants no answer.
            drop(done.send(job()));
        });
        self.spawn([job]);
        async { wait.await.map_err(|_| Ended) }
    }

    /// Runs `jobs` on the threads, for nobody who waits.
    pub(crate) fn spawn(&self, jobs: impl IntoIterator<Item = Job>) {
        let (queue, arrived) = &*self.0.shared;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.jobs.len();
        queue.jobs.extend(jobs);
        // A thread at work looks for the next job by itself; calling is a system call.
        let called = queue.idle.min(queue.jobs.len() - before);
        queue.idle -= called;
        drop(queue);
        for _ in 0..called {
            arrived.notify_one();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (queue, arrived) = &*self.shared;
        queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        arrived.notify_all();
    }
}

fn work(shared: &(Mutex<Queue>, Condvar)) {
    let (queue, arrived) = shared;
    loop {
        let mut held = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let job = loop {
            if let Some(job) = held.jobs.pop_front() {
                break job;
            }
            if held.closed {
                return;
            }
            held.idle += 1;
            held = arrived.wait(held).unwrap_or_else(PoisonError::into_inner);
        };
        drop(held);
        // A job that panics costs its caller an answer, which it sees as [`Ended`], and nobody a thread.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job panicked; its caller is told that it was not done");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_costs_no_thread() {
        let pool = Pool::start(1).unwrap();
        let patience = std::time::Duration::from_secs(30);
        for _ in 0..3 {
            let lost = pool.run(|| panic!("on purpose"));
            let lost: Result<(), Ended> = tokio::time::timeout(patience, lost).await.unwrap();
            lost.unwrap_err();
        }
        let done = tokio::time::timeout(patience, pool.run(|| 7));
        assert_eq!(done.await.expect("a thread is left").unwrap(), 7);
    }
}
