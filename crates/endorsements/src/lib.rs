//! Endorsements of confidential machines: asked of the vendors that sign them, within bounds, and kept.
//!
//! A shell around `attest_tee`, which says what evidence needs and whether an answer is it. Here are the few
//! places that may be asked ([`Source`]), how much they may be asked ([`Limits`]), one request ([`Fetcher`]
//! makes it once, however many wait for it), and a folder of what came.
//!
//! Nothing here is trusted. What is kept leads to a root that the caller names, and is checked again where it
//! is used: who owns a source, the way to it or the folder can withhold, and can forge nothing.
//! Not here: verification, and what becomes of a machine whose endorsements are not to be had.

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

mod budget;
mod cache;
mod entry;
mod fetcher;
mod get;
mod once;
mod path;
mod source;

pub use budget::Limits;
pub use fetcher::{Event, Fetcher, Obtained, Settings, Want};
pub use once::fetch_once;
pub use source::{Kind, Source, SourceTerms};
