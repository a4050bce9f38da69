//! TLS that authenticates by X.509-SVID: rustls configurations for both sides, the pin of first
//! contact, and the exporter for channel binding.
//!
//! TLS 1.3 only. Nothing is resumed and nothing is sent early, on either side: rustls restores a
//! stored chain without asking the verifier, so a resumed session would outlive its SVID.
//! No socket is opened here, and no clock read but the one that rustls hands to the verifier.

#![forbid(unsafe_code)]

mod config;
mod exporter;
mod own;
pub mod peer;
pub mod pin;
mod verify;

pub use config::{ClientAuth, client, first_contact, server, server_name};
pub use exporter::{EXPORTER_LABEL, channel_binding};
pub use own::OwnSvid;
pub use peer::{Authorizer, BundleSource};
pub use verify::finding;

/// Why a configuration cannot be made, or a channel gives no binding.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the certificate chain is empty or its leaf is not for this key")]
    Chain,
    #[error("the crypto provider does not do TLS 1.3")]
    Provider(#[source] rustls::Error),
    #[error("the handshake is not finished, so there is nothing to bind to")]
    Exporter(#[source] rustls::Error),
}
