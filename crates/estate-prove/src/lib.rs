//! Invariants to SMT, and the solver processes that answer: proved, broken with a counterexample, or
//! unknown. Unknown is not proved.
//!
//! The solver is not trusted further than it must be: every counterexample is replayed by Cedar's
//! authorizer, every proof is held against today's declarations, and a process that hangs, dies,
//! talks nonsense or fails two questions with known answers proves nothing. Not linked by gateways
//! or agents.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "tests may panic"
    )
)]

mod counterexample;
mod dialect;
mod governed;
mod lint;
mod options;
mod pool;
mod proof;
mod questions;
mod report;
mod solver;
mod solvers;
mod spanning;
mod standing;
mod widen;
mod witness;

pub use counterexample::{Counterexample, Party};
pub use governed::{Governed, governed, governed_blocking};
pub use lint::{Lint, lint_blocking};
pub use options::Options;
pub use proof::{prove, prove_beside, prove_blocking};
pub use questions::Memory;
pub use report::{Engines, GivenReport, InvariantReport, Report, Result, Unknown};
pub use standing::{Standing, standing_blocking};
pub use widen::{Widening, newly_allowed_blocking};
pub use witness::{Witness, Witnesses, witnesses, witnesses_blocking};
