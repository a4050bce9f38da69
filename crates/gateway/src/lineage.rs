//! The keys of this gateway's ledger, oldest first: each but the first signs a log that goes on from the one before, and
//! what leads from key to key lies beside the key that signs now.

use crate::CoreError;
use crypto::{Algorithm, Custody as _};
use custody::FileCustody;
use facts::Finding;
use ledger::body::KeyRotation;
use ledger::lineage::{self, LineageError, Link};
use ledger::{Checkpoint, Code as _, LedgerKey, LedgerSigner};
use ledger_store::{Disk as _, Reader, RealDisk, StoreError, read_file, replace};
use std::io;
use std::path::{Path, PathBuf};

/// The folder of the keys in the gateway's `data_dir`.
pub(crate) const KEYS: &str = "keys";
/// The folder of the ledger itself, beside it.
pub(crate) const LEDGER: &str = "ledger";
/// In both.
const FILE: &str = "lineage";
/// Bytes of it, at most.
const BYTES: usize = 1 << 20;
/// Whoever signs for this ledger holds it, from before the keys are read.
const LOCK: &str = "lock";
/// Code of a new log that was signed for and not begun.
pub(crate) const UNFINISHED: &str = "GATEWAY-NEW-LOG-UNFINISHED";
/// The key of the first log, as custody names it.
const FIRST: &str = "ledger";

/// INVARIANT: nobody else signs with the keys of the folder until this is dropped.
pub(crate) struct Keys {
    custody: FileCustody,
    dir: PathBuf,
    /// Of the newest log.
    pub(crate) signer: LedgerSigner,
    _alone: Box<dyn Send + Sync>,
}

impl Keys {
    /// The keys in `dir` of the ledger whose first log is `origin`. Makes the folder and the first one of a new ledger
    /// if `make`.
    pub(crate) fn open(dir: &Path, origin: &str, make: bool) -> Result<Self, CoreError> {
        let absent = || refused(dir, "the key of this ledger is not there");
        if !make && !dir.is_dir() {
            return Err(absent());
        }
        let custody = FileCustody::open(dir)?;
        let path = dir.join(LOCK);
        let alone = RealDisk.lock(&path);
        let alone = alone.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => CoreError::Ledger(StoreError::Locked { path }),
            _ => CoreError::Data { path, source },
        })?;
        let signer = match links(dir)? {
            links if links.is_empty() => {
                // INVARIANT: no key is made for a ledger that went on as another log.
                let copy = dir.with_file_name(LEDGER).join(FILE);
                if copy.exists() {
                    return Err(lost(dir, &copy));
                }
                let key = match make {
                    true => custody.load_or_generate(FIRST, Algorithm::Ed25519)?,
                    false => custody.load(FIRST)?.ok_or_else(absent)?,
                };
                LedgerSigner::new(origin, key)?
            }
            links => {
                let newest = newest(&links).map_err(|error| unsound(dir, &error))?;
                let first = newest.first().origin();
                if first.as_str() != origin {
                    let what = format!("the links are of {first}, and not of {origin}");
                    return Err(refused(dir, &what));
                }
                signer(&custody, &newest)?.ok_or_else(|| {
                    refused(dir, &format!("the key {newest} is not beside the links"))
                })?
            }
        };
        Ok(Self {
            custody,
            dir: dir.to_owned(),
            signer,
            _alone: alone,
        })
    }

    /// A signer for the log after the newest. Its number is one that no key here was made for.
    ///
    /// # Errors
    /// `GATEWAY-NEW-LOG-MANY` if nobody would follow one link more: before anything is signed.
    pub(crate) fn next(&self) -> Result<LedgerSigner, CoreError> {
        let links = lineage::links(self.signer.key()).len();
        if links >= lineage::MAX_LINKS {
            return Err(CoreError::Refused(
                Finding::new(
                    "GATEWAY-NEW-LOG-MANY",
                    "this ledger has gone on as a new log as often as anybody follows it",
                )
                .expected(format!("fewer than {} links", lineage::MAX_LINKS))
                .observed(links.to_string())
                .next("nothing was signed: start it as it is, or give it a new `name`"),
            ));
        }
        let (_, mut number) = self.signer.key().origin().place();
        loop {
            number = number.saturating_add(1);
            let name = name(number);
            if self.custody.load(&name)?.is_none() {
                let origin = self.signer.key().origin().numbered(number)?;
                let key = self.custody.load_or_generate(&name, Algorithm::Ed25519)?;
                return Ok(LedgerSigner::new(origin.as_str(), key)?);
            }
        }
    }

    /// From now on the log of `next` is the newest: durable before anything is signed for it.
    pub(crate) fn succeed(
        &mut self,
        next: LedgerSigner,
        link: KeyRotation,
    ) -> Result<(), CoreError> {
        let key = lineage::follow(self.signer.key(), &[link])
            .map_err(|error| unsound(&self.dir, &error))?;
        let json = lineage::to_json(&lineage::links(&key));
        let signer = next.with_lineage(key);
        let signer = signer.ok_or_else(|| refused(&self.dir, "the link leads to another key"))?;
        let path = self.dir.join(FILE);
        replace(&RealDisk, &path, json.as_bytes())
            .and_then(|()| RealDisk.sync_dir(&self.dir))
            .map_err(|source| CoreError::Data { path, source })?;
        self.signer = signer;
        Ok(())
    }
}

