//! The keys of this ledger's logs, oldest first: what leads from one to the next lies beside the key that signs now,
//! and not in the data directory, so that restoring that does not bring an older log back.

use crate::start::StartError;
use crypto::{Algorithm, Custody};
use custody::FileCustody;
use facts::Finding;
use ledger::body::KeyRotation;
use ledger::lineage::{self, LineageError};
use ledger::{Code as _, KeyError, LedgerKey, LedgerSigner};
use ledger_store::{Disk as _, Reader, RealDisk, StoreError};
use std::path::{Path, PathBuf};

const FILE: &str = "lineage";
/// Whoever signs for this ledger holds it, from before the keys are read.
const LOCK: &str = "lock";
/// The key of the first log, as custody names it.
const FIRST: &str = "ledger";

/// Nobody else signs with the keys of a folder, whatever data directory they have, until it is dropped.
pub(crate) type Alone = Box<dyn Send + Sync>;

pub(crate) fn alone(dir: &Path) -> Result<Alone, StartError> {
    let path = dir.join(LOCK);
    RealDisk.lock(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Locked { path }.into(),
        _ => StartError::Directory { path, source },
    })
}

pub(crate) struct Keys {
    custody: FileCustody,
    path: PathBuf,
    /// Of the newest log.
    pub(crate) signer: LedgerSigner,
}

