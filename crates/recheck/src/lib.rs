//! Records say what was decided and what verifiers concluded. Here both are made again, from what the records name:
//! a decision from the estate and the facts of the SVID, a verdict from the evidence, the endorsements and the
//! reference values, at the time that the evidence was judged. A pack whose records, proofs and signatures are good
//! may have been written by a server that lies; what it decided and concluded has to follow all the same.
//!
//! It is pure: the records and blobs are handed in, no clock is read. Nothing here is issued on.
//!
//! - [`pack`]: every decision, issuance, verdict, erasure and approval of a verified pack;
//! - [`issued`]: the facts of an issuance, from a pack or from a ledger's folder;
//! - [`tpm`] and [`tee`]: what the server judges a join by, so that the two cannot come to differ.
//!
//! Not here: whether records are in the ledger (`ledger::pack`), what another estate would have made of them
//! (`record-index`).

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

mod approval;
mod decision;
mod erasure;
mod issuance;
mod issued;
mod outcome;
mod pack;
pub mod tee;
pub mod tpm;
mod verdict;

pub use issued::{Issued, Recorded, issued};
pub use outcome::{Outcome, What};
pub use pack::{Item, Rechecked, Vouched, pack};
