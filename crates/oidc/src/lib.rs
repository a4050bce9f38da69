//! People who log in at an OpenID provider: ID tokens and their keys judged without I/O, providers asked
//! within bounds, and what both ends of a login sign. Who a person is and may do is not known here.

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

mod algorithm;
pub mod fetch;
mod json;
mod keys;
mod metadata;
pub mod pkce;
pub mod proof;
pub mod redirect;
mod token;

pub use algorithm::{Algorithm, DEFAULT_ALGORITHMS};
pub use keys::KeySet;
pub use metadata::Metadata;
pub use token::{Expected, MAX_TOKEN, Subject, claimed_key, verify};
