//! The prover against the real cvc5, and against solvers that hang, die, babble and lie.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod bad_solvers;
mod columns;
mod cvc5;
mod enumerated;
mod fixture;
mod given;
mod governed;
mod incremental;
mod lint;
mod peers;
mod spanning;
mod standing;
mod witness;
