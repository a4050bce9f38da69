//! Joins by TPM: forged ones, real ones on a software TPM, recorded ones, and judges from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "tests may panic"
)]

mod attacks;
mod chip;
mod evidence;
mod forge;
mod hostile;
mod judges;
mod roots;
mod tools;
