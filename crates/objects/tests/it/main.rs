//! Publishing to a real object store that nobody here wrote (versitygw, by tests/peers/s3).

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        reason = "tests may panic"
    )
)]

mod between;
mod faults;
mod publishing;
mod refusals;
mod succeeding;
mod world;
