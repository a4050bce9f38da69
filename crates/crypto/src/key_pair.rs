//! Private keys in memory, and the trait by which anything that signs is used.

use crate::{Algorithm, Error, PublicKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, ML_DSA_44_SIGNING, PqdsaKeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
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
    /// Boxed: several times the size of the others.
    Rsa(Box<RsaKeyPair>),
    MlDsa(Box<PqdsaKeyPair>),
}

impl KeyPair {
    /// A new key; P-256, P-384, Ed25519 or ML-DSA-44.
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
            Algorithm::MlDsa44 => PqdsaKeyPair::generate(&ML_DSA_44_SIGNING)
                .map_err(refused)
                .and_then(Self::ml_dsa),
            Algorithm::Rsa => Err(Error::Unsupported {
                algorithm,
                operation: "making a private key",
            }),
        }
    }

    /// Reads an unencrypted PKCS #8 key (RFC 5958): of a kind that [`KeyPair::generate`] makes, or RSA of
    /// 2048 to 8192 bits, because owners' Secure Boot keys are RSA.
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
        if let Ok(pair) = RsaKeyPair::from_pkcs8(pkcs8) {
            return Self::rsa(pair);
        }
        if let Ok(pair) = ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING) {
            return Self::ecdsa(Algorithm::EcdsaP384, pair);
        }
        PqdsaKeyPair::from_pkcs8(&ML_DSA_44_SIGNING, pkcs8)
            .map_err(|_| {
                Error::PrivateKey("not PKCS #8 of a P-256, P-384, Ed25519, RSA or ML-DSA-44 key")
            })
            .and_then(Self::ml_dsa)
    }

    /// Unencrypted PKCS #8 version 1, which every other implementation reads.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let document = match &self.private {
            Private::Ecdsa(pair) => pair.to_pkcs8v1(),
            Private::Ed25519(pair) => pair.to_pkcs8v1(),
            Private::MlDsa(pair) => pair.to_pkcs8v1(),
            Private::Rsa(pair) => {
                return AsDer::<Pkcs8V1Der<'_>>::as_der(pair.as_ref())
                    .map(|der| Zeroizing::new(der.as_ref().to_vec()))
                    .map_err(|_| Error::Backend("to export a key"));
            }
        };
        document
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

    fn ml_dsa(pair: PqdsaKeyPair) -> Result<Self, Error> {
        let public = PublicKey::from_raw(Algorithm::MlDsa44, pair.public_key().as_ref())?;
        Ok(Self {
            private: Private::MlDsa(Box::new(pair)),
            public,
        })
    }

    fn rsa(pair: RsaKeyPair) -> Result<Self, Error> {
        let public = PublicKey::from_raw(Algorithm::Rsa, pair.public_key().as_ref())?;
        Ok(Self {
            private: Private::Rsa(Box::new(pair)),
            public,
        })
    }
}

impl Signer for KeyPair {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let refused = |_| Error::Backend("to sign");
        match &self.private {
            Private::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message),
            Private::Ed25519(pair) => pair.try_sign(message),
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                return pair
                    .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map(|()| signature)
                    .map_err(refused);
            }
            Private::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                return pair
                    .sign(message, &mut signature)
                    .map(|_length| signature)
                    .map_err(refused);
            }
        }
        .map(|signature| signature.as_ref().to_vec())
        .map_err(refused)
    }
}

/// Shows the public half only.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyPair").field(&self.public).finish()
    }
}
