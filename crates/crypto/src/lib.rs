//! The only crate that names the crypto backend.
