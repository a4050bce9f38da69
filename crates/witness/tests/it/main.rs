//! A witness as logs see it, with disks that fail and processes that are killed; and over real sockets.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

#[path = "../../../ledger-store/tests/it/fault_disk.rs"]
mod fault_disk;
mod faults;
mod kill;
mod mirroring;
mod mirroring_http;
mod races;
mod serving;
mod starting;
mod succeeding;
mod support;
mod verdicts;
