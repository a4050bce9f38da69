//! The gateway against a real PostgreSQL and clients that nobody here wrote. The server and the node
//! agent are stand-ins that speak the real protocols; authority, ledger and estate are the real ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod acting;
mod agreeing;
mod application;
mod attacks;
mod client;
mod columns;
mod cut;
mod delegated;
mod flood;
mod fuzz;
mod hidden;
mod kill;
mod names;
mod odd_names;
mod plane;
mod psql;
mod records;
mod relay;
mod resumption;
mod shares;
mod step;
mod templates;
mod world;
