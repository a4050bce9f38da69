//! The authority: which keys sign, since when and until when; building what is issued, and signing it only
//! once its record is in the ledger.
//!
//! No I/O, no clock, no randomness of its own but that of key making, which [`crypto::Custody`] does. What
//! the authority is stands in an [`AuthorityDocument`], which holds no secret: the server records it before
//! it takes effect, and [`Authority::open`] makes the authority from it again.

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

mod authority;
mod document;
mod issue;
mod lifetimes;

pub use authority::{Authority, AuthorityError};
pub use document::{AuthorityDocument, CertificateAuthority, JwtAuthority, Tenure};
pub use issue::{IssueError, PreparedDelegation, PreparedJwt, PreparedX509};
pub use lifetimes::Lifetimes;
