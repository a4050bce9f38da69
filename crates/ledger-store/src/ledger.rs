//! A ledger of our own: opening it, and the handle that everybody appends and reads through.

use crate::append::{Acked, Append, AppendMany};
use crate::committer::{Committer, Epoch, Queue, Reserve};
use crate::head::Head;
use crate::{Options, Reader, StoreError, oneshot, recovery, retention, tiler};
use crypto::Signer;
use ledger::merkle::empty_root;
use ledger::{Checkpoint, Draft, LedgerKey, LedgerSigner, Origin, Record};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// An open ledger. Dropping it commits what waits and lets go of the directory.
pub struct Ledger {
    handle: LedgerHandle,
    committer: Option<JoinHandle<()>>,
    tiler: Option<JoinHandle<()>>,
    /// Held for as long as the threads run.
    _lock: Box<dyn Send + Sync>,
}

/// Appends to a ledger and reads from it. Cheap to clone, for threads and tasks alike.
#[derive(Clone)]
pub struct LedgerHandle {
    queue: Arc<Queue>,
    reader: Reader,
    key: Arc<LedgerKey>,
    epoch: u64,
}

impl Ledger {
    /// Opens the ledger in `dir`, or begins one. `signer` signs its checkpoints; `origin` names it
    /// (`example.org/server`).
    ///
    /// # Errors
    /// Refuses a directory that another process holds, that is damaged, rolled back, or of another
    /// key. Nothing is repaired silently but a commit that was never acknowledged.
    pub fn open(
        dir: &Path,
        signer: Arc<dyn Signer>,
        origin: &str,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let signer = LedgerSigner::new(origin, signer);
        Self::open_signed(
            dir,
            signer.map_err(|error| StoreError::Sign(Arc::new(error)))?,
            options,
        )
    }

    /// As [`Ledger::open`]; where the signer's key knows logs that this one goes on from, what they signed up to
    /// their ends is of this ledger.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_signed(
        dir: &Path,
        signer: LedgerSigner,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let signing = |error| StoreError::Sign(Arc::new(error));
        let disk = Arc::clone(&options.disk);
        let made = disk.create_dir_all(dir);
        made.map_err(StoreError::io("cannot create", dir))?;
        let lock = lock(options, dir)?;
        let epoch = Epoch::begin(disk.as_ref(), dir)?;

        let empty = first_head(&signer).map_err(signing)?;
        let recovered = recovery::open(dir, signer.key(), options, empty)?;
        let last = recovered.last_record.as_deref().map(Record::parse);
        let last = last.transpose();
        let last = last.map_err(|error| StoreError::Record(Arc::new(error)))?;
        let next_seq = last.map_or(0, |record| record.seq() + 1);

        let mut reserve = Reserve::new(disk, dir, options.reserve_bytes);
        reserve.hold();
        let log = Arc::clone(&recovered.writer.log);
        // What a crash has left of it.
        if let Err(error) = retention::drop_segments(&log) {
            tracing::warn!(%error, "records that were pruned are still on the disk");
        }
        let queue = Arc::new(Queue::new(options));
        let handle = LedgerHandle {
            queue: Arc::clone(&queue),
            reader: Reader::new(Arc::clone(&log)),
            key: Arc::new(signer.key().clone()),
            epoch: epoch.number(),
        };
        let committer = Committer::new(
            Arc::clone(&queue),
            recovered.writer,
            signer,
            next_seq,
            epoch,
            reserve,
            options.commit_bytes,
        );
        let committer = spawn("ledger-commit", move || committer.run())?;
        let tiler = spawn("ledger-tile", move || {
            if let Err(error) = tiler::run(&log) {
                // At the end a full disk only delays tiles, which the segments stand in for.
                tracing::error!(%error, "no tiles are written until the next start");
                if !matches!(error, StoreError::DiskFull) {
                    queue.poison(&error);
                }
            }
        })?;
        Ok(Self {
            handle,
            committer: Some(committer),
            tiler: Some(tiler),
            _lock: lock,
        })
    }

    #[must_use]
    pub fn handle(&self) -> LedgerHandle {
        self.handle.clone()
    }

    /// Commits what waits, publishes the checkpoint and closes.
    pub fn close(self) -> Result<(), StoreError> {
        let queue = Arc::clone(&self.handle.queue);
        drop(self);
        queue.failure().map_or(Ok(()), Err)
    }
}

impl std::ops::Deref for Ledger {
    type Target = LedgerHandle;

    fn deref(&self) -> &LedgerHandle {
        &self.handle
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.handle.queue.close();
        // A thread that panicked has nothing left to say here.
        let _ended = self.committer.take().map(JoinHandle::join);
        self.handle.reader.close_tiler();
        let _ended = self.tiler.take().map(JoinHandle::join);
    }
}

impl LedgerHandle {
    /// Resolves when the record is durable under a signed checkpoint. Queued at once: the order of
    /// calls is the order in the ledger.
    pub fn append(&self, draft: Draft) -> Append {
        Append::new(self.queue.append(vec![draft], false))
    }

    /// As [`LedgerHandle::append`] for records that belong together: all or none, side by side.
    pub fn append_many(&self, drafts: Vec<Draft>) -> AppendMany {
        self.many(drafts, false)
    }

    /// A commit of nothing is none: a frame without records is one that no opening takes.
    fn many(&self, drafts: Vec<Draft>, reserved: bool) -> AppendMany {
        if drafts.is_empty() {
            return AppendMany::new(oneshot::ready(Ok(Acked::nothing(&self.reader.head()))));
        }
        AppendMany::new(self.queue.append(drafts, reserved))
    }

    /// For revocations and the few records that a server needs to go on: may use the disk space that
    /// is kept back, and is never refused because the queue is full.
    pub fn append_reserved(&self, draft: Draft) -> Append {
        Append::new(self.queue.append(vec![draft], true))
    }

    /// As [`LedgerHandle::append_reserved`] for records that belong together.
    pub fn append_many_reserved(&self, drafts: Vec<Draft>) -> AppendMany {
        self.many(drafts, true)
    }

    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.key.origin()
    }

    /// What verifies this ledger's checkpoints.
    #[must_use]
    pub fn key(&self) -> &LedgerKey {
        &self.key
    }

    /// How often this ledger has been opened.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The error after which nothing is taken any more. The process must stop.
    #[must_use]
    pub fn failure(&self) -> Option<StoreError> {
        self.queue.failure()
    }
}

fn lock(options: &Options, dir: &Path) -> Result<Box<dyn Send + Sync>, StoreError> {
    let path = dir.join("lock");
    options.disk.lock(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::WouldBlock {
            StoreError::Locked { path }
        } else {
            StoreError::io("cannot lock", &path)(error)
        }
    })
}

pub(crate) fn lock_dir(options: &Options, dir: &Path) -> Result<Box<dyn Send + Sync>, StoreError> {
    lock(options, dir)
}

/// The signed checkpoint of a ledger without records.
fn first_head(signer: &LedgerSigner) -> Result<Head, ledger::KeyError> {
    let checkpoint = Checkpoint {
        origin: signer.key().origin().clone(),
        size: 0,
        root: empty_root(),
    };
    let note = signer.sign(&checkpoint)?.into();
    Ok(Head { checkpoint, note })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(StoreError::io("cannot start the thread", Path::new(name)))
}
