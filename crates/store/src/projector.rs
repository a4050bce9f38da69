//! The thread that owns the database and writes what it is handed, many batches a transaction.

use crate::change::Change;
use crate::database::{Error, Store};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Batches that may wait; beyond, whoever hands one over waits: the state never falls far behind.
const WAITING: usize = 4096;
/// Changes written in one transaction at most.
const TRANSACTION: usize = 20_000;

enum Message {
    Absorb { applied: u64, changes: Vec<Change> },
    Flush(SyncSender<()>),
}

/// Hands changes to the state's own thread. Dropping it writes what waits and joins the thread.
#[derive(Debug)]
pub struct Projector {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Projector {
    /// Moves `store` to its thread.
    pub fn start(store: Store) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || write(store, &receiver))?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    /// Queues `changes`, after which `applied` records are in. Calls must come in ledger order.
    pub fn absorb(&self, applied: u64, changes: Vec<Change>) -> Result<(), Error> {
        let Some(sender) = &self.sender else {
            return Err(Error::Ended);
        };
        match sender.try_send(Message::Absorb { applied, changes }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => sender.send(message).map_err(|_| Error::Ended),
            Err(TrySendError::Disconnected(_)) => Err(Error::Ended),
        }
    }

    /// Returns when all that was queued before is written.
    pub fn flush(&self) -> Result<(), Error> {
        let (done, wait) = sync_channel(1);
        self.sender
            .as_ref()
            .ok_or(Error::Ended)?
            .send(Message::Flush(done))
            .map_err(|_| Error::Ended)?;
        wait.recv().map_err(|_| Error::Ended)
    }

    /// Writes what waits, closes the database and says how the thread ended.
    pub fn finish(mut self) -> Result<(), Error> {
        self.close()
    }

    fn close(&mut self) -> Result<(), Error> {
        self.sender = None;
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(Error::Ended)),
            None => Ok(()),
        }
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        // Whoever wants the outcome calls `finish`; the ledger holds everything either way.
        drop(self.close());
    }
}

fn write(mut store: Store, receiver: &Receiver<Message>) -> Result<(), Error> {
    let mut next = receiver.recv().ok();
    while let Some(message) = next.take() {
        let (mut applied, mut changes) = match message {
            Message::Flush(done) => {
                // Everything before it has been written: messages come in order.
                let _ = done.send(());
                next = receiver.recv().ok();
                continue;
            }
            Message::Absorb { applied, changes } => (applied, vec![changes]),
        };
        let mut count: usize = changes.iter().map(Vec::len).sum();
        while count < TRANSACTION {
            match receiver.try_recv() {
                Ok(Message::Absorb {
                    applied: later,
                    changes: more,
                }) => {
                    applied = later;
                    count += more.len();
                    changes.push(more);
                }
                Ok(flush @ Message::Flush(_)) => {
                    next = Some(flush);
                    break;
                }
                Err(_) => break,
            }
        }
        store.absorb(applied, changes.iter().flatten())?;
        if next.is_none() {
            next = receiver.recv().ok();
        }
    }
    Ok(())
}
