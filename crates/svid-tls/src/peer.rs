//! Whom to believe and whom to let in: bundles by trust domain, and who may be the peer.

use facts::{Finding, Timestamp};
use rustls_pki_types::CertificateDer;
use spiffe_core::{Bundle, SpiffeId, TrustDomain, ValidatedSvid, X509Svid};
use std::sync::Arc;

/// The bundles to validate against, as they are now. Asked at every handshake, so that a change
/// takes effect at the next one.
pub trait BundleSource: Send + Sync {
    /// The bundle of `trust_domain`, if that is one's own or federated.
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>>;
}

/// One bundle that does not change.
impl BundleSource for Bundle {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        (self.trust_domain() == trust_domain).then(|| Arc::new(self.clone()))
    }
}

/// Decides whether a peer whose SVID is valid may be the peer of this connection. Receipts and
/// revocations are checked here.
pub type Authorizer = Arc<dyn Fn(&ValidatedSvid) -> Result<(), Finding> + Send + Sync>;

/// Only the peer with exactly this ID.
#[must_use]
pub fn exactly(id: SpiffeId) -> Authorizer {
    Arc::new(move |svid| {
        if svid.spiffe_id == id {
            return Ok(());
        }
        Err(
            Finding::new("TLS-PEER-ID", "the peer is not who should be there")
                .expected(id.to_string())
                .observed(svid.spiffe_id.to_string()),
        )
    })
}

/// Whoever belongs to the trust domain.
#[must_use]
pub fn any_member(trust_domain: TrustDomain) -> Authorizer {
    Arc::new(move |svid| {
        if svid.spiffe_id.is_member_of(&trust_domain) {
            return Ok(());
        }
        Err(
            Finding::new("TLS-PEER-ID", "the peer is of another trust domain")
                .expected(trust_domain.to_string())
                .observed(svid.spiffe_id.to_string()),
        )
    })
}

/// The ID that a peer's chain claims. Nothing is validated: for chains that a handshake has validated, and
/// for nothing that decides.
///
/// # Errors
/// The codes of [`X509Svid::parse`].
pub fn claimed_id(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, Finding> {
    Ok(X509Svid::parse(chain)?.claimed_id().clone())
}

/// Validates the chain that a peer presented; what the verifiers of this crate do, for use after the
/// handshake on `peer_certificates()`, and later for as long as the connection lives.
///
/// # Errors
/// `TLS-PEER-DOMAIN` for a trust domain without a bundle, and the codes of
/// [`X509Svid::parse`] and [`X509Svid::validate`].
pub fn validate(
    chain: &[CertificateDer<'_>],
    bundles: &dyn BundleSource,
    now: Timestamp,
) -> Result<ValidatedSvid, Finding> {
    let svid = X509Svid::parse(chain)?;
    let trust_domain = svid.claimed_id().trust_domain();
    let bundle = bundles.bundle(&trust_domain).ok_or_else(|| {
        Finding::new(
            "TLS-PEER-DOMAIN",
            "no bundle is held for the peer's trust domain",
        )
        .observed(trust_domain.to_string())
        .next("federate with it, or see that the peer belongs here")
    })?;
    svid.validate(&bundle, now)
}
