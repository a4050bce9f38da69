//! JWS signatures: the examples of RFC 7515, and the conversion from ASN.1.

use crypto::jws::{Curve, JwsAlgorithm, VerificationKey, es256_from_der};
use crypto::{Algorithm, KeyPair, Signer as _, base64};

const ES256_INPUT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// RFC 7515, appendix A.3.
fn rfc_7515_key() -> VerificationKey {
    VerificationKey::Ec {
        curve: Curve::P256,
        x: base64::decode_url("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU").unwrap(),
        y: base64::decode_url("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0").unwrap(),
    }
}

#[test]
fn es256_matches_rfc_7515() {
    let signature = base64::decode_url(
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    )
    .unwrap();
    let key = rfc_7515_key();
    let message = ES256_INPUT.as_bytes();
    key.verify(JwsAlgorithm::Es256, message, &signature)
        .unwrap();
    // The algorithm is the token's word; the key decides what it may be.
    for other in [
        JwsAlgorithm::Es384,
        JwsAlgorithm::Rs256,
        JwsAlgorithm::Ps512,
    ] {
        assert!(key.verify(other, message, &signature).is_err(), "{other:?}");
    }
}

#[test]
fn rs256_by_openssl_verifies() {
    let spki = include_bytes!("../data/rsa2048.spki.der");
    let key = VerificationKey::Rsa {
        modulus: spki.get(33..289).unwrap().to_vec(),
        exponent: vec![1, 0, 1],
    };
    let signature = include_bytes!("../data/rsa2048-sha256.sig");
    key.verify(JwsAlgorithm::Rs256, b"trilith", signature)
        .unwrap();
    assert!(
        key.verify(JwsAlgorithm::Ps256, b"trilith", signature)
            .is_err()
    );
}

#[test]
fn asn1_signatures_become_es256() {
    let pair = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let key = VerificationKey::from_public_key(pair.public_key()).unwrap();
    // Enough signatures to meet numbers with a sign byte and with a leading zero byte.
    for counter in 0..600_u32 {
        let message = counter.to_be_bytes();
        let signature = es256_from_der(&pair.sign(&message).unwrap()).unwrap();
        key.verify(JwsAlgorithm::Es256, &message, &signature)
            .unwrap();
    }
}

#[test]
fn what_is_no_asn1_signature_is_refused() {
    for der in [
        &[][..],
        &[0x30, 0x00],
        &[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x02, 0x01],
        &[0x30, 0x07, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x00],
    ] {
        assert!(es256_from_der(der).is_err(), "{der:x?}");
    }
}

#[test]
fn only_nine_algorithms_have_names() {
    for name in ["none", "HS256", "EdDSA", "es256", "ES256K", ""] {
        assert!(JwsAlgorithm::from_name(name).is_none(), "{name:?}");
    }
}
