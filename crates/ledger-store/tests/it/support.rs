//! What the tests share: a signer, drafts, and checking a ledger from the outside.

use crypto::{Algorithm, KeyPair, Signer};
use ledger::body::{Body, Stop};
use ledger::merkle::{leaf_hash, verify_inclusion};
use ledger::{Checkpoint, Draft, LedgerKey};
use ledger_store::{Ledger, Options, Reader, StoreError};
use std::path::Path;
use std::sync::Arc;

pub(crate) const ORIGIN: &str = "example.org/test";

pub(crate) fn signer() -> Arc<dyn Signer> {
    Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap())
}

pub(crate) fn key(signer: &Arc<dyn Signer>) -> LedgerKey {
    LedgerKey::new(ORIGIN, signer.public_key().clone()).unwrap()
}

/// Without a reserve, so that a small disk suffices.
pub(crate) fn options() -> Options {
    Options {
        reserve_bytes: 0,
        ..Options::default()
    }
}

pub(crate) fn open(dir: &Path, signer: &Arc<dyn Signer>) -> Result<Ledger, StoreError> {
    Ledger::open(dir, Arc::clone(signer), ORIGIN, &options())
}

pub(crate) fn draft(text: &str) -> Draft {
    let reason = text.to_owned();
    Stop { reason }
        .record()
        .actor("test", "self")
        .draft()
        .unwrap()
}

pub(crate) fn text_of(reader: &Reader, index: u64) -> String {
    let record = reader.record(index).unwrap();
    assert_eq!(record.seq(), index);
    record.expect_body::<Stop>().unwrap().reason
}

/// Every record is under the signed head, by a proof that the store makes.
pub(crate) fn check_whole(reader: &Reader, key: &LedgerKey) {
    let head = reader.head();
    let checkpoint = Checkpoint::open(&head.note, key).unwrap();
    assert_eq!(checkpoint, head.checkpoint);
    let size = checkpoint.size;
    assert_eq!(reader.root(size).unwrap(), checkpoint.root);
    let mut index = 0;
    while index < size {
        for record in reader.read(index..size).unwrap() {
            let proof = reader.inclusion(index, size).unwrap();
            let leaf = leaf_hash(&record);
            verify_inclusion(&leaf, index, size, &proof, &checkpoint.root).unwrap();
            index += 1;
        }
    }
}
