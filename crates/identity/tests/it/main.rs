//! The authority against the validator of `spiffe`, against OpenSSL, and against who would misuse it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod issuance;
mod rotation;
mod world;
