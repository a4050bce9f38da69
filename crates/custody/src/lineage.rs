//! The keys of a ledger's logs, oldest first: each but the first signs a log that goes on from the one before. What leads
//! from one to the next lies beside the key that signs now, and not with the records, so that restoring those does not
//! bring an older log back.

use crate::FileCustody;
use crypto::{Algorithm, Custody as _};
use ledger::body::KeyRotation;
use ledger::lineage::{self, LineageError, Link};
use ledger::{Code as _, KeyError, LedgerKey, LedgerSigner};
use ledger_store::{Disk as _, LINEAGE, RealDisk, read_file, replace};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of it, at most.
const BYTES: usize = 1 << 20;
/// Whoever signs for this ledger holds it, from before the keys are read.
const LOCK: &str = "lock";
/// The key of the first log, as custody names it.
const FIRST: &str = "ledger";

/// Nobody else signs with the keys of a folder, whatever records they have, until this is dropped.
pub struct Alone {
    _held: Box<dyn Send + Sync>,
}

/// INVARIANT: nobody else signs with them until this, or the [`Alone`] that it leaves, is dropped.
pub struct LedgerKeys {
    custody: FileCustody,
    /// Of the newest log.
    signer: LedgerSigner,
    alone: Alone,
}

/// Why keys of a ledger are not used.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct LedgerKeysError {
    /// The folder of the keys.
    pub folder: PathBuf,
    pub kind: LedgerKeysRefusal,
}

/// What is wrong with them.
#[derive(Debug, thiserror::Error)]
pub enum LedgerKeysRefusal {
    #[error("{path} is in use by another process")]
    Locked { path: PathBuf },
    #[error("cannot use {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the key of this ledger is not there")]
    Absent,
    /// The ledger is known to have gone on as another log, and the links to that are not beside its keys.
    #[error("the links in {copy} alone")]
    Lost { copy: PathBuf },
    #[error("{}: {error}", .error.code())]
    Links { error: LineageError },
    #[error("the links are of {first}, and not of {origin}")]
    Other { first: String, origin: String },
    #[error("the key {key} is not beside the links")]
    Newest { key: String },
    #[error("the link leads to another key")]
    Elsewhere,
    /// Nobody would follow one more.
    #[error("the ledger has gone on as a new log {links} times")]
    Many { links: usize },
    #[error("a key")]
    Key(#[from] crypto::Error),
    #[error("the name or key of a log")]
    Log(#[from] KeyError),
}

impl Alone {
    /// Takes the lock of the folder of keys `dir`.
    ///
    /// # Errors
    /// `Locked` if somebody else holds it.
    pub fn hold(dir: &Path) -> Result<Self, LedgerKeysError> {
        let path = dir.join(LOCK);
        let held = RealDisk.lock(&path);
        let held = held.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => LedgerKeysRefusal::Locked { path },
            _ => LedgerKeysRefusal::Io { path, source },
        });
        held.map(|held| Self { _held: held })
            .map_err(in_folder(dir))
    }
}

impl LedgerKeys {
    /// The keys in `custody` of the ledger whose first log is `origin` and whose records are, or will be, in the folder
    /// `records`. Makes the first one of a new ledger if `make`.
    ///
    /// # Errors
    /// All but `Elsewhere` and `Many`.
    pub fn open(
        custody: FileCustody,
        origin: &str,
        records: &Path,
        make: bool,
    ) -> Result<Self, LedgerKeysError> {
        let alone = Alone::hold(&custody.path)?;
        let opened = newest(&custody, origin, records, make);
        let signer = opened.map_err(in_folder(&custody.path))?;
        Ok(Self {
            custody,
            signer,
            alone,
        })
    }

    /// Of the newest log.
    #[must_use]
    pub const fn signer(&self) -> &LedgerSigner {
        &self.signer
    }

    /// What signs, and what keeps everybody else from it.
    #[must_use]
    pub fn into_parts(self) -> (LedgerSigner, Alone) {
        (self.signer, self.alone)
    }

