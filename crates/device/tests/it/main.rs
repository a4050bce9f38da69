//! The machine side from outside. A process of its own: the tests within the crate start programs that they have
//! just written, which fails while another thread forks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod tsm;
