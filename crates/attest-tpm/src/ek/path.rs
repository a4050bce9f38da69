//! Certification paths of endorsement certificates, and the authorities that they may end in.
//!
//! RFC 5280 section 6 as far as TPM vendors use it: names, signatures, validity, basic constraints,
//! key usage, path length. No revocation: vendors' CRLs are mostly unreachable and the owner's list of
//! roots is the decision. Name and policy constraints, when critical, are refused.

use super::{References, der};
use crypto::chain::{self, Hash, Kind};
use facts::{Finding, Timestamp};
use std::collections::BTreeSet;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// Intermediates between an endorsement certificate and its root.
const DEEPEST: usize = 4;
/// Signature checks for one path: bounds the work that a certificate can cause.
const BUDGET: usize = 32;
const LONGEST: usize = 16 * 1024;

/// A certificate of a vendor's authority: parsed once, when the references are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    der: Vec<u8>,
    subject: Vec<u8>,
    title: String,
}

impl Authority {
    /// Reads one certificate.
    ///
    /// # Errors
    /// `TPM-ROOT-STRUCTURE` if it is no certificate of an authority with a kind of key that is
    /// verified here.
    pub fn from_der(der: &[u8]) -> Result<Self, Finding> {
        let parsed = parse(der).map_err(unusable)?;
        key_kind(parsed.public_key())
            .ok_or_else(|| unusable("a key that is neither RSA nor on P-256, P-384 or P-521"))?;
        may_certify(&parsed, None).map_err(unusable)?;
        Ok(Self {
            der: der.to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
            title: parsed.subject().to_string(),
        })
    }

    /// Reads every certificate of a PEM file, as vendors publish them.
    ///
    /// # Errors
    /// `TPM-ROOT-STRUCTURE` for a block that cannot be read, and for a file without any.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, Finding> {
        let blocks: Vec<&str> = text
            .split("-----BEGIN CERTIFICATE-----")
            .skip(1)
            .map(|block| {
                block
                    .split_once("-----END CERTIFICATE-----")
                    .map_or("", |(body, _)| body)
            })
            .collect();
        if blocks.is_empty() {
            return Err(unusable("no PEM certificate"));
        }
        blocks
            .into_iter()
            .map(|block| {
                let body: String = block.split_ascii_whitespace().collect();
                let der = crypto::base64::decode(&body).map_err(|_| unusable("not PEM"))?;
                Self::from_der(&der)
            })
            .collect()
    }

    /// The raw DER name.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The name for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

fn unusable(problem: &str) -> Finding {
    Finding::new(
        "TPM-ROOT-STRUCTURE",
        "a reference value is no certificate of an authority",
    )
    .expected("a DER or PEM certificate that may certify others")
    .observed(problem)
    .next("remove it from the references")
}

/// Whether the path from `leaf` ends in an emulated root (true) or a vendor's (false).
///
/// # Errors
/// `TPM-EK-CHAIN`, or `TPM-EK-CERT-VALIDITY` if a path fails by time alone.
pub(super) fn find(
    leaf: &X509Certificate<'_>,
    references: &References,
    now: Timestamp,
) -> Result<bool, Finding> {
    let mut search = Search {
        references,
        now,
        budget: BUDGET,
        failure: None,
    };
    search.from(leaf, 0).ok_or_else(|| {
        search.failure.unwrap_or_else(|| {
            broken(format!("issuer {}", leaf.issuer())).next(
                "add the vendor's root and intermediate certificates to the references, \
                 or pin the key",
            )
        })
    })
}

struct Search<'a> {
    references: &'a References,
    now: Timestamp,
    budget: usize,
    /// Why the most promising path failed.
    failure: Option<Finding>,
}

impl Search<'_> {
    /// `below` intermediates lie between `certificate`'s issuer and the endorsement certificate.
    fn from(&mut self, certificate: &X509Certificate<'_>, below: usize) -> Option<bool> {
        let references = self.references;
        for (authority, root) in references.issuers(certificate.issuer().as_raw()) {
            if self.budget == 0 || below > DEEPEST {
                return None;
            }
            self.budget -= 1;
            let Ok(issuer) = parse(&authority.der) else {
                continue;
            };
            if let Err(problem) = signed_by(certificate, &issuer) {
                self.failure
                    .get_or_insert(broken(format!("{}: {problem}", authority.title)));
                continue;
            }
            if let Err(problem) = may_certify(&issuer, Some(below)) {
                self.failure = Some(broken(format!("{}: {problem}", authority.title)));
                continue;
            }
            if !valid_at(issuer.validity(), self.now) {
                self.failure = Some(expired(
                    "TPM-EK-CERT-VALIDITY",
                    &authority.title,
                    issuer.validity(),
                    self.now,
                ));
                continue;
            }
            if let Some(emulated) = root.or_else(|| self.from(&issuer, below + 1)) {
                return Some(emulated);
            }
        }
        None
    }
}

