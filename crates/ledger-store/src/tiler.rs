//! The background thread that writes full tiles and entry bundles out of what is durable already.
//! It works when the committer is idle, or when too much has piled up.

use crate::disk::replace;
use crate::log::Log;
use crate::{Reader, StoreError};
use ledger::encode_bundle;
use ledger::tile::{Kind, TilePath, WIDTH};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Untiled records, each 32 bytes of memory, from which on tiles are written under load as well.
const MUST: u64 = 512 * 1024;
/// Records tiled between two looks at the signal.
const ROUND: u64 = 64 * WIDTH;

/// How the committer and the tiler tell each other what they are at.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    idle: bool,
    closed: bool,
}

impl Signal {
    pub(crate) fn set_idle(&self, idle: bool, log: &Log) {
        self.lock().idle = idle;
        if idle && log.lag() >= WIDTH {
            self.changed.notify_one();
        }
    }

    /// The committer is at work, but look whether too much has piled up.
    pub(crate) fn nudge(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there is something to do; false once closed.
    fn wait(&self, log: &Log) -> bool {
        let mut state = self.lock();
        loop {
            if state.closed {
                return false;
            }
            let lag = log.lag();
            if lag >= MUST || (state.idle && lag >= WIDTH) {
                return true;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs until the log is closed or a write fails.
pub(crate) fn run(log: &Arc<Log>) -> Result<(), StoreError> {
    while log.tiler.wait(log) {
        round(log)?;
    }
    publish(log)
}

/// True if a commit has to nudge the tiler.
pub(crate) fn overdue(log: &Log) -> bool {
    log.lag() >= MUST
}

/// Writes the next tiles and bundles, makes them durable, and only then relies on them.
fn round(log: &Arc<Log>) -> Result<(), StoreError> {
    let size = log.heads.get().checkpoint.size;
    let tiled = log.tiled();
    let upto = (size - size % WIDTH).min(tiled + ROUND);
    let due = {
        let nodes = log.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.due(upto)
    };
    let mut dirs = BTreeSet::new();
    for path in due {
        let Kind::Hashes(level) = path.kind else {
            continue;
        };
        let hashes = log.hashes(level, path.index * WIDTH, 256)?;
        write(log, &path, hashes.as_flattened(), &mut dirs)?;
        if level == 0 {
            let bundle = bundle(log, path.index)?;
            let path = TilePath::full(Kind::Entries, path.index);
            write(log, &path, &bundle, &mut dirs)?;
        }
    }
    // The deepest first: a name is durable once its directory is.
    for dir in dirs.iter().rev() {
        let synced = log.disk.sync_dir(dir);
        synced.map_err(StoreError::io("cannot sync", dir))?;
    }
    mark(log, upto)?;
    log.nodes
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .trim(upto);
    publish(log)
}

fn bundle(log: &Arc<Log>, index: u64) -> Result<Vec<u8>, StoreError> {
    let records = Reader::new(Arc::clone(log)).bundle(index, 256)?;
    let bundle = encode_bundle(records.iter().map(Vec::as_slice));
    bundle.map_err(|error| StoreError::Corrupt {
        path: log.dir.clone(),
        at: index,
        what: error.to_string(),
    })
}

fn write(
    log: &Log,
    path: &TilePath,
    bytes: &[u8],
    dirs: &mut BTreeSet<PathBuf>,
) -> Result<(), StoreError> {
    let file = log.dir.join(path.to_string());
    let dir = file.parent().unwrap_or(&log.dir).to_owned();
    if !dirs.contains(&dir) {
        let made = log.disk.create_dir_all(&dir);
        made.map_err(StoreError::io("cannot create", &dir))?;
        let up_to_root = dir.ancestors().take_while(|at| at.starts_with(&log.dir));
        dirs.extend(up_to_root.map(Path::to_owned));
    }
    let written = replace(log.disk.as_ref(), &file, bytes);
    written.map_err(StoreError::io("cannot write", &file))
}

pub(crate) fn tiled_path(dir: &Path) -> PathBuf {
    dir.join("tiled")
}

pub(crate) fn checkpoint_path(dir: &Path) -> PathBuf {
    dir.join("checkpoint")
}

fn mark(log: &Log, tiled: u64) -> Result<(), StoreError> {
    let path = tiled_path(&log.dir);
    let written = replace(log.disk.as_ref(), &path, format!("{tiled}\n").as_bytes());
    written.map_err(StoreError::io("cannot write", &path))?;
    let synced = log.disk.sync_dir(&log.dir);
    synced.map_err(StoreError::io("cannot sync", &log.dir))
}

/// Puts the newest checkpoint where static readers look for it. It is also what a later start
/// measures the segments against: a checkpoint here was acknowledged.
pub(crate) fn publish(log: &Log) -> Result<(), StoreError> {
    let head = log.heads.get();
    if head.note.is_empty() {
        return Ok(());
    }
    let path = checkpoint_path(&log.dir);
    let written = replace(log.disk.as_ref(), &path, head.note.as_bytes());
    written.map_err(StoreError::io("cannot write", &path))?;
    let synced = log.disk.sync_dir(&log.dir);
    synced.map_err(StoreError::io("cannot sync", &log.dir))
}
