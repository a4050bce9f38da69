//! Durable state: the server's projection of its ledger as typed SQLite tables. The only crate that
//! names a state-database driver.
//!
//! The ledger is the write-ahead log; what stands here can be dropped and computed again. The store
//! therefore does not fsync its commits: it remembers, in the same transaction as the rows, how many
//! records it has applied, and whoever opens it replays the rest.
//!
//! It decides nothing: `server::state` folds records into [`Change`]s, this crate keeps them.
//! Whoever can write to the database file can make the server forget or invent state until the next
//! rebuild; he cannot make it sign what the ledger does not hold, because no receipt would match.

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

mod bytes;
mod change;
mod column;
mod database;
pub mod index;
mod projector;
mod rows;
mod table;

pub use bytes::{BytesError, FORMAT};
pub use change::{Change, Snapshot};
pub use database::{Error, Store};
pub use projector::{Kept, Projector, Whole};
pub use rows::{
    BundleRow, DelegationRow, EstateRow, GatewayRow, MetaRow, NodeRow, RevocationRow, SvidRow,
    TokenRow,
};
pub use table::Row;
