//! Reference values against what was really booted, packaged and signed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "tests may panic"
)]

mod approvable;
mod boots;
mod evidence;
mod forge;
mod hostile;
mod images;
mod log;
mod openpgp;
mod repository;
mod sets;
