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

mod application;
mod config;
mod database;
mod describe;
mod pool;
mod run;
mod session;
pub mod sql;
mod statement;
mod upstream;
pub mod wire;

pub use application::ApplicationName;
pub use config::{
    AdminConfig, Config, LimitsConfig, ListenConfig, PostgresConfig, UpstreamConfig, json_schema,
};
pub use describe::{Described, Place, Wanted, describe};
pub use gateway::{NewLog, new_log, retention};
pub use run::{RunError, run, run_with};
