//! A ledger that packs are made of: the folder of one, or a folder of its tiles, as a mirror keeps them and a bucket has
//! them ([c2sp.org/tlog-tiles](https://c2sp.org/tlog-tiles)). What tiles say is theirs to say: whoever reads them compares
//! it with a checkpoint.

use crate::Error;
use crate::follow::{each_of, whole};
use ledger::merkle;
use ledger::tile::{Kind, TilePath, TileReader, WIDTH};
use ledger::{Checkpoint, Hash, Note, Record, decode_bundle};
use ledger_store::{Head, Pruned, Reader, RealDisk, StoreError, read_file};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a bundle, at most: 256 entries of 65,535 bytes and their lengths.
const MAX_BUNDLE: usize = 256 * (2 + 65_535);
/// Bytes of a note with what stands before it, at most; `ledger` takes no more of one.
const MAX_NOTE: usize = 320 << 10;
/// Bytes of records that are read at once.
const READ_BYTES: usize = 16 << 20;
/// How the file begins in which a mirror has its checkpoint.
const STATE: &str = "trilith-witness-state v1\n";

/// Records, hashes and proofs of a ledger.
#[derive(Clone)]
pub enum Log {
    Ledger(Reader),
    Tiles(Arc<Tiles>),
}

impl From<&Reader> for Log {
    fn from(reader: &Reader) -> Self {
        Self::Ledger(reader.clone())
    }
}

impl Log {
    /// Records that are here.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Ledger(reader) => reader.size(),
            Self::Tiles(tiles) => tiles.size(),
        }
    }

    /// Records of `range`, as far as they exist and fit into 16 MiB: call again from where it ended.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        match self {
            Self::Ledger(reader) => reader.read(range),
            Self::Tiles(tiles) => tiles.read(range),
        }
    }

    pub fn record(&self, index: u64) -> Result<Record, StoreError> {
        match self {
            Self::Ledger(reader) => reader.record(index),
            Self::Tiles(tiles) => tiles.record(index),
        }
    }

    /// Proof that record `index` is in the ledger of `size` records.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        match self {
            Self::Ledger(reader) => reader.inclusion(index, size),
            Self::Tiles(tiles) => {
                let proof = merkle::inclusion_proof(index, size, &tiles.nodes());
                let proof = proof.map_err(|missing| tiles.damaged(missing.to_string()))?;
                proof.ok_or(StoreError::NoRecord { index, size })
            }
        }
    }

    /// Proof that the ledger of `new` records extends that of `old`.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        match self {
            Self::Ledger(reader) => reader.consistency(old, new),
            Self::Tiles(tiles) => {
                let proof = merkle::consistency_proof(old, new, &tiles.nodes());
                let proof = proof.map_err(|missing| tiles.damaged(missing.to_string()))?;
                let (index, size) = (old, new);
                proof.ok_or(StoreError::NoRecord { index, size })
            }
        }
    }

    /// The root of the first `size` records, as the hashes that are here have it.
    pub(super) fn root(&self, size: u64) -> Result<Hash, StoreError> {
        match self {
            Self::Ledger(reader) => reader.root(size),
            Self::Tiles(tiles) => {
                let root = merkle::root(size, &tiles.nodes());
                root.map_err(|missing| tiles.damaged(missing.to_string()))
            }
        }
    }

    /// Every record up to `size`, and the root that they lead to, whatever hashes are here.
    pub(super) fn each(
        &self,
        size: u64,
        take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    ) -> Result<Hash, Error> {
        if let Self::Ledger(reader) = self {
            whole(reader)?;
        }
        each_of(|range| self.read(range), size, take)
    }

    /// The bytes of a tile or entry bundle; `None` if the ledger is not that large.
    pub fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Ledger(reader) => reader.tile(path),
            Self::Tiles(tiles) => tiles.tile(path),
        }
    }

    /// What is gone of the ledger's records; of tiles nothing.
    #[must_use]
    pub fn pruned(&self) -> Option<Pruned> {
        match self {
            Self::Ledger(reader) => reader.pruned(),
            Self::Tiles(_) => None,
        }
    }

    /// The lowest index from `from` on whose record was not pruned.
    #[must_use]
    pub fn next_there(&self, from: u64) -> u64 {
        match self {
            Self::Ledger(reader) => reader.next_there(from),
            Self::Tiles(_) => from,
        }
    }
}

/// A folder of tiles.
pub struct Tiles {
    folder: PathBuf,
    /// What the checkpoint there says; nobody has vouched for it yet.
    head: Head,
}

impl Tiles {
    /// The tiles below `folder`, with the file `checkpoint`, or a mirror's `state`, that says how many there are. `None`
    /// if it is no such folder.
    pub(super) fn open(folder: &Path) -> Result<Option<Arc<Self>>, StoreError> {
        if !folder.join("tile").is_dir() {
            return Ok(None);
        }
        let note = match text(&folder.join("checkpoint"))? {
            Some(note) => Some(note),
            None => text(&folder.join("state"))?.and_then(|state| mirrored(&state)),
        };
        let Some(note) = note else {
            return Ok(None);
        };
        let checkpoint = unverified(&note).ok_or_else(|| StoreError::NotOurs {
            path: folder.to_owned(),
            what: "what stands beside the tiles is no checkpoint".to_owned(),
        })?;
        let note = note.into();
        Ok(Some(Arc::new(Self {
            folder: folder.to_owned(),
            head: Head { checkpoint, note },
        })))
    }

    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    const fn size(&self) -> u64 {
        self.head.checkpoint.size
    }

