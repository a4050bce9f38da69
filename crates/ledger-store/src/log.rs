//! What a ledger and a mirror have in common: segments, nodes, tiles, the newest head, and the one
//! writer that moves them forward. Who may write and what is signed is decided above.

use crate::StoreError;
use crate::batch::Batch;
use crate::disk::{Disk, read_file};
use crate::frame::SegmentHeader;
use crate::head::{Head, HeadCell};
use crate::nodes::Nodes;
use crate::retention::Kept;
use crate::segment::{Segment, Segments};
use crate::tiler::{self, Signal};
use ledger::merkle::{Hash, Node, NodeReader, leaf_hash, perfect_root};
use ledger::tile::{self, Kind, TilePath, locate};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Full tiles that are kept decoded: 4 MiB.
const CACHED_TILES: usize = 512;
const TILE_BYTES: usize = 8192;

type Tiles = HashMap<(u8, u64), Arc<Vec<Hash>>>;

/// Shared by the writer, the tiler and all readers.
///
/// Order: a record is in a segment before it is in `nodes`, there before `heads` names it; a tile
/// is durable before `nodes` forgets what it holds.
pub(crate) struct Log {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) segments: Segments,
    pub(crate) nodes: RwLock<Nodes>,
    pub(crate) heads: HeadCell,
    pub(crate) tiler: Signal,
    tiles: Mutex<Tiles>,
    kept: RwLock<Option<Arc<Kept>>>,
}

impl Log {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segments: Vec<Arc<Segment>>,
        nodes: Nodes,
        head: Head,
    ) -> Self {
        Self {
            disk,
            dir,
            segments: Segments::new(segments),
            nodes: RwLock::new(nodes),
            heads: HeadCell::new(head),
            tiler: Signal::default(),
            tiles: Mutex::default(),
            kept: RwLock::default(),
        }
    }

    /// What is gone; `None` of a whole log.
    pub(crate) fn kept(&self) -> Option<Arc<Kept>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }

    /// As if nothing was gone: every record is in a segment.
    pub(crate) fn forget_kept(&self) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn set_kept(&self, kept: Kept) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(kept));
    }

    pub(crate) fn segment_dir(dir: &Path) -> PathBuf {
        dir.join("segments")
    }

    pub(crate) fn tiled(&self) -> u64 {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.tiled()
    }

    /// A full tile of hashes from its file.
    fn full_tile(&self, level: u8, index: u64) -> Result<Arc<Vec<Hash>>, StoreError> {
        let lock = || self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tile) = lock().get(&(level, index)) {
            return Ok(Arc::clone(tile));
        }
        let hashes = read_tile(self.disk.as_ref(), &self.dir, level, index).or_else(|error| {
            tracing::warn!(%error, "a tile is computed again");
            self.recompute(level, index)
        });
        let hashes = Arc::new(hashes?);
        let mut tiles = lock();
        if tiles.len() >= CACHED_TILES {
            tiles.clear();
        }
        tiles.insert((level, index), Arc::clone(&hashes));
        Ok(hashes)
    }

    /// A full tile from what it was made of: records, or the tiles below it.
    fn recompute(&self, level: u8, index: u64) -> Result<Vec<Hash>, StoreError> {
        let range = index * tile::WIDTH..(index + 1) * tile::WIDTH;
        let Some(below) = level.checked_sub(1) else {
            if range.start < self.segments.first() {
                // What it was made of was pruned: nothing else has it.
                let path = TilePath::full(Kind::Hashes(level), index);
                return Err(damaged(&self.dir, &path));
            }
            let records = self.segments.read(range.start, range.end, usize::MAX)?;
            return Ok(records.iter().map(|record| leaf_hash(record)).collect());
        };
        let roots = range.map(|index| {
            let path = TilePath::full(Kind::Hashes(below), index);
            perfect_root(&self.full_tile(below, index)?).ok_or_else(|| damaged(&self.dir, &path))
        });
        roots.collect()
    }

    /// `count` hashes of a tile level, all within one tile.
    pub(crate) fn hashes(
        &self,
        level: u8,
        first: u64,
        count: usize,
    ) -> Result<Vec<Hash>, StoreError> {
        let in_memory = {
            let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
            nodes.hashes(level, first, count)
        };
        if let Some(hashes) = in_memory {
            return Ok(hashes);
        }
        let tile = self.full_tile(level, first / tile::WIDTH)?;
        let start = usize::try_from(first % tile::WIDTH).unwrap_or_default();
        let hashes = tile.get(start..start + count).map(<[Hash]>::to_vec);
        let path = TilePath::full(Kind::Hashes(level), first / tile::WIDTH);
        hashes.ok_or_else(|| damaged(&self.dir, &path))
    }
}

impl NodeReader for Log {
    type Error = StoreError;

