//! Exports of generated ledgers into sinks that fail, and by processes that are killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests may panic"
)]

mod all_there;
mod as_parquet;
mod files;
mod formats;
mod killed;
mod over_http;
mod over_kafka;
mod over_syslog;
mod world;
