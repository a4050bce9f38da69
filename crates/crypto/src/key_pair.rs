//! Private keys in memory, and the trait by which anything that signs is used.

use crate::{Algorithm, Error, PublicKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use std::fmt;
use zeroize::Zeroizing;

/// Something that signs: a key in memory, in a TPM, behind a socket.
pub trait Signer: Send + Sync {
    fn public_key(&self) -> &PublicKey;

    /// Signs `message` by the scheme of the key's [`Algorithm`].
    ///
    /// # Errors
    /// If the key cannot be used now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error>;
}

/// A private key in memory, parsed once: signing costs what the curve costs.
pub struct KeyPair {
    private: Private,
    public: PublicKey,
}

enum Private {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl KeyPair {
    /// A new key; P-256, P-384 or Ed25519.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for RSA, [`Error::Backend`].
    pub fn generate(algorithm: Algorithm) -> Result<Self, Error> {
        let refused = |_| Error::Backend("to make a key");
        match algorithm {
            Algorithm::EcdsaP256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
                .map_err(refused)
                .and_then(|pair| Self::ecdsa(algorithm, pair)),
            Algorithm::EcdsaP384 => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)
                .map_err(refused)
                .and_then(|pair| Self::ecdsa(algorithm, pair)),
            Algorithm::Ed25519 => Ed25519KeyPair::generate()
                .map_err(refused)
                .and_then(Self::ed25519),
            Algorithm::Rsa => Err(Error::Unsupported {
                algorithm,
                operation: "making a private key",
            }),
        }
    }

    /// Reads an unencrypted PKCS #8 key (RFC 5958) of a kind that [`KeyPair::generate`] makes.
    ///
    /// # Errors
    /// [`Error::PrivateKey`].
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Error> {
        let ecdsa =
            |scheme: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::from_pkcs8(scheme, pkcs8);
        if let Ok(pair) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING) {
            return Self::ecdsa(Algorithm::EcdsaP256, pair);
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
            return Self::ed25519(pair);
        }
        ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)
            .map_err(|_| Error::PrivateKey("not PKCS #8 of a P-256, P-384 or Ed25519 key"))
            .and_then(|pair| Self::ecdsa(Algorithm::EcdsaP384, pair))
    }

    /// Unencrypted PKCS #8 version 1, which every other implementation reads.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        match &self.private {
            Private::Ecdsa(pair) => pair.to_pkcs8v1(),
            Private::Ed25519(pair) => pair.to_pkcs8v1(),
        }
        .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        .map_err(|_| Error::Backend("to export a key"))
    }

    fn ecdsa(algorithm: Algorithm, pair: EcdsaKeyPair) -> Result<Self, Error> {
        let public = PublicKey::from_raw(algorithm, pair.public_key().as_ref())?;
        Ok(Self {
            private: Private::Ecdsa(pair),
            public,
        })
    }

    fn ed25519(pair: Ed25519KeyPair) -> Result<Self, Error> {
        let public = PublicKey::from_raw(Algorithm::Ed25519, pair.public_key().as_ref())?;
        Ok(Self {
            private: Private::Ed25519(pair),
            public,
        })
    }
}

impl Signer for KeyPair {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.private {
            Private::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message),
            Private::Ed25519(pair) => pair.try_sign(message),
        }
        .map(|signature| signature.as_ref().to_vec())
        .map_err(|_| Error::Backend("to sign"))
    }
}

/// Shows the public half only.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyPair").field(&self.public).finish()
    }
}
