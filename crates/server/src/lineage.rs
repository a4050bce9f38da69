//! The keys of this ledger's logs, as a server opens them: what is wrong with them in its users' words, and whether the
//! ledger in the data directory is the one that they are of. How they are kept is `custody`'s.

use crate::start::StartError;
use custody::{FileCustody, LedgerKeys, LedgerKeysError, LedgerKeysRefusal};
use facts::Finding;
use ledger::{LedgerKey, lineage};
use ledger_store::{LINEAGE, Reader, StoreError};
use std::path::Path;

/// The keys in `custody` of the ledger in the folder `records`. Makes the first one of a new ledger.
pub(crate) fn keys(
    custody: FileCustody,
    records: &Path,
    trust_domain: &str,
) -> Result<LedgerKeys, StartError> {
    // INVARIANT: no key is made for a ledger that has one: the links to it, or its file, are lost.
    let make = !records.exists();
    let origin = format!("{trust_domain}/server");
    Ok(LedgerKeys::open(custody, &origin, records, make)?)
}

impl From<LedgerKeysError> for StartError {
    fn from(error: LedgerKeysError) -> Self {
        let lineage = error.folder.join(LINEAGE);
        match error.kind {
            LedgerKeysRefusal::Locked { path } => StoreError::Locked { path }.into(),
            LedgerKeysRefusal::Io { path, source } => Self::Directory { path, source },
            LedgerKeysRefusal::Key(error) => error.into(),
            LedgerKeysRefusal::Log(error) => Self::Failed(facts::with_causes(&error)),
            LedgerKeysRefusal::Many { links } => many(links),
            LedgerKeysRefusal::Lost { copy } => lost(&lineage, &copy),
            kind => refused(&lineage, &kind.to_string()),
        }
    }
}

/// Records of another log that the log of `key` went on from; `None` if it is the first.
pub(crate) fn began(key: &LedgerKey) -> Option<u64> {
    let newest = lineage::links(key).pop()?;
    let link = lineage::Link::open(&newest).ok()?;
    Some(link.size)
}

fn many(links: usize) -> StartError {
    StartError::Refused(
        Finding::new(
            "SERVER-NEW-LOG-MANY",
            "this ledger has gone on as a new log as often as anybody follows it",
        )
        .expected(format!("fewer than {} links", lineage::MAX_LINKS))
        .observed(links.to_string())
        .next("nothing was signed: start the server as it is, or begin with new keys and pins"),
    )
}

/// The ledger is known to have gone on as another log, and the links to that are not beside its key.
fn lost(path: &Path, copy: &Path) -> StartError {
    StartError::Refused(
        Finding::new(
            "SERVER-LINEAGE",
            "the ledger went on as a new log, and what leads to its key is not beside the key",
        )
        .expected(format!("{}, with the key of the newest log", path.display()))
        .observed(format!("the links in {} alone", copy.display()))
        .next(format!(
            "restore the newest copy of the folder of the ledger's key as a whole; where only `lineage` is lost, copy {} \
             to {}: the links in it are checked",
            copy.display(),
            path.display()
        )),
    )
}

/// The ledger in the data directory holds each tree that a link of its lineage names, as far as it reaches.
///
/// # Errors
/// `SERVER-LINEAGE`.
pub(crate) fn goes_on(reader: &Reader, key: &LedgerKey) -> Result<(), StartError> {
    for (size, root) in key.goes_on_from(key.origin().as_str()) {
        // INVARIANT 6: nothing is signed for a log that is not what both keys have signed that it goes on from.
        if size <= reader.size() && reader.root(size)? != root {
            return Err(other_tree(
                size,
                "records of which the first ones are others",
            ));
        }
    }
    Ok(())
}

/// As [`goes_on`], and reaches so far: `remembered` is the size of the head that was published, by which a copy that is
/// older is known as one.
///
/// # Errors
/// `SERVER-LINEAGE`.
pub(crate) fn reaches(
    reader: &Reader,
    key: &LedgerKey,
    remembered: Option<u64>,
) -> Result<(), StartError> {
    goes_on(reader, key)?;
    let ours = reader.size();
    let longest = key.goes_on_from(key.origin().as_str()).pop();
    match longest.filter(|(size, _root)| *size > ours) {
        Some((size, _root)) if remembered.is_none_or(|remembered| remembered <= ours) => {
            Err(other_tree(size, &format!("{ours} records")))
        }
        _ => Ok(()),
    }
}

fn other_tree(size: u64, observed: &str) -> StartError {
    StartError::Refused(
        Finding::new(
            "SERVER-LINEAGE",
            "the ledger in data_dir is not the one that its newest log goes on from",
        )
        .expected(format!("the {size} records that both keys have signed for, and more"))
        .observed(observed)
        .next(
            "restore the newest copy of data_dir; where there is none, a copy that has fewer records goes on as a new log: \
             trilith server new-log --config FILE --give-up --reason TEXT",
        ),
    )
}

fn refused(path: &Path, observed: &str) -> StartError {
    StartError::Refused(
        Finding::new(
            "SERVER-LINEAGE",
            "the keys of this ledger's logs do not lead to the one that signs now",
        )
        .expected(format!(
            "in {}, links that both keys signed, and the newest key beside it",
            path.display()
        ))
        .observed(observed)
        .next("restore the folder of the ledger's key as a whole; nothing is signed without it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_made_for_a_ledger_that_is_there() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("keys");
        let ledger = temporary.path().join("ledger");
        let open = || keys(FileCustody::open(&dir).unwrap(), &ledger, "a.example");
        let first = open().unwrap().signer().key().clone();
        std::fs::create_dir(&ledger).unwrap();
        assert_eq!(open().unwrap().signer().key(), &first);
        // The links are lost, and a copy lies with the records: with the first key or without it.
        std::fs::write(ledger.join(LINEAGE), "[]").unwrap();
        for _ in 0..2 {
            let refused = open().err().unwrap().finding();
            assert_eq!(refused.code, "SERVER-LINEAGE");
            let copy = ledger.join(LINEAGE).display().to_string();
            assert!(refused.next.unwrap_or_default().contains(&copy));
            let _gone = std::fs::remove_file(dir.join("ledger.pk8"));
        }
        // The key is lost, of a ledger with one log.
        std::fs::remove_file(ledger.join(LINEAGE)).unwrap();
        assert_eq!(open().err().unwrap().finding().code, "SERVER-LINEAGE");
        assert!(!dir.join("ledger.pk8").exists(), "no other one was made");
    }

    #[test]
    fn what_keeps_a_server_from_its_keys_has_its_codes() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("keys");
        let ledger = temporary.path().join("ledger");
        let open = || keys(FileCustody::open(&dir).unwrap(), &ledger, "a.example");
        let held = open().unwrap();
        assert_eq!(open().err().unwrap().finding().code, "SERVER-RUNNING");
        drop(held);
        open().unwrap();
        assert_eq!(many(256).finding().code, "SERVER-NEW-LOG-MANY");
    }
}
