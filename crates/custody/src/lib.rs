//! Where private keys live: implementations of [`crypto::Custody`]. What keys are for is not known
//! here.

#![forbid(unsafe_code)]

mod file;

pub use file::{FileCustody, FileCustodyError};
