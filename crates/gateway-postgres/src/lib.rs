//! The gateway for PostgreSQL: wire protocol, statements resolved to what they touch, upstream
//! login as the per-identity role.
//!
//! Who may connect, decisions, records and the stream from the server are the `gateway` crate's.

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

pub mod sql;
