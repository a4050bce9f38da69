//! What a workload may see, shared between its streams. Not a wire format: `updates` makes messages of it.

use crate::Refusal;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What the stream of a workload shows now.
#[derive(Debug, Clone)]
pub enum State {
    /// Not known yet: streams wait.
    Pending,
    /// Nothing, or nothing any more: streams end with this refusal.
    Refused(Arc<Refusal>),
    Current(Arc<View>),
}

/// Everything that one workload may hold. Never empty: without an identity the state is `Refused`.
#[derive(Debug)]
pub struct View {
    /// The first is the default identity (API spec, section 5.2.1).
    pub svids: Vec<Arc<X509Svid>>,
    pub trust: Arc<Trust>,
}

/// An X509-SVID with its key.
pub struct X509Svid {
    pub spiffe_id: String,
    /// DER certificates, concatenated, leaf first.
    pub chain: Bytes,
    /// PKCS#8 DER, unencrypted.
    pub key: Zeroizing<Vec<u8>>,
    pub hint: String,
}

impl std::fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Svid")
            .field("spiffe_id", &self.spiffe_id)
            .finish_non_exhaustive()
    }
}

/// A JWT-SVID. The token is a secret.
pub struct JwtSvid {
    pub spiffe_id: String,
    pub token: String,
    pub hint: String,
}

impl std::fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtSvid")
            .field("spiffe_id", &self.spiffe_id)
            .finish_non_exhaustive()
    }
}

/// The bundles of the own and of federated trust domains. One value for all workloads.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// `spiffe://example.org`.
    pub trust_domain: String,
    /// DER root certificates, concatenated.
    pub x509: Bytes,
    /// SPIFFE bundle as JSON.
    pub jwks: Bytes,
    /// DER certificate revocation lists.
    pub crl: Vec<Bytes>,
    /// By trust domain (`spiffe://other.org`): X.509 authorities and JWKS of it.
    pub federated: BTreeMap<String, (Bytes, Bytes)>,
}
