//! Validating a parsed X.509-SVID against the bundle of its own trust domain, and no other.

use super::X509Svid;
use crate::{Bundle, SpiffeId};
use crypto::PublicKey;
use facts::{Finding, Timestamp};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// An X.509-SVID that was valid at the time it was checked. It says nothing of receipts: those are
/// checked by [`receipt::check`](crate::receipt::check), where the trust domain is one's own.
#[derive(Debug, Clone)]
pub struct ValidatedSvid {
    pub spiffe_id: SpiffeId,
    /// Lower-case hex.
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub public_key: PublicKey,
    /// DER.
    pub leaf: Vec<u8>,
    /// SHA-256 of the SPKI that the leaf's signature verified with.
    pub issuer_spki_sha256: [u8; 32],
    /// The encoded `ledger::Receipt` in the leaf, unverified.
    pub receipt: Option<Vec<u8>>,
    pub tbs_without_receipt_sha256: [u8; 32],
}

impl X509Svid {
    /// X509-SVID section 5.1: "path validation … MUST follow RFC 5280"; the roots are those of
    /// `bundle`, which must be the bundle of the leaf's trust domain.
    ///
    /// # Errors
    /// `SVID-TRUST-DOMAIN`, `SVID-BUNDLE-EMPTY`, `SVID-EXPIRED`, `SVID-NOT-YET-VALID`, `SVID-PATH`,
    /// `SVID-ISSUER-KEY-USAGE`.
    pub fn validate(&self, bundle: &Bundle, now: Timestamp) -> Result<ValidatedSvid, Finding> {
        Ok(self.validate_by(bundle, now, |_path| ())?.0)
    }

    /// As [`X509Svid::validate`], with the certificates between leaf and root that it took, DER.
    pub(crate) fn validate_chain(
        &self,
        bundle: &Bundle,
        now: Timestamp,
    ) -> Result<(ValidatedSvid, Vec<Vec<u8>>), Finding> {
        self.validate_by(bundle, now, |path| {
            let used = path.intermediate_certificates();
            used.map(|certificate| certificate.der().to_vec()).collect()
        })
    }

    fn validate_by<T>(
        &self,
        bundle: &Bundle,
        now: Timestamp,
        look: impl FnOnce(&VerifiedPath<'_>) -> T,
    ) -> Result<(ValidatedSvid, T), Finding> {
        let leaf = &self.leaf;
        if !leaf.spiffe_id.is_member_of(bundle.trust_domain()) {
            return Err(
                Finding::new("SVID-TRUST-DOMAIN", "the SVID is of another trust domain")
                    .expected(bundle.trust_domain().as_str())
                    .observed(leaf.spiffe_id.trust_domain_name()),
            );
        }
        check_time(leaf.not_before, leaf.not_after, now)?;
        let anchors: Vec<TrustAnchor<'_>> = bundle.anchors_at(now).collect();
        if anchors.is_empty() {
            // Trust Domain and Bundle section 4.1.3: if no keys are usable, "workloads MUST treat all
            // SVIDs from the trust domain as invalid and untrusted".
            return Err(Finding::new(
                "SVID-BUNDLE-EMPTY",
                "the trust domain has no X.509 authority that is valid now",
            )
            .observed(bundle.trust_domain().as_str()));
        }
        let (issuer_spki_sha256, seen) = self.path(&anchors, now, look)?;
        let validated = ValidatedSvid {
            spiffe_id: leaf.spiffe_id.clone(),
            serial: leaf.serial.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            public_key: leaf.public_key.clone(),
            leaf: self.leaf_der.clone(),
            issuer_spki_sha256,
            receipt: leaf.receipt.clone(),
            tbs_without_receipt_sha256: leaf.tbs_sha256,
        };
        Ok((validated, seen))
    }

    /// Builds and checks a path; returns SHA-256 of the SPKI of the leaf's issuer, and what `look` made of the path.
    fn path<T>(
        &self,
        anchors: &[TrustAnchor<'_>],
        now: Timestamp,
        look: impl FnOnce(&VerifiedPath<'_>) -> T,
    ) -> Result<([u8; 32], T), Finding> {
        let leaf = CertificateDer::from(self.leaf_der.as_slice());
        let intermediates: Vec<CertificateDer<'_>> = self
            .intermediates
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let refused = |error: webpki::Error| {
            Finding::new(
                "SVID-PATH",
                "the chain does not lead to an authority of its trust domain",
            )
            .observed(error.to_string())
            .next("compare the chain with the bundle that is in force where it was refused")
        };
        let leaf = EndEntityCert::try_from(&leaf).map_err(refused)?;
        let path = leaf
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                anchors,
                &intermediates,
                UnixTime::since_unix_epoch(Duration::from_millis(now.as_millis())),
                // The leaf's own check asks for both usages; CAs above it may restrict them.
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(refused)?;
        check_issuers(&path)?;
        Ok((crypto::sha256(path.issuer_spki().as_ref()), look(&path)))
    }
}

/// Ours before webpki's, so that a stale SVID is told from a wrong one.
fn check_time(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Result<(), Finding> {
    // RFC 5280, section 4.1.2.5: valid "from notBefore through notAfter, inclusive"; to the second.
    if now.as_secs() > not_after.as_secs() {
        return Err(Finding::new("SVID-EXPIRED", "the SVID has expired")
            .expected(format!("a time up to {not_after}"))
            .observed(now.to_string())
            .next("see that the peer is being renewed: its agent has to reach its server"));
    }
    if now.as_secs() < not_before.as_secs() {
        return Err(
            Finding::new("SVID-NOT-YET-VALID", "the SVID is not valid yet")
                .expected(format!("a time from {not_before}"))
                .observed(now.to_string())
                .next("compare the clocks of both machines"),
        );
    }
    Ok(())
}

/// RFC 5280, section 6.1.4 (n): "If a key usage extension is present, verify that the keyCertSign
/// bit is set"; X509-SVID section 4.3 wants it present. webpki leaves this to its caller.
fn check_issuers(path: &VerifiedPath<'_>) -> Result<(), Finding> {
    for certificate in path.intermediate_certificates() {
        let der = certificate.der();
        let signs = X509Certificate::from_der(&der).is_ok_and(|(_, parsed)| {
            parsed
                .key_usage()
                .is_ok_and(|usage| usage.is_some_and(|usage| usage.value.key_cert_sign()))
        });
        if !signs {
            return Err(Finding::new(
                "SVID-ISSUER-KEY-USAGE",
                "a certificate in the chain may not sign certificates",
            )
            .expected("key usage with keyCertSign"));
        }
    }
    Ok(())
}
