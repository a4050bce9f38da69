//! The keys of this gateway's ledger, as it opens them: what is wrong with them in its users' words, and how far a new log
//! has come. How they are kept is `custody`'s.

use crate::CoreError;
use custody::{FileCustody, LedgerKeys, LedgerKeysError, LedgerKeysRefusal};
use facts::Finding;
use ledger::lineage::{self, LineageError, Link};
use ledger::{Checkpoint, Code as _, LedgerKey};
use ledger_store::{LINEAGE, Reader, StoreError};
use std::path::Path;

/// The folder of the keys in the gateway's `data_dir`.
pub(crate) const KEYS: &str = "keys";
/// The folder of the ledger itself, beside it.
pub(crate) const LEDGER: &str = "ledger";
/// Code of a new log that was signed for and not begun.
pub(crate) const UNFINISHED: &str = "GATEWAY-NEW-LOG-UNFINISHED";

/// The keys in `dir` of the ledger whose first log is `origin`. Makes the folder and the first one of a new ledger
/// if `make`.
pub(crate) fn keys(dir: &Path, origin: &str, make: bool) -> Result<LedgerKeys, CoreError> {
    if !make && !dir.is_dir() {
        return Err(refused(dir, "the key of this ledger is not there"));
    }
    let (custody, records) = (FileCustody::open(dir)?, dir.with_file_name(LEDGER));
    Ok(LedgerKeys::open(custody, origin, &records, make)?)
}

impl From<LedgerKeysError> for CoreError {
    fn from(error: LedgerKeysError) -> Self {
        let dir = error.folder;
        match error.kind {
            LedgerKeysRefusal::Locked { path } => Self::Ledger(StoreError::Locked { path }),
            LedgerKeysRefusal::Io { path, source } => Self::Data { path, source },
            LedgerKeysRefusal::Key(error) => error.into(),
            LedgerKeysRefusal::Log(error) => error.into(),
            LedgerKeysRefusal::Many { links } => many(links),
            LedgerKeysRefusal::Lost { copy } => lost(&dir, &copy),
            kind => refused(&dir, &kind.to_string()),
        }
    }
}

/// Refuses a ledger that is not the newest log's, or of which that was not begun.
///
/// # Errors
/// `GATEWAY-NEW-LOG-UNFINISHED`, `GATEWAY-LINEAGE`.
pub(crate) fn have_begun(keys: &LedgerKeys, reader: &Reader) -> Result<(), CoreError> {
    let key = keys.signer().key();
    if stage(reader, key, keys.folder())? == Stage::Begun {
        return Ok(());
    }
    Err(CoreError::Refused(
        Finding::new(
            UNFINISHED,
            "the ledger was to go on as a new log, and has not begun it",
        )
        .expected(format!("a first record of {}", key.origin()))
        .observed(format!("{} records of the log before", reader.size()))
        .next("the same command again: trilith ledger new-log --folder DIR --reason TEXT"),
    ))
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

fn unsound(dir: &Path, error: &LineageError) -> CoreError {
    refused(dir, &format!("{}: {error}", error.code()))
}

fn many(links: usize) -> CoreError {
    CoreError::Refused(
        Finding::new(
            "GATEWAY-NEW-LOG-MANY",
            "this ledger has gone on as a new log as often as anybody follows it",
        )
        .expected(format!("fewer than {} links", lineage::MAX_LINKS))
        .observed(links.to_string())
        .next("nothing was signed: start it as it is, or give it a new `name`"),
    )
}

/// The ledger is known to have gone on as another log, and the links to that are not beside its keys.
fn lost(dir: &Path, copy: &Path) -> CoreError {
    let path = dir.join(LINEAGE);
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
