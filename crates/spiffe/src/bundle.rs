//! Trust bundles (SPIFFE_Trust_Domain_and_Bundle.md): the keys of one trust domain, as a JWK set and
//! in memory. Bundles of two domains are never merged.

mod jwk;

use crate::TrustDomain;
use crypto::PublicKey;
use crypto::jws::VerificationKey;
use facts::Timestamp;
use jwk::{Jwk, JwkSet};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde::Deserialize as _;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest JWK set that is read.
const MAX_JWKS: usize = 1024 * 1024;
/// Keys of one bundle, ignored ones included.
const MAX_KEYS: usize = 256;

/// Why something is no bundle, or cannot stand in one.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("a bundle has at most {MAX_JWKS} bytes and {MAX_KEYS} keys")]
    TooLarge,
    #[error("not a SPIFFE bundle")]
    Json(#[source] serde_json::Error),
    #[error("the JWT key id {0:?} stands twice")]
    DuplicateKeyId(String),
    #[error("not a CA certificate that is usable as a root: {0}")]
    Certificate(&'static str),
    #[error("a JWT key's id is 1 to 255 printable ASCII characters")]
    KeyId,
    #[error("{0} keys do not sign JWT-SVIDs")]
    Algorithm(crypto::Algorithm),
}

/// The keys of one trust domain.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    trust_domain: TrustDomain,
    x509: Vec<X509Authority>,
    jwt: BTreeMap<String, VerificationKey>,
    sequence: Option<u64>,
    refresh_hint: Option<u64>,
}

/// A root: a CA certificate that is trusted for its trust domain.
#[derive(Clone)]
pub struct X509Authority {
    der: Arc<[u8]>,
    anchor: TrustAnchor<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl X509Authority {
    /// # Errors
    /// [`BundleError::Certificate`].
    pub fn from_der(der: &[u8]) -> Result<Self, BundleError> {
        let problem = BundleError::Certificate;
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|_| problem("does not parse"))?;
        if !rest.is_empty() {
            return Err(problem("bytes after it"));
        }
        if !parsed.is_ca() {
            return Err(problem("not a CA"));
        }
        let signs = parsed
            .key_usage()
            .map_err(|_| problem("malformed key usage"))?
            .is_none_or(|usage| usage.value.key_cert_sign());
        if !signs {
            return Err(problem("its key usage forbids signing certificates"));
        }
        let seconds = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
        };
        let certificate = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|_| problem("not usable as a trust anchor"))?
            .to_owned();
        Ok(Self {
            anchor,
            not_before: seconds(parsed.validity().not_before),
            not_after: seconds(parsed.validity().not_after),
            der: der.into(),
        })
    }

    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl PartialEq for X509Authority {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for X509Authority {}

impl fmt::Debug for X509Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = crypto::hex::encode(&crypto::sha256(&self.der));
        write!(f, "X509Authority(sha256:{digest})")
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("trust_domain", &self.trust_domain)
            .field("sequence", &self.sequence)
            .field("x509", &self.x509)
            .field("jwt", &self.jwt.keys())
            .finish_non_exhaustive()
    }
}

