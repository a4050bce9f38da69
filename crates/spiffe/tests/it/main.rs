//! What is built is accepted by other implementations; what is not an SVID is refused, with the
//! right code.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod bundles;
mod crls;
mod delegations;
mod forge;
mod ids;
mod jwts;
mod kit;
mod openssl;
mod receipts;
mod recorded;
mod vectors;
mod x509;
