//! The machine side: the TPM's transport and commands, reports of confidential hardware and of
//! enclaves, processes by pidfd, Merkle trees of files.
//!
//! Collects evidence and judges none of it: verifiers live in the `attest*` crates. The only crate
//! in which `unsafe` may appear.

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

pub mod azure;
pub mod gramine;
pub mod memory;
pub mod nitro;
pub mod nsm;
pub mod process;
pub mod tpm;
pub mod tsm;
pub mod verity;
