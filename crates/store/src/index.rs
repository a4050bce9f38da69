//! An index over the records of one ledger: which of them are about what. Derived from the ledger alone,
//! dropped and made again whenever it does not fit; it answers *where to look*, never *what is true*.
//!
//! ```text
//! dictionary  (dimension, text) → a number, and how many records have it
//! postings    (number, record)  → the inverted index, in order of both
//! records     record → its time            blocks   256 records → their earliest and latest time
//! uses        who did what to what, by which issued identity, on whose behalf: counted, first and last
//! policies    by which policies: counted, first and last
//! ```
//! What a term is, and which records have it, is for `record-index` to say. Whoever can write to the file can
//! hide records from a search or name others; `record-index` compares with the ledger when it is asked to.

mod query;
mod tally;
mod write;

pub use query::{Clause, Matched, Terms, TimeRange};
pub use tally::{PolicyUse, Use, UseFilter};
pub use write::{Batch, Entry, SessionTerm, UseDelta};

use crate::Error;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Raised whenever a table or the meaning of a term changes: an older index is made anew.
const SCHEMA: i64 = 5;

/// Numbers of texts that are kept in memory.
const KNOWN: usize = 200_000;

const TABLES: &str = "
CREATE TABLE applied (one INTEGER PRIMARY KEY CHECK (one = 1), origin TEXT NOT NULL, size INTEGER NOT NULL, root TEXT NOT NULL);
CREATE TABLE dictionary (id INTEGER PRIMARY KEY, dimension INTEGER NOT NULL, text TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL);
CREATE UNIQUE INDEX dictionary_text ON dictionary (dimension, text);
CREATE INDEX dictionary_name ON dictionary (dimension, name);
CREATE TABLE postings (term INTEGER NOT NULL, record INTEGER NOT NULL, PRIMARY KEY (term, record)) WITHOUT ROWID;
CREATE TABLE records (record INTEGER PRIMARY KEY, time INTEGER NOT NULL);
CREATE TABLE blocks (block INTEGER PRIMARY KEY, earliest INTEGER NOT NULL, latest INTEGER NOT NULL);
CREATE TABLE sessions (session TEXT PRIMARY KEY, record INTEGER NOT NULL, terms TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE uses (identity INTEGER NOT NULL, resource INTEGER NOT NULL, action INTEGER NOT NULL, allowed INTEGER NOT NULL,
  issuance INTEGER NOT NULL, chain INTEGER NOT NULL, proven INTEGER NOT NULL, count INTEGER NOT NULL, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, first INTEGER NOT NULL, first_time INTEGER NOT NULL,
  last INTEGER NOT NULL, last_time INTEGER NOT NULL, PRIMARY KEY (identity, resource, action, allowed, issuance, chain, proven)) WITHOUT ROWID;
CREATE INDEX uses_resource ON uses (resource, identity);
CREATE TABLE policies (policy INTEGER PRIMARY KEY, count INTEGER NOT NULL, first INTEGER NOT NULL, first_time INTEGER NOT NULL,
  last INTEGER NOT NULL, last_time INTEGER NOT NULL);
";

/// By what records are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    Identity = 1,
    Machine = 2,
    Code = 3,
    Resource = 4,
    Action = 5,
    Decision = 6,
    Type = 7,
    Estate = 8,
    /// The record of the server's ledger by which the identity was issued.
    Issuance = 9,
    Policy = 10,
    /// One of those on whose behalf somebody acted.
    Behalf = 11,
    /// All of them, as [`UseDelta::on_behalf_of`] has them.
    Chain = 12,
}

/// How far a ledger has been indexed, and of which tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub origin: String,
    pub size: u64,
    /// Of the tree of `size` records.
    pub root: String,
}

/// An open index. Several processes may have it open; each change is one transaction.
#[derive(Debug)]
pub struct RecordIndex {
    connection: Connection,
    known: HashMap<(u8, String), i64>,
}

