//! One value from one thread to one waiter, which may block or be a task of any executor.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Slot<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    Empty,
    Waiting(Waker),
    Full(T),
    /// The sender is gone, or the value was taken.
    Gone,
}

pub(crate) struct Sender<T> {
    slot: Option<Arc<Slot<T>>>,
}

/// Resolves to `None` if the sender went away without a value.
pub(crate) struct Receiver<T> {
    slot: Arc<Slot<T>>,
}

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State::Empty),
    });
    let sender = Sender {
        slot: Some(Arc::clone(&slot)),
    };
    (sender, Receiver { slot })
}

/// A receiver that has its value already.
pub(crate) fn ready<T>(value: T) -> Receiver<T> {
    Receiver {
        slot: Arc::new(Slot {
            state: Mutex::new(State::Full(value)),
        }),
    }
}

impl<T> Slot<T> {
    fn put(&self, state: State<T>) {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *held, state);
        drop(held);
        if let State::Waiting(waker) = before {
            waker.wake();
        }
    }
}

impl<T> Sender<T> {
    pub(crate) fn send(mut self, value: T) {
        if let Some(slot) = self.slot.take() {
            slot.put(State::Full(value));
        }
    }
}

impl<T> Receiver<T> {
    /// Whether it resolves without waiting.
    pub(crate) fn is_ready(&self) -> bool {
        let held = self
            .slot
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        matches!(*held, State::Full(_) | State::Gone)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.put(State::Gone);
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut held = self
            .slot
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *held, State::Gone) {
            State::Full(value) => Poll::Ready(Some(value)),
            State::Gone => Poll::Ready(None),
            State::Empty | State::Waiting(_) => {
                *held = State::Waiting(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static UNPARK: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Drives a future that is woken from another thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    UNPARK.with(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            thread::park();
        }
    })
}
