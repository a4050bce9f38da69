//! Signatures of X.509 structures, by the algorithms that hardware vendors use. SHA-1 is not here.

use crypto::chain::{self, Hash, Kind};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// Checks that the key of `issuer` signed `certificate`. Names are the caller's to compare.
///
/// # Errors
/// Why not, in words.
pub fn signed_by(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), &'static str> {
    verify(
        issuer.public_key(),
        &certificate.signature_algorithm,
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
    )
}

/// Checks what an X.509 key signed: a certificate's or a revocation list's `message`, by the algorithm
/// that it names.
///
/// # Errors
/// Why not, in words.
pub fn verify(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), &'static str> {
    let kind = key_kind(key).ok_or("a kind of key that is not verified")?;
    verify_as(
        kind,
        &key.subject_public_key.data,
        algorithm,
        message,
        signature,
    )
}

/// As [`verify`], by a key that was read before: its kind, and what the BIT STRING of its SPKI holds.
///
/// # Errors
/// Why not, in words.
pub fn verify_as(
    kind: Kind,
    key: &[u8],
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), &'static str> {
    let (kind, hash) = scheme(algorithm, kind)
        .ok_or("a signature scheme that is not accepted, such as one with SHA-1")?;
    chain::verify(kind, hash, key, message, signature).map_err(|_| "its key did not sign this")
}

/// The kind of key, if it is one that is verified here: RSA, or on P-256, P-384 or P-521.
#[must_use]
pub fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Option<Kind> {
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
