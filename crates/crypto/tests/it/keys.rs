//! Signatures: known answers, keys made by OpenSSL 3.0, and byte strings that are no keys.

use crate::bytes;
use crypto::{Algorithm, Error, KeyPair, PublicKey, Signer as _};
use proptest::prelude::*;

const RSA_SPKI: &[u8] = include_bytes!("../data/rsa2048.spki.der");
const P384_SPKI: &[u8] = include_bytes!("../data/p384.spki.der");
const P256_SPKI: &[u8] = include_bytes!("../data/p256.spki.der");
const ED25519_SPKI: &[u8] = include_bytes!("../data/ed25519.spki.der");

#[test]
fn p256_matches_rfc_6979() {
    // RFC 6979, appendix A.2.5, SHA-256 of "sample".
    let key = PublicKey::from_p256_xy(
        &bytes("60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"),
        &bytes("7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"),
    )
    .unwrap();
    let mut signature = bytes(
        "3046 022100 EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
              022100 F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    );
    key.verify(b"sample", &signature).unwrap();
    assert!(key.verify(b"Sample", &signature).is_err());
    *signature.last_mut().unwrap() ^= 1;
    assert!(key.verify(b"sample", &signature).is_err());
}

#[test]
fn ed25519_matches_rfc_8032() {
    // RFC 8032, section 7.1, test 2.
    let raw = bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    let key = PublicKey::from_ed25519_raw(raw.try_into().unwrap()).unwrap();
    let signature = bytes(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
    key.verify(&[0x72], &signature).unwrap();
    assert!(key.verify(&[0x73], &signature).is_err());
}

#[test]
fn signatures_that_openssl_made_verify() {
    let rsa = PublicKey::from_spki_der(RSA_SPKI).unwrap();
    assert_eq!(rsa.algorithm(), Algorithm::Rsa);
    rsa.verify(b"trilith", include_bytes!("../data/rsa2048-sha256.sig"))
        .unwrap();
    let p384 = PublicKey::from_spki_der(P384_SPKI).unwrap();
    assert_eq!(p384.algorithm(), Algorithm::EcdsaP384);
    p384.verify(b"trilith", include_bytes!("../data/p384-sha384.sig"))
        .unwrap();
}

#[test]
fn keys_that_openssl_made_sign_and_come_back_as_they_were() {
    let pairs: [(&[u8], &[u8]); 4] = [
        (include_bytes!("../data/p256.pkcs8.der"), P256_SPKI),
        (include_bytes!("../data/p384.pkcs8.der"), P384_SPKI),
        (include_bytes!("../data/ed25519.pkcs8.der"), ED25519_SPKI),
        (include_bytes!("../data/rsa2048.pkcs8.der"), RSA_SPKI),
    ];
    for (pkcs8, spki) in pairs {
        let pair = KeyPair::from_pkcs8(pkcs8).unwrap();
        assert_eq!(pair.public_key().spki_der(), spki);
        assert_eq!(pair.to_pkcs8().unwrap().as_slice(), pkcs8);
        let signature = pair.sign(b"message").unwrap();
        pair.public_key().verify(b"message", &signature).unwrap();
    }
}

#[test]
fn generated_keys_survive_pkcs8() {
    for algorithm in [
        Algorithm::EcdsaP256,
        Algorithm::EcdsaP384,
        Algorithm::Ed25519,
        Algorithm::MlDsa44,
    ] {
        let made = KeyPair::generate(algorithm).unwrap();
        let read = KeyPair::from_pkcs8(&made.to_pkcs8().unwrap()).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        assert_eq!(made.public_key().algorithm(), algorithm);
        let again = match algorithm {
            Algorithm::MlDsa44 => {
                PublicKey::from_ml_dsa_44_raw(made.public_key().raw().try_into().unwrap()).unwrap()
            }
            _ => PublicKey::from_spki_der(made.public_key().spki_der()).unwrap(),
        };
        assert_eq!(&again, made.public_key());
        again
            .verify(b"message", &read.sign(b"message").unwrap())
            .unwrap();
    }
    assert!(matches!(
        KeyPair::generate(Algorithm::Rsa),
        Err(Error::Unsupported { .. })
    ));
}

/// Whoever presents an SPKI wants an identity, and nothing that checks identities judges ML-DSA.
#[test]
fn an_ml_dsa_key_is_no_identity_and_signs_with_an_empty_context() {
    let pair = KeyPair::generate(Algorithm::MlDsa44).unwrap();
    let key = pair.public_key();
    assert_eq!((key.raw().len(), key.spki_der().len()), (1312, 1334));
    let refused = PublicKey::from_spki_der(key.spki_der()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "public key: ML-DSA, which only cosigners have"
    );
    let signature = pair.sign(b"message").unwrap();
    assert_eq!(signature.len(), 2420);
    key.verify(b"message", &signature).unwrap();
    assert!(key.verify(b"massage", &signature).is_err());
    for length in [0, 1, 2419] {
        let short = signature.get(..length).unwrap();
        assert!(key.verify(b"message", short).is_err());
    }
    assert!(key.xy().is_none());
}

/// The seed form of RFC 9881, which OpenSSL writes as well: one seed is one key.
#[test]
fn an_ml_dsa_key_is_its_seed() {
    let mut pkcs8 = crypto::hex::decode("3034020100300b060960864801650304031104228020").unwrap();
    pkcs8.extend_from_slice(&[7; 32]);
    let pair = KeyPair::from_pkcs8(&pkcs8).unwrap();
    assert_eq!(pair.public_key().algorithm(), Algorithm::MlDsa44);
    assert_eq!(pair.to_pkcs8().unwrap().as_slice(), pkcs8);
    assert_eq!(
        KeyPair::from_pkcs8(&pkcs8).unwrap().public_key(),
        pair.public_key()
    );
}

#[test]
fn a_private_key_is_not_shown() {
    let pair = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let shown = format!("{pair:?}");
    assert!(
        shown.starts_with("KeyPair(PublicKey(ECDSA P-256 sha256:"),
        "{shown}"
    );
}

#[test]
fn rsa_by_numbers_is_rsa_by_spki() {
    let spki = PublicKey::from_spki_der(RSA_SPKI).unwrap();
    // SPKI header 24, SEQUENCE header 4, INTEGER header 5 with its leading zero; 256 bytes; exponent.
    let modulus = RSA_SPKI.get(33..289).unwrap();
    let numbers = PublicKey::from_rsa(modulus, &[1, 0, 1]).unwrap();
    assert_eq!(spki, numbers);
}

#[test]
fn points_off_the_curve_are_refused() {
    assert!(PublicKey::from_p256_xy(&[1; 32], &[1; 32]).is_err());
    assert!(PublicKey::from_p256_xy(&[1; 33], &[1; 32]).is_err());
    let mut spki = P256_SPKI.to_vec();
    *spki.last_mut().unwrap() ^= 1;
    assert!(PublicKey::from_spki_der(&spki).is_err());
}

#[test]
fn coordinates_without_their_leading_zeros_are_padded() {
    let pair = loop {
        let pair = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        if pair.public_key().xy().unwrap().0.first() == Some(&0) {
            break pair;
        }
    };
    let (x, y) = pair.public_key().xy().unwrap();
    let short = PublicKey::from_p256_xy(x.get(1..).unwrap(), y).unwrap();
    assert_eq!(&short, pair.public_key());
}

#[test]
fn a_key_has_one_spelling() {
    for spki in [RSA_SPKI, P384_SPKI, P256_SPKI, ED25519_SPKI] {
        let longer = [spki, &[0]].concat();
        assert!(PublicKey::from_spki_der(&longer).is_err());
        for length in 0..spki.len() {
            assert!(PublicKey::from_spki_der(spki.get(..length).unwrap()).is_err());
        }
    }
    // The outer length in one byte more than it needs.
    let loose = [&[0x30, 0x81, 0x59], P256_SPKI.get(2..).unwrap()].concat();
    assert!(PublicKey::from_spki_der(&loose).is_err());
}

proptest! {
    #[test]
    fn reading_keys_never_panics(bytes: Vec<u8>, at in 0..294_usize, value: u8) {
        drop(PublicKey::from_spki_der(&bytes));
        drop(KeyPair::from_pkcs8(&bytes));
        let mut spki = RSA_SPKI.to_vec();
        if let Some(byte) = spki.get_mut(at) {
            *byte = value;
        }
        if let Ok(key) = PublicKey::from_spki_der(&spki) {
            prop_assert_eq!(key.spki_der(), spki);
        }
    }
}

#[test]
fn an_rsa_key_has_at_least_2048_bits() {
    let modulus = |first: u8, length: usize| [&[first][..], &vec![0xff; length - 1]].concat();
    let from = |modulus: &[u8]| PublicKey::from_rsa(modulus, &[1, 0, 1]);
    assert!(from(&modulus(0x80, 256)).is_ok());
    assert!(from(&[&[0, 0][..], &modulus(0x80, 256)].concat()).is_ok());
    for short in [
        modulus(0x7f, 256),
        modulus(0xff, 255),
        [&[0][..], &modulus(0xff, 255)].concat(),
        vec![1, 0, 1],
        vec![0; 256],
        Vec::new(),
    ] {
        assert!(from(&short).is_err(), "{} bytes", short.len());
    }
}
