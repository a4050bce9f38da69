//! Group commit: one thread takes what waits, seals it, signs a checkpoint, makes both durable with
//! one write and one fdatasync, and answers.
//!
//! Owners: the queue belongs to everybody; segment, tree, number and epoch to the thread alone.

use crate::append::{Acked, Answer};
use crate::batch::{Batch, BatchBuilder};
use crate::disk::{Disk, DiskFile};
use crate::log::{LogWriter, WriteError};
use crate::oneshot::{self, Receiver, Sender};
use crate::options::OnFailure;
use crate::{Options, StoreError};
use ledger::{Checkpoint, Draft, LedgerSigner, Stamp};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Drafts that are committed together or not at all.
struct Group {
    drafts: Vec<Draft>,
    bytes: usize,
    /// May use the space that is kept back.
    reserved: bool,
    done: Sender<Answer>,
}

/// Where appends wait. Shared by handles and the committer.
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    limit: usize,
    clock: fn() -> Stamp,
    on_failure: Option<OnFailure>,
}

#[derive(Default)]
struct State {
    groups: VecDeque<Group>,
    bytes: usize,
    closed: bool,
    failure: Option<StoreError>,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            limit: options.queue_bytes,
            clock: options.clock,
            on_failure: options.on_failure.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues drafts; they are stamped now, in the caller's thread.
    pub(crate) fn append(&self, mut drafts: Vec<Draft>, reserved: bool) -> Receiver<Answer> {
        let now = (self.clock)();
        for draft in &mut drafts {
            draft.stamp(now);
        }
        let bytes = drafts.iter().map(Draft::max_len).sum();
        let (done, receiver) = oneshot::channel();
        // What acts first never waits for room in the queue: there is little of it.
        let limit = if reserved { usize::MAX } else { self.limit };
        let mut state = self.lock();
        if let Some(refusal) = state.refusal(bytes, limit) {
            return oneshot::ready(Err(refusal));
        }
        state.bytes += bytes;
        let was_empty = state.groups.is_empty();
        state.groups.push_back(Group {
            drafts,
            bytes,
            reserved,
            done,
        });
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        receiver
    }

    /// Why nothing is taken any more, if so.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.lock().failure.clone()
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// From here on everything is refused; whoever waits is told.
    pub(crate) fn poison(&self, cause: &StoreError) -> StoreError {
        let poisoned = match cause {
            StoreError::EpochTaken { .. } => cause.clone(),
            _ => StoreError::Poisoned {
                cause: with_sources(cause).into(),
            },
        };
        let mut state = self.lock();
        let first = state.failure.is_none();
        state.failure.get_or_insert_with(|| poisoned.clone());
        let waiting = std::mem::take(&mut state.groups);
        drop(state);
        for group in waiting {
            group.done.send(Err(poisoned.clone()));
        }
        self.filled.notify_all();
        if let Some(tell) = self.on_failure.as_ref().filter(|_| first) {
            tell(&poisoned);
        }
        poisoned
    }