    fn nodes(&self) -> TileReader<impl Fn(&TilePath) -> Option<Vec<u8>>> {
        TileReader::new(self.size(), |path: &TilePath| {
            self.tile(path).ok().flatten()
        })
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let end = range.end.min(self.size());
        let (mut at, mut bytes) = (range.start, 0);
        let mut records: Vec<Vec<u8>> = Vec::new();
        while at < end && bytes < READ_BYTES {
            let index = at / WIDTH;
            let first = index * WIDTH;
            let path = TilePath::at(Kind::Entries, index, self.size());
            let bundle = match path {
                Some(path) => self.tile(&path)?.map(|bundle| (path, bundle)),
                None => None,
            };
            let Some((path, bundle)) = bundle else {
                return Err(self.damaged(format!("the bundle with record {at} is not there")));
            };
            let split = decode_bundle(&bundle, usize::from(path.width()));
            let split = split.map_err(|error| self.damaged(format!("{path}: {error}")))?;
            for (place, record) in (first..end).zip(split) {
                if place >= at {
                    bytes += record.len();
                    records.push(record.to_vec());
                }
            }
            at = end.min(first + WIDTH);
        }
        Ok(records)
    }

    fn record(&self, index: u64) -> Result<Record, StoreError> {
        let records = self.read(index..index.saturating_add(1))?;
        let size = self.size();
        let bytes = records.into_iter().next();
        let bytes = bytes.ok_or(StoreError::NoRecord { index, size })?;
        Record::from_vec(bytes).map_err(|error| StoreError::Record(Arc::new(error)))
    }

    /// A tile at exactly that width, which may be the beginning of a wider one; `None` if it is not there.
    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(bytes) = self.file(path)? {
            return Ok(cut(path, bytes));
        }
        if path.is_full() {
            return Ok(None);
        }
        let wider = self.file(&TilePath::full(path.kind, path.index))?;
        Ok(wider.and_then(|bytes| cut(path, bytes)))
    }

    fn file(&self, path: &TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.folder.join(path.to_string());
        read_file(&RealDisk, &path, MAX_BUNDLE).map_err(|source| unread(path, source))
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Corrupt {
            path: self.folder.clone(),
            at: 0,
            what,
        }
    }
}

/// The checkpoint of a note; nobody has vouched for it.
pub(super) fn unverified(note: &str) -> Option<Checkpoint> {
    Checkpoint::parse(&Note::parse(note).ok()?.text).ok()
}

/// The note in what a mirror writes down: behind a digest and a time.
fn mirrored(state: &str) -> Option<String> {
    let rest = state.strip_prefix(STATE)?;
    rest.splitn(3, '\n').nth(2).map(str::to_owned)
}

/// The note in a file that anybody may have put there; `None` for what is none.
pub(crate) fn note(path: &Path) -> Option<String> {
    text(path).ok().flatten()
}

fn text(path: &Path) -> Result<Option<String>, StoreError> {
    let read = read_file(&RealDisk, path, MAX_NOTE);
    let bytes = read.map_err(|source| unread(path.to_owned(), source))?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
}

fn unread(path: PathBuf, source: io::Error) -> StoreError {
    StoreError::Io {
        what: "cannot read",
        path,
        source: Arc::new(source),
    }
}

/// The first `width` of a tile; `None` if it has not so many.
fn cut(path: &TilePath, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let width = usize::from(path.width());
    let length = match path.kind {
        Kind::Hashes(_) => width * 32,
        Kind::Entries => {
            let mut rest = bytes.as_slice();
            for _ in 0..width {
                let (length, behind) = rest.split_first_chunk::<2>()?;
                rest = behind.get(usize::from(u16::from_be_bytes(*length))..)?;
            }
            bytes.len() - rest.len()
        }
    };
    if bytes.len() < length {
        return None;
    }
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_cut_to_what_was_asked_for_and_never_made_longer() {
        let entries = TilePath::at(Kind::Entries, 0, 2).unwrap();
        let bundle = [&[0, 1, b'a'][..], &[0, 2, b'b', b'c'], &[0, 0]].concat();
        assert_eq!(cut(&entries, bundle.clone()), Some(bundle[..7].to_vec()));
        for end in 0..7 {
            assert_eq!(cut(&entries, bundle[..end].to_vec()), None, "{end}");
        }
        let hashes = TilePath::at(Kind::Hashes(0), 0, 2).unwrap();
        assert_eq!(cut(&hashes, vec![7; 100]), Some(vec![7; 64]));
        assert_eq!(cut(&hashes, vec![7; 63]), None);
    }

    #[test]
    fn a_mirrors_checkpoint_stands_behind_a_digest_and_a_time() {
        let state = format!("{STATE}sha256 00\ntime 5\na.example/log\n5\nAAAA\n\nline\n");
        assert_eq!(
            mirrored(&state).as_deref(),
            Some("a.example/log\n5\nAAAA\n\nline\n")
        );
        assert_eq!(mirrored("a.example/log\n5\n"), None);
    }
}
