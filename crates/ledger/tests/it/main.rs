//! The ledger's formats from outside: records, trees, notes, receipts, packs and the vectors.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        reason = "tests may panic"
    )
)]

mod completeness;
mod contradicted;
mod cosignature_vectors;
mod cosignatures;
mod hostile;
mod judges;
mod lineages;
mod mirrored;
mod misbehaving;
mod notes;
mod packs;
mod peers;
mod policies;
mod questions;
mod records;
mod rotated;
mod support;
mod tampered;
mod trees;
mod vectors;
mod witnessed;
