//! A witness of other people's logs, c2sp.org/tlog-witness: it looks at each checkpoint, makes sure that it
//! extends the last one, keeps it, and then cosigns it.
//!
//! ```text
//! request ─ledger::witness::consider→ cosigned in memory ─Store: durable→ answered
//! ```
//! No line leaves before the state that remembers it is on disk. What may be cosigned is decided in `ledger`;
//! here are the logs' locks, their files, the limits and the listener. It keeps the logs' records where it is told
//! to be a mirror beside it ([`Mirror`]), by keys of its own.
//!
//! What an attacker who can write to the folder gains: with the state taken back to an older one, and the key of
//! a log, a second history that this witness cosigns; with `keys`, cosignatures of whatever he likes.

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

mod config;
mod http;
mod limits;
mod logs;
mod metrics;
mod mirror;
mod refused;
mod run;
mod state;
mod store;
mod witness;

pub use config::{Config, Kind, LimitsConfig, LogConfig, MirrorConfig, WitnessConfig, json_schema};
pub use limits::{Clients, Limits, Rate};
pub use logs::Logs;
pub use metrics::Metrics;
pub use mirror::{Mirror, MirrorRefused, Session};
pub use refused::Refused;
pub use run::{RunError, run};
pub use state::{Roster, Standing, Unreadable};
pub use store::{Store, StoreError};
pub use witness::{Cosigned, Moment, Opened, Witness};
