//! The estate from outside: the example's whole decision matrix, hostile estates, and the index and
//! the questions against brute force.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod administrators;
mod annotations;
mod any_bytes;
mod assumable;
mod assume;
mod attacks;
mod blast;
mod blast_further;
mod changes;
mod code;
mod columns;
mod delegation;
mod difference;
mod documents;
mod enumerating;
mod equivalence;
mod fixture;
mod format;
mod generations;
mod hostile;
mod images;
mod keyless;
mod lint;
mod pages;
mod schema;
mod shop;
mod tee;
mod templates;
mod with_table;
