//! Collateral: what Intel says of a kind of platform, signed by it, and what it revoked.

use super::Roots;
use super::identity::Identity;
use super::pck::Ca;
use super::tcb::{TcbInfo, Tee};
use crate::crl::{Crl, title};
use crate::{Artefact, allow};
use attest::{Findings, x509};
use crypto::chain::{self, Kind};
use facts::{Finding, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use x509_parser::certificate::X509Certificate;

/// TCB info has about twenty kilobytes.
pub(super) const LONGEST_JSON: usize = 1 << 20;
pub(super) const LONGEST_CHAIN: usize = 32 * 1024;

/// The answers of Intel's Provisioning Certification Service, version 4, as they came.
#[derive(Debug, Clone, Default)]
pub struct CollateralBytes {
    /// `/tcb?fmspc=…`: `{"tcbInfo": …, "signature": …}`.
    pub tcb_info: String,
    /// `/qe/identity`: `{"enclaveIdentity": …, "signature": …}`.
    pub qe_identity: String,
    /// PEM: the header `TCB-Info-Issuer-Chain`. Intel signs TCB info and identities with one key.
    pub signing_chain: String,
    /// DER: `/pckcrl?ca=…&encoding=der`.
    pub pck_crl: Vec<u8>,
    /// PEM: the header `SGX-PCK-CRL-Issuer-Chain`.
    pub pck_crl_chain: String,
    /// DER: the list of the root.
    pub root_crl: Vec<u8>,
}

/// Collateral whose signatures hold, under one root. Its times are checked at each use, so that one
/// that was opened may be kept.
#[derive(Debug, Clone)]
pub struct Collateral {
    pub(super) tcb_info: TcbInfo,
    pub(super) identity: Identity,
    pub(super) pck_crl: Crl,
    pub(super) root_crl: Crl,
    /// From when to when the certificates above it are valid, in seconds.
    valid: (i64, i64),
    ca: Ca,
    /// DER of the authority that issues platforms' certificates: signed by the root, whose DER is `root`.
    issuing: Vec<u8>,
    root: Vec<u8>,
}

#[derive(Deserialize)]
struct SignedTcbInfo<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    body: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
struct SignedIdentity<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    body: &'a RawValue,
    signature: String,
}

impl Collateral {
    /// Reads collateral and checks what signed it, up to the root.
    ///
    /// # Errors
    /// `TEE-INTEL-COLLATERAL`, with what is wrong.
    pub fn open(bytes: &CollateralBytes, roots: &Roots) -> Result<Self, Finding> {
        open(bytes, roots).map_err(|problem| {
            Finding::new("TEE-INTEL-COLLATERAL", "Intel's collateral does not count")
                .expected("TCB info, identity and revocation lists, signed under Intel's root")
                .observed(problem)
                .next("fetch the collateral of this platform again")
        })
    }

    /// The platforms that it is for.
    #[must_use]
    pub const fn fmspc(&self) -> [u8; 6] {
        self.tcb_info.fmspc
    }

    #[must_use]
    pub const fn ca(&self) -> Ca {
        self.ca
    }

    /// For trust domains, not enclaves.
    #[must_use]
    pub fn is_tdx(&self) -> bool {
        self.tcb_info.tee == Tee::Tdx
    }

    pub(super) fn is_under(&self, root: &[u8]) -> bool {
        self.root == root
    }

    /// Whether this very certificate is that of the authority, whose signature by the root was checked.
    pub(super) fn is_issued_by(&self, authority: &[u8]) -> bool {
        self.issuing == authority
    }

    /// Notes each part that does not count at `now`.
    pub(super) fn check_time(&self, now: Timestamp, findings: &mut Findings) {
        let (from, to) = self.valid;
        let chain_is_valid =
            x509::asn1_time(now).is_some_and(|now| (from..=to).contains(&now.timestamp()));
        let (info, identity) = (&self.tcb_info, &self.identity);
        let span = |from: Timestamp, to: Timestamp| format!("{from} to {to}");
        for (what, current, window) in [
            (
                "TCB info",
                (info.issued..=info.next_update).contains(&now),
                span(info.issued, info.next_update),
            ),
            (
                "quoting enclave's identity",
                (identity.issued..=identity.next_update).contains(&now),
                span(identity.issued, identity.next_update),
            ),
            (
                "PCK revocation list",
                self.pck_crl.is_current(now),
                self.pck_crl.window(),
            ),
            (
                "root's revocation list",
                self.root_crl.is_current(now),
                self.root_crl.window(),
            ),
            (
                "certificates that sign collateral",
                chain_is_valid,
                format!("seconds {from} to {to}"),
            ),
        ] {
            findings.check(current, || {
                Finding::new(
                    "TEE-INTEL-COLLATERAL-TIME",
                    format!("the {what} do not count now"),
                )
                .expected(window)
                .observed(now.to_string())
                .next(format!(
                    "check the server's clock; {}",
                    allow::to_fetch(
                        "Intel's PCS",
                        &Artefact::of_platform(self.is_tdx(), self.fmspc(), self.ca),
                    )
                ))
            });
        }
    }
}

