//! The endpoint against clients that others wrote, and against those who mean ill.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod attacks;
mod authority;
mod endpoint;
mod python_client;
mod rust_client;
