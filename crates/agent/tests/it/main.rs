//! The agent as a whole: real TLS, real sockets, real processes, and a server that the test holds in its
//! hands. The real server is met in the workspace's own integration tests.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod authority;
mod helpers;
mod hostile;
mod joining;
mod local;
mod machine;
mod server;
mod succeeding;
mod workload;
mod workloads;
