//! The forgeries of the attack tool without a gateway: each is a valid SVID to whoever knows no ledger,
//! and each fails at the check that is there for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

#[path = "../../examples/attack/mint.rs"]
mod mint;

mod forgeries;
