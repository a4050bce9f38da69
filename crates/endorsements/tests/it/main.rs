//! Endorsements asked of a vendor of the test's own: real TLS, real HTTP, chains and documents made as the
//! verifiers' tests make them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

mod answers;
mod bounds;
mod keeping;
mod stock;
#[path = "../../../server/tests/it/tee_forged.rs"]
mod tee_forged;
mod vendor;
mod world;

use tee_forged::{der, evidence};
