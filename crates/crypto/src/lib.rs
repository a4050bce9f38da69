//! The only crate that names the crypto backend (aws-lc): digests, signatures, randomness,
//! encodings, and the trait behind which private keys live.
//!
//! It knows nothing of certificates, tokens or records; those are built above it.

#![forbid(unsafe_code)]
pub mod aead;
pub mod base64;
pub mod chain;
mod custody;
mod digest;
mod error;
mod hash;
pub mod hex;
pub mod jws;
mod key_pair;
pub mod openpgp;
mod public_key;
mod random;
mod secret;
mod spki;
mod tls;
pub mod tpm;

pub use custody::Custody;
pub use digest::{Sha256, constant_time_eq, hmac_sha256, sha256, sha384};
pub use error::Error;
pub use hash::Hash;
pub use key_pair::{KeyPair, Signer};
pub use public_key::{Algorithm, PublicKey};
pub use random::random;
pub use secret::SecretBytes;
pub use tls::{NoAuthorities, client_trusting, provider};
pub use zeroize::Zeroizing;
