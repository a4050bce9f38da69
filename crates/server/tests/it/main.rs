//! The server from outside: real TLS, real gRPC, a real ledger on disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod administering;
mod attacking;
mod authority;
mod following;
mod harness;
mod issuing;
mod joining;
mod surviving;
mod tpm;
