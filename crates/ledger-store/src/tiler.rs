//! The background thread that writes full tiles of hashes out of what is durable already. Entry bundles
//! are no files here: they would be every record a second time, and segments answer for them.
//! Its syncs would slow the committer's, so it works when no commit has come for a moment, or when
//! too much has piled up.

use crate::StoreError;
use crate::disk::replace;
use crate::log::Log;
use ledger::tile::{Kind, TilePath, WIDTH};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Untiled records, each 32 bytes of memory, from which on tiles are written under load as well.
const MUST: u64 = 1 << 20;
/// Untiled records above which a commit waits for tiles: so a writer that is faster than they are, for as long as it
/// likes, keeps 128 MiB of them.
pub(crate) const MOST: u64 = 4 * MUST;
/// How long no commit must have come. Longer than a commit takes on a slow disk.
const QUIET: Duration = Duration::from_millis(100);
/// Before another try on a full disk.
const REST: Duration = Duration::from_secs(1);
/// Records tiled between two looks at the committer.
const ROUND: u64 = 16 * WIDTH;

/// How the writer wakes the tiler.
#[derive(Default)]
pub(crate) struct Signal {
    closed: Mutex<bool>,
    changed: Condvar,
    /// Tiles were written.
    lighter: Condvar,
    /// The tiler waits for a first full tile, without looking again by itself.
    asleep: AtomicBool,
}

impl Signal {
    /// Called after each commit with the number of records that no tile holds; cheap.
    pub(crate) fn committed(&self, lag: u64) {
        if lag >= WIDTH && self.asleep.load(Ordering::SeqCst) {
            drop(self.lock());
            self.changed.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        *self.lock() = true;
        self.changed.notify_one();
        self.lighter.notify_all();
    }

    /// Waits while more than [`MOST`] records are untiled, as `lag` says; not for ever, since a full disk takes no tiles
    /// and what then becomes of a commit is the committer's.
    pub(crate) fn relieve(&self, lag: impl Fn() -> u64) {
        let closed = self.lock();
        let waited = self
            .lighter
            .wait_timeout_while(closed, REST, |closed| !*closed && lag() > MOST);
        drop(waited);
    }

    fn wrote(&self) {
        drop(self.lock());
        self.lighter.notify_all();
    }

    /// Waits for a while, or until closed.
    fn rest(&self, time: Duration) {
        let closed = self.lock();
        if !*closed {
            drop(self.changed.wait_timeout(closed, time));
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there is something to do; false once closed.
    fn wait(&self, log: &Log) -> bool {
        let mut seen = None;
        let mut closed = self.lock();
        loop {
            if *closed {
                return false;
            }
            self.asleep.store(true, Ordering::SeqCst);
            let size = log.heads.get().checkpoint.size;
            let lag = size - log.tiled();
            self.asleep.store(lag < WIDTH, Ordering::SeqCst);
            if lag >= MUST || (lag >= WIDTH && seen == Some(size)) {
                return true;
            }
            seen = Some(size);
            closed = if lag < WIDTH {
                let woken = self.changed.wait(closed);
                woken.unwrap_or_else(PoisonError::into_inner)
            } else {
                let woken = self.changed.wait_timeout(closed, QUIET);
                woken.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

/// Runs until the log is closed or a write fails. A full disk only delays tiles: the segments stand
/// in for them, and every file is written anew at the next try.
pub(crate) fn run(log: &Arc<Log>) -> Result<(), StoreError> {
    let mut full = false;
    while log.tiler.wait(log) {
        match tile(log) {
            Err(StoreError::DiskFull) => {
                if !std::mem::replace(&mut full, true) {
                    tracing::warn!("the disk is full: tiles wait");
                }
                log.tiler.rest(REST);
            }
            Err(error) => return Err(error),
            Ok(()) => full = false,
        }
    }
    publish(log)
}

fn tile(log: &Arc<Log>) -> Result<(), StoreError> {
    let size = log.heads.get().checkpoint.size;
    // On and on, but only while nobody commits.
    while log.tiled() + WIDTH <= size && !*log.tiler.lock() {
        round(log)?;
        let grown = log.heads.get().checkpoint.size != size;
        if grown && size - log.tiled() < MUST {
            break;
        }
    }
    publish(log)
}

/// Writes the next tiles, makes them durable, and only then relies on them.
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
    log.tiler.wrote();
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::Instant;

    #[test]
    fn a_writer_waits_for_tiles_and_not_for_ever() {
        let (signal, lag) = (Signal::default(), AtomicU64::new(MOST));
        let far = Instant::now();
        signal.relieve(|| lag.load(Ordering::SeqCst));
        lag.store(MOST + 1, Ordering::SeqCst);
        let asked = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                signal.relieve(|| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    lag.load(Ordering::SeqCst)
                });
                lag.load(Ordering::SeqCst)
            });
            while asked.load(Ordering::SeqCst) == 0 && far.elapsed() < REST {
                std::thread::yield_now();
            }
            lag.store(0, Ordering::SeqCst);
            signal.wrote();
            assert_eq!(waits.join().unwrap(), 0);
        });
        // Nothing writes tiles: it goes on all the same, and at once when the log is closed.
        lag.store(MOST + 1, Ordering::SeqCst);
        let begun = Instant::now();
        signal.relieve(|| lag.load(Ordering::SeqCst));
        assert!(begun.elapsed() >= REST);
        signal.close();
        signal.relieve(|| panic!("asked although closed"));
    }
}
