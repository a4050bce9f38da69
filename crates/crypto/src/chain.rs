//! Signatures in other people's certificates and reports, made by schemes that Trilith itself never uses:
//! TPM, firmware and cloud vendors and those who sign code mix curves, hashes and paddings as they like.
//!
//! Only verification. Keys are raw, because vendors' SPKIs have more spellings than [`crate::PublicKey`]
//! reads. SHA-1 is not here.

use crate::Error;
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA384_ASN1,
    ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1,
    ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey,
};

/// The hash of a signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// What signs: a curve, or RSA with a padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    P256,
    P384,
    P521,
    /// RSASSA-PKCS1-v1_5.
    Rsa,
    /// RSASSA-PSS whose mask and salt are of the same hash and its length.
    RsaPss,
}

/// Checks a certificate's `signature` over `message`. `key` is the uncompressed point or the DER
/// `RSAPublicKey`; ECDSA signatures are ASN.1 DER.
///
/// # Errors
/// [`Error::Signature`], also for a key that is not of its kind.
pub fn verify(
    kind: Kind,
    hash: Hash,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    UnparsedPublicKey::new(scheme(kind, hash), key)
        .verify(message, signature)
        .map_err(|_| Error::Signature)
}

/// As [`verify`], over a message of which only the digest by `hash` is known. The caller knows that the
/// digest is the message's: whoever chooses a digest freely can find signatures that fit.
///
/// # Errors
/// [`Error::Signature`], also for a digest of another length.
pub fn verify_digest(
    kind: Kind,
    hash: Hash,
    key: &[u8],
    digest: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    let digest =
        Digest::import_less_safe(digest, hash.algorithm()).map_err(|_| Error::Signature)?;
    UnparsedPublicKey::new(scheme(kind, hash), key)
        .verify_digest(&digest, signature)
        .map_err(|_| Error::Signature)
}

impl Hash {
    /// The digest of `bytes`: 32, 48 or 64 bytes.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        digest::digest(self.algorithm(), bytes).as_ref().to_vec()
    }

    /// Bytes of a digest.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

fn scheme(kind: Kind, hash: Hash) -> &'static dyn signature::VerificationAlgorithm {
    match (kind, hash) {
        (Kind::P256, Hash::Sha256) => &ECDSA_P256_SHA256_ASN1,
        (Kind::P256, Hash::Sha384) => &ECDSA_P256_SHA384_ASN1,
        (Kind::P256, Hash::Sha512) => &ECDSA_P256_SHA512_ASN1,
        (Kind::P384, Hash::Sha256) => &ECDSA_P384_SHA256_ASN1,
        (Kind::P384, Hash::Sha384) => &ECDSA_P384_SHA384_ASN1,
        (Kind::P384, Hash::Sha512) => &ECDSA_P384_SHA512_ASN1,
        (Kind::P521, Hash::Sha256) => &ECDSA_P521_SHA256_ASN1,
        (Kind::P521, Hash::Sha384) => &ECDSA_P521_SHA384_ASN1,
        (Kind::P521, Hash::Sha512) => &ECDSA_P521_SHA512_ASN1,
        (Kind::Rsa, Hash::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
        (Kind::Rsa, Hash::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
        (Kind::Rsa, Hash::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        (Kind::RsaPss, Hash::Sha256) => &RSA_PSS_2048_8192_SHA256,
        (Kind::RsaPss, Hash::Sha384) => &RSA_PSS_2048_8192_SHA384,
        (Kind::RsaPss, Hash::Sha512) => &RSA_PSS_2048_8192_SHA512,
    }
}

/// Checks an ECDSA signature that is r ‖ s, each big-endian and as long as the curve's field: the form
/// of COSE, of Intel's quotes and collateral, and of SEV-SNP reports once their bytes are turned
/// around. P-256 goes with SHA-256 and P-384 with SHA-384; `point` is uncompressed.
///
/// # Errors
/// [`Error::Signature`], also for another kind or a point that is not on its curve.
pub fn verify_fixed(
    kind: Kind,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    let scheme: &'static dyn signature::VerificationAlgorithm = match kind {
        Kind::P256 => &ECDSA_P256_SHA256_FIXED,
        Kind::P384 => &ECDSA_P384_SHA384_FIXED,
        Kind::P521 | Kind::Rsa | Kind::RsaPss => return Err(Error::Signature),
    };
    UnparsedPublicKey::new(scheme, point)
        .verify(message, signature)
        .map_err(|_| Error::Signature)
}
