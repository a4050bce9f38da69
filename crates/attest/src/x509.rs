//! Certificates of other people's authorities (TPM vendors, AMD, Intel, AWS, Sigstore deployments), read
//! and checked one at a time: frame, validity, whether an authority may certify, signatures.
//!
//! RFC 5280 as far as those vendors use it. Which path is walked, to which root and with which
//! revocation lists, is each verifier's own. Web PKI libraries do not fit: vendors name keys, use
//! extended key usages and critical extensions that those refuse, or use RSASSA-PSS.

pub mod der;
mod signature;

pub use signature::{key_kind, signed_by, verify, verify_as};

use facts::Timestamp;
use std::collections::BTreeSet;
use x509_parser::asn1_rs::Oid;
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

/// Longer than any certificate of a hardware vendor.
const LONGEST: usize = 16 * 1024;
/// Longer than any revocation list of a hardware vendor.
const LONGEST_LIST: usize = 1 << 20;
/// Certificates in one PEM text.
const MOST: usize = 64;

/// Reads one certificate in its one DER spelling.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(der: &[u8]) -> Result<X509Certificate<'_>, &'static str> {
    if der.len() > LONGEST {
        return Err("more than 16384 bytes");
    }
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "not a certificate")?;
    unambiguous(der, &certificate)?;
    Ok(certificate)
}

/// Reads one certificate revocation list of version 2 in its one DER spelling. Its signature and its
/// time are not looked at.
///
/// # Errors
/// What is wrong with it, in words; also a critical extension, of the list or of an entry, because none
/// is understood here.
pub fn parse_list(der: &[u8]) -> Result<CertificateRevocationList<'_>, &'static str> {
    if der.len() > LONGEST_LIST {
        return Err("more than a MiB");
    }
    let (_, list) =
        CertificateRevocationList::from_der(der).map_err(|_| "not a revocation list")?;
    if !der::is_revocation_list(der) {
        return Err("not the DER of one revocation list with one signature algorithm");
    }
    let critical = |extensions: &[x509_parser::extensions::X509Extension<'_>]| {
        extensions.iter().any(|extension| extension.critical)
    };
    if critical(list.extensions())
        || list
            .iter_revoked_certificates()
            .any(|entry| critical(entry.extensions()))
    {
        return Err("a critical extension that is not understood");
    }
    Ok(list)
}

/// The certificates of a PEM text in their order; what stands between the blocks is not looked at.
///
/// # Errors
/// What is wrong with it, in words; also when there is none, or more than 64.
pub fn pem(text: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    let blocks: Vec<&str> = text
        .split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .take(MOST + 1)
        .collect();
    if blocks.is_empty() || blocks.len() > MOST {
        return Err("no PEM certificate, or more than 64");
    }
    blocks
        .into_iter()
        .map(|block| {
            let (body, _) = block
                .split_once("-----END CERTIFICATE-----")
                .ok_or("a PEM block without an end")?;
            let body: String = body.split_ascii_whitespace().collect();
            crypto::base64::decode(&body).map_err(|_| "not PEM")
        })
        .collect()
}

/// Whether `now` lies within the validity.
#[must_use]
pub fn valid_at(validity: &Validity, now: Timestamp) -> bool {
    asn1_time(now).is_some_and(|now| validity.is_valid_at(now))
}

/// `now` as certificates and revocation lists have it; `None` far in the future.
#[must_use]
pub fn asn1_time(now: Timestamp) -> Option<ASN1Time> {
    let seconds = i64::try_from(now.as_secs()).ok()?;
    ASN1Time::from_timestamp(seconds).ok()
}

/// One spelling of its frame, one algorithm inside and outside (RFC 5280, section 4.1.1.2), and no
/// extension twice (section 4.2).
///
/// # Errors
/// What is wrong with it, in words.
pub fn unambiguous(der: &[u8], certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    if !der::is_certificate(der) {
        return Err("not the DER of one certificate with one signature algorithm");
    }
    let mut seen = BTreeSet::new();
    let once = |oid: &Oid<'_>| seen.insert(oid.as_bytes().to_vec());
    let mut oids = certificate.extensions().iter().map(|one| &one.oid);
    if oids.all(once) {
        Ok(())
    } else {
        Err("an extension twice")
    }
}

/// Whether an authority may certify another with `below` authorities under it.
///
/// # Errors
/// Why not, in words.
pub fn may_certify(
    certificate: &X509Certificate<'_>,
    below: Option<usize>,
) -> Result<(), &'static str> {
    let constraints = certificate
        .basic_constraints()
        .map_err(|_| "unreadable basic constraints")?
        .ok_or("no basic constraints")?;
    if !constraints.value.ca {
        return Err("not an authority");
    }
    let limit = constraints
        .value
        .path_len_constraint
        .and_then(|limit| usize::try_from(limit).ok());
    if let (Some(below), Some(limit)) = (below, limit)
        && below > limit
    {
        return Err("its path length is exceeded");
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            return Err("its key may not sign certificates");
        }
        Ok(_) => {}
        Err(_) => return Err("unreadable key usage"),
    }
    let understood = certificate.extensions().iter().all(|one| {
        !one.critical
            || matches!(
                one.parsed_extension(),
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::CertificatePolicies(_)
            )
    });
    if understood {
        Ok(())
    } else {
        Err("a critical extension that is not understood")
    }
}
