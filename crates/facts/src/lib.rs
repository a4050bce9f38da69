//! The words the planes share: facts, findings and verdicts, and where each fact came from.
//!
//! Nothing here verifies anything: verifiers live in the `attest*` crates, policy in `estate`.
//! `docs/glossary.md` has the words themselves.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod fact;
mod finding;
pub mod names;
mod timestamp;
mod verdict;
mod warrant;

pub use fact::{Fact, FactSet, Source, Value};
pub use finding::{Finding, with_causes};
pub use timestamp::Timestamp;
pub use verdict::{EvidenceDigest, Outcome, Stated, Verdict};
pub use warrant::{Affirmed, Warrant};
