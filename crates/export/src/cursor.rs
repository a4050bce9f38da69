//! How far each ledger was taken: a file that is written as a whole after the sink has taken a batch, and that one
//! process at a time holds.
//!
//! Whoever can write to it can have records left out or handed over twice; nothing else is taken from it. A position
//! holds the root of the tree that was exported, so that another ledger, or one that was rolled back, is told.

use crate::Error;
use crate::anchored::Anchors;
use facts::Finding;
use ledger::Digest;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A position has less than 1 KiB; there is one for each ledger.
const LONGEST: u64 = 16 << 20;

/// How far one ledger was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Index of the record that comes next.
    pub next: u64,
    /// Root of the tree of all before it.
    pub root: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    v: u8,
    format: String,
    to: String,
    ledgers: BTreeMap<String, Position>,
    /// What servers' ledgers anchor, by their origins. A cursor of an earlier version has none: all is looked at again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    anchors: BTreeMap<String, Anchors>,
}

/// Positions, and the file that they are kept in, if any.
pub struct Cursor {
    document: Document,
    kept: Option<Kept>,
}

struct Kept {
    path: PathBuf,
    /// Held for as long as the process lives.
    _lock: File,
}

impl Cursor {
    /// From the beginning, kept nowhere.
    #[must_use]
    pub fn unkept() -> Self {
        Self {
            document: empty("", ""),
            kept: None,
        }
    }

    /// In the file `path`, which is made with the first batch. It is of one format and one sink.
    ///
    /// # Errors
    /// `EXPORT-CURSOR-HELD`, `EXPORT-CURSOR-OTHER`, `EXPORT-CURSOR`.
    pub fn open(path: &Path, format: &str, to: &str) -> Result<Self, Error> {
        let failed = |what: &str, error: &io::Error| unusable(path, &format!("{what}: {error}"));
        let lock = path.with_added_extension("lock");
        let lock = open_for_writing(&lock).map_err(|error| failed("its lock", &error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::refused(
                    Finding::new("EXPORT-CURSOR-HELD", "another export holds this cursor")
                        .observed(path.display().to_string())
                        .next("stop the other one, or name another --cursor"),
                ));
            }
            Err(error) => return Err(failed("its lock", &error.into())),
        }
        let mut document = match read(path).map_err(|error| failed("reading it", &error))? {
            None => empty(format, to),
            Some(bytes) => serde_json::from_slice::<Document>(&bytes)
                .map_err(|error| unusable(path, &error.to_string()))?,
        };
        if (document.v, document.format.as_str(), document.to.as_str()) != (1, format, to) {
            return Err(Error::refused(
                Finding::new(
                    "EXPORT-CURSOR-OTHER",
                    "this cursor is of another export, which has taken records that this one has not",
                )
                .expected(format!("{format} to {to}"))
                .observed(format!("{} to {}", document.format, document.to))
                .next("name another --cursor for this export"),
            ));
        }
        for anchors in document.anchors.values_mut() {
            anchors.again();
        }
        Ok(Self {
            document,
            kept: Some(Kept {
                path: path.to_owned(),
                _lock: lock,
            }),
        })
    }

    /// How far the ledger `origin` was taken.
    #[must_use]
    pub fn position(&self, origin: &str) -> Option<Position> {
        self.document.ledgers.get(origin).copied()
    }

    /// The ledgers of which something was taken.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &str> {
        self.document.ledgers.keys().map(String::as_str)
    }

    /// What the server's ledger `origin` anchors, as far as it was looked at.
    pub(crate) fn anchors(&mut self, origin: &str) -> &mut Anchors {
        self.document.anchors.entry(origin.to_owned()).or_default()
    }

    /// The sink has taken all before `position`. Durable when this returns.
    ///
    /// # Errors
    /// `EXPORT-CURSOR`: then the batch is handed over again, later.
    pub fn advance(&mut self, origin: &str, position: Position) -> Result<(), Error> {
        self.document.ledgers.insert(origin.to_owned(), position);
        self.keep()
    }

    /// Writes down what was looked at since.
    pub(crate) fn keep(&self) -> Result<(), Error> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let written = serde_json::to_vec(&self.document)
            .map_err(io::Error::other)
            .and_then(|bytes| replace(&kept.path, &bytes));
        written.map_err(|error| unusable(&kept.path, &format!("writing it: {error}")))
    }
}

fn empty(format: &str, to: &str) -> Document {
    Document {
        v: 1,
        format: format.to_owned(),
        to: to.to_owned(),
        ledgers: BTreeMap::new(),
        anchors: BTreeMap::new(),
    }
}

fn unusable(path: &Path, what: &str) -> Error {
    Error::refused(
        Finding::new("EXPORT-CURSOR", "the cursor cannot be read or kept")
            .expected("a file that only this export writes, in a folder that it may write to")
            .observed(format!("{}: {what}", path.display()))
            .next("mend or move the file; without it the export begins anew, and hands everything over once more"),
    )
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match ledger_store::read_whole(path, LONGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Temporary file, fsync, rename, fsync of the folder: the old positions or the new ones, never neither.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("tmp");
    let mut file = open_for_writing(&temporary)?;
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn open_for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<Cursor, Error>) -> String {
        result.err().unwrap().finding().code.into_owned()
    }

    #[test]
    fn a_cursor_is_of_one_export_and_of_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let position = Position {
            next: 7,
            root: Digest([3; 32]),
        };
        let mut cursor = Cursor::open(&path, "ocsf", "stdout").unwrap();
        cursor.advance("example.org/pg-1", position).unwrap();
        let held = Cursor::open(&path, "ocsf", "stdout");
        assert_eq!(code(held), "EXPORT-CURSOR-HELD");
        drop(cursor);
        let again = Cursor::open(&path, "ocsf", "stdout").unwrap();
        assert_eq!(again.position("example.org/pg-1"), Some(position));
        assert_eq!(again.position("example.org/pg-2"), None);
        drop(again);
        for (format, to) in [("cloudevents", "stdout"), ("ocsf", "file:/x")] {
            let other = Cursor::open(&path, format, to);
            assert_eq!(code(other), "EXPORT-CURSOR-OTHER");
        }
        for torn in ["", "{", "{\"v\":1}", "[]"] {
            std::fs::write(&path, torn).unwrap();
            let torn = Cursor::open(&path, "ocsf", "stdout");
            assert_eq!(code(torn), "EXPORT-CURSOR");
        }
    }
}