impl RecordIndex {
    /// Opens the index at `path`, or makes it, readable by its owner only. One of another schema, or one that
    /// is no database, is made anew.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match Self::try_open(path) {
            Ok(Some(index)) => Ok(index),
            Err(error) if !error.is_damage() => Err(error),
            Ok(None) | Err(_) => {
                crate::Store::drop_file(path)?;
                let anew = Self::try_open(path)?;
                anew.ok_or_else(|| Error::Applied("another schema right after it was made".into()))
            }
        }
    }

    /// An index in memory, for whoever may not write to the folder.
    pub fn in_memory() -> Result<Self, Error> {
        let connection = Connection::open_in_memory().map_err(Error::Load)?;
        prepare(&connection).map_err(Error::Load)?;
        Ok(Self::of(connection))
    }

    fn try_open(path: &Path) -> Result<Option<Self>, Error> {
        let make = |source| Error::Make {
            path: path.to_owned(),
            source,
        };
        // INVARIANT: whoever owns a gateway's folder has nobody who searches it write elsewhere. SQLite refuses links
        // anywhere in a path: those above the folder are the system's own.
        let path = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) if !folder.as_os_str().is_empty() => {
                folder.canonicalize().map_err(make)?.join(name)
            }
            _ => path.to_owned(),
        };
        // SQLite gives its log the mode of the file. One that is made anew follows no link.
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(make(error)),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection =
            Connection::open_with_flags(&path, flags).map_err(|source| opening(&path, source))?;
        let fits = prepare(&connection).map_err(|source| opening(&path, source))?;
        Ok(fits.then(|| Self::of(connection)))
    }

    fn of(connection: Connection) -> Self {
        connection.set_prepared_statement_cache_capacity(64);
        Self {
            connection,
            known: HashMap::new(),
        }
    }

    /// How far it goes; `None` of a new one.
    pub fn applied(&self) -> Result<Option<Applied>, Error> {
        applied(&self.connection).map_err(Error::Load)
    }

    /// Empties it, as one transaction.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.known.clear();
        let emptied = self.connection.execute_batch(
            "BEGIN IMMEDIATE;
             DELETE FROM applied; DELETE FROM dictionary; DELETE FROM postings; DELETE FROM records;
             DELETE FROM blocks; DELETE FROM sessions; DELETE FROM uses; DELETE FROM policies;
             COMMIT;",
        );
        emptied.map_err(Error::Write)
    }

    /// The connection, for tests that lie in the index.
    #[doc(hidden)]
    pub fn tamper(&self, statements: &str) -> Result<(), Error> {
        self.connection
            .execute_batch(statements)
            .map_err(Error::Write)
    }
}

/// False when the schema is another one.
fn prepare(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // The ledger is what is durable: what is lost of the index is indexed again.
    connection.pragma_update(None, "synchronous", "normal")?;
    // 64 MiB: the inner pages of the postings of some 10^8 terms.
    connection.pragma_update(None, "cache_size", -65_536)?;
    let schema: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match schema {
        SCHEMA => Ok(true),
        0 => {
            let making =
                format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;");
            if let Err(error) = connection.execute_batch(&making) {
                // Another process may have made it between the look and the lock.
                connection.execute_batch("ROLLBACK").ok();
                let now: i64 =
                    connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
                return if now == SCHEMA { Ok(true) } else { Err(error) };
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn applied(connection: &Connection) -> rusqlite::Result<Option<Applied>> {
    let mut statement = connection.prepare_cached("SELECT origin, size, root FROM applied")?;
    let row = statement.query_row([], |row| {
        Ok(Applied {
            origin: row.get(0)?,
            size: number(row.get(1)?),
            root: row.get(2)?,
        })
    });
    row.optional()
}

fn opening(path: &Path, source: rusqlite::Error) -> Error {
    Error::Open {
        path: path.to_owned(),
        source,
    }
}

/// Numbers in the file are signed; what is negative is a lie and stands for nothing that exists.
fn number(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(u64::MAX)
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
