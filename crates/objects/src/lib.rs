//! A ledger published to an S3-compatible object store: its tiles and entry bundles, and `checkpoint` last, as
//! c2sp.org/tlog-tiles names them, so that who reads the store needs nothing of its owner.
//!
//! The store is not trusted. What it answers decides only what is sent to it again: a tile there is taken for ours if
//! its bytes are, a checkpoint if this ledger's key signed it and it is of this history. What an attacker who can
//! write to the store gains: he can take objects away, change them, or show an older checkpoint; whoever reads them
//! sees that by the tree, the signature, or the checkpoint that he saw before. `docs/operate/publishing.md` says by
//! which check.
//!
//! INVARIANT: nothing in the store is ever replaced but `checkpoint` and `anchor`, and those only in the place of the one
//! that was read last, and labels that no published checkpoint covers. Nothing is removed but partial tiles, and the
//! labels beside them, whose full tile a published checkpoint covers.

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

mod bucket;
mod credentials;
mod exchange;
mod failure;
mod kept;
mod listing;
mod place;
mod publisher;
mod sigv4;

pub use failure::Failure;
pub use listing::{error_code, listed_keys};
pub use place::{Settings, Style};
pub use publisher::{Event, Publisher, Store, Target};
