//! Opening a log: what is found on disk becomes segments, nodes and a head, or a refusal.
//!
//! INVARIANT: bytes are cut off only behind the last sound frame of the last segment, only if no
//! sound frame follows them, and only if no known checkpoint covers more than what is left.

use crate::disk::{Disk, read_file};
use crate::frame::{self, SegmentHeader};
use crate::head::Head;
use crate::log::{Log, LogWriter, read_tile};
use crate::nodes::Nodes;
use crate::retention;
use crate::segment::{Next, Segment};
use crate::tiler::{checkpoint_path, tiled_path};
use crate::{Options, StoreError};
use ledger::merkle::{Hash, perfect_root};
use ledger::tile::{HEIGHT, LEVELS, WIDTH};
use ledger::{Checkpoint, Frontier, LedgerKey, Note, merkle};
use std::path::Path;
use std::sync::Arc;

/// What was found.
pub(crate) struct Recovered {
    pub(crate) writer: LogWriter,
    /// Bytes of the last record; `None` in an empty ledger.
    pub(crate) last_record: Option<Vec<u8>>,
}

/// Opens the log in `dir`, whose checkpoints `key` signs. `empty` is the head of an empty one.
pub(crate) fn open(
    dir: &Path,
    key: &LedgerKey,
    options: &Options,
    empty: Head,
) -> Result<Recovered, StoreError> {
    let disk = options.disk.as_ref();
    let segment_dir = Log::segment_dir(dir);
    let made = disk.create_dir_all(&segment_dir);
    made.map_err(StoreError::io("cannot create", &segment_dir))?;
    let segments = segments(disk, &segment_dir)?;
    let active = segments.last().cloned().ok_or(StoreError::Closed)?;
    if segments.first().is_some_and(|segment| segment.first() > 0) {
        // Whether a record of the ledger says so is asked once the ledger can be read.
        retention::begin(disk, dir)?;
    }

    let tail = replay(&active, key)?;
    let known = known_checkpoint(disk, dir, key)?;
    for (size, root) in known.into_iter().chain(options.expected_at_least) {
        tail.covers(size, root, &active)?;
    }
    let end = tail.cut(&active)?;
    let head = tail.head(&active, key, empty)?;

    let size = tail.frontier.size();
    let nodes = nodes(disk, dir, &segments, &tail)?;
    let last_record = match tail.last_record {
        None if size > 0 => {
            let segments = crate::segment::Segments::new(segments.clone());
            segments.read(size - 1, size, 0)?.pop()
        }
        last => last,
    };
    let log = Arc::new(Log::new(
        Arc::clone(&options.disk),
        dir.to_owned(),
        segments,
        nodes,
        head,
    ));
    for (size, root) in known.into_iter().chain(options.expected_at_least) {
        if merkle::root(size, log.as_ref())? != root {
            return Err(StoreError::Forked { size });
        }
    }
    if let Some(kept) = retention::kept(&log)? {
        log.set_kept(kept);
    }
    let writer = LogWriter::new(log, tail.frontier, active, end, options.segment_bytes);
    Ok(Recovered {
        writer,
        last_record,
    })
}

/// Opens every segment; makes the first one in an empty directory.
fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<Arc<Segment>>, StoreError> {
    let names = disk.list(dir).map_err(StoreError::io("cannot list", dir))?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        let path = dir.join(name);
        disk.remove(&path)
            .map_err(StoreError::io("cannot remove", &path))?;
    }
    let mut firsts: Vec<u64> = names
        .iter()
        .filter_map(|name| Segment::first_of(name))
        .collect();
    firsts.sort_unstable();
    let Some((&last, earlier)) = firsts.split_last() else {
        let header = SegmentHeader {
            frontier: Frontier::new(),
            note: String::new(),
        };
        return Ok(vec![Arc::new(Segment::create(disk, dir, &header)?)]);
    };
    let mut segments = Vec::with_capacity(firsts.len());
    for &first in earlier {
        segments.push(Arc::new(Segment::open(disk, dir, first, false)?));
    }
    segments.push(Arc::new(Segment::open(disk, dir, last, true)?));
    Ok(segments)
}

/// What the last segment holds.
struct Tail {
    frontier: Frontier,
    /// Of the records from the segment's first one on.
    leaves: Vec<Hash>,
    note: Option<String>,
    last_record: Option<Vec<u8>>,
    /// Offset after the last sound frame, length of the file, and what stands between them.
    end: u64,
    length: u64,
    torn: Option<&'static str>,
}

