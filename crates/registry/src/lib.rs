//! Container images from registries (OCI Distribution 1.1): pulled by digest with what is attached to them, within
//! bounds, into a layout on disk.
//!
//! A shell beside `attest_code`, which says what an image consists of and judges what came. Here are the registries
//! that may be asked ([`Registries`]), how an image is named ([`Reference`]), and one [`pull`]. Nothing that is
//! fetched is trusted: what is kept has the digest by which it was named, what is attached counts if somebody whom
//! the estate names signed it. Who owns a registry, the way to it or the folder can withhold, and can forge nothing.
//! Not here: judging images, and anything that answers a request meanwhile: people pull, verifiers never do.

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

mod address;
mod attachments;
mod challenge;
mod configuration;
mod exchange;
mod kept;
mod origin;
mod pull;
mod reference;
mod session;

pub use configuration::Registries;
pub use pull::{Pulled, pull};
pub use reference::Reference;
