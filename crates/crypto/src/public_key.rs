//! A public key that is known to be well formed, parsed once and shared.

use crate::{Error, sha256, spki};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ML_DSA_44, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256,
};
use std::fmt;
use std::sync::Arc;

/// A kind of key, and with it the one signature scheme that Trilith uses it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256; signatures are ASN.1 DER.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384; signatures are ASN.1 DER.
    EcdsaP384,
    /// Ed25519 (RFC 8032); signatures are 64 raw bytes.
    Ed25519,
    /// RSA of 2048 to 8192 bits, PKCS #1 v1.5 with SHA-256. Keys are read, never made.
    Rsa,
    /// ML-DSA-44 (FIPS 204) with an empty context; signatures are 2420 raw bytes. For cosigners of ledgers
    /// only: no certificate, token or machine has such a key.
    MlDsa44,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
            Self::MlDsa44 => "ML-DSA-44",
        })
    }
}

/// A public key. Cloning it is cheap; two are equal if their SPKIs are.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    spki: Box<[u8]>,
    spki_sha256: [u8; 32],
    /// Kept parsed: parsing costs as much as ten thousand table look-ups, at every verification.
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// Reads a DER `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
    ///
    /// # Errors
    /// [`Error::PublicKey`] if it is not the DER of a key of a known kind, or the point is not on
    /// its curve. An ML-DSA key is refused: whoever presents an SPKI wants an identity by it.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, Error> {
        let (algorithm, key) = spki::parse(spki)?;
        if algorithm == Algorithm::MlDsa44 {
            return Err(Error::PublicKey("ML-DSA, which only cosigners have"));
        }
        Self::new(algorithm, key, spki.into())
    }

    /// The 32 bytes of RFC 8032, section 5.1.2.
    ///
    /// # Errors
    /// [`Error::PublicKey`] if the backend does not take it.
    pub fn from_ed25519_raw(key: [u8; 32]) -> Result<Self, Error> {
        Self::from_raw(Algorithm::Ed25519, &key)
    }

    /// The encoded ML-DSA-44 key of FIPS 204, algorithm 22.
    ///
    /// # Errors
    /// [`Error::PublicKey`] if the backend does not take it.
    pub fn from_ml_dsa_44_raw(key: &[u8; 1312]) -> Result<Self, Error> {
        Self::from_raw(Algorithm::MlDsa44, key)
    }

    /// A P-256 point by its big-endian coordinates, at most 32 bytes each.
    ///
    /// # Errors
    /// [`Error::PublicKey`] if the point is not on the curve.
    pub fn from_p256_xy(x: &[u8], y: &[u8]) -> Result<Self, Error> {
        Self::from_raw(Algorithm::EcdsaP256, &point::<32>(x, y)?)
    }

    /// A P-384 point by its big-endian coordinates, at most 48 bytes each.
    ///
    /// # Errors
    /// [`Error::PublicKey`] if the point is not on the curve.
    pub fn from_p384_xy(x: &[u8], y: &[u8]) -> Result<Self, Error> {
        Self::from_raw(Algorithm::EcdsaP384, &point::<48>(x, y)?)
    }

    /// An RSA key by its big-endian modulus and public exponent.
    ///
    /// # Errors
    /// [`Error::PublicKey`] if it has not between 2048 and 8192 bits or is otherwise unusable.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, Error> {
        if modulus.len() > 1024 || exponent.len() > 8 {
            return Err(Error::PublicKey("RSA key of more than 8192 bits"));
        }
        // The backend looks at the size only when it verifies.
        if spki::bits(modulus) < 2048 {
            return Err(Error::PublicKey("RSA key of less than 2048 bits"));
        }
        Self::from_raw(Algorithm::Rsa, &spki::rsa_public_key(modulus, exponent))
    }

    pub(crate) fn from_raw(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        Self::new(algorithm, key, spki::wrap(algorithm, key).into())
    }

    fn new(algorithm: Algorithm, key: &[u8], spki: Box<[u8]>) -> Result<Self, Error> {
        let scheme: &'static dyn signature::VerificationAlgorithm = match algorithm {
            Algorithm::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            Algorithm::EcdsaP384 => &ECDSA_P384_SHA384_ASN1,
            Algorithm::Ed25519 => &ED25519,
            Algorithm::Rsa => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::MlDsa44 => &ML_DSA_44,
        };
        let parsed = ParsedPublicKey::new(scheme, key)
            .map_err(|_| Error::PublicKey("not a valid key of its kind"))?;
        Ok(Self(Arc::new(Inner {
            algorithm,
            spki_sha256: sha256(&spki),
            spki,
            parsed,
        })))
    }

    /// DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// SHA-256 of [`PublicKey::spki_der`]: the key's name in records.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.0.spki_sha256
    }

    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The key without its wrapping: the uncompressed point, the 32 bytes of Ed25519, the 1312 of
    /// ML-DSA-44, or the DER `RSAPublicKey`.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        // INVARIANT: the SPKI parsed when this key was made.
        spki::parse(&self.0.spki).map_or(&[], |(_, key)| key)
    }

    /// The big-endian coordinates of an elliptic-curve key of either curve.
    #[must_use]
    pub fn xy(&self) -> Option<(&[u8], &[u8])> {
        let half = match self.algorithm() {
            Algorithm::EcdsaP256 => 32,
            Algorithm::EcdsaP384 => 48,
            Algorithm::Ed25519 | Algorithm::Rsa | Algorithm::MlDsa44 => return None,
        };
        self.raw().strip_prefix(&[4])?.split_at_checked(half)
    }

    /// Checks `signature` over `message` by the scheme of [`PublicKey::algorithm`].
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        self.0
            .parsed
            .verify_sig(message, signature)
            .map_err(|_| Error::Signature)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for PublicKey {}

impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.spki_sha256.hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicKey({} sha256:{})",
            self.0.algorithm,
            crate::hex::encode(&self.0.spki_sha256)
        )
    }
}

/// An uncompressed point; coordinates shorter than `N` bytes lost their leading zeros.
fn point<const N: usize>(x: &[u8], y: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![4];
    for coordinate in [x, y] {
        let missing = N
            .checked_sub(coordinate.len())
            .ok_or(Error::PublicKey("coordinate longer than its curve"))?;
        bytes.resize(bytes.len() + missing, 0);
        bytes.extend_from_slice(coordinate);
    }
    Ok(bytes)
}
