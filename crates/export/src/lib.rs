//! Records of ledgers, handed on: read in order, made into events, given to a sink, and only when the sink has taken
//! them is the cursor moved.
//!
//! ```text
//! ledger ─read, hashed→ records ─format→ events ─sink takes→ cursor (fsync, rename)
//! ```
//! At least once: whatever ends the process between the sink and the cursor, the batch is handed over again, with the
//! same ids. Memory is that of one batch. What is handed on is a copy and proves nothing: who has to show a record
//! to others takes its receipt or a pack.
//!
//! The ledger is only read, and its owner may be running.

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

mod anchored;
mod cloudevents;
mod cursor;
mod error;
mod event;
mod ocsf;
mod run;
mod sink;
mod source;

pub use cursor::{Cursor, Position};
pub use error::Error;
pub use event::{Event, Format};
pub use run::{Exported, Options, Patience, run};
pub use sink::{Refusal, Secrets, Sink};
