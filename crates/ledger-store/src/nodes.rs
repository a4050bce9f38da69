//! The tree's nodes that no durable tile holds yet, by tile level. Pure memory.

use ledger::merkle::{Hash, Node, perfect_root};
use ledger::tile::{HEIGHT, Kind, LEVELS, TilePath, WIDTH, locate};
use std::collections::VecDeque;

/// 32 bytes for each record that is not tiled yet, and a little for the levels above.
pub(crate) struct Nodes {
    /// Records whose full tiles are durable; a multiple of 256.
    tiled: u64,
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// Index of the first hash; all before it are in full, durable tiles.
    start: u64,
    hashes: VecDeque<Hash>,
}

impl Nodes {
    /// For a tree of which `tiled` records lie under durable tiles. [`Nodes::push`] then takes the
    /// hashes of each level from `start` on.
    pub(crate) fn new(tiled: u64) -> Self {
        let start = |level: u8| Self::full_tiles(level, tiled) * WIDTH;
        let levels = (0..LEVELS).map(|level| Level {
            start: start(level),
            hashes: VecDeque::new(),
        });
        Self {
            tiled,
            levels: levels.collect(),
        }
    }

    /// Full tiles of a level in a tree of `size` records.
    pub(crate) fn full_tiles(level: u8, size: u64) -> u64 {
        let shift = u32::from(HEIGHT) * (u32::from(level) + 1);
        size.checked_shr(shift).unwrap_or(0)
    }

    pub(crate) const fn tiled(&self) -> u64 {
        self.tiled
    }

    /// First hash of a level that is kept here.
    pub(crate) fn start(&self, level: u8) -> u64 {
        self.level(level).map_or(0, |level| level.start)
    }

    fn level(&self, level: u8) -> Option<&Level> {
        self.levels.get(usize::from(level))
    }

    /// Adds completed subtrees; those between tile levels are not kept.
    pub(crate) fn push(&mut self, node_level: u8, hashes: &[Hash]) {
        if node_level.is_multiple_of(HEIGHT)
            && let Some(level) = self.levels.get_mut(usize::from(node_level / HEIGHT))
        {
            level.hashes.extend(hashes);
        }
    }

    /// The node, if it lies in memory as a whole.
    pub(crate) fn node(&self, node: Node) -> Option<Hash> {
        let (level, tile, range) = locate(node);
        let hashes = self.hashes(level, tile * WIDTH + range.start as u64, range.len())?;
        perfect_root(&hashes)
    }

    /// `count` hashes of a tile level from `first` on.
    pub(crate) fn hashes(&self, level: u8, first: u64, count: usize) -> Option<Vec<Hash>> {
        let level = self.level(level)?;
        let at = usize::try_from(first.checked_sub(level.start)?).ok()?;
        let end = at.checked_add(count)?;
        let held = end <= level.hashes.len();
        held.then(|| level.hashes.range(at..end).copied().collect())
    }

    /// The full tiles of hashes that complete between what is tiled and `upto`.
    pub(crate) fn due(&self, upto: u64) -> Vec<TilePath> {
        let of_level = |level: u8| {
            let tiles = Self::full_tiles(level, self.tiled)..Self::full_tiles(level, upto);
            tiles.map(move |index| TilePath::full(Kind::Hashes(level), index))
        };
        (0..LEVELS).flat_map(of_level).collect()
    }

    /// Forgets what durable tiles now hold: those of `upto` records.
    pub(crate) fn trim(&mut self, upto: u64) {
        for (number, level) in (0..LEVELS).zip(&mut self.levels) {
            let start = Self::full_tiles(number, upto) * WIDTH;
            let gone = usize::try_from(start.saturating_sub(level.start)).unwrap_or_default();
            level.hashes.drain(..gone.min(level.hashes.len()));
            level.start = start;
        }
        self.tiled = upto;
    }
}
