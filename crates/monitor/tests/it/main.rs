//! A monitor against logs that tell the truth and logs that do not.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod alerts;
mod anchored;
mod following;
mod forks;
mod hostile;
mod labels;
mod pruned;
mod state;
mod succeeding;
mod support;
mod witnessed;
