//! Known answers from the standards, and round trips with keys that OpenSSL made.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod aead;
mod jws;
mod keys;
mod tpm;

/// Bytes from hexadecimal with spaces in it.
fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: String = hexadecimal.split_whitespace().collect();
    crypto::hex::decode(&digits).unwrap()
}
