//! Keys of logs that go on from one another, as files.

use super::*;
use crypto::KeyPair;
use std::sync::Arc;

const ORIGIN: &str = "a.example/server";

struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn keys(&self) -> PathBuf {
        self.0.path().join("keys")
    }

    fn records(&self) -> PathBuf {
        self.0.path().join("ledger")
    }

    fn open(&self, make: bool) -> Result<LedgerKeys, LedgerKeysError> {
        let custody = FileCustody::open(&self.keys()).unwrap();
        LedgerKeys::open(custody, ORIGIN, &self.records(), make)
    }

    fn refused(&self, make: bool) -> LedgerKeysRefusal {
        self.open(make).err().unwrap().kind
    }
}

fn sign(keys: &LedgerKeys, next: &LedgerSigner) -> KeyRotation {
    Link::sign(keys.signer(), next, (7, [0; 32]), "").unwrap()
}

#[test]
fn what_went_on_as_a_new_log_goes_on_as_that() {
    let folders = Folders::new();
    let mut keys = folders.open(true).unwrap();
    let (first, next) = (keys.signer().key().clone(), keys.next().unwrap());
    let (second, link) = (next.key().clone(), sign(&keys, &next));
    // One that leads to another key is not kept.
    let other = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
    let other = LedgerSigner::new("a.example/server@2", other).unwrap();
    let refused = keys.succeed(other, link.clone()).err().unwrap().kind;
    assert!(matches!(refused, LedgerKeysRefusal::Elsewhere));
    assert!(!folders.keys().join(LINEAGE).exists());
    keys.succeed(next, link).unwrap();
    assert_eq!(keys.signer().key(), &second);
    drop(keys);
    let keys = folders.open(false).unwrap();
    assert_eq!(keys.signer().key(), &second);
    assert_eq!(keys.signer().key().first(), &first);
    drop(keys);
    std::fs::remove_file(folders.keys().join("ledger-2.pk8")).unwrap();
    assert!(matches!(
        folders.refused(true),
        LedgerKeysRefusal::Newest { .. }
    ));
}

#[test]
fn a_number_is_given_once() {
    let folders = Folders::new();
    let keys = folders.open(true).unwrap();
    let numbers = [2, 3].map(|_| keys.next().unwrap().key().origin().place().1);
    assert_eq!(numbers, [2, 3]);
}

#[test]
fn a_link_more_than_anybody_follows_is_refused_before_it_is_signed() {
    let folders = Folders::new();
    let mut last = folders.open(true).unwrap().signer().clone();
    let mut links = Vec::new();
    for number in 2_u64..=257 {
        let origin = format!("{ORIGIN}@{number}");
        let key: Arc<dyn crypto::Signer> = match number {
            257 => {
                let custody = FileCustody::open(&folders.keys()).unwrap();
                custody
                    .load_or_generate("ledger-257", Algorithm::Ed25519)
                    .unwrap()
            }
            _ => Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap()),
        };
        let next = LedgerSigner::new(&origin, key).unwrap();
        links.push(Link::sign(&last, &next, (number, [0; 32]), "").unwrap());
        last = next;
    }
    std::fs::write(folders.keys().join(LINEAGE), lineage::to_json(&links)).unwrap();
    let keys = folders.open(false).unwrap();
    let origin = keys.signer().key().origin();
    assert_eq!(origin.as_str(), "a.example/server@257");
    let refused = keys.next().err().unwrap().kind;
    assert!(matches!(refused, LedgerKeysRefusal::Many { links: 256 }));
    assert!(!folders.keys().join("ledger-258.pk8").exists());
}

#[test]
fn no_key_is_made_where_the_links_are_lost() {
    let folders = Folders::new();
    let first = folders.open(true).unwrap().signer().key().clone();
    std::fs::create_dir(folders.records()).unwrap();
    assert_eq!(folders.open(false).unwrap().signer().key(), &first);
    // A copy lies with the records: with the first key or without it.
    std::fs::write(folders.records().join(LINEAGE), "[]").unwrap();
    for _ in 0..2 {
        let LedgerKeysRefusal::Lost { copy } = folders.refused(true) else {
            panic!("the copy is not told of");
        };
        assert_eq!(copy, folders.records().join(LINEAGE));
        let _gone = std::fs::remove_file(folders.keys().join("ledger.pk8"));
    }
    // The key is lost, of a ledger with one log.
    std::fs::remove_file(folders.records().join(LINEAGE)).unwrap();
    assert!(matches!(folders.refused(false), LedgerKeysRefusal::Absent));
    assert!(!folders.keys().join("ledger.pk8").exists());
}

#[test]
fn the_keys_of_a_folder_are_held_by_one() {
    let folders = Folders::new();
    let keys = folders.open(true).unwrap();
    assert!(matches!(
        folders.refused(true),
        LedgerKeysRefusal::Locked { .. }
    ));
    let (_signer, alone) = keys.into_parts();
    assert!(Alone::hold(&folders.keys()).is_err());
    drop(alone);
    Alone::hold(&folders.keys()).unwrap();
}