    /// Blocks for the next groups, no more than `limit` bytes unless a single one is larger.
    /// `None` once closed and empty, or poisoned.
    fn take(&self, limit: usize) -> Option<Vec<Group>> {
        let mut state = self.lock();
        while state.groups.is_empty() {
            if state.closed || state.failure.is_some() {
                return None;
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let (mut taken, mut bytes) = (Vec::with_capacity(state.groups.len()), 0);
        while let Some(group) = state
            .groups
            .pop_front_if(|group| bytes == 0 || bytes + group.bytes <= limit)
        {
            bytes += group.bytes;
            taken.push(group);
        }
        state.bytes -= bytes;
        Some(taken)
    }
}

impl State {
    fn refusal(&self, bytes: usize, limit: usize) -> Option<StoreError> {
        if let Some(failure) = &self.failure {
            return Some(failure.clone());
        }
        if self.closed {
            return Some(StoreError::Closed);
        }
        // A group that alone exceeds the limit is let in when nothing waits.
        let waiting = self.bytes;
        (waiting > 0 && waiting + bytes > limit).then_some(StoreError::Busy { waiting })
    }
}

fn with_sources(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What the committer's thread owns.
pub(crate) struct Committer {
    queue: Arc<Queue>,
    writer: LogWriter,
    signer: LedgerSigner,
    next_seq: u64,
    epoch: Epoch,
    reserve: Reserve,
    commit_bytes: usize,
}

impl Committer {
    pub(crate) const fn new(
        queue: Arc<Queue>,
        writer: LogWriter,
        signer: LedgerSigner,
        next_seq: u64,
        epoch: Epoch,
        reserve: Reserve,
        commit_bytes: usize,
    ) -> Self {
        Self {
            queue,
            writer,
            signer,
            next_seq,
            epoch,
            reserve,
            commit_bytes,
        }
    }

    /// Runs until the queue is closed or a commit fails for good.
    pub(crate) fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        while let Some(groups) = queue.take(self.commit_bytes) {
            self.round(groups);
        }
        self.writer.log.heads.close();
    }

    /// Answers every group. What does not fit the disk is refused; then only reserved groups are
    /// tried, with the space that was kept back for them.
    fn round(&mut self, groups: Vec<Group>) {
        let groups = if self.reserve.hold() {
            match self.commit(groups) {
                Ok(()) => return,
                Err(groups) => groups,
            }
        } else {
            groups
        };
        let (reserved, others): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| group.reserved);
        refuse(others, &StoreError::DiskFull);
        self.commit_reserved(reserved);
    }

    /// First with what is free, then with ever more of what was kept back: given up as a whole, it
    /// would be taken by whatever else writes to the disk.
    fn commit_reserved(&mut self, mut groups: Vec<Group>) {
        if groups.is_empty() {
            return;
        }
        let mut step = RESERVE_STEP;
        loop {
            groups = match self.commit(groups) {
                Ok(()) => return,
                Err(groups) => groups,
            };
            if !self.reserve.give(step) {
                return refuse(groups, &StoreError::DiskFull);
            }
            step = step.saturating_mul(2);
        }
    }

    /// Gives the groups back if the disk is full; any other failure is answered here.
    fn commit(&mut self, groups: Vec<Group>) -> Result<(), Vec<Group>> {
        let batch = match self.seal(&groups) {
            Ok(batch) => batch,
            Err(error) => {
                if error.is_fatal() {
                    self.stop(groups, &error);
                } else {
                    refuse(groups, &error);
                }
                return Ok(());
            }
        };
        match self.writer.write(&batch) {
            Ok(()) => {
                self.acknowledge(groups, &Arc::new(batch));
                Ok(())
            }
            Err(WriteError::Full) => Err(groups),
            Err(WriteError::Fatal(error)) => {
                self.stop(groups, &error);
                Ok(())
            }
        }
    }

    fn seal(&mut self, groups: &[Group]) -> Result<Batch, StoreError> {
        let bytes = groups.iter().map(|group| group.bytes).sum();
        let origin = self.signer.key().origin();
        let mut builder = BatchBuilder::new(self.writer.frontier().clone(), bytes);
        let drafts = groups.iter().flat_map(|group| &group.drafts);
        for (seq, draft) in (self.next_seq..).zip(drafts) {
            // Every draft was stamped when it was queued.
            builder.push(|out| draft.seal_into(out, origin, seq, Stamp::default()));
        }
        let checkpoint = Checkpoint {
            origin: origin.clone(),
            size: builder.after().size(),
            root: builder.after().root(),
        };
        // The compare of compare-and-swap: the tree grows from the head that was made durable last,
        // by this process, in an epoch that nobody has ended.
        let head = self.writer.log.heads.get();
        let before = self.writer.frontier();
        if (head.checkpoint.size, head.checkpoint.root) != (before.size(), before.root()) {
            return Err(StoreError::Poisoned {
                cause: "the tree in memory is not that of the last checkpoint".into(),
            });
        }
        self.epoch.check()?;
        let note = self.signer.sign(&checkpoint);
        let note = note.map_err(|error| StoreError::Sign(Arc::new(error)))?;
        Ok(builder.finish(checkpoint, &note))
    }

    fn acknowledge(&mut self, groups: Vec<Group>, batch: &Arc<Batch>) {
        let mut at = 0;
        for group in groups {
            let count = group.drafts.len();
            group.done.send(Ok(Acked {
                batch: Arc::clone(batch),
                at,
                count,
                first_seq: self.next_seq,
            }));
            at += count;
            self.next_seq += count as u64;
        }
    }

    fn stop(&self, groups: Vec<Group>, error: &StoreError) {
        tracing::error!(error = %with_sources(error), "the ledger stops");
        let poisoned = self.queue.poison(error);
        refuse(groups, &poisoned);
    }
}

fn refuse(groups: Vec<Group>, error: &StoreError) {
    for group in groups {
        group.done.send(Err(error.clone()));
    }
}

/// Counts the openings of a ledger. The file is overwritten in place, one sector, so that an
/// earlier holder which lost its lock sees the next one.
pub(crate) struct Epoch {
    file: Box<dyn DiskFile>,
    number: u64,
}

impl Epoch {
    const LENGTH: usize = 21;