fn replay(segment: &Segment, key: &LedgerKey) -> Result<Tail, StoreError> {
    let header = &segment.header;
    if header.frontier.size() > 0 {
        let checkpoint = signed(&header.note, key, segment, 0)?;
        if checkpoint.root != header.frontier.root() || checkpoint.size != header.frontier.size() {
            return Err(segment.corrupt(0, "the header's tree is not its checkpoint's"));
        }
    }
    let mut tail = Tail {
        frontier: header.frontier.clone(),
        leaves: Vec::new(),
        note: None,
        last_record: None,
        end: segment.data,
        length: segment.len()?,
        torn: None,
    };
    loop {
        match segment.next(tail.end, tail.length)? {
            Next::End => return Ok(tail),
            Next::Torn(what) => {
                tail.torn = Some(what);
                return Ok(tail);
            }
            Next::Frame(frame) => tail.take(segment, frame)?,
        }
    }
}

impl Tail {
    fn take(&mut self, segment: &Segment, frame: frame::Frame) -> Result<(), StoreError> {
        if frame.header.first != self.frontier.size() {
            return Err(segment.corrupt(self.end, "the frame does not follow the one before it"));
        }
        for leaf in &frame.leaves {
            self.frontier.push(*leaf);
        }
        let stated = Note::parse(&frame.note).ok();
        let stated = stated.and_then(|note| Checkpoint::parse(&note.text).ok());
        let agrees = stated.is_some_and(|stated| {
            stated.size == self.frontier.size() && stated.root == self.frontier.root()
        });
        if !agrees {
            return Err(segment.corrupt(self.end, "the frame's records are not its checkpoint's"));
        }
        segment.remember(frame.header.first, self.end);
        self.end += (frame::HEADER + frame.header.body()) as u64;
        self.leaves.extend(frame.leaves);
        self.note = Some(frame.note);
        self.last_record = Some(frame.last_record);
        Ok(())
    }

    /// Refuses a log that is shorter than a checkpoint which somebody has seen.
    fn covers(&self, size: u64, root: Hash, segment: &Segment) -> Result<(), StoreError> {
        let found = self.frontier.size();
        if size == found && root != self.frontier.root() {
            return Err(StoreError::Forked { size });
        }
        match self.torn {
            _ if size <= found => Ok(()),
            Some(what) => Err(segment.corrupt(self.end, what)),
            None => Err(StoreError::RolledBack {
                expected: size,
                found,
            }),
        }
    }

    /// Cuts off a commit that was never acknowledged; returns the length of what stays.
    fn cut(&self, segment: &Segment) -> Result<u64, StoreError> {
        let Some(what) = self.torn else {
            return Ok(self.end);
        };
        // The next commit is written only after this one was durable: a sound frame behind a
        // broken one means that the broken one had been acknowledged.
        let length = usize::try_from(self.length - self.end).unwrap_or(usize::MAX);
        let rest = segment.read(self.end, length)?;
        let behind = rest.get(1..).unwrap_or_default();
        if frame::find(behind, self.frontier.size()).is_some() {
            return Err(segment.corrupt(self.end, what));
        }
        tracing::warn!(
            segment = %segment.path.display(),
            at = self.end,
            bytes = length,
            why = what,
            "cut off a commit that was never acknowledged"
        );
        let cut = segment.file.truncate(self.end);
        cut.and_then(|()| segment.file.sync())
            .map_err(StoreError::io("cannot truncate", &segment.path))?;
        Ok(self.end)
    }

    fn head(&self, segment: &Segment, key: &LedgerKey, empty: Head) -> Result<Head, StoreError> {
        let note = self.note.as_ref().unwrap_or(&segment.header.note);
        if self.frontier.size() == 0 {
            return Ok(empty);
        }
        let checkpoint = signed(note, key, segment, self.end)?;
        let note = note.as_str().into();
        Ok(Head { checkpoint, note })
    }
}

fn signed(
    note: &str,
    key: &LedgerKey,
    segment: &Segment,
    at: u64,
) -> Result<Checkpoint, StoreError> {
    Checkpoint::open(note, key).map_err(|error| StoreError::NotOurs {
        path: segment.path.clone(),
        what: format!("its checkpoint at byte {at}: {error}"),
    })
}

/// The published checkpoint, which was acknowledged before it was published.
fn known_checkpoint(
    disk: &dyn Disk,
    dir: &Path,
    key: &LedgerKey,
) -> Result<Option<(u64, Hash)>, StoreError> {
    let path = checkpoint_path(dir);
    let note = read_file(disk, &path, 1 << 20).map_err(StoreError::io("cannot read", &path))?;
    let Some(note) = note else { return Ok(None) };
    let note = String::from_utf8_lossy(&note);
    match Checkpoint::open(&note, key) {
        Ok(checkpoint) => Ok(Some((checkpoint.size, checkpoint.root))),
        Err(error) => Err(StoreError::NotOurs {
            path,
            what: error.to_string(),
        }),
    }
}

/// Where what was read leads to another tree than the last segment's.
const ELSEWHERE: &str = "the earlier segments lead to another tree";

