//! The entries and hashes of one mirrored log as files, named as c2sp.org/tlog-tiles names full tiles. A file of the
//! right edge holds as many as there are, and is replaced as a whole by one that holds more: a narrower tile is its
//! beginning, so that no tile that was ever served is lost.
//!
//! INVARIANT: what is in them was proven to be the log's before it was written, and is durable before it counts.

use crate::store::StoreError;
use ledger::merkle::{self, Hash, leaf_hash};
use ledger::mirror::Package;
use ledger::tile::{Kind, LEVELS, TilePath, TileReader, WIDTH, hashes};
use ledger_store::{Disk, read_file, replace};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a bundle, at most: 256 entries as long as their length can say.
const MAX_BUNDLE: usize = 256 * (2 + 65_535);
/// Folders that are remembered as durable, at most.
const MOST_FOLDERS: usize = 4_096;

/// Where they are. Reading needs no lock: a file is there as a whole, or as it was before.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
}

impl Files {
    fn path(&self, kind: Kind, index: u64) -> PathBuf {
        self.folder.join(TilePath::full(kind, index).to_string())
    }

    fn whole(&self, kind: Kind, index: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(kind, index);
        let read = read_file(&*self.disk, &path, MAX_BUNDLE);
        let read = read.map_err(|source| failed("read", &path, source))?;
        Ok(read.unwrap_or_default())
    }

    /// A tile or bundle at exactly that width; `None` if there are not so many.
    pub(super) fn read(&self, path: &TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let mut bytes = self.whole(path.kind, path.index)?;
        let width = usize::from(path.width());
        let length = match path.kind {
            Kind::Hashes(_) => Some(width * 32).filter(|length| *length <= bytes.len()),
            Kind::Entries => entries(&bytes).nth(width - 1).map(|(_, end)| end),
        };
        Ok(length.map(|length| {
            bytes.truncate(length);
            bytes
        }))
    }

    /// The hashes of a tile, as many as there are.
    fn hashes(&self, level: u8, index: u64) -> Result<Vec<Hash>, StoreError> {
        let bytes = self.whole(Kind::Hashes(level), index)?;
        hashes(&bytes).ok_or_else(|| self.damaged(Kind::Hashes(level), index))
    }

    /// The root of the first `size` entries, as the files have it.
    pub(super) fn root(&self, size: u64) -> Result<Hash, StoreError> {
        let tiles = TileReader::new(size, |path| self.read(path).ok().flatten());
        merkle::root(size, &tiles).map_err(|missing| {
            let (level, index, _) = ledger::tile::locate(missing.node);
            self.damaged(Kind::Hashes(level), index)
        })
    }

    fn damaged(&self, kind: Kind, index: u64) -> StoreError {
        StoreError::Damaged(self.path(kind, index))
    }
}

/// The files, and what only one may do with them.
pub(super) struct Tree {
    pub(super) files: Files,
    next: u64,
    /// Folders that are there also after a power cut.
    durable: BTreeSet<PathBuf>,
}

impl Tree {
    /// Of files that are not looked at.
    pub(super) const fn nothing(files: Files) -> Self {
        Self {
            files,
            next: 0,
            durable: BTreeSet::new(),
        }
    }

    /// Finds the first entry that is not there, at or after `size`.
    pub(super) fn open(files: Files, size: u64) -> Result<Self, StoreError> {
        let mut tree = Self {
            files,
            next: size,
            durable: BTreeSet::new(),
        };
        let made = tree.files.disk.create_dir_all(&tree.files.folder);
        made.map_err(|source| failed("make", &tree.files.folder, source))?;
        let mut bundle = size / WIDTH;
        let next = loop {
            let leaves = tree.files.hashes(0, bundle)?;
            let held = tree.files.whole(Kind::Entries, bundle)?;
            // Written in this order: a hash without its entry is not this program's.
            let pairs = entries(&held).zip(&leaves);
            let there = pairs.take_while(|((entry, _), leaf)| leaf_hash(entry) == **leaf);
            let there = there.count() as u64;
            if there < WIDTH {
                break bundle * WIDTH + there;
            }
            bundle += 1;
        };
        if next < size {
            return Err(tree.files.damaged(Kind::Entries, bundle));
        }
        tree.next = next;
        // Those that were cut off before they were made.
        for level in 1..LEVELS {
            let full = |size: u64| size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
            for index in full(size)..full(next) {
                tree.extend(level, index, 256)?;
            }
        }
        Ok(tree)
    }

