//! What can go wrong in this crate. Which input it was, the caller knows and adds.

use crate::Algorithm;

/// One variant for each operation that can fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("not hexadecimal")]
    Hex,
    #[error("not base64 of the expected alphabet and padding")]
    Base64,
    /// The text says what was wrong with it.
    #[error("public key: {0}")]
    PublicKey(&'static str),
    /// The text says what was wrong with it, never what it was.
    #[error("private key: {0}")]
    PrivateKey(&'static str),
    #[error("the signature does not verify")]
    Signature,
    #[error("{operation} is not done with {algorithm} keys")]
    Unsupported {
        algorithm: Algorithm,
        operation: &'static str,
    },
    #[error("the crypto backend refused {0}")]
    Backend(&'static str),
    /// A [`Custody`](crate::Custody) could not hand out, make or remove the named key.
    #[error("custody of key {name:?}")]
    Custody {
        name: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