    /// The folder that they are in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.custody.path
    }

    /// A signer for the log after the newest. Its number is one that no key here was made for.
    ///
    /// # Errors
    /// `Many` if nobody would follow one link more: before anything is signed.
    pub fn next(&self) -> Result<LedgerSigner, LedgerKeysError> {
        self.numbered().map_err(in_folder(self.folder()))
    }

    fn numbered(&self) -> Result<LedgerSigner, LedgerKeysRefusal> {
        let key = self.signer.key();
        let links = lineage::links(key).len();
        if links >= lineage::MAX_LINKS {
            return Err(LedgerKeysRefusal::Many { links });
        }
        let (_, mut number) = key.origin().place();
        loop {
            number = number.saturating_add(1);
            let name = name(number);
            if self.custody.load(&name)?.is_none() {
                let origin = key.origin().numbered(number)?;
                let made = self.custody.load_or_generate(&name, Algorithm::Ed25519)?;
                return Ok(LedgerSigner::new(origin.as_str(), made)?);
            }
        }
    }

    /// From now on the log of `next` is the newest: durable before anything is signed for it.
    ///
    /// # Errors
    /// `Links`, `Elsewhere` if `link` does not lead to it; `Io`.
    pub fn succeed(
        &mut self,
        next: LedgerSigner,
        link: KeyRotation,
    ) -> Result<(), LedgerKeysError> {
        let kept = keep(self.folder(), self.signer.key(), next, link);
        self.signer = kept.map_err(in_folder(self.folder()))?;
        Ok(())
    }
}

/// What signs the newest log.
fn newest(
    custody: &FileCustody,
    origin: &str,
    records: &Path,
    make: bool,
) -> Result<LedgerSigner, LedgerKeysRefusal> {
    let links = links(&custody.path)?;
    let Some(first) = links.first() else {
        // INVARIANT: no key is made for a ledger that went on as another log.
        let copy = records.join(LINEAGE);
        if copy.exists() {
            return Err(LedgerKeysRefusal::Lost { copy });
        }
        let key = match make {
            true => custody.load_or_generate(FIRST, Algorithm::Ed25519)?,
            false => custody.load(FIRST)?.ok_or(LedgerKeysRefusal::Absent)?,
        };
        return Ok(LedgerSigner::new(origin, key)?);
    };
    let first = Link::open(first).map_err(unsound)?.from;
    let key = lineage::follow(&first, &links).map_err(unsound)?;
    let first = key.first().origin();
    if first.as_str() != origin {
        return Err(LedgerKeysRefusal::Other {
            first: first.to_string(),
            origin: origin.to_owned(),
        });
    }
    let (_, number) = key.origin().place();
    let absent = || LedgerKeysRefusal::Newest {
        key: key.to_string(),
    };
    let held = custody.load(&name(number))?.ok_or_else(absent)?;
    let signer = LedgerSigner::new(key.origin().as_str(), held)?;
    signer.with_lineage(key.clone()).ok_or_else(absent)
}

/// `next`, once the links in `dir` lead to it from `key`.
fn keep(
    dir: &Path,
    key: &LedgerKey,
    next: LedgerSigner,
    link: KeyRotation,
) -> Result<LedgerSigner, LedgerKeysRefusal> {
    let key = lineage::follow(key, &[link]).map_err(unsound)?;
    let json = lineage::to_json(&lineage::links(&key));
    let signer = next.with_lineage(key);
    let signer = signer.ok_or(LedgerKeysRefusal::Elsewhere)?;
    let path = dir.join(LINEAGE);
    replace(&RealDisk, &path, json.as_bytes())
        .and_then(|()| RealDisk.sync_dir(dir))
        .map_err(|source| LedgerKeysRefusal::Io { path, source })?;
    Ok(signer)
}

fn links(dir: &Path) -> Result<Vec<KeyRotation>, LedgerKeysRefusal> {
    let path = dir.join(LINEAGE);
    let read = read_file(&RealDisk, &path, BYTES);
    match read.map_err(|source| LedgerKeysRefusal::Io { path, source })? {
        Some(bytes) => lineage::from_json(&String::from_utf8_lossy(&bytes)).map_err(unsound),
        None => Ok(Vec::new()),
    }
}

fn name(number: u64) -> String {
    match number {
        0 | 1 => FIRST.to_owned(),
        number => format!("{FIRST}-{number}"),
    }
}

const fn unsound(error: LineageError) -> LedgerKeysRefusal {
    LedgerKeysRefusal::Links { error }
}

fn in_folder(dir: &Path) -> impl FnOnce(LedgerKeysRefusal) -> LedgerKeysError {
    let folder = dir.to_owned();
    |kind| LedgerKeysError { folder, kind }
}

#[cfg(test)]
mod tests;
