//! What a workload is: from what was observed of a process to facts. Pure: `device::process` observes,
//! the node agent carries the one to the other.
//!
//! Every fact here has source `asserted`: the node agent says so, and its word counts only on machines
//! that a policy names. A fact that cannot be stated truthfully is absent, so that a policy which needs
//! it does not hold; [`notes`] says why it is absent.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod interpreter;
mod observed;
mod rules;

pub use interpreter::{INTERPRETERS, is_interpreter};
pub use observed::{Caller, Digest, Observed, Program};
pub use rules::{notes, workload_facts};