impl Keys {
    /// The keys in `custody`, whose folder is `dir`, of the ledger in the folder `ledger`. Makes the first one of a new
    /// ledger.
    pub(crate) fn open(
        custody: FileCustody,
        dir: &Path,
        ledger: &Path,
        trust_domain: &str,
    ) -> Result<Self, StartError> {
        let path = dir.join(FILE);
        let links = match std::fs::read_to_string(&path) {
            Ok(text) => lineage::from_json(&text).map_err(|error| unsound(&path, &error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StartError::Directory { path, source }),
        };
        let origin = format!("{trust_domain}/server");
        let signer = match links.first().map(lineage::Link::open) {
            None => {
                // INVARIANT: no key is made for a ledger that has one: the links to it, or its file, are lost.
                let copy = ledger.join(FILE);
                if copy.exists() {
                    return Err(lost(&path, &copy));
                }
                if ledger.exists() && custody.load(FIRST)?.is_none() {
                    let observed = format!("no key, and records in {}", ledger.display());
                    return Err(refused(&path, &observed));
                }
                let key = custody.load_or_generate(FIRST, Algorithm::Ed25519)?;
                LedgerSigner::new(&origin, key).map_err(|error| key_error(&error))?
            }
            Some(first) => {
                let first = first.map_err(|error| unsound(&path, &error))?.from;
                let newest =
                    lineage::follow(&first, &links).map_err(|error| unsound(&path, &error))?;
                if first.origin().as_str() != origin {
                    return Err(refused(
                        &path,
                        &format!("it is of {}, and not of {origin}", first.origin()),
                    ));
                }
                signer(&custody, &newest)?
                    .ok_or_else(|| refused(&path, &format!("the key {newest} is not beside it")))?
            }
        };
        Ok(Self {
            custody,
            path,
            signer,
        })
    }

    /// A signer for the log after the newest. Its number is one that no key here was made for.
    ///
    /// # Errors
    /// `SERVER-NEW-LOG-MANY` if nobody would follow one link more: before anything is signed.
    pub(crate) fn next(&self) -> Result<LedgerSigner, StartError> {
        let links = lineage::links(self.signer.key()).len();
        if links >= lineage::MAX_LINKS {
            return Err(StartError::Refused(
                Finding::new(
                    "SERVER-NEW-LOG-MANY",
                    "this ledger has gone on as a new log as often as anybody follows it",
                )
                .expected(format!("fewer than {} links", lineage::MAX_LINKS))
                .observed(links.to_string())
                .next("nothing was signed: start the server as it is, or begin with new keys and pins"),
            ));
        }
        let (_, mut number) = self.signer.key().origin().place();
        loop {
            number = number.saturating_add(1);
            let name = name(number);
            if self.custody.load(&name)?.is_none() {
                let origin = self.signer.key().origin().numbered(number);
                let origin = origin.map_err(|error| key_error(&error))?;
                let key = self.custody.load_or_generate(&name, Algorithm::Ed25519)?;
                return LedgerSigner::new(origin.as_str(), key).map_err(|error| key_error(&error));
            }
        }
    }

    /// From now on the log of `next` is the newest: durable before anything is signed for it.
    pub(crate) fn succeed(
        &mut self,
        next: LedgerSigner,
        link: KeyRotation,
    ) -> Result<(), StartError> {
        let key = lineage::follow(self.signer.key(), &[link])
            .map_err(|error| unsound(&self.path, &error))?;
        let json = lineage::to_json(&lineage::links(&key));
        let signer = next
            .with_lineage(key)
            .ok_or_else(|| refused(&self.path, "the link leads to another key"))?;
        crate::signing::replace(&self.path, json.as_bytes()).map_err(|source| {
            StartError::Directory {
                path: self.path.clone(),
                source,
            }
        })?;
        self.signer = signer;
        Ok(())
    }
}

/// Records of another log that the log of `key` went on from; `None` if it is the first.
pub(crate) fn began(key: &LedgerKey) -> Option<u64> {
    let newest = lineage::links(key).pop()?;
    let link = lineage::Link::open(&newest).ok()?;
    Some(link.size)
}

/// `None` if its private half is not here.
fn signer(custody: &FileCustody, key: &LedgerKey) -> Result<Option<LedgerSigner>, StartError> {
    let (_, number) = key.origin().place();
    let Some(held) = custody.load(&name(number))? else {
        return Ok(None);
    };
    let signer =
        LedgerSigner::new(key.origin().as_str(), held).map_err(|error| key_error(&error))?;
    Ok(signer.with_lineage(key.clone()))
}

fn name(number: u64) -> String {
    match number {
        0 | 1 => FIRST.to_owned(),
        number => format!("{FIRST}-{number}"),
    }
}

fn key_error(error: &KeyError) -> StartError {
    StartError::Failed(facts::with_causes(error))
}

fn unsound(path: &Path, error: &LineageError) -> StartError {
    refused(path, &format!("{}: {error}", error.code()))
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
    use crypto::KeyPair;
    use std::sync::Arc;

    #[test]
    fn a_link_more_than_anybody_follows_is_refused_before_it_is_signed() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("keys");
        let ledger = temporary.path().join("ledger");
        let open = || Keys::open(FileCustody::open(&dir).unwrap(), &dir, &ledger, "a.example");
        let mut last = open().unwrap().signer;
        let mut links = Vec::new();
        for number in 2_u64..=257 {
            let origin = format!("a.example/server@{number}");
            let key: Arc<dyn crypto::Signer> = match number {
                257 => {
                    let custody = FileCustody::open(&dir).unwrap();
                    custody
                        .load_or_generate("ledger-257", Algorithm::Ed25519)
                        .unwrap()
                }
                _ => Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap()),
            };
            let next = LedgerSigner::new(&origin, key).unwrap();
            links.push(lineage::Link::sign(&last, &next, (number, [0; 32]), "").unwrap());
            last = next;
        }
        std::fs::write(dir.join(FILE), lineage::to_json(&links)).unwrap();
        let keys = open().unwrap();
        assert_eq!(keys.signer.key().origin().as_str(), "a.example/server@257");
        let refused = keys.next().err().unwrap().finding();
        assert_eq!(refused.code, "SERVER-NEW-LOG-MANY");
        assert!(!dir.join("ledger-258.pk8").exists());
    }

    #[test]
    fn no_key_is_made_for_a_ledger_that_is_there() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("keys");
        let ledger = temporary.path().join("ledger");
        let open = || Keys::open(FileCustody::open(&dir).unwrap(), &dir, &ledger, "a.example");
        let first = open().unwrap().signer;
        std::fs::create_dir(&ledger).unwrap();
        assert_eq!(open().unwrap().signer.key(), first.key());
        // The links are lost, and a copy lies with the records: with the first key or without it.
        std::fs::write(ledger.join(FILE), "[]").unwrap();
        for _ in 0..2 {
            let refused = open().err().unwrap().finding();
            assert_eq!(refused.code, "SERVER-LINEAGE");
            let copy = ledger.join(FILE).display().to_string();
            assert!(refused.next.unwrap_or_default().contains(&copy));
            let _gone = std::fs::remove_file(dir.join("ledger.pk8"));
        }
        // The key is lost, of a ledger with one log.
        std::fs::remove_file(ledger.join(FILE)).unwrap();
        assert_eq!(open().err().unwrap().finding().code, "SERVER-LINEAGE");
        assert!(!dir.join("ledger.pk8").exists(), "no other one was made");
    }

    #[test]
    fn the_keys_of_a_folder_are_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let held = alone(dir.path()).unwrap();
        let refused = alone(dir.path()).err().unwrap().finding();
        assert_eq!(refused.code, "SERVER-RUNNING");
        drop(held);
        alone(dir.path()).unwrap();
    }
}
