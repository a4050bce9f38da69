//! What a vendor of the test's own has, by the paths that AMD and Intel document.

#![allow(dead_code, reason = "shared with the tests of the server")]

use crate::tee_forged::forge_intel::Platform;
use crate::tee_forged::forge_snp::Machine;
use crate::vendor::{Reply, Vendor};

pub(crate) const SNP_CRL: &str = "/vcek/v1/Milan/crl";
pub(crate) const TCB_INFO: &str = "/tdx/certification/v4/tcb?fmspc=f0f0f0f0f0f0";
pub(crate) const QE_IDENTITY: &str = "/tdx/certification/v4/qe/identity";
pub(crate) const PCK_CRL: &str = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der";
pub(crate) const ROOT_CRL: &str = "/sgx/certification/v4/rootcacrl";

pub(crate) fn snp_key() -> String {
    let chip = "c1".repeat(64);
    format!("/vcek/v1/Milan/{chip}?blSPL=03&teeSPL=01&snpSPL=24&ucodeSPL=217")
}

/// A vendor with everything that a guest and a domain of today need.
pub(crate) fn stock(vendor: &Vendor, guest: &Machine, domain: &Platform) {
    vendor.put(&snp_key(), Reply::good(&guest.key_certificate()));
    vendor.put(SNP_CRL, Reply::good(&guest.crl().unwrap()));
    let bytes = domain.collateral();
    let chain = &bytes.signing_chain;
    vendor.put(
        TCB_INFO,
        Reply::chained(bytes.tcb_info.as_bytes(), "TCB-Info-Issuer-Chain", chain),
    );
    vendor.put(
        QE_IDENTITY,
        Reply::chained(
            bytes.qe_identity.as_bytes(),
            "SGX-Enclave-Identity-Issuer-Chain",
            chain,
        ),
    );
    vendor.put(
        PCK_CRL,
        Reply::chained(
            &bytes.pck_crl,
            "SGX-PCK-CRL-Issuer-Chain",
            &bytes.pck_crl_chain,
        ),
    );
    // As caching services hand it out.
    let digits = crypto::hex::encode(&bytes.root_crl);
    vendor.put(ROOT_CRL, Reply::good(digits.as_bytes()));
}