    /// The first entry that is not there.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The hashes of the first `count` entries of a bundle; `None` if there are not so many.
    pub(super) fn before(
        &self,
        bundle: u64,
        count: usize,
    ) -> Result<Option<Vec<Hash>>, StoreError> {
        if count == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut leaves = self.files.hashes(0, bundle)?;
        Ok((leaves.len() >= count).then(|| {
            leaves.truncate(count);
            leaves
        }))
    }

    /// Keeps a package that was proven, with `before` the hashes of its bundle's entries before it.
    pub(super) fn save(&mut self, package: &Package, before: &[Hash]) -> Result<(), StoreError> {
        let span = package.span();
        // "If some entry has already been written to the log …, the mirror MUST skip saving that entry."
        if span.end <= self.next {
            return Ok(());
        }
        let bundle = span.bundle();
        let held = self.files.whole(Kind::Entries, bundle)?;
        let mut length = 0;
        let mut found = entries(&held);
        for leaf in before {
            let entry = found.next().filter(|(entry, _)| leaf_hash(entry) == *leaf);
            let (_, end) = entry.ok_or_else(|| self.files.damaged(Kind::Entries, bundle))?;
            length = end;
        }
        let held = held.get(..length).unwrap_or_default();
        self.put(Kind::Entries, bundle, &[held, package.entries()].concat())?;
        let leaves = [before, package.leaves()].concat();
        self.put(Kind::Hashes(0), bundle, leaves.as_flattened())?;
        self.next = span.end;
        // The tiles above that are full by this one.
        let (mut level, mut index) = (0, bundle);
        while self.next.is_multiple_of(WIDTH) && index % WIDTH == WIDTH - 1 && level + 1 < LEVELS {
            (level, index) = (level + 1, index / WIDTH);
            self.extend(level, index, 256)?;
        }
        Ok(())
    }

    /// Makes the tiles of the right edge of the first `size` entries, and says what they lead to.
    pub(super) fn edge(&mut self, size: u64) -> Result<Hash, StoreError> {
        for level in 1..LEVELS {
            let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
            if hashes == 0 {
                break;
            }
            let (index, width) = ((hashes - 1) / WIDTH, (hashes - 1) % WIDTH + 1);
            self.extend(level, index, usize::try_from(width).unwrap_or(256))?;
        }
        self.files.root(size)
    }

    /// Lets a tile have `width` hashes at least, from the full tiles below.
    fn extend(&mut self, level: u8, index: u64, width: usize) -> Result<(), StoreError> {
        let mut held = self.files.hashes(level, index)?;
        if held.len() >= width {
            return Ok(());
        }
        for below in index * WIDTH + held.len() as u64..index * WIDTH + width as u64 {
            let tile = self.files.hashes(level - 1, below)?;
            let full = Some(tile).filter(|tile| tile.len() == 256);
            let root = full.and_then(|tile| merkle::perfect_root(&tile));
            held.push(root.ok_or_else(|| self.files.damaged(Kind::Hashes(level - 1), below))?);
        }
        self.put(Kind::Hashes(level), index, held.as_flattened())
    }

    fn put(&mut self, kind: Kind, index: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.files.path(kind, index);
        put(&self.files, &mut self.durable, &path, bytes)
    }
}

/// A file as a whole, durable with the folders that it is in.
pub(super) fn put(
    files: &Files,
    durable: &mut BTreeSet<PathBuf>,
    path: &Path,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let disk = &*files.disk;
    let parent = path.parent().unwrap_or(&files.folder);
    let known = durable.contains(parent);
    if !known {
        let made = disk.create_dir_all(parent);
        made.map_err(|source| failed("make", parent, source))?;
    }
    replace(disk, path, bytes).map_err(|source| failed("write", path, source))?;
    let up = if known { 1 } else { usize::MAX };
    let folders = parent.ancestors().take(up);
    for folder in folders.take_while(|folder| folder.starts_with(&files.folder)) {
        disk.sync_dir(folder)
            .map_err(|source| failed("force", folder, source))?;
    }
    if !known {
        // The log's own folder, in the one of all.
        if let Some(above) = files.folder.parent() {
            disk.sync_dir(above)
                .map_err(|source| failed("force", above, source))?;
        }
        if durable.len() >= MOST_FOLDERS {
            durable.clear();
        }
        durable.insert(parent.to_owned());
    }
    Ok(())
}

pub(super) fn failed(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        doing,
        path: path.to_owned(),
        source: Arc::new(source),
    }
}

/// The entries of a bundle, each with the place where it ends, as far as they are whole.
fn entries(bundle: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (length, rest) = bundle.get(at..)?.split_first_chunk::<2>()?;
        let entry = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
        at += 2 + entry.len();
        Some((entry, at))
    })
}
