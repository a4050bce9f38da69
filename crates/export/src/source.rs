//! The ledgers of folders, read while their owners write: opened anew when there is more, and each record held
//! against its leaf in the tree.

use crate::cursor::Position;
use crate::event::{Placed, intent_of};
use crate::{Error, Event, Format};
use facts::Finding;
use ledger::tile::{Kind, TilePath, WIDTH};
use ledger::{Hash, LedgerKind, Record, merkle};
use ledger_store::{Folder, Reader, StoreError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One ledger.
pub(crate) struct Source {
    /// Of the first log, where the ledger went on as others: indices go on, and so do cursors and events' ids.
    pub(crate) origin: String,
    dir: PathBuf,
    folder: Folder,
    /// What the folder looked like when it was opened.
    seen: Seen,
    /// What comes next; known from the cursor or 0.
    pub(crate) next: u64,
    /// It is exported; else it only says what has to be here.
    pub(crate) wanted: bool,
    /// It is a server's own, in its folder: what it anchors has to be here.
    pub(crate) expects: bool,
    /// How often in a row it could not be read.
    pub(crate) failed: u32,
}

/// Names and lengths tell whether something was written, without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    files: usize,
    length: u64,
    changed: Option<SystemTime>,
}

impl Source {
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        // First what it looks like: what is written meanwhile is seen the next time.
        let seen = Seen::of(dir);
        let folder = Folder::open(dir)?;
        Ok(Self {
            origin: folder.key().first().origin().to_string(),
            dir: dir.to_owned(),
            folder,
            seen,
            next: 0,
            wanted: true,
            expects: false,
            failed: 0,
        })
    }

    pub(crate) fn is_at(&self, dir: &Path) -> bool {
        self.dir == dir
    }

    /// Whether somebody who says `name` means this one.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        ledger::is_called(&self.origin, name)
    }

    /// Whether it is the ledger of a server.
    pub(crate) fn is_servers(&self) -> bool {
        LedgerKind::of(&self.origin) == LedgerKind::Server
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How well it serves an export that stands at `from`: what comes next is there, and then how much.
    pub(crate) fn serves(&self, from: u64) -> (bool, u64) {
        let size = self.reader().size();
        let pruned = self.reader().pruned().map_or(0, |pruned| pruned.minimum);
        (pruned <= from && from <= size, size)
    }

    /// Two of one name have to be of one history.
    pub(crate) fn agrees(&self, other: &Self) -> Result<(), Error> {
        let shared = self.reader().size().min(other.reader().size());
        if self.reader().root(shared)? == other.reader().root(shared)? {
            return Ok(());
        }
        Err(Error::broken(
            Finding::new(
                "EXPORT-TWO",
                "two ledgers of one name are not of one history",
            )
            .expected(format!("one history of {}", self.origin))
            .observed(format!("{} and {}", self.dir.display(), other.dir.display()))
            .next("export them one by one, each with a --cursor of its own; if they should be one, keep both: one of them proves that the other is false"),
        ))
    }

    pub(crate) fn reader(&self) -> &Reader {
        self.folder.reader()
    }

    /// Goes on at `position`.
    pub(crate) fn resume(&mut self, position: Option<Position>) -> Result<(), Error> {
        let Some(position) = position else {
            return Ok(());
        };
        self.holds(position)?;
        self.next = position.next;
        Ok(())
    }

    /// Looks for more; true if there is.
    pub(crate) fn refresh(&mut self) -> Result<bool, Error> {
        let seen = Seen::of(&self.dir);
        if seen == self.seen {
            return Ok(false);
        }
        let before = self.position()?;
        let folder = Folder::open(&self.dir)?;
        if folder.key().first() != self.folder.key().first() {
            return Err(self.other("a ledger of another key or origin"));
        }
        self.folder = folder;
        self.seen = seen;
        self.holds(before)?;
        Ok(self.next < self.reader().size())
    }

    /// INVARIANT: what was taken is the beginning of what is here.
    fn holds(&self, position: Position) -> Result<(), Error> {
        let size = self.reader().size();
        if position.next > size {
            let what = format!("{size} records, of which {} were taken", position.next);
            return Err(self.other(&what));
        }
        let root = self.reader().root(position.next)?;
        if root == position.root.0 {
            return Ok(());
        }
        let what = format!("a ledger whose first {} records are others", position.next);
        Err(self.other(&what))
    }

    fn other(&self, observed: &str) -> Error {
        Error::broken(
            Finding::new(
                "EXPORT-LEDGER-CHANGED",
                "the ledger is not the one that was exported before",
            )
            .expected(format!("{} with all that was taken of it", self.origin))
            .observed(observed.to_owned())
            .next("find out whether a backup was restored or records were removed (`trilith ledger completeness`); then name a new --cursor"),
        )
    }

    /// Where the export stands.
    pub(crate) fn position(&self) -> Result<Position, Error> {
        let root = self.reader().root(self.next)?;
        Ok(Position {
            next: self.next,
            root: root.into(),
        })
    }

    /// The next events, at most `most` of them and of so many bytes; none at the head.
    pub(crate) fn batch(
        &self,
        format: Format,
        (most, bytes): (u64, usize),
    ) -> Result<Vec<Event>, Error> {
        let size = self.reader().size();
        let end = size.min(self.next.saturating_add(most.max(1)));
        if self.next >= end {
            return Ok(Vec::new());
        }
        let (records, _) = self.reader().read_signed(self.next..end, bytes)?;
        if records.is_empty() {
            let index = self.next;
            return Err(StoreError::NoRecord { index, size }.into());
        }
        let mut leaves = Leaves {
            reader: self.reader(),
            size,
            tile: None,
        };
        let mut events = Vec::with_capacity(records.len());
        for (index, bytes) in (self.next..).zip(&records) {
            if leaves.at(index)? != Some(merkle::leaf_hash(bytes)) {
                return Err(Error::broken(
                    Finding::new(
                        "EXPORT-LEDGER-RECORD",
                        "a record is not the one that the ledger's tree has",
                    )
                    .observed(format!("{}:{index}", self.origin))
                    .next(
                        "restore the ledger from a backup or a mirror: its segments were changed",
                    ),
                ));
            }
            let record = Record::parse(bytes).ok();
            let intent = match record.as_ref().and_then(intent_of) {
                Some(seq) if seq < index => self.intent(seq)?,
                _ => None,
            };
            let placed = Placed {
                origin: &self.origin,
                index,
                bytes,
                record,
                intent,
            };
            events.push(placed.event(format));
        }
        Ok(events)
    }

    /// The intent of this number, where it stands at the place of its number.
    fn intent(&self, seq: u64) -> Result<Option<Record>, Error> {
        let bytes = match self.reader().read(seq..seq.saturating_add(1)) {
            Err(StoreError::Pruned { .. }) => return Ok(None),
            read => read?,
        };
        let record = bytes
            .into_iter()
            .next()
            .and_then(|bytes| Record::from_vec(bytes).ok());
        Ok(record.filter(|record| record.seq() == seq))
    }
}

