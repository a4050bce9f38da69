//! Real MCP servers, which nobody here wrote, and false ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod any_bytes;
mod false_servers;
mod python_sdk;
