//! X.509-SVIDs (X509-SVID.md): building, parsing and validating certificates. Who may have one is
//! decided elsewhere.

pub mod authority;
mod build;
mod oid;
mod parse;
mod serial;
mod time;
mod validate;

pub use build::{BuildError, Issuer, LeafParams, Tbs, ToBeSigned};
pub use oid::RECEIPT as RECEIPT_OID_DER;
pub use parse::{X509Svid, split_certificates};
pub use serial::Serial;
pub use validate::ValidatedSvid;

pub(crate) use build::{algorithm_identifier, authority_key_identifier};
pub(crate) use oid::CRL_NUMBER;
pub(crate) use parse::committed;
pub(crate) use time::write_time;
