//! SPIFFE IDs, X.509- and JWT-SVIDs, trust bundles and the receipt extension: parse, build, validate.
//!
//! No I/O, no clock, no randomness: bytes, `now`, serials and signers are arguments. TLS is in
//! `svid-tls`, the authority that decides what to build in `identity`.
//!
//! The order of issuance shows in the types: [`x509::Tbs`] has a digest and no signature; the record
//! commits to the digest; [`x509::Tbs::with_receipt`] then makes what is signed.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod crl;
pub mod delegation;
mod der;
pub mod id;
pub mod jwt;
pub mod receipt;
pub mod recorded;
pub mod shown;
pub mod x509;

pub use bundle::Bundle;
pub use id::{IdError, SpiffeId, TrustDomain};
pub use jwt::{JwtSvid, ValidatedJwt};
pub use receipt::VerifiedIssuance;
pub use x509::{Issuer, LeafParams, Serial, Tbs, ToBeSigned, ValidatedSvid, X509Svid};