/// The nodes that no durable tile holds. Tiles that do not lead to the tail's root are not used:
/// all nodes then come from segments, and the tiler writes the tiles again; of a pruned ledger they come from tiles alone.
fn nodes(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Arc<Segment>],
    tail: &Tail,
) -> Result<Nodes, StoreError> {
    let path = tiled_path(dir);
    let tiled = read_file(disk, &path, 64).map_err(StoreError::io("cannot read", &path))?;
    let tiled = tiled.and_then(|text| String::from_utf8(text).ok()?.trim_end().parse().ok());
    let tiled: u64 = tiled.unwrap_or(0);
    let pruned = segments.first().is_some_and(|first| first.first() > 0);
    let lost = |what: String| StoreError::Tiles {
        path: dir.join("tile"),
        what,
    };
    if tiled > 0 && tiled.is_multiple_of(WIDTH) && tiled <= tail.frontier.size() {
        let from_tiles = match from_tiles(disk, dir, tiled) {
            Err(error) if pruned => return Err(lost(told(&error))),
            read => read.and_then(|(nodes, frontier)| extend(nodes, frontier, segments, tail)),
        };
        match from_tiles {
            Ok(nodes) => return Ok(nodes),
            Err(StoreError::Corrupt { what, .. }) if pruned && what == ELSEWHERE => {
                return Err(lost(format!(
                    "up to record {tiled} they are not those of the signed head"
                )));
            }
            Err(error) if pruned => return Err(error),
            Err(error) => tracing::warn!(%error, "the tiles are rebuilt from the segments"),
        }
    }
    if pruned {
        let path = path.display();
        return Err(lost(format!(
            "{path} is not there, or names no size of this ledger"
        )));
    }
    extend(Nodes::new(0), Frontier::new(), segments, tail)
}

/// What is wrong, without the advice for a segment.
fn told(error: &StoreError) -> String {
    match error {
        StoreError::Corrupt { path, what, .. } => format!("{}: {what}", path.display()),
        error => error.to_string(),
    }
}

/// The partial upper levels of a tree of `tiled` records, and its frontier.
fn from_tiles(disk: &dyn Disk, dir: &Path, tiled: u64) -> Result<(Nodes, Frontier), StoreError> {
    let mut nodes = Nodes::new(tiled);
    for level in 1..LEVELS {
        let upto = Nodes::full_tiles(level - 1, tiled);
        for index in nodes.start(level)..upto {
            let tile = read_tile(disk, dir, level - 1, index)?;
            let root: Vec<Hash> = perfect_root(&tile).into_iter().collect();
            nodes.push(level * HEIGHT, &root);
        }
    }
    let frontier = Frontier::read(tiled, &InMemory(&nodes))?;
    Ok((nodes, frontier))
}

/// A tree whose size is a multiple of 256 has its peaks in the upper levels' partial tiles.
struct InMemory<'a>(&'a Nodes);

impl merkle::NodeReader for InMemory<'_> {
    type Error = StoreError;

    fn node(&self, node: merkle::Node) -> Result<Hash, StoreError> {
        // INVARIANT: `node` is a peak, so all of its level's kept tile is in memory.
        self.0.node(node).ok_or(StoreError::Closed)
    }
}

/// Adds the records behind `frontier` from the segments, and checks where that leads.
fn extend(
    mut nodes: Nodes,
    mut frontier: Frontier,
    segments: &[Arc<Segment>],
    tail: &Tail,
) -> Result<Nodes, StoreError> {
    let mut push = |frontier: &mut Frontier, leaf: Hash| {
        frontier.push_with(leaf, |node, hash| nodes.push(node.level, &[hash]));
    };
    let Some((active, earlier)) = segments.split_last() else {
        return Err(StoreError::Closed);
    };
    for (at, segment) in earlier.iter().enumerate() {
        let next = earlier.get(at + 1).unwrap_or(active).first();
        if next <= frontier.size() {
            continue;
        }
        let (mut offset, length) = (segment.data, segment.len()?);
        while frontier.size() < next {
            let frame = match segment.next(offset, length)? {
                Next::Frame(frame) => frame,
                Next::End => return Err(segment.corrupt(offset, "frames are missing")),
                Next::Torn(what) => return Err(segment.corrupt(offset, what)),
            };
            if frame.header.first > frontier.size() {
                return Err(segment.corrupt(offset, "frames are missing"));
            }
            for (index, leaf) in (frame.header.first..).zip(&frame.leaves) {
                if index >= frontier.size() {
                    push(&mut frontier, *leaf);
                }
            }
            offset += (frame::HEADER + frame.header.body()) as u64;
        }
    }
    for (index, leaf) in (active.first()..).zip(&tail.leaves) {
        if index >= frontier.size() {
            push(&mut frontier, *leaf);
        }
    }
    if frontier.root() == tail.frontier.root() && frontier.size() == tail.frontier.size() {
        Ok(nodes)
    } else {
        Err(active.corrupt(active.data, ELSEWHERE))
    }
}
