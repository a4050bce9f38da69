//! Checks all tiles and entry bundles of a ledger against one checkpoint, and names what is wrong.
//!
//! The set is taken as it comes: the store is not trusted. It reads nothing itself.

use super::{Kind, LEVELS, TilePath, WIDTH, hashes};
use crate::merkle::{self, Hash};
use crate::{Checkpoint, Code, decode_bundle};
use thiserror::Error;

/// The first fault of a set of tiles, from the first record and the lowest level on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("{path} is missing")]
    Missing { path: TilePath },
    #[error("{path} has {found} bytes, expected {expected}")]
    Length {
        path: TilePath,
        expected: usize,
        found: usize,
    },
    #[error("{path} does not split into its records (from record {record} on)")]
    Bundle { path: TilePath, record: u64 },
    #[error("record {record} in {path} does not hash to what {tile} says")]
    Record {
        path: TilePath,
        tile: TilePath,
        record: u64,
    },
    #[error("{path} and {below} disagree about the records from {record} on")]
    Tile {
        path: TilePath,
        below: TilePath,
        record: u64,
    },
    #[error("the tiles lead to another root than the checkpoint's")]
    Root { expected: Hash, found: Hash },
}

impl Code for Fault {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "LEDGER-TILE-MISSING",
            Self::Length { .. } | Self::Tile { .. } => "LEDGER-TILE-CORRUPT",
            Self::Bundle { .. } | Self::Record { .. } => "LEDGER-BUNDLE-CORRUPT",
            Self::Root { .. } => "LEDGER-TILE-ROOT",
        }
    }
}

/// Walks every tile of a ledger of `checkpoint.size` records, bundles too if `with_entries`.
/// `fetch` returns a tile at exactly the width that it is asked for.
///
/// Memory: 32 bytes for each 256 records.
pub fn check(
    checkpoint: &Checkpoint,
    with_entries: bool,
    mut fetch: impl FnMut(&TilePath) -> Option<Vec<u8>>,
) -> Result<(), Fault> {
    let size = checkpoint.size;
    let mut below: Option<Vec<Hash>> = None;
    // The hashes of each level's rightmost, partial tile: what the root is made of.
    let mut edges: Vec<Vec<Hash>> = Vec::new();
    for level in 0..LEVELS {
        let kind = Kind::Hashes(level);
        let mut roots = Vec::new();
        let mut edge = Vec::new();
        for path in TilePath::all(kind, size) {
            let tile = fetch(&path).ok_or(Fault::Missing { path })?;
            let expected = usize::from(path.width()) * 32;
            let found = tile.len();
            let hashes = hashes(&tile).filter(|_| found == expected);
            let hashes = hashes.ok_or(Fault::Length {
                path,
                expected,
                found,
            })?;
            match &below {
                None if with_entries => check_bundle(&path, &hashes, &mut fetch)?,
                None => (),
                Some(below) => check_level(level, &path, &hashes, below)?,
            }
            if path.is_full() {
                roots.extend(merkle::perfect_root(&hashes));
            } else {
                edge = hashes;
            }
        }
        edges.push(edge);
        below = Some(roots);
    }
    let found = root(&edges);
    if found == checkpoint.root {
        Ok(())
    } else {
        let expected = checkpoint.root;
        Err(Fault::Root { expected, found })
    }
}

fn check_bundle(
    tile: &TilePath,
    hashes: &[Hash],
    fetch: &mut impl FnMut(&TilePath) -> Option<Vec<u8>>,
) -> Result<(), Fault> {
    let path = TilePath {
        kind: Kind::Entries,
        ..*tile
    };
    let bytes = fetch(&path).ok_or(Fault::Missing { path })?;
    let first = path.first_record();
    let mut rest = bytes.as_slice();
    for (record, hash) in (first..).zip(hashes) {
        let (entry, after) =
            crate::bundle::split_entry(rest).ok_or(Fault::Bundle { path, record })?;
        if merkle::leaf_hash(entry) != *hash {
            return Err(Fault::Record {
                path,
                tile: *tile,
                record,
            });
        }
        rest = after;
    }
    let record = first + u64::from(path.width());
    decode_bundle(&bytes, usize::from(path.width()))
        .map(drop)
        .map_err(|_error| Fault::Bundle { path, record })
}

fn check_level(level: u8, path: &TilePath, hashes: &[Hash], below: &[Hash]) -> Result<(), Fault> {
    for (index, hash) in (path.index * WIDTH..).zip(hashes) {
        let stated = usize::try_from(index).ok().and_then(|at| below.get(at));
        if stated != Some(hash) {
            let below = TilePath::full(Kind::Hashes(level - 1), index);
            return Err(Fault::Tile {
                path: *path,
                below,
                record: below.first_record(),
            });
        }
    }
    Ok(())
}

/// The root from the partial tiles of all levels, the lowest first.
fn root(edges: &[Vec<Hash>]) -> Hash {
    let mut from_right = Vec::new();
    for edge in edges {
        let mut peaks: Vec<Hash> = Vec::new();
        let mut rest = edge.as_slice();
        while !rest.is_empty() {
            let width = 1 << rest.len().ilog2();
            let (perfect, after) = rest.split_at_checked(width).unwrap_or((rest, &[]));
            peaks.extend(merkle::perfect_root(perfect));
            rest = after;
        }
        from_right.extend(peaks.into_iter().rev());
    }
    let mut from_right = from_right.into_iter();
    let Some(last) = from_right.next() else {
        return merkle::empty_root();
    };
    from_right.fold(last, |right, left| merkle::node_hash(&left, &right))
}