impl Keys {
    /// Refuses a ledger that is not the newest log's, or of which that was not begun.
    ///
    /// # Errors
    /// `GATEWAY-NEW-LOG-UNFINISHED`, `GATEWAY-LINEAGE`.
    pub(crate) fn have_begun(&self, reader: &Reader) -> Result<(), CoreError> {
        if stage(reader, self.signer.key(), &self.dir)? == Stage::Begun {
            return Ok(());
        }
        let origin = self.signer.key().origin();
        Err(CoreError::Refused(
            Finding::new(
                UNFINISHED,
                "the ledger was to go on as a new log, and has not begun it",
            )
            .expected(format!("a first record of {origin}"))
            .observed(format!("{} records of the log before", reader.size()))
            .next("the same command again: trilith ledger new-log --folder DIR --reason TEXT"),
        ))
    }
}

/// How far a new log has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is one log, or the newest has begun.
    Begun,
    /// The newest is signed for, and has no record yet.
    Unfinished,
}

/// # Errors
/// `GATEWAY-LINEAGE` if what is in the ledger is not what the newest log goes on from.
pub(crate) fn stage(reader: &Reader, key: &LedgerKey, dir: &Path) -> Result<Stage, CoreError> {
    let Some(newest) = lineage::links(key).pop() else {
        return Ok(Stage::Begun);
    };
    let head = reader.head().checkpoint.clone();
    if head.size > 0 && head.origin == *key.origin() {
        return Ok(Stage::Begun);
    }
    let link = Link::open(&newest).map_err(|error| unsound(dir, &error))?;
    let Checkpoint { origin, size, root } = head;
    if (origin, size, root) == (link.from.origin().clone(), link.size, link.root) {
        return Ok(Stage::Unfinished);
    }
    let what = format!(
        "{} goes on from {} records, and {size} are here",
        link.to.origin(),
        link.size
    );
    Err(refused(dir, &what))
}

fn links(dir: &Path) -> Result<Vec<KeyRotation>, CoreError> {
    let path = dir.join(FILE);
    let read = read_file(&RealDisk, &path, BYTES);
    match read.map_err(|source| CoreError::Data { path, source })? {
        Some(bytes) => lineage::from_json(&String::from_utf8_lossy(&bytes))
            .map_err(|error| unsound(dir, &error)),
        None => Ok(Vec::new()),
    }
}

fn newest(links: &[KeyRotation]) -> Result<LedgerKey, LineageError> {
    let first = links.first().ok_or(LineageError::Format)?;
    lineage::follow(&Link::open(first)?.from, links)
}

/// `None` if its private half is not here.
fn signer(custody: &FileCustody, key: &LedgerKey) -> Result<Option<LedgerSigner>, CoreError> {
    let (_, number) = key.origin().place();
    let Some(held) = custody.load(&name(number))? else {
        return Ok(None);
    };
    let signer = LedgerSigner::new(key.origin().as_str(), held)?;
    Ok(signer.with_lineage(key.clone()))
}

fn name(number: u64) -> String {
    match number {
        0 | 1 => FIRST.to_owned(),
        number => format!("{FIRST}-{number}"),
    }
}

fn unsound(dir: &Path, error: &LineageError) -> CoreError {
    refused(dir, &format!("{}: {error}", error.code()))
}

/// The ledger is known to have gone on as another log, and the links to that are not beside its keys.
fn lost(dir: &Path, copy: &Path) -> CoreError {
    let path = dir.join(FILE);
    CoreError::Refused(
        Finding::new(
            "GATEWAY-LINEAGE",
            "the ledger went on as a new log, and what leads to its key is not beside the keys",
        )
        .expected(format!("{}, with the key of the newest log", path.display()))
        .observed(format!("the links in {} alone", copy.display()))
        .next(format!(
            "restore the newest copy of the folder of the keys as a whole; where only `lineage` is lost, copy {} to {}: \
             the links in it are checked. Where the newest key is lost, give this gateway a new `name`",
            copy.display(),
            path.display()
        )),
    )
}

fn refused(dir: &Path, observed: &str) -> CoreError {
    CoreError::Refused(
        Finding::new(
            "GATEWAY-LINEAGE",
            "the keys of this gateway's ledger do not lead to the one that signs now, or the ledger is not theirs",
        )
        .expected(format!(
            "in {}, the newest key, and links that both keys signed; beside it the ledger that they are of",
            dir.display()
        ))
        .observed(observed)
        .next(
            "restore the newest copy of data_dir as a whole, or give this gateway a new `name`: nothing is signed without it",
        ),
    )
}
