//! Watches a ledger from outside, as anybody can: that it stays one history, and that nothing of what somebody owns
//! stands in it that he does not expect.
//!
//! ```text
//! checkpoint ─signature, quorum→ head ─extends the kept one→ tiles ─hash to it→ records ─expected?→ alerts
//!      └ other addresses, witnesses: the same history?                    state (fsync, rename) ┘ └→ webhook
//! ```
//! Nothing that a log, a store or a witness says is believed without its proof. A log that has signed two histories
//! is told by [`Misbehaviour`], a file that proves it to anybody; what else is wrong has a code. The state goes forward only.
//!
//! The ledger is only read, and no account at its server is needed. What its server does not serve (records, unless it
//! has `http_entries`) is not seen: then the history is watched and, by an owner's key, which records are his.

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

mod alert;
mod anchor;
mod bundles;
mod compare;
mod config;
mod expect;
mod failure;
mod http;
mod labels;
mod look;
mod misbehaviour;
mod monitor;
mod push;
mod run;
mod source;
mod state;
mod tiles;
mod webhook;

pub use alert::{Alert, Kind};
pub use bundles::Bundles;
pub use config::{AnchorConfig, Config, Entries, WatchConfig, json_schema};
pub use failure::Failure;
pub use misbehaviour::{Misbehaviour, MisbehaviourError};
pub use monitor::{Monitor, Seen};
pub use push::{Push, Pushed};
pub use run::{Ended, Told, watch};
