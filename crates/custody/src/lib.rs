//! Where keys live: implementations of [`crypto::Custody`]. So far files; a TPM, a PKCS#11 token or a KMS
//! would stand beside them.

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

pub use file::{FileCustody, FileCustodyError};
