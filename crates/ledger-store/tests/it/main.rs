//! The store as its users see it: real directories, real threads, a real second process.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        reason = "tests may panic"
    )
)]

mod age;
mod fault_disk;
mod faults;
mod kill;
mod ledger_basics;
mod mirrors;
mod python_tiles;
mod retention;
mod support;
