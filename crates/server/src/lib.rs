//! The server plane: who joins, who may become what, and the ledger of it.
//!
//! ```text
//! Join, Node, Follow ─┐
//! Admin (Unix socket) ┼→ decide → journal ─→ ledger (durable) → state → store
//! HTTP (read only) ───┘              └→ hub → gateways      └→ sign → caller
//! ```
//! Every change is a record first (`journal`); `state` is the fold over the records and nothing else.
//! Owners: the ledger's committer thread owns the segment, the journal's thread the state and what is
//! published, the projector's thread the database, the pool's threads nothing. Async tasks only wait.

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

mod admin;
mod attesting;
mod authority;
pub mod bench;
mod certificates;
mod clock;
mod config;
mod connection;
mod core;
mod cosign;
mod crl;
mod current;
mod delegating;
mod elsewhere;
mod endorsements;
mod enforcing;
mod erase;
mod evict;
mod follow;
mod http;
mod hub;
mod issue;
mod join;
mod journal;
mod labels;
mod ledgers;
mod lineage;
mod listener;
mod lock;
mod metrics;
mod mirrors;
mod needed;
mod node;
mod past;
mod people;
mod pool;
mod prover;
mod publish;
mod refusal;
mod revoke;
mod seals;
mod signing;
mod snapshots;
mod start;
mod state;
#[cfg(test)]
mod trial;
mod upkeep;
mod warranted;
mod workloads;

pub use admin::{LONGEST_REASON, whole_reason};
pub use clock::{ReadClock, Reading, system_clock};
pub use config::{
    Attestation, BucketStyle, Config, ConfigError, Custodies, Custody, Label, Lifetimes, Limits,
    Oidc, Publish, TeeFetch, TeeSource, TeeVendor, Witnesses,
};
pub use past::Past;
pub use start::{
    Checked, NewLog, Prune, PruneBounds, Pruning, Rebuild, Rebuilt, Running, Snapshotted,
    StartError, Why, check_snapshots, new_log, prune, prune_within, rebuild, rebuild_from_first,
    rebuild_state, run, snapshot, start, start_by, state_digest,
};
