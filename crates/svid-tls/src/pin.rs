//! The pin of first contact: one digest over everything that a newcomer has to believe, printed by
//! `trilith token create` and carried to the machine by whoever administers it.
//!
//! Its input, all lengths as 32-bit big-endian numbers:
//! `"trilith-anchors-v1" ‖ len ‖ trust domain ‖ count ‖ (len ‖ root certificate)* ‖ len ‖ ledger SPKI`,
//! the root certificates in ascending order of their bytes.

use crate::peer::BundleSource;
use facts::Finding;
use spiffe_core::{Bundle, TrustDomain};
use std::sync::Arc;

const CONTEXT: &[u8] = b"trilith-anchors-v1";
const PREFIX: &str = "tl1:";
/// More roots than a trust domain has at any one time.
const MAX_ROOTS: usize = 16;

/// The pin of a trust domain: `tl1:` and 64 hexadecimal digits. `roots` are DER certificates in any
/// order, `ledger_key` is the SPKI of the server ledger's key.
#[must_use]
pub fn digest(trust_domain: &TrustDomain, roots: &[&[u8]], ledger_key: &[u8]) -> String {
    let mut sorted = roots.to_vec();
    sorted.sort_unstable();
    let mut hash = crypto::Sha256::new();
    hash.update(CONTEXT);
    absorb(&mut hash, trust_domain.as_str().as_bytes());
    hash.update(&length(sorted.len()));
    for root in sorted {
        absorb(&mut hash, root);
    }
    absorb(&mut hash, ledger_key);
    format!("{PREFIX}{}", crypto::hex::encode(&hash.finish()))
}

fn absorb(hash: &mut crypto::Sha256, bytes: &[u8]) {
    hash.update(&length(bytes.len()));
    hash.update(bytes);
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// What a server says its anchors are. Nobody has vouched for it: only [`Anchors::check`] does.
#[derive(Debug, Clone)]
pub struct Anchors {
    pub trust_domain: String,
    /// DER certificates.
    pub roots: Vec<Vec<u8>>,
    /// SPKI of the server ledger's key.
    pub ledger_key: Vec<u8>,
}

/// Anchors that are the ones that were pinned. As a [`BundleSource`] they admit servers that chain to
/// one of their roots.
#[derive(Debug, Clone)]
pub struct PinnedAnchors {
    pub bundle: Arc<Bundle>,
    /// SPKI of the server ledger's key.
    pub ledger_key: crypto::PublicKey,
}

impl Anchors {
    /// Compares with `pin`, in constant time.
    ///
    /// # Errors
    /// `TLS-PIN-FORMAT`, `TLS-PIN-MISMATCH`, `TLS-ANCHORS`.
    pub fn check(&self, pin: &str) -> Result<PinnedAnchors, Finding> {
        let unusable = |what: String| Finding::new("TLS-ANCHORS", what);
        let pinned = parse(pin).ok_or_else(|| {
            Finding::new("TLS-PIN-FORMAT", "this is not a pin")
                .expected("tl1: and 64 hexadecimal digits, as `trilith token create` prints it")
        })?;
        if self.roots.len() > MAX_ROOTS {
            return Err(unusable(format!("more than {MAX_ROOTS} roots")));
        }
        let trust_domain = TrustDomain::new(&self.trust_domain)
            .map_err(|error| unusable(format!("the server's trust domain: {error}")))?;
        let roots: Vec<&[u8]> = self.roots.iter().map(Vec::as_slice).collect();
        let seen = digest(&trust_domain, &roots, &self.ledger_key);
        if !parse(&seen).is_some_and(|seen| crypto::constant_time_eq(&pinned, &seen)) {
            return Err(Finding::new(
                "TLS-PIN-MISMATCH",
                "the server's anchors are not the ones that were pinned",
            )
            .expected(pin)
            .observed(seen)
            .next(
                "check the address; if the anchors have changed, make a new token and take the pin that \
                 comes with it: trilith token create --node NODE --pool POOL",
            ));
        }
        let mut bundle = Bundle::new(trust_domain);
        for root in &self.roots {
            bundle
                .add_x509_authority(root)
                .map_err(|error| unusable(error.to_string()))?;
        }
        let ledger_key = crypto::PublicKey::from_spki_der(&self.ledger_key)
            .map_err(|error| unusable(format!("the ledger's key: {error}")))?;
        Ok(PinnedAnchors {
            bundle: Arc::new(bundle),
            ledger_key,
        })
    }
}

impl BundleSource for PinnedAnchors {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        (self.bundle.trust_domain() == trust_domain).then(|| Arc::clone(&self.bundle))
    }
}

fn parse(pin: &str) -> Option<Vec<u8>> {
    let bytes = crypto::hex::decode(pin.trim().strip_prefix(PREFIX)?).ok()?;
    (bytes.len() == 32).then_some(bytes)
}
