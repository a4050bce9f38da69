//! Code: forged bundles and images, recorded ones, and judges from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

mod attacks;
mod common;
mod enforcement;
mod evidence;
mod forge;
mod hostile;
mod images;
mod judges;
mod keys;
mod limits;
mod peers;
mod provenance;
mod roots;
