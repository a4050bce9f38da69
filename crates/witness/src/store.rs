//! The folder of a witness's state: a file for each log, replaced as a whole, and the roster of those that have to
//! be there. It goes forward only.
//!
//! After a write that failed nobody knows what is on the disk, so that nothing is written after it: the witness
//! ends, and reads at its next start what there is.

use crate::state::{MAX_ROSTER, MAX_STATE, Roster, Standing, Unreadable};
use facts::Finding;
use ledger::HexDigest;
use ledger::witness::origin_hash;
use ledger_store::{Disk, read_file, replace};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

const LOCK: &str = "lock";
const ROSTER: &str = "roster";
/// Of the file that keeps the second history which a log has signed.
const FORK: &str = "fork";

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("another process has the state in {0}")]
    InUse(PathBuf),
    #[error("there are keys of a witness, and {0} has no state of what they have signed")]
    Lost(PathBuf),
    #[error("{0} is missing, and this witness has cosigned that log")]
    Missing(PathBuf),
    #[error("{path}: {why}")]
    Unreadable { path: PathBuf, why: Unreadable },
    #[error("cannot {doing} {path}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: Arc<io::Error>,
    },
    #[error(
        "the state of {origin:?} would go from {from} records back to {to}, or to another root"
    )]
    Backwards { origin: String, from: u64, to: u64 },
    #[error("a write before this one failed")]
    Ended,
    #[error("what is mirrored of a log is not what was kept: {0}")]
    Damaged(PathBuf),
    #[error("what is mirrored of a log cannot be believed: {path}: {why}")]
    DamagedState { path: PathBuf, why: Unreadable },
}

impl StoreError {
    /// Of files of a mirrored log that are not what was kept or cannot be read: the other logs' are what they are.
    pub(crate) fn is_of_one_log(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::DamagedState { .. } => true,
            Self::Io { doing, .. } => *doing == "read",
            _ => false,
        }
    }

    /// Of a file of a mirror, where it is known what is wrong with it.
    pub(crate) fn because(self, why: Unreadable) -> Self {
        match self {
            Self::Damaged(path) => Self::DamagedState { path, why },
            other => other,
        }
    }
}

/// What to do about a state that is not there or not to be believed.
const NEW_WITNESS: &str = "do not put back a backup: what was signed since then would be signed again, otherwise. \
     Mend the file system if it can be; else begin anew, with an empty data_dir and another name, and give the new \
     verifier keys to whoever relies on this witness";

impl StoreError {
    #[must_use]
    pub fn finding(&self) -> Finding {
        let said = facts::with_causes(self);
        match self {
            Self::InUse(_) => Finding::new("WITNESS-STATE-IN-USE", said)
                .next("end the other process: two witnesses with one key sign two histories"),
            Self::Lost(_) | Self::Missing(_) => {
                Finding::new("WITNESS-STATE-MISSING", said).next(NEW_WITNESS)
            }
            Self::Unreadable { .. } => {
                Finding::new("WITNESS-STATE-UNREADABLE", said).next(NEW_WITNESS)
            }
            Self::Io { .. } | Self::Ended => Finding::new("WITNESS-DISK", said)
                .next("look at the disk and at who may write there; start the witness again, which reads what there is"),
            Self::Damaged(_) | Self::DamagedState { .. } => Finding::new("WITNESS-MIRROR-DAMAGED", said).next(
                "look at the disk; then move the log's folder under `mirror` away and start again: its entries are \
                 taken anew, and nothing that was signed becomes untrue",
            ),
            Self::Backwards { .. } => Finding::new("WITNESS-BACKWARDS", said)
                .next("this is a defect of the witness, which has signed nothing: report it"),
        }
    }
}

/// The folder, held by this process alone.
pub struct Store {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Owned by whoever writes the first state of a log; behind that log's lock.
    roster: Mutex<Roster>,
    _lock: Box<dyn Send + Sync>,
}