    fn node(&self, node: Node) -> Result<Hash, StoreError> {
        let (level, index, range) = locate(node);
        let first = index * tile::WIDTH + range.start as u64;
        let hashes = self.hashes(level, first, range.len())?;
        let path = TilePath::full(Kind::Hashes(level), index);
        perfect_root(&hashes).ok_or_else(|| damaged(&self.dir, &path))
    }
}

/// Reads a full tile of hashes. Whether they are right shows when a root is computed from them.
pub(crate) fn read_tile(
    disk: &dyn Disk,
    dir: &Path,
    level: u8,
    index: u64,
) -> Result<Vec<Hash>, StoreError> {
    let path = TilePath::full(Kind::Hashes(level), index);
    let file = dir.join(path.to_string());
    let bytes = read_file(disk, &file, TILE_BYTES).map_err(StoreError::io("cannot read", &file))?;
    let hashes = bytes.as_deref().and_then(tile::hashes);
    let hashes = hashes.filter(|hashes| hashes.len() == 256);
    hashes.ok_or_else(|| damaged(dir, &path))
}

fn damaged(dir: &Path, path: &TilePath) -> StoreError {
    StoreError::Corrupt {
        path: dir.join(path.to_string()),
        at: 0,
        what: "the tile is missing or not whole".to_owned(),
    }
}

/// Why a commit was not made.
pub(crate) enum WriteError {
    /// Nothing of it is left in the file; the next one may succeed.
    Full,
    /// What the disk holds is not known. No further write may be tried.
    Fatal(StoreError),
}

/// Owned by the committer's thread (or by a mirror): the only one that writes segments.
pub(crate) struct LogWriter {
    pub(crate) log: Arc<Log>,
    frontier: ledger::Frontier,
    active: Arc<Segment>,
    /// Length of the active segment's durable part.
    end: u64,
    segment_bytes: u64,
}

impl LogWriter {
    pub(crate) const fn new(
        log: Arc<Log>,
        frontier: ledger::Frontier,
        active: Arc<Segment>,
        end: u64,
        segment_bytes: u64,
    ) -> Self {
        Self {
            log,
            frontier,
            active,
            end,
            segment_bytes,
        }
    }

    pub(crate) const fn frontier(&self) -> &ledger::Frontier {
        &self.frontier
    }

    /// Makes `batch` durable, then visible. INVARIANT: `batch` was built on [`Self::frontier`].
    pub(crate) fn write(&mut self, batch: &Batch) -> Result<(), WriteError> {
        if self.end > self.segment_bytes {
            self.rotate()?;
        }
        let path = &self.active.path;
        if let Err(error) = self.active.file.write_at(&batch.bytes, self.end) {
            let full = error.kind() == std::io::ErrorKind::StorageFull;
            let cut = self.active.file.truncate(self.end);
            return match cut {
                Ok(()) if full => Err(WriteError::Full),
                _ => Err(fatal("cannot write", path, error)),
            };
        }
        // DESIGN, invariant 8: "After an fsync error the process stops; it never retries the file."
        let synced = self.active.file.sync();
        synced.map_err(|error| fatal("cannot sync", path, error))?;

        self.active.remember(batch.first(), self.end);
        self.end += batch.bytes.len() as u64;
        self.frontier = batch.after.clone();
        let lag = {
            let nodes = self.log.nodes.write();
            let mut nodes = nodes.unwrap_or_else(PoisonError::into_inner);
            for (level, hashes) in (0..).zip(&batch.levels) {
                nodes.push(level, hashes);
            }
            self.frontier.size() - nodes.tiled()
        };
        self.log.heads.set(Head {
            checkpoint: batch.checkpoint.clone(),
            note: Arc::clone(&batch.note),
        });
        self.log.tiler.committed(lag);
        if lag > tiler::MOST {
            let log = &self.log;
            log.tiler.relieve(|| self.frontier.size() - log.tiled());
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), WriteError> {
        let header = SegmentHeader {
            frontier: self.frontier.clone(),
            note: self.log.heads.get().note.as_ref().to_owned(),
        };
        let dir = Log::segment_dir(&self.log.dir);
        match Segment::create(self.log.disk.as_ref(), &dir, &header) {
            Ok(segment) => {
                self.active = Arc::new(segment);
                self.end = self.active.data;
                self.log.segments.add(Arc::clone(&self.active));
                Ok(())
            }
            // The old segment goes on growing until there is room again.
            Err(StoreError::DiskFull) => {
                Segment::undo(self.log.disk.as_ref(), &dir, header.frontier.size())
                    .map_err(WriteError::Fatal)
            }
            Err(error) => Err(WriteError::Fatal(error)),
        }
    }
}

fn fatal(what: &'static str, path: &Path, source: std::io::Error) -> WriteError {
    let path = path.to_owned();
    let source = Arc::new(source);
    WriteError::Fatal(StoreError::Io { what, path, source })
}