/// Leaves of the tree, a tile at a time.
struct Leaves<'a> {
    reader: &'a Reader,
    size: u64,
    tile: Option<(u64, Vec<Hash>)>,
}

impl Leaves<'_> {
    fn at(&mut self, index: u64) -> Result<Option<Hash>, Error> {
        let wanted = index / WIDTH;
        let held = self.tile.take().filter(|(tile, _)| *tile == wanted);
        let hashes = match held {
            Some((_, hashes)) => hashes,
            None => {
                let path = TilePath::at(Kind::Hashes(0), wanted, self.size);
                let bytes = path.map(|path| self.reader.tile(&path)).transpose()?;
                let bytes = bytes.flatten().unwrap_or_default();
                ledger::tile::hashes(&bytes).unwrap_or_default()
            }
        };
        let place = usize::try_from(index % WIDTH).unwrap_or_default();
        let leaf = hashes.get(place).copied();
        self.tile = Some((wanted, hashes));
        Ok(leaf)
    }
}

impl Seen {
    fn of(dir: &Path) -> Self {
        let mut seen = Self::default();
        let entries = std::fs::read_dir(dir.join("segments"))
            .into_iter()
            .flatten();
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            seen.files += 1;
            seen.length = seen.length.wrapping_add(metadata.len());
            seen.changed = seen.changed.max(metadata.modified().ok());
        }
        seen
    }
}

/// That nothing is here of a ledger of which records were taken.
pub(crate) fn gone(origin: &str) -> Error {
    Error::broken(
        Finding::new(
            "EXPORT-LEDGER-CHANGED",
            "a ledger that was exported before is not here",
        )
        .expected(format!("{origin} with all that was taken of it"))
        .observed("none of the folders has it")
        .next("find out who removed it (`trilith ledger completeness`) and restore it; to export what is here, name it with --ledger, or name a new --cursor"),
    )
}

/// The ledgers in `folder`: its own, and those that a server mirrors.
pub(crate) fn ledgers(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if Folder::is_ledger(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let own = folder.join("ledger");
    if !Folder::is_ledger(&own) {
        return Err(Error::NoLedger(folder.to_owned()));
    }
    let mirrors = std::fs::read_dir(folder.join("mirrors"))
        .into_iter()
        .flatten();
    let mut mirrors: Vec<PathBuf> = mirrors
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| Folder::is_ledger(path))
        .collect();
    mirrors.sort();
    Ok(std::iter::once(own).chain(mirrors).collect())
}
