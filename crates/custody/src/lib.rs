//! Where keys live: implementations of [`crypto::Custody`], so far files; the keys of a ledger's logs, with what leads
//! from one to the next; and the key of blinded labels.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod file;
mod label_key;
mod lineage;

pub use file::{FileCustody, FileCustodyError};
pub use label_key::label_key;
pub use lineage::{Alone, LedgerKeys, LedgerKeysError, LedgerKeysRefusal};
