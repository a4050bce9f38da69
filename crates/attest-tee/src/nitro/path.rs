//! From a document's signature to AWS's root.

use super::Document;
use crate::crl::title;
use crate::intel;
use attest::{Findings, x509};
use crypto::chain::{self, Kind};
use facts::{Finding, Timestamp};
use x509_parser::certificate::X509Certificate;

/// One self-signed root. The default has none and accepts nothing.
#[derive(Debug, Clone, Default)]
pub struct Roots(intel::Roots);

impl Roots {
    /// The one that AWS publishes; `data/README.md` says where it is from.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE`; not for the file that is shipped, which a test reads.
    pub fn aws() -> Result<Self, Finding> {
        Self::from_pem(include_str!("../../data/aws/nitro-root-g1.pem"))
    }

    /// A PEM text with one self-signed authority.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE`.
    pub fn from_pem(pem: &str) -> Result<Self, Finding> {
        intel::Roots::from_pem(pem).map(Self)
    }
}

/// Checks the document's signature and the way to the root at `now`.
pub(super) fn verify(
    document: &Document<'_>,
    roots: &Roots,
    now: Timestamp,
    findings: &mut Findings,
) {
    let Some(leaf) = findings.take(x509::parse(document.certificate).map_err(broken)) else {
        return;
    };
    let signed_by_leaf = x509::key_kind(leaf.public_key()) == Some(Kind::P384)
        && chain::verify_fixed(
            Kind::P384,
            &leaf.public_key().subject_public_key.data,
            &document.signed,
            document.signature,
        )
        .is_ok();
    findings.check(signed_by_leaf, || {
        Finding::new(
            "TEE-NITRO-SIGNATURE",
            "the document's signature does not verify",
        )
        .expected("a signature by the key of its certificate")
        .next("send the document as the device returned it")
    });
    findings.take(path(&leaf, &document.bundle, roots.0.der(), now));
}

/// The bundle leads from the root, which comes first, to what issued the leaf.
fn path(
    leaf: &X509Certificate<'_>,
    bundle: &[&[u8]],
    root: &[u8],
    now: Timestamp,
) -> Result<(), Finding> {
    if root.is_empty() || bundle.first() != Some(&root) {
        return Err(broken("a bundle that does not begin with the root"));
    }
    if leaf.is_ca() {
        return Err(broken("a document signed by an authority"));
    }
    match leaf.key_usage() {
        Ok(Some(usage)) if usage.value.digital_signature() => {}
        _ => return Err(broken("a leaf whose key is not for signing")),
    }
    valid(leaf, now)?;
    let mut authorities = Vec::with_capacity(bundle.len());
    for der in bundle {
        authorities.push(x509::parse(der).map_err(broken)?);
    }
    let mut below = leaf;
    for (depth, authority) in authorities.iter().rev().enumerate() {
        if below.issuer().as_raw() != authority.subject().as_raw() {
            return Err(broken("names that do not lead to the root"));
        }
        x509::may_certify(authority, Some(depth))
            .and_then(|()| x509::signed_by(below, authority))
            .map_err(broken)?;
        valid(authority, now)?;
        below = authority;
    }
    Ok(())
}

fn valid(certificate: &X509Certificate<'_>, now: Timestamp) -> Result<(), Finding> {
    let validity = certificate.validity();
    if x509::valid_at(validity, now) {
        return Ok(());
    }
    let name = title(certificate.subject());
    Err(Finding::new(
        "TEE-NITRO-VALIDITY",
        format!("the certificate {name} is not valid now"),
    )
    .expected(format!("{} to {}", validity.not_before, validity.not_after))
    .observed(now.to_string())
    .next("ask for a fresh document; check the server's clock"))
}

fn broken(observed: &str) -> Finding {
    Finding::new(
        "TEE-NITRO-CHAIN",
        "the document's certificate does not lead to AWS's root",
    )
    .expected("the leaf, its authorities and the root of the references")
    .observed(observed)
    .next(
        "send the document as the device returned it; of a laboratory's own authority, declare a [[tee_root]] \
         and name it as `root` of the estate's [[tee]]",
    )
}
