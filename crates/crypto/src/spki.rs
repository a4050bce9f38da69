//! `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7) of the kinds of key that Trilith knows, in
//! the one DER spelling of each: every other byte string is refused.

use crate::{Algorithm, Error};

/// Up to the uncompressed point (RFC 5480, section 2.2).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Up to the uncompressed point.
const P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// Up to the 32 bytes of the key (RFC 8410, section 4).
const ED25519: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// Up to the 1312 bytes of the key (RFC 9881, section 4).
const ML_DSA_44: &[u8] = &[
    0x30, 0x82, 0x05, 0x32, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03,
    0x11, 0x03, 0x82, 0x05, 0x21, 0x00,
];
/// `AlgorithmIdentifier` of rsaEncryption with NULL (RFC 3279, section 2.3.1).
const RSA: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// More than RSA with 8192 bits needs.
const LONGEST: usize = 2048;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;

/// The kind of key in `spki` and the raw key: a point, 32 or 1312 bytes, or a DER `RSAPublicKey`.
pub(crate) fn parse(spki: &[u8]) -> Result<(Algorithm, &[u8]), Error> {
    if spki.len() > LONGEST {
        return Err(Error::PublicKey("longer than any key in use"));
    }
    for (algorithm, prefix, length) in [
        (Algorithm::EcdsaP256, P256, 65),
        (Algorithm::EcdsaP384, P384, 97),
        (Algorithm::Ed25519, ED25519, 32),
        (Algorithm::MlDsa44, ML_DSA_44, 1312),
    ] {
        let Some(key) = spki.strip_prefix(prefix) else {
            continue;
        };
        return if key.len() == length {
            Ok((algorithm, key))
        } else {
            Err(Error::PublicKey("of the wrong length"))
        };
    }
    rsa_key(spki)
        .map(|key| (Algorithm::Rsa, key))
        .ok_or(Error::PublicKey("neither P-256, P-384, Ed25519 nor RSA"))
}

/// The SPKI that holds `key`, which is as [`parse`] returns it; not for RSA.
pub(crate) fn wrap(algorithm: Algorithm, key: &[u8]) -> Vec<u8> {
    let prefix = match algorithm {
        Algorithm::EcdsaP256 => P256,
        Algorithm::EcdsaP384 => P384,
        Algorithm::Ed25519 => ED25519,
        Algorithm::MlDsa44 => ML_DSA_44,
        Algorithm::Rsa => {
            let mut bits = vec![0];
            bits.extend_from_slice(key);
            return element(SEQUENCE, &[RSA, &element(BIT_STRING, &bits)].concat());
        }
    };
    [prefix, key].concat()
}

/// `RSAPublicKey` (RFC 8017, appendix A.1.1) of big-endian numbers.
pub(crate) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[integer(modulus), integer(exponent)].concat())
}

/// Reads it leniently and then compares with the one spelling.
fn rsa_key(spki: &[u8]) -> Option<&[u8]> {
    let (body, _) = take(SEQUENCE, spki)?;
    let (bits, _) = take(BIT_STRING, body.strip_prefix(RSA)?)?;
    let key = bits.strip_prefix(&[0])?;
    let (numbers, _) = take(SEQUENCE, key)?;
    let (modulus, tail) = take(INTEGER, numbers)?;
    let (exponent, _) = take(INTEGER, tail)?;
    let one_spelling = wrap(Algorithm::Rsa, &rsa_public_key(modulus, exponent));
    (one_spelling == spki).then_some(key)
}

/// The content of the element of `tag` at the start of `bytes`, and what follows it.
fn take(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (length, rest) = match rest {
        [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let mut bytes = vec![tag];
    match (high, low) {
        (0, ..0x80) => bytes.push(low),
        (0, _) => bytes.extend([0x81, low]),
        _ => bytes.extend([0x82, high, low]),
    }
    bytes.extend_from_slice(content);
    bytes
}

/// A DER INTEGER that is not negative.
fn integer(number: &[u8]) -> Vec<u8> {
    let number = trim(number);
    let mut content = Vec::with_capacity(number.len() + 1);
    if number.first().is_none_or(|first| *first >= 0x80) {
        content.push(0);
    }
    content.extend_from_slice(number);
    element(INTEGER, &content)
}

/// How many bits a big-endian number has.
pub(crate) fn bits(number: &[u8]) -> usize {
    let number = trim(number);
    let zeros = number.first().map_or(0, |first| first.leading_zeros());
    number.len() * 8 - usize::try_from(zeros).unwrap_or(0)
}

/// Without leading zeros.
fn trim(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