impl Store {
    /// Takes the folder and reads all of it. `keys` says whether there are keys of this witness already: then
    /// there has to be a state.
    ///
    /// # Errors
    /// If another process has it, or anything in it is missing or not what was written.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        keys: bool,
    ) -> Result<(Self, BTreeMap<HexDigest, Standing>), StoreError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| StoreError::Io {
                doing,
                path,
                source: Arc::new(source),
            }
        };
        disk.create_dir_all(folder).map_err(io("make", folder))?;
        let lock = disk
            .lock(&folder.join(LOCK))
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => StoreError::InUse(folder.to_owned()),
                _ => io("lock", folder)(error),
            })?;
        let mut standing = BTreeMap::new();
        for name in disk.list(folder).map_err(io("list", folder))? {
            let Ok(log) = name.parse::<HexDigest>() else {
                continue;
            };
            let path = folder.join(&name);
            let file = read_file(&*disk, &path, MAX_STATE).map_err(io("read", &path))?;
            let read = Standing::parse(&file.unwrap_or_default(), log)
                .map_err(|why| StoreError::Unreadable { path, why })?;
            standing.insert(log, read);
        }
        let path = folder.join(ROSTER);
        let listed = read_file(&*disk, &path, MAX_ROSTER).map_err(io("read", &path))?;
        let began = listed.is_some();
        let roster = match listed {
            Some(file) => {
                Roster::parse(&file).map_err(|why| StoreError::Unreadable { path, why })?
            }
            None if keys || !standing.is_empty() => {
                return Err(StoreError::Lost(folder.to_owned()));
            }
            None => Roster::default(),
        };
        let missing = roster.0.iter().find(|log| !standing.contains_key(log));
        if let Some(log) = missing {
            return Err(StoreError::Missing(folder.join(log.to_string())));
        }
        let store = Self {
            disk,
            folder: folder.to_owned(),
            roster: Mutex::new(roster),
            _lock: lock,
        };
        // A state whose first answer was cut off is not listed yet. And before there are keys there is a roster.
        let all = Roster(standing.keys().copied().collect());
        let mut roster = store.roster.lock().unwrap_or_else(PoisonError::into_inner);
        if !began || *roster != all {
            store.put(ROSTER, &all.file())?;
            *roster = all;
        }
        drop(roster);
        Ok((store, standing))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes `next` what stands of its log, durably. Whoever calls holds that log's lock.
    ///
    /// # Errors
    /// If it would go back, or if it may not have been stored; then nothing may be answered, by anybody.
    pub fn advance(&self, last: Option<&Standing>, next: &Standing) -> Result<(), StoreError> {
        let (from, to) = (last.map(|last| &last.checkpoint), &next.checkpoint);
        let forward = from.is_none_or(|from| {
            from.origin == to.origin
                && (from.size < to.size || (from.size == to.size && from.root == to.root))
        });
        if !forward {
            return Err(StoreError::Backwards {
                origin: to.origin.clone(),
                from: from.map_or(0, |from| from.size),
                to: to.size,
            });
        }
        let log = origin_hash(&to.origin);
        self.put(&log.to_string(), &next.file())?;
        // Then the roster: a log that is listed has its file.
        let mut roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
        if !roster.0.contains(&log) {
            let mut more = roster.clone();
            more.0.insert(log);
            self.put(ROSTER, &more.file())?;
            *roster = more;
        }
        Ok(())
    }

    /// Keeps the other history of `origin` that its log has signed, the first one only. True if it is new.
    ///
    /// # Errors
    /// If it may not have been stored.
    pub(crate) fn keep_fork(&self, origin: &str, note: &str) -> Result<bool, StoreError> {
        let name = format!("{}.{FORK}", origin_hash(origin));
        let path = self.folder.join(&name);
        let kept = read_file(&*self.disk, &path, MAX_STATE);
        let kept = kept.map_err(|source| self.failed("read", &name, source))?;
        if kept.is_none() {
            self.put(&name, note.as_bytes())?;
        }
        Ok(kept.is_none())
    }

    /// A file as a whole: it is there, or what was there before is.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        replace(&*self.disk, &path, bytes)
            .and_then(|()| self.disk.sync_dir(&self.folder))
            .map_err(|source| self.failed("write", name, source))
    }

    fn failed(&self, doing: &'static str, name: &str, source: io::Error) -> StoreError {
        StoreError::Io {
            doing,
            path: self.folder.join(name),
            source: Arc::new(source),
        }
    }
}
