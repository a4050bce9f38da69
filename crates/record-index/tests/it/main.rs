//! An index over generated ledgers: it says what the ledgers say, or is told that it lies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests may panic"
)]

mod asking;
mod behalf;
mod columns;
mod completeness;
mod lacking;
mod searching;
mod unread;
mod world;
