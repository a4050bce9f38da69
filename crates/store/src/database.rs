//! The database file: open, load, absorb, drop.

use crate::change::{Change, Snapshot};
use crate::rows::MetaRow;
use crate::table;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Raised whenever a table changes: an older database is dropped and computed again.
const SCHEMA: i64 = 4;

/// The key under which the number of applied records stands in `meta`.
const APPLIED: &str = "applied";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening the state database {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("making the database {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("removing the state database {path}")]
    Drop {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("reading the state")]
    Load(#[source] rusqlite::Error),
    #[error("writing the state")]
    Write(#[source] rusqlite::Error),
    #[error("the state's `applied` is not a number: {0:?}")]
    Applied(String),
    #[error("the thread that writes the state has ended")]
    Ended,
    #[error("the state database could not be written yet")]
    Behind,
}

impl Error {
    /// True if the disk is at fault, so that the same may succeed later.
    #[must_use]
    pub fn is_disk(&self) -> bool {
        matches!(
            self.code(),
            Some(
                rusqlite::ErrorCode::DiskFull
                    | rusqlite::ErrorCode::SystemIoFailure
                    | rusqlite::ErrorCode::CannotOpen
            )
        )
    }

    /// True if what stands in the file is no database any more.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(
            self.code(),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
        )
    }

    const fn code(&self) -> Option<rusqlite::ErrorCode> {
        match self {
            Self::Open { source, .. } | Self::Load(source) | Self::Write(source) => match source {
                rusqlite::Error::SqliteFailure(failure, _) => Some(failure.code),
                _ => None,
            },
            _ => None,
        }
    }
}

/// An open state database. One writer; see [`crate::Projector`] for the thread that owns it.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the database at `path`, or makes it. One of another schema is emptied: it is only a
    /// projection.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(failed)?;
        match Self::prepare(&connection) {
            Ok(true) => Ok(Self { connection }),
            Ok(false) => {
                drop(connection);
                Self::drop_file(path)?;
                let connection = Connection::open(path).map_err(failed)?;
                Self::prepare(&connection).map_err(failed)?;
                Ok(Self { connection })
            }
            Err(source) => Err(failed(source)),
        }
    }

    /// False when the schema is another one.
    fn prepare(connection: &Connection) -> rusqlite::Result<bool> {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // The ledger is what is durable; a lost tail of commits is replayed from it.
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.set_prepared_statement_cache_capacity(64);
        let schema: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if schema != 0 && schema != SCHEMA {
            return Ok(false);
        }
        // A full disk must not keep a database from being read: it is written only when it is new.
        if schema == 0 {
            Snapshot::create(connection)?;
            connection.pragma_update(None, "user_version", SCHEMA)?;
        }
        Ok(true)
    }

    /// Removes the database, with its log. Nothing is lost that the ledger does not hold.
    pub fn drop_file(path: &Path) -> Result<(), Error> {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            let path = PathBuf::from(name);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Drop { path, source }),
            }
        }
        Ok(())
    }

    /// Every row and the number of records they follow from.
    pub fn load(&self) -> Result<(u64, Snapshot), Error> {
        let mut snapshot = Snapshot::load(&self.connection).map_err(Error::Load)?;
        let applied = match snapshot.meta.iter().position(|row| row.key == APPLIED) {
            Some(at) => snapshot.meta.remove(at).value,
            None => return Ok((0, snapshot)),
        };
        let number = applied.parse().map_err(|_| Error::Applied(applied))?;
        Ok((number, snapshot))
    }

    /// Writes `changes` and that `applied` records are now in, as one transaction.
    pub fn absorb<'a>(
        &mut self,
        applied: u64,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<(), Error> {
        let transaction = self.connection.transaction().map_err(Error::Write)?;
        for change in changes {
            change.write(&transaction).map_err(Error::Write)?;
        }
        mark(&transaction, applied).map_err(Error::Write)?;
        transaction.commit().map_err(Error::Write)
    }

    /// Puts `snapshot`, which follows from `applied` records, in place of everything, as one
    /// transaction.
    pub fn replace(&mut self, applied: u64, snapshot: &Snapshot) -> Result<(), Error> {
        let transaction = self.connection.transaction().map_err(Error::Write)?;
        snapshot.replace(&transaction).map_err(Error::Write)?;
        mark(&transaction, applied).map_err(Error::Write)?;
        transaction.commit().map_err(Error::Write)
    }
}

fn mark(connection: &Connection, applied: u64) -> rusqlite::Result<()> {
    let applied = MetaRow {
        key: APPLIED.to_owned(),
        value: applied.to_string(),
    };
    table::upsert(connection, &applied)
}
