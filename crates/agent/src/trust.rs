//! The trust bundle as the server sends it, made into what workloads see and what validates tokens.

use crate::shared::Shared;
use bytes::Bytes;
use facts::Finding;
use proto::v1;
use spiffe_core::{Bundle, TrustDomain};
use std::collections::BTreeMap;
use std::sync::Arc;
use svid_tls::BundleSource;
use workload_api::Trust;

/// The bundle as it is now, for connections to the server.
#[derive(Debug)]
pub(crate) struct Current(pub(crate) Arc<Shared>);

impl BundleSource for Current {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        let bundle = self.0.bundle.load_full()?;
        (bundle.trust_domain() == trust_domain).then_some(bundle)
    }
}

/// Takes `message` if it is of `trust_domain` and not older than what is known; returns whether it was.
pub(crate) fn take(
    shared: &Shared,
    trust_domain: &TrustDomain,
    message: &v1::Bundle,
) -> Result<bool, Finding> {
    let (bundle, trust) = read(trust_domain, message)?;
    let taken = shared.with(|core| core.trusted(trust, message.sequence));
    if taken {
        shared.bundle.store(Some(Arc::new(bundle)));
    }
    Ok(taken)
}

/// The authorities must agree: those that validate are those that workloads are shown.
pub(crate) fn read(
    trust_domain: &TrustDomain,
    message: &v1::Bundle,
) -> Result<(Bundle, Trust), Finding> {
    let wrong = |what: String| Finding::new("AGENT-BUNDLE", "the server's bundle").observed(what);
    if message.trust_domain != trust_domain.as_str() {
        return Err(wrong(message.trust_domain.clone()).expected(trust_domain.as_str()));
    }
    let mut bundle = Bundle::from_jwks(trust_domain.clone(), &message.jwks)
        .map_err(|error| wrong(error.to_string()))?;
    for authority in &message.x509_authorities {
        bundle
            .add_x509_authority(authority)
            .map_err(|error| wrong(error.to_string()))?;
    }
    let trust = Trust {
        trust_domain: trust_domain.id().to_string(),
        x509: bundle.x509_concatenated().into(),
        jwks: bundle.to_jwt_jwks().into(),
        crl: message
            .crl
            .iter()
            .map(|crl| Bytes::copy_from_slice(crl))
            .collect(),
        federated: BTreeMap::new(),
    };
    Ok((bundle, trust))
}