impl Bundle {
    /// Without keys: nothing validates against it.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509: Vec::new(),
            jwt: BTreeMap::new(),
            sequence: None,
            refresh_hint: None,
        }
    }

    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// Seconds.
    #[must_use]
    pub fn refresh_hint(&self) -> Option<u64> {
        self.refresh_hint
    }

    #[must_use]
    pub fn x509_authorities(&self) -> &[X509Authority] {
        &self.x509
    }

    /// By key id.
    #[must_use]
    pub fn jwt_authorities(&self) -> &BTreeMap<String, VerificationKey> {
        &self.jwt
    }

    #[must_use]
    pub fn with_sequence(mut self, sequence: u64) -> Self {
        self.sequence = Some(sequence);
        self
    }

    #[must_use]
    pub fn with_refresh_hint(mut self, seconds: u64) -> Self {
        self.refresh_hint = Some(seconds);
        self
    }

    /// Adds a root by its DER certificate, unless it is there already.
    ///
    /// # Errors
    /// [`BundleError::Certificate`].
    pub fn add_x509_authority(&mut self, der: &[u8]) -> Result<(), BundleError> {
        let authority = X509Authority::from_der(der)?;
        if !self.x509.contains(&authority) {
            self.x509.push(authority);
        }
        Ok(())
    }

    /// Adds a key that signs JWT-SVIDs.
    ///
    /// # Errors
    /// [`BundleError::KeyId`], [`BundleError::DuplicateKeyId`], [`BundleError::Algorithm`].
    pub fn add_jwt_authority(&mut self, key_id: &str, key: &PublicKey) -> Result<(), BundleError> {
        let verifier = VerificationKey::from_public_key(key)
            .ok_or_else(|| BundleError::Algorithm(key.algorithm()))?;
        self.add_jwt_key(key_id, verifier)
    }

    fn add_jwt_key(&mut self, key_id: &str, key: VerificationKey) -> Result<(), BundleError> {
        let printable = key_id.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=255).contains(&key_id.len()) || !printable {
            return Err(BundleError::KeyId);
        }
        match self.jwt.insert(key_id.to_owned(), key) {
            None => Ok(()),
            Some(_) => Err(BundleError::DuplicateKeyId(key_id.to_owned())),
        }
    }

    /// The roots' certificates one after another, as the Workload API carries them.
    #[must_use]
    pub fn x509_concatenated(&self) -> Vec<u8> {
        self.x509
            .iter()
            .flat_map(|root| root.der().to_vec())
            .collect()
    }

    /// webpki does not look at a root's dates; here an expired root is none.
    pub(crate) fn anchors_at(&self, now: Timestamp) -> impl Iterator<Item = TrustAnchor<'_>> {
        self.x509
            .iter()
            .filter(move |root| {
                (root.not_before.as_secs()..=root.not_after.as_secs()).contains(&now.as_secs())
            })
            .map(|root| root.anchor.clone())
    }

    /// Reads a bundle in its standard form. Entries of an unknown type or use, and those whose key
    /// is malformed, are ignored: a bundle may end up with fewer keys, never with other ones.
    ///
    /// # Errors
    /// [`BundleError`] if it is too large, no JSON, has no `keys`, or names a JWT key twice.
    pub fn from_jwks(trust_domain: TrustDomain, bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_JWKS {
            return Err(BundleError::TooLarge);
        }
        // Section 4.1.3: "The parameter `keys` MUST be present."
        let set: JwkSet = serde_json::from_slice(bytes).map_err(BundleError::Json)?;
        if set.keys.len() > MAX_KEYS {
            return Err(BundleError::TooLarge);
        }
        let mut bundle = Self::new(trust_domain);
        bundle.sequence = set.spiffe_sequence;
        bundle.refresh_hint = set.spiffe_refresh_hint;
        // Section 4.2: "Clients encountering an unknown key type MUST ignore the entire JWK element";
        // likewise "a missing `use` parameter or an unknown `use` value".
        for jwk in set.keys.iter().filter_map(|jwk| Jwk::deserialize(jwk).ok()) {
            match jwk.usage.as_deref() {
                Some("x509-svid") => {
                    if let Some(der) = jwk.certificate() {
                        // Not usable as a root: as if it were not there.
                        drop(bundle.add_x509_authority(&der));
                    }
                }
                Some("jwt-svid") => {
                    // JWT-SVID section 6.1: "the `kid` parameter of each JWK entry MUST be set".
                    if let (Some(key_id), Some(key)) = (&jwk.key_id, jwk.verification_key()) {
                        bundle.add_jwt_key(key_id, key)?;
                    }
                }
                _ => {}
            }
        }
        Ok(bundle)
    }

    /// The bundle in its standard form.
    #[must_use]
    pub fn to_jwks(&self) -> Vec<u8> {
        let x509 = self.x509.iter().filter_map(|root| Jwk::of_root(root.der()));
        let jwt = self
            .jwt
            .iter()
            .map(|(key_id, key)| Jwk::of_jwt_key(key_id, key));
        let set = JwkSet {
            keys: x509
                .chain(jwt)
                .filter_map(|jwk| serde_json::to_value(jwk).ok())
                .collect(),
            spiffe_sequence: self.sequence,
            spiffe_refresh_hint: self.refresh_hint,
        };
        serde_json::to_vec(&set).unwrap_or_default()
    }

    /// The JWT keys alone, as the Workload API carries them.
    #[must_use]
    pub fn to_jwt_jwks(&self) -> Vec<u8> {
        let mut jwt_only = self.clone();
        jwt_only.x509.clear();
        jwt_only.to_jwks()
    }
}