fn open(bytes: &CollateralBytes, roots: &Roots) -> Result<Collateral, String> {
    let texts = [&bytes.tcb_info, &bytes.qe_identity];
    let chains = [&bytes.signing_chain, &bytes.pck_crl_chain];
    if texts.iter().any(|text| text.len() > LONGEST_JSON)
        || chains.iter().any(|chain| chain.len() > LONGEST_CHAIN)
    {
        return Err("longer than collateral is".to_owned());
    }
    let root = x509::parse(roots.der()).map_err(|_| "there is no root")?;
    let root_crl = Crl::open(&bytes.root_crl, &root)
        .map_err(|why| format!("the root's revocation list: {why}"))?;
    if root_crl.revokes(&root) {
        return Err("Intel revoked its root".to_owned());
    }

    let signing = first(&bytes.signing_chain)?;
    let signer = signer(&signing, &root, Some(&root_crl))?;
    let tcb_info = tcb_info(&bytes.tcb_info, &signer)?;
    let identity = identity(&bytes.qe_identity, &signer)?;
    if tcb_info.tee != identity.tee {
        return Err("TCB info and identity of different kinds of machine".to_owned());
    }

    let issuing = first(&bytes.pck_crl_chain)?;
    let issuer = issuer(&issuing, &root, Some(&root_crl))?;
    let (ca, pck_crl) = pck_list(&bytes.pck_crl, &issuer)?;
    let spans = [&root, &signer, &issuer].map(|one| {
        let validity = one.validity();
        (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        )
    });
    let valid = spans
        .into_iter()
        .fold((i64::MIN, i64::MAX), |(from, to), (begin, end)| {
            (from.max(begin), to.min(end))
        });
    Ok(Collateral {
        tcb_info,
        identity,
        pck_crl,
        root_crl,
        valid,
        ca,
        issuing,
        root: roots.der().to_vec(),
    })
}

/// The certificate of the key that signs TCB info and identities.
pub(super) fn signer<'a>(
    der: &'a [u8],
    root: &X509Certificate<'_>,
    root_crl: Option<&Crl>,
) -> Result<X509Certificate<'a>, String> {
    let signer = under(der, root, root_crl).map_err(|why| format!("the signer: {why}"))?;
    // An authority's key, or one of another kind, signs no collateral.
    if signer.is_ca() || x509::key_kind(signer.public_key()) != Some(Kind::P256) {
        return Err("the signer: not an end certificate on P-256".to_owned());
    }
    if title(signer.subject()) != "Intel SGX TCB Signing" {
        return Err(format!("the signer: {}", title(signer.subject())));
    }
    Ok(signer)
}

pub(super) fn tcb_info(text: &str, signer: &X509Certificate<'_>) -> Result<TcbInfo, String> {
    let info: SignedTcbInfo<'_> =
        serde_json::from_str(text).map_err(|_| "TCB info that is not signed JSON")?;
    signed(info.body, &info.signature, signer).map_err(|why| format!("TCB info: {why}"))?;
    Ok(TcbInfo::parse(info.body.get())?)
}

pub(super) fn identity(text: &str, signer: &X509Certificate<'_>) -> Result<Identity, String> {
    let identity: SignedIdentity<'_> =
        serde_json::from_str(text).map_err(|_| "an identity that is not signed JSON")?;
    signed(identity.body, &identity.signature, signer)
        .map_err(|why| format!("the identity: {why}"))?;
    Ok(Identity::parse(identity.body.get())?)
}

/// The certificate of an authority for platforms.
pub(super) fn issuer<'a>(
    der: &'a [u8],
    root: &X509Certificate<'_>,
    root_crl: Option<&Crl>,
) -> Result<X509Certificate<'a>, String> {
    under(der, root, root_crl)
        .and_then(|issuer| x509::may_certify(&issuer, Some(0)).map(|()| issuer))
        .map_err(|why| format!("the PCK revocation list's issuer: {why}"))
}

pub(super) fn pck_list(der: &[u8], issuer: &X509Certificate<'_>) -> Result<(Ca, Crl), String> {
    let ca =
        Ca::named(&title(issuer.subject())).ok_or("a PCK revocation list of another issuer")?;
    let list = Crl::open(der, issuer).map_err(|why| format!("the PCK revocation list: {why}"))?;
    Ok((ca, list))
}

pub(super) fn first(chain: &str) -> Result<Vec<u8>, &'static str> {
    x509::pem(chain)?.into_iter().next().ok_or("an empty chain")
}

/// The certificate, if the root issued it and, as far as `root_crl` is there, did not revoke it.
fn under<'a>(
    der: &'a [u8],
    root: &X509Certificate<'_>,
    root_crl: Option<&Crl>,
) -> Result<X509Certificate<'a>, &'static str> {
    let certificate = x509::parse(der)?;
    if certificate.issuer().as_raw() != root.subject().as_raw() {
        return Err("issued by another authority");
    }
    x509::may_certify(root, Some(0))?;
    x509::signed_by(&certificate, root)?;
    if root_crl.is_some_and(|list| list.revokes(&certificate)) {
        return Err("revoked");
    }
    Ok(certificate)
}

/// The signature is r ‖ s in hexadecimal over the bytes of the body as they stand.
fn signed(
    body: &RawValue,
    signature: &str,
    signer: &X509Certificate<'_>,
) -> Result<(), &'static str> {
    let signature = crypto::hex::decode(signature).map_err(|_| "a signature that is not hex")?;
    chain::verify_fixed(
        Kind::P256,
        &signer.public_key().subject_public_key.data,
        body.get().as_bytes(),
        &signature,
    )
    .map_err(|_| "its signature does not verify")
}
