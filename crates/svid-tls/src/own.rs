//! One's own SVID, which is replaced while connections are being made.

use crate::Error;
use crypto::{Algorithm, Signer};
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The SVID that this process presents. Whoever renews it calls [`OwnSvid::set`]; handshakes in
/// flight finish with what they began with.
#[derive(Default)]
pub struct OwnSvid(RwLock<Option<Arc<CertifiedKey>>>);

impl OwnSvid {
    /// Without an SVID: a server refuses handshakes, a client presents nothing.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// # Errors
    /// As [`OwnSvid::set`].
    pub fn new(chain: Vec<Vec<u8>>, signer: Arc<dyn Signer>) -> Result<Arc<Self>, Error> {
        let own = Self::empty();
        own.set(chain, signer)?;
        Ok(own)
    }

    /// Presents `chain` (DER, leaf first, without the root) from the next handshake on.
    ///
    /// # Errors
    /// [`Error::Chain`], and then what was presented before still is.
    pub fn set(&self, chain: Vec<Vec<u8>>, signer: Arc<dyn Signer>) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'static>> =
            chain.into_iter().map(CertificateDer::from).collect();
        let certified = CertifiedKey::new(chain, Arc::new(SvidKey(signer)));
        certified.keys_match().map_err(|_| Error::Chain)?;
        self.replace(Some(Arc::new(certified)));
        Ok(())
    }

    /// True while nothing is presented.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current().is_none()
    }

    /// Presents nothing from the next handshake on: the identity was taken away.
    pub fn clear(&self) {
        self.replace(None);
    }

    fn replace(&self, certified: Option<Arc<CertifiedKey>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for OwnSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let presented = if self.current().is_some() {
            "some"
        } else {
            "none"
        };
        write!(f, "OwnSvid({presented})")
    }
}

impl ResolvesServerCert for OwnSvid {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for OwnSvid {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.current()
    }

    fn has_certs(&self) -> bool {
        self.current().is_some()
    }
}

/// A key of ours as rustls wants it: wherever it lives, TPM included. Signing happens on the thread
/// that does the handshake.
#[derive(Clone)]
struct SvidKey(Arc<dyn Signer>);

impl SvidKey {
    fn offer(&self) -> SignatureScheme {
        match self.0.public_key().algorithm() {
            Algorithm::EcdsaP256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Algorithm::EcdsaP384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Algorithm::Ed25519 => SignatureScheme::ED25519,
            // PKCS #1 v1.5 does not exist in TLS 1.3: such a key is never chosen.
            Algorithm::Rsa => SignatureScheme::RSA_PKCS1_SHA256,
            // No certificate has such a key.
            Algorithm::MlDsa44 => SignatureScheme::ML_DSA_44,
        }
    }
}

impl fmt::Debug for SvidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SvidKey({:?})", self.0.public_key())
    }
}

impl SigningKey for SvidKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let chosen: Box<dyn rustls::sign::Signer> = Box::new(self.clone());
        offered.contains(&self.offer()).then_some(chosen)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(
            self.0.public_key().spki_der(),
        ))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.public_key().algorithm() {
            Algorithm::EcdsaP256 | Algorithm::EcdsaP384 => SignatureAlgorithm::ECDSA,
            Algorithm::Ed25519 => SignatureAlgorithm::ED25519,
            Algorithm::Rsa => SignatureAlgorithm::RSA,
            // TLS 1.2 has no number for it.
            Algorithm::MlDsa44 => SignatureAlgorithm::Anonymous,
        }
    }
}

impl rustls::sign::Signer for SvidKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0
            .sign(message)
            .map_err(|error| rustls::Error::General(format!("own SVID key: {error}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.offer()
    }
}
