//! What is kept on this machine from run to run: the tiles of which narrower ones may stand in the store. Lost, a few
//! partial tiles stay there for ever; put back or changed, nothing is removed that might not be: what is removed
//! are partial tiles whose full tile a published checkpoint covers.

use ledger::tile::TilePath;
use ledger_store::{Disk as _, RealDisk, read_file, replace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const LONGEST: usize = 1 << 20;
/// A ledger has one such tile on each level at a time, and some that were not removed yet.
const MOST: usize = 4_096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    place: String,
    open: Vec<String>,
}

/// The tiles, by the name of the full one.
pub(crate) struct Kept {
    path: PathBuf,
    place: String,
    open: BTreeSet<TilePath>,
    /// The file does not say this yet.
    dirty: bool,
}

/// What is to be written.
pub(crate) struct Pending {
    path: PathBuf,
    written: Written,
}

impl Pending {
    /// Blocks on the disk.
    pub(crate) fn write(&self) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(&self.written)?;
        replace(&RealDisk, &self.path, &bytes)?;
        let parent = self.path.parent();
        parent.map_or(Ok(()), |parent| RealDisk.sync_dir(parent))
    }
}

impl Kept {
    /// What an earlier run left for the same place. Blocks on the disk.
    pub(crate) fn open(path: &Path, place: &str) -> Self {
        let bytes = read_file(&RealDisk, path, LONGEST).ok().flatten();
        let written = bytes.and_then(|bytes| serde_json::from_slice::<Written>(&bytes).ok());
        let written = written.filter(|written| written.place == place);
        let names = written.map(|written| written.open).unwrap_or_default();
        let tiles = names.iter().filter_map(|name| name.parse().ok());
        Self {
            path: path.to_owned(),
            place: place.to_owned(),
            open: tiles.filter(TilePath::is_full).take(MOST).collect(),
            dirty: false,
        }
    }

    pub(crate) fn add(&mut self, tiles: &[TilePath]) {
        for tile in tiles {
            self.dirty |= self.open.insert(*tile);
        }
        while self.open.len() > MOST && self.open.pop_first().is_some() {}
    }

    pub(crate) fn remove(&mut self, tiles: &[TilePath]) {
        for tile in tiles {
            self.dirty |= self.open.remove(tile);
        }
    }

    /// What the file has to say, where it does not.
    pub(crate) fn pending(&self) -> Option<Pending> {
        self.dirty.then(|| Pending {
            path: self.path.clone(),
            written: Written {
                place: self.place.clone(),
                open: self.open.iter().map(ToString::to_string).collect(),
            },
        })
    }

    /// The file says what [`Kept::pending`] has.
    pub(crate) const fn written(&mut self) {
        self.dirty = false;
    }

    /// Those that are full in a ledger of `size` records.
    pub(crate) fn full_at(&self, size: u64) -> Vec<TilePath> {
        let full =
            |tile: &&TilePath| TilePath::at(tile.kind, tile.index, size).as_ref() == Some(*tile);
        self.open.iter().filter(full).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::tile::Kind;

    #[test]
    fn tiles_are_kept_for_one_place_and_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("published");
        let tile = |index| TilePath::full(Kind::Entries, index);
        let mut kept = Kept::open(&path, "a");
        let write = |kept: &mut Kept| {
            kept.pending().unwrap().write().unwrap();
            kept.written();
        };
        kept.add(&[tile(0), tile(1)]);
        write(&mut kept);
        kept.add(&[tile(1)]);
        assert!(kept.pending().is_none());
        let mut kept = Kept::open(&path, "a");
        assert_eq!(kept.full_at(255), []);
        assert_eq!(kept.full_at(511), [tile(0)]);
        kept.remove(&[tile(0)]);
        write(&mut kept);
        assert_eq!(Kept::open(&path, "a").full_at(512), [tile(1)]);
        assert_eq!(Kept::open(&path, "b").full_at(512), []);
        for bad in [
            "",
            "{}",
            "{\"place\":\"a\",\"open\":[\"../../x\",\"tile/0/000.p/4\"]}",
        ] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Kept::open(&path, "a").full_at(u64::MAX), []);
        }
    }
}