    pub(crate) fn begin(disk: &dyn Disk, dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("epoch");
        let file = disk
            .create(&path)
            .map_err(StoreError::io("cannot open", &path))?;
        let mut epoch = Self { file, number: 0 };
        let found = epoch.read().map_err(StoreError::io("cannot read", &path))?;
        let before = match found.as_str() {
            "" => 0,
            number => number.parse().map_err(|_error| StoreError::Corrupt {
                path: path.clone(),
                at: 0,
                what: "not an epoch number".to_owned(),
            })?,
        };
        epoch.number = before + 1;
        let text = format!("{:020}\n", epoch.number);
        let written = epoch.file.write_at(text.as_bytes(), 0);
        written
            .and_then(|()| epoch.file.sync())
            .and_then(|()| disk.sync_dir(dir))
            .map_err(StoreError::io("cannot write", &path))?;
        Ok(epoch)
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    fn read(&self) -> std::io::Result<String> {
        let mut bytes = [0; Self::LENGTH];
        let read = self.file.read_at(&mut bytes, 0)?;
        let text = bytes.get(..read).unwrap_or_default();
        Ok(String::from_utf8_lossy(text).trim_end().to_owned())
    }

    fn check(&self) -> Result<(), StoreError> {
        let found = self.read().unwrap_or_else(|error| error.to_string());
        if found.parse() == Ok(self.number) {
            Ok(())
        } else {
            let ours = self.number;
            Err(StoreError::EpochTaken { ours, found })
        }
    }
}

/// What is given up at first: room for a small commit, in blocks of any file system.
const RESERVE_STEP: u64 = 16 << 10;

/// A file that only occupies space. Given up piece by piece when a revocation finds the disk full;
/// ordinary records are then refused until it could be taken back.
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
    held: u64,
    told: bool,
}

impl Reserve {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> Self {
        let path = dir.join("reserve");
        // What an earlier run kept, if the disk was full at its end.
        let held = disk.open(&path).and_then(|file| file.length());
        Self {
            disk,
            path,
            bytes,
            held: held.unwrap_or(0).min(bytes.saturating_sub(1)),
            told: false,
        }
    }

    /// Takes the space (back) if it can be had.
    pub(crate) fn hold(&mut self) -> bool {
        if self.held >= self.bytes {
            return true;
        }
        match self.disk.reserve(&self.path, self.bytes) {
            Ok(()) => {
                self.held = self.bytes;
                if std::mem::take(&mut self.told) {
                    tracing::info!("the disk has room again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(%error, "no disk space can be kept back: only what is reserved for revocations is recorded");
                }
                false
            }
        }
    }

    /// Gives up `step` bytes of it, or what is left; false if there is nothing left.
    fn give(&mut self, step: u64) -> bool {
        if self.held == 0 {
            return false;
        }
        self.held = self.held.saturating_sub(step);
        let shrunk = if self.held > 0 {
            self.disk.reserve(&self.path, self.held)
        } else {
            self.disk.remove(&self.path)
        };
        if let Err(error) = shrunk
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the reserve could not be given up");
        }
        true
    }
}
