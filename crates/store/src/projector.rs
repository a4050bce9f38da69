//! The thread that owns the database and writes what it is handed, many batches a transaction.
//!
//! The state is only a projection: a database that cannot be written costs nobody anything but a longer
//! start. What could not be written is kept and tried again; beyond [`KEPT`] changes it is forgotten, and
//! the whole state is written anew once the database takes it.

use crate::change::{Change, Snapshot};
use crate::database::{Error, Store};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Batches that may wait; beyond, whoever hands one over waits: the state never falls far behind.
const WAITING: usize = 4096;
/// What comes so soon after a batch is written with it.
const GATHERING: Duration = Duration::from_millis(20);
/// Changes written in one transaction at most.
const TRANSACTION: usize = 20_000;
/// Changes that are kept while the database cannot be written: some 50 MiB.
const KEPT: usize = 200_000;
/// Between two tries to write, at first and at most.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(15);

enum Message {
    Absorb { applied: u64, changes: Vec<Change> },
    Flush(SyncSender<bool>),
}

/// The database as it was found at the start.
#[derive(Debug)]
pub struct Kept {
    pub path: PathBuf,
    /// Absent if it could not be opened, or not be brought up to the state: it is then written anew.
    pub store: Option<Store>,
}

/// Yields the whole state, and the number of records that it follows from. Whatever was handed to
/// [`Projector::absorb`] before the call is in it.
pub type Whole = Box<dyn Fn() -> (u64, Snapshot) + Send>;

/// Hands changes to the state's own thread. Dropping it writes what waits and joins the thread.
#[derive(Debug)]
pub struct Projector {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Projector {
    /// Moves the database to its thread.
    pub fn start(kept: Kept, whole: Whole) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let writer = Writer {
            stale: kept.store.is_none(),
            path: kept.path,
            store: kept.store,
            whole,
            written: 0,
            waiting: Vec::new(),
            count: 0,
            failing: None,
        };
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || writer.run(&receiver))?;
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

    /// Returns when all that was queued before is written, or could not be.
    pub fn flush(&self) -> Result<(), Error> {
        let (done, wait) = sync_channel(1);
        self.sender
            .as_ref()
            .ok_or(Error::Ended)?
            .send(Message::Flush(done))
            .map_err(|_| Error::Ended)?;
        match wait.recv() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Behind),
            Err(_) => Err(Error::Ended),
        }
    }

    /// Writes what waits, closes the database and says how the last try went.
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

/// What the thread owns.
struct Writer {
    path: PathBuf,
    store: Option<Store>,
    whole: Whole,
    /// Records that are in the database for certain.
    written: u64,
    /// Batches in order, and how many changes they hold.
    waiting: Vec<(u64, Vec<Change>)>,
    count: usize,
    /// The database lacks more than what waits: the whole state has to be written.
    stale: bool,
    /// When to try again, and how long to wait after that.
    failing: Option<(Instant, Duration)>,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) -> Result<(), Error> {
        let mut last = if self.stale { self.write() } else { Ok(()) };
        loop {
            let message = match self.failing {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((due, _)) => {
                    receiver.recv_timeout(due.saturating_duration_since(Instant::now()))
                }
            };
            match message {
                Ok(Message::Absorb { applied, changes }) => {
                    self.take(applied, changes);
                    // Nobody waits for the database, and one transaction for many costs what one for
                    // one does.
                    std::thread::sleep(GATHERING);
                }
                Ok(Message::Flush(done)) => {
                    last = self.write();
                    // Everything before it has been written: messages come in order.
                    let _ = done.send(last.is_ok());
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return if self.behind() { self.write() } else { last };
                }
            }
            let mut flush = None;
            while self.count < TRANSACTION {
                match receiver.try_recv() {
                    Ok(Message::Absorb { applied, changes }) => self.take(applied, changes),
                    Ok(Message::Flush(done)) => {
                        flush = Some(done);
                        break;
                    }
                    Err(_) => break,
                }
            }
            if flush.is_some() || self.is_due() {
                last = self.write();
            }
            if let Some(done) = flush {
                let _ = done.send(last.is_ok());
            }
        }
    }

    fn is_due(&self) -> bool {
        self.failing.is_none_or(|(due, _)| due <= Instant::now())
    }

    const fn behind(&self) -> bool {
        self.stale || !self.waiting.is_empty()
    }

    fn take(&mut self, applied: u64, changes: Vec<Change>) {
        // A stale database is written whole, and what comes before that is in the whole.
        if self.stale || applied <= self.written {
            return;
        }
        self.count += changes.len();
        self.waiting.push((applied, changes));
        if self.failing.is_some() && self.count > KEPT {
            self.forget();
        }
    }

    /// Nothing is kept any more; the next write is of the whole state.
    fn forget(&mut self) {
        self.stale = true;
        self.waiting = Vec::new();
        self.count = 0;
    }

    fn write(&mut self) -> Result<(), Error> {
        match self.try_write() {
            Ok(()) => {
                if self.failing.take().is_some() {
                    tracing::info!("the state database is written again");
                }
                Ok(())
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                if self.failing.is_none() {
                    tracing::error!(
                        %error, cause,
                        "the state database falls behind; the ledger holds everything"
                    );
                }
                if error.is_damage() {
                    // It is only a projection: what cannot be read is made again.
                    self.store = None;
                    drop(Store::drop_file(&self.path));
                    self.forget();
                }
                let wait = self.failing.map_or(FIRST_RETRY, |(_, wait)| wait);
                self.failing = Some((Instant::now() + wait, (wait * 2).min(LAST_RETRY)));
                Err(error)
            }
        }
    }

    fn try_write(&mut self) -> Result<(), Error> {
        if !self.behind() {
            return Ok(());
        }
        let store = match &mut self.store {
            Some(store) => store,
            None => self.store.insert(Store::open(&self.path)?),
        };
        if self.stale {
            let (applied, whole) = (self.whole)();
            store.replace(applied, &whole)?;
            self.written = applied;
            self.stale = false;
            return Ok(());
        }
        let Some((applied, _)) = self.waiting.last() else {
            return Ok(());
        };
        let applied = *applied;
        let changes = self.waiting.iter().flat_map(|(_, changes)| changes);
        store.absorb(applied, changes)?;
        self.written = applied;
        self.waiting.clear();
        self.count = 0;
        Ok(())
    }
}
