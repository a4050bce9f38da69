//! JWT-SVIDs (JWT-SVID.md): minting with ES256, and validating all nine algorithms.
//!
//! Only the compact serialisation exists here. Tokens are secrets of their bearer: nothing in this
//! module prints one.

mod mint;
mod validate;

pub use mint::{JwtError, JwtParams, JwtTbs, JwtToBeSigned};
pub use validate::{JwtSvid, ValidatedJwt};

/// The claim that holds an encoded `ledger::Receipt`, base64url without padding. It is always the
/// last one.
pub const RECEIPT_CLAIM: &str = "trilith_receipt";
