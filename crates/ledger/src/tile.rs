//! Tiles of c2sp.org/tlog-tiles v0.1: their names, and the nodes that they hold. Checking a whole
//! set of tiles against a checkpoint is in [`check`].

pub mod check;

use crate::merkle::{Hash, Node, NodeReader, perfect_root};
use crate::scalar::parse_decimal;
use std::fmt;
use std::str::FromStr;

/// Hashes of a full tile, records of a full entry bundle.
pub const WIDTH: u64 = 256;
/// Tree levels that one tile spans.
pub const HEIGHT: u8 = 8;
/// Tile levels of a ledger of fewer than 2^64 records.
pub const LEVELS: u8 = 8;

/// What a tile holds: hashes of a level, or the records themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Hashes of subtrees of 256^level records.
    Hashes(u8),
    Entries,
}

/// The name of a tile. INVARIANT: `width` is 1 to 256, and 256 means full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    pub kind: Kind,
    pub index: u64,
    width: u16,
}

impl TilePath {
    #[must_use]
    pub const fn full(kind: Kind, index: u64) -> Self {
        Self {
            kind,
            index,
            width: 256,
        }
    }

    /// The tile as it is in a ledger of `size` records; `None` where it is empty.
    #[must_use]
    pub fn at(kind: Kind, index: u64, size: u64) -> Option<Self> {
        let hashes = hashes_at(kind, size);
        let width = hashes.checked_sub(index.checked_mul(WIDTH)?)?.min(WIDTH);
        let width = u16::try_from(width).ok()?;
        (width > 0).then_some(Self { kind, index, width })
    }

    /// Every tile of this kind in a ledger of `size` records; the last one may be partial.
    pub fn all(kind: Kind, size: u64) -> impl Iterator<Item = Self> {
        let tiles = hashes_at(kind, size).div_ceil(WIDTH);
        (0..tiles).filter_map(move |index| Self::at(kind, index, size))
    }

    /// The same place and width of another kind.
    pub(crate) const fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width == 256
    }

    /// Records before the first one under this tile.
    #[must_use]
    pub fn first_record(&self) -> u64 {
        let level = match self.kind {
            Kind::Hashes(level) => level,
            Kind::Entries => 0,
        };
        let shift = u32::from(HEIGHT) * (u32::from(level) + 1);
        self.index.checked_shl(shift).unwrap_or(u64::MAX)
    }
}

/// "The partial tile at level l for a tree of size s has floor(s / 256**l) mod 256 entries."
fn hashes_at(kind: Kind, size: u64) -> u64 {
    match kind {
        Kind::Entries => size,
        Kind::Hashes(level) => size
            .checked_shr(u32::from(HEIGHT) * u32::from(level))
            .unwrap_or(0),
    }
}

/// `tile/<L>/<N>[.p/<W>]`, `tile/entries/<N>[.p/<W>]`.
impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
            Kind::Entries => f.write_str("tile/entries/")?,
        }
        // "zero-padded 3-digit path elements. All but the last path element MUST begin with an x."
        let (mut groups, mut rest) = (vec![self.index % 1000], self.index / 1000);
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups.iter().skip(1).rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_full() {
            Ok(())
        } else {
            write!(f, ".p/{}", self.width)
        }
    }
}

impl FromStr for TilePath {
    type Err = &'static str;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        parse_path(path).ok_or("not a tile path")
    }
}

fn parse_path(path: &str) -> Option<TilePath> {
    let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => Kind::Entries,
        level => Kind::Hashes(u8::try_from(parse_decimal(level)?).ok()?),
    };
    let (number, width) = match rest.split_once(".p/") {
        None => (rest, 256),
        Some((number, width)) => (number, u16::try_from(parse_decimal(width)?).ok()?),
    };
    let mut index: u64 = 0;
    for group in number.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        let digits =
            (digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)?;
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    let parsed = TilePath { kind, index, width };
    let in_range = match kind {
        Kind::Hashes(level) => level < 64,
        Kind::Entries => true,
    } && (1..=256).contains(&width);
    (in_range && parsed.to_string() == path).then_some(parsed)
}

/// Where a node is found: the tile, the first of its hashes and their number (a power of two).
#[must_use]
pub fn locate(node: Node) -> (u8, u64, std::ops::Range<usize>) {
    let (level, inside) = (node.level / HEIGHT, node.level % HEIGHT);
    let first = node.index << inside;
    let start = usize::try_from(first % WIDTH).unwrap_or_default();
    (level, first / WIDTH, start..start + (1 << inside))
}

/// Splits the bytes of a tile into hashes; `None` unless they are whole.
#[must_use]
pub fn hashes(tile: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = tile.as_chunks::<32>();
    rest.is_empty().then(|| hashes.to_vec())
}

/// Reads nodes of a ledger of `size` records out of tiles that `fetch` supplies.
pub struct TileReader<F> {
    size: u64,
    fetch: F,
}

impl<F: Fn(&TilePath) -> Option<Vec<u8>>> TileReader<F> {
    pub const fn new(size: u64, fetch: F) -> Self {
        Self { size, fetch }
    }
}

/// The tile that is missing, short, or too narrow for the node asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tile with node {node:?} is missing or has the wrong length")]
pub struct MissingTile {
    pub node: Node,
}

impl<F: Fn(&TilePath) -> Option<Vec<u8>>> NodeReader for TileReader<F> {
    type Error = MissingTile;

    fn node(&self, node: Node) -> Result<Hash, MissingTile> {
        let (level, index, range) = locate(node);
        let read = || {
            let path = TilePath::at(Kind::Hashes(level), index, self.size)?;
            let tile = hashes(&(self.fetch)(&path)?)?;
            let exact = tile.len() == usize::from(path.width());
            perfect_root(tile.get(range).filter(|_| exact)?)
        };
        read().ok_or(MissingTile { node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification.
    #[test]
    fn names_tiles_as_the_specification_does() {
        let tile = TilePath::full(Kind::Hashes(0), 1_234_067);
        assert_eq!(tile.to_string(), "tile/0/x001/x234/067");
        let widths = |kind| -> Vec<(usize, u16)> {
            let tiles: Vec<_> = TilePath::all(kind, 70_000).collect();
            let full = tiles.iter().filter(|tile| tile.is_full()).count();
            let last = tiles.last().map_or(0, |tile| tile.width);
            vec![(full, last)]
        };
        assert_eq!(widths(Kind::Hashes(0)), [(273, 112)]);
        assert_eq!(widths(Kind::Hashes(1)), [(1, 17)]);
        assert_eq!(widths(Kind::Hashes(2)), [(0, 1)]);
        assert_eq!(widths(Kind::Hashes(3)), [(0, 0)]);
        let full = TilePath::at(Kind::Hashes(1), 0, 256).unwrap();
        assert_eq!(full.to_string(), "tile/1/000.p/1");
    }

    #[test]
    fn a_path_has_one_spelling() {
        for path in [
            "tile/0/000",
            "tile/entries/x001/234.p/7",
            "tile/63/x999/x999/x999/999.p/255",
        ] {
            assert_eq!(path.parse::<TilePath>().unwrap().to_string(), path);
        }
        for path in [
            "tile/64/000",
            "tile/00/000",
            "tile/0/0",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/07",
            "tile/0/../000",
            "tile/data/000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert!(path.parse::<TilePath>().is_err(), "{path}");
        }
    }
}