fn broken(observed: String) -> Finding {
    Finding::new(
        "TPM-EK-CHAIN",
        "the endorsement certificate does not lead to a trusted root",
    )
    .expected("a path to one of the roots in the references")
    .observed(observed)
}

pub(super) fn expired(
    code: &'static str,
    title: &str,
    validity: &Validity,
    now: Timestamp,
) -> Finding {
    Finding::new(code, format!("the certificate {title} is not valid now"))
        .expected(format!("{} to {}", validity.not_before, validity.not_after))
        .observed(now.to_string())
        .next("check the server's clock; for a lapsed vendor certificate, pin the key")
}

pub(super) fn valid_at(validity: &Validity, now: Timestamp) -> bool {
    i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .is_some_and(|now| validity.is_valid_at(now))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, &'static str> {
    if der.len() > LONGEST {
        return Err("more than 16384 bytes");
    }
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "not a certificate")?;
    unambiguous(der, &certificate)?;
    Ok(certificate)
}

/// One spelling of its frame, one algorithm inside and outside (RFC 5280, section 4.1.1.2), and no
/// extension twice (section 4.2).
pub(super) fn unambiguous(
    der: &[u8],
    certificate: &X509Certificate<'_>,
) -> Result<(), &'static str> {
    if !der::is_framed(der) {
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
fn may_certify(
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

fn signed_by(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), &'static str> {
    let kind = key_kind(issuer.public_key()).ok_or("a kind of key that is not verified")?;
    let (kind, hash) = scheme(&certificate.signature_algorithm, kind)
        .ok_or("a signature scheme that is not accepted, such as one with SHA-1")?;
    chain::verify(
        kind,
        hash,
        &issuer.public_key().subject_public_key.data,
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
    )
    .map_err(|_| "its key did not sign the certificate")
}

fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Option<Kind> {
    const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
    const EC: Oid<'static> = oid!(1.2.840.10045.2.1);
    const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
    const P384: Oid<'static> = oid!(1.3.132.0.34);
    const P521: Oid<'static> = oid!(1.3.132.0.35);
    if spki.subject_public_key.unused_bits != 0 {
        return None;
    }
    if spki.algorithm.algorithm == RSA {
        return Some(Kind::Rsa);
    }
    if spki.algorithm.algorithm != EC {
        return None;
    }
    let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
    [(P256, Kind::P256), (P384, Kind::P384), (P521, Kind::P521)]
        .into_iter()
        .find_map(|(oid, kind)| (oid == curve).then_some(kind))
}

fn scheme(algorithm: &AlgorithmIdentifier<'_>, key: Kind) -> Option<(Kind, Hash)> {
    const RSA_PKCS1: [(Oid<'static>, Hash); 3] = [
        (oid!(1.2.840.113549.1.1.11), Hash::Sha256),
        (oid!(1.2.840.113549.1.1.12), Hash::Sha384),
        (oid!(1.2.840.113549.1.1.13), Hash::Sha512),
    ];
    const ECDSA: [(Oid<'static>, Hash); 3] = [
        (oid!(1.2.840.10045.4.3.2), Hash::Sha256),
        (oid!(1.2.840.10045.4.3.3), Hash::Sha384),
        (oid!(1.2.840.10045.4.3.4), Hash::Sha512),
    ];
    let by = |table: [(Oid<'static>, Hash); 3]| {
        table
            .into_iter()
            .find_map(|(oid, hash)| (oid == algorithm.algorithm).then_some(hash))
    };
    match key {
        Kind::Rsa | Kind::RsaPss => by(RSA_PKCS1)
            .map(|hash| (Kind::Rsa, hash))
            .or_else(|| Some((Kind::RsaPss, pss(algorithm)?))),
        curve => by(ECDSA).map(|hash| (curve, hash)),
    }
}

/// The hash of an RSASSA-PSS algorithm whose mask uses the same hash and whose salt is as long.
fn pss(algorithm: &AlgorithmIdentifier<'_>) -> Option<Hash> {
    const HASHES: [(Oid<'static>, Hash, u32); 3] = [
        (oid!(2.16.840.1.101.3.4.2.1), Hash::Sha256, 32),
        (oid!(2.16.840.1.101.3.4.2.2), Hash::Sha384, 48),
        (oid!(2.16.840.1.101.3.4.2.3), Hash::Sha512, 64),
    ];
    const PSS: Oid<'static> = oid!(1.2.840.113549.1.1.10);
    if algorithm.algorithm != PSS {
        return None;
    }
    let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(algorithm)
    else {
        return None;
    };
    let mask = parameters.mask_gen_algorithm().ok()?;
    HASHES.into_iter().find_map(|(oid, hash, length)| {
        (*parameters.hash_algorithm_oid() == oid
            && mask.hash == oid
            && parameters.salt_length() == length
            && parameters.trailer_field() == 1)
            .then_some(hash)
    })
}
