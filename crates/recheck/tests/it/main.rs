//! What a server or a gateway that lies about a decision is found out by, and what is told where something lacks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod approvals;
mod decisions;
mod erasures;
mod issuances;
mod world;
