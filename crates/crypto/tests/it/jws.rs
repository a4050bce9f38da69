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

/// Signatures over `trilith` that the Python package `cryptography` 48 made.
#[test]
fn every_algorithm_verifies_what_others_signed() {
    let spki = include_bytes!("../data/rsa2048.spki.der");
    let rsa = VerificationKey::Rsa {
        modulus: spki.get(33..289).unwrap().to_vec(),
        exponent: vec![1, 0, 1],
    };
    for (name, signature) in RSA_SIGNATURES {
        verifies_only(&rsa, name, signature);
    }
    for (name, curve, x, y, signature) in EC_SIGNATURES {
        let key = VerificationKey::Ec {
            curve: Curve::from_name(curve).unwrap(),
            x: base64::decode_url(x).unwrap(),
            y: base64::decode_url(y).unwrap(),
        };
        verifies_only(&key, name, signature);
    }
}

fn verifies_only(key: &VerificationKey, name: &str, signature: &str) {
    let signature = base64::decode_url(signature).unwrap();
    for other in [
        "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512",
    ] {
        let algorithm = JwsAlgorithm::from_name(other).unwrap();
        let verified = key.verify(algorithm, b"trilith", &signature).is_ok();
        assert_eq!(
            verified,
            name == other,
            "signed with {name}, verified as {other}"
        );
    }
}

const RSA_SIGNATURES: &[(&str, &str)] = &[
    (
        "RS256",
        "RD9JuJvQVPVqxhMpL8gIm9ZBPF6nW3e9zwnLZde7gTAZdxXnZrc3DjVKaxWvPowc6QOxe9x_3qUY98oaC5ZuqXieHHTQTBZqXUp69iP0xgfpT_yyf8NTBLAYBnofnmuT4AL5xtkzz1DwY0_ldalwrojaZyTF0ZtevrPe0MTyhpu9LFjx8eGZ2c9HH8e6BRm-kT5DqhJuMrwmFxO6j6OUUJ_3mYYzhmB7H6_W_M-P-7_tIyhx2KBQWnMgM86JBSpifLNPDmFvPCBx9Ejjxjuk6Sw7lzKBsqgwu8lRo8fz3lSo_uDsQG03IUKbxBm5ZMd4smP3uDcOVV0CzEhZatSXnQ",
    ),
    (
        "RS384",
        "bo6rvwL7kMt7IE4iW6njXzpHqrBN-sy919Orr_UGp17Y7Q36WIdX5o2RVYrSmmWvUcDBscKfLwADc1RBWbZlvQl2m_8UgsAWPygmYdp-wwDreKlhGwhw_khWIdG6WVqG0NiUJ7or60ATeDD6h13uuBovNIcnIMpngoocQARdlb-Cd7S5Ux7Uerc6QAponT4FhF9us-NGAaD84AJG8ixuXFTFJwqgDokdXekUe8AKa54P4yws8faLy9FxBe_LTqxLPBA3RAhcdjM-qx4N_r1G19JSAcPIV41rVUlQkNAx7-2T9uEX35F_X_MyjYntUr8oNgqcXiMO473HRZa0qGKzRw",
    ),
    (
        "RS512",
        "oy8FNJkWHq6z9q4kR6156m2Bw8qu0U985jR-3wuEJ2hSY5yyRXajVjRZmDpImBGef5hpiQU6thDWmHFdUMlmh4DqqmsmPzUucq0cVl_L93ZYw6EIx4LZyCRKvTY6NuCOh5nAm3KEE4FbaOTudKWK0gevbrSYsVTmMmrsECaKwZrtja79eCv5yHBb-jNFPpIQOSAtPv6qj8PRpGmLIepx2LVm5FiuBb3nTHRdwlG7OemA_3heu3DJIjZpV_LNzVsPLPj74bNGD6WerPug-bFW_209P1F1z9I4-_153A_azn-Xm2pJW9TwMRZggYDNi_y6EVITpJm1-zhrNEZaBm21-g",
    ),
    (
        "PS256",
        "gLcsqfcoRCSLMC3_d13ATQeedJmit0IcAovSRgfj3x25tTY6ScqvaXmOPI_zDSHUjVABEdrZVhHbIVBxgli86_cyKdU_9bJUzUkv66RCLyWG5fjqle4HjUXokgNiHl1FM97bCsAnr7jWkgd89GGeFPmhQ5uSeEcwcbMqFzqPNj3_vNNDNXaKi3m4O8d0tD7hzC9S_68wDSGaQTKRpQZ0ov1Vc_3aHs7AIb5kJ1u4swFcVCX6r0vTSaY8roCcUt0cfBYhvfW6RHnLoKyOnQxK2IqBDNIIkpq9YH54YcBfwptnICNjF3_qr0ZlBpYAr5TiQeWRfd8OqOU528rtac8hxw",
    ),
    (
        "PS384",
        "gry10K2MK_wJJuJVzWzEjaOv5nnkusDOY4op2ZyY7rI3rJbgETtY3M5-GXr9zI3VHp8_a8aZ5lyLYvD6X_IK449Cbg76kBtTfDk_PEb_idw4mGuqvufDx0Og70VVLLlpcFZ3pLGLmljWg7CoU0FnTHJc-y_y6nj3y8HQ9pLAjlbwB1juUtyMgqYquqycatQtObnHccbjkMtyVj21-dITfXnUi_at5FM0ZwReYb4eKZVgfpn6_EJYntM-miJm1wuS0JPbU-K0otmcsvFvuNi9qDvuzjLLQ3NAXWDUpnYrgZwW-L8O-1yHfbPCnZLb1voaJvapnTJ9L5b6anMriBfaGg",
    ),
    (
        "PS512",
        "Py9wBz1X_FxDwJA1Gw3Wy6tVieaRXzwjM59x3vBE6nYQDluarBWlvFBplh1f56b3dMEpKwxDnDd5xeX2yDeaSTCAAC1XEzZVCFEPzYn7c81fTZVp0W5xNEJJ8GpHJVXGQeHI-dZQJL2DRppz2AKfwOCnT17vFC6lp5_eqY3nIsbstjWVL-Yysk0qeNgERVcuWQFwXzGEsXMRhfbEvxsU3vdbYfpvjJ0ODQU-4B5ZU1G0Q0Vi3h40D52-Shttrg5Qxz-rN_uF4USJgRJ_Kp3MG7Y5HdTIZTSiOnJBawzroKIyGqtt48zLtnfoQY2niybxFB2SfI3iq2QuWXIB3clPdA",
    ),
];

const EC_SIGNATURES: &[(&str, &str, &str, &str, &str)] = &[
    (
        "ES384",
        "P-384",
        "MVVgS6AMO4pc-qxlVAyHks6Y6rE8Wocdx4SRWh7e9wxlAxcbDtpEbE4ECc8gsNOh",
        "dUzCFoyytnOVJV-trfMVeuzZ109vW2ThEW5n2KJkFSotce0Xsf2Z6hliUpLZH2rV",
        "VIQ0t4OWyQmiNVA5kgDTjiQHqpy6Xhnbx0jqdPJLcfgDyzCOnxjvkVrdJUW-__LSgovXU7gIlpaJdyDAEPMBRTnDesvj9PYk5zWS9epdmGHd-kR5dPvJVaFOmom9DWOS",
    ),
    (
        "ES512",
        "P-521",
        "AEzSQrCkAft2vwd3ng4wrSFm9VRJ8hzWM8_gquu7jo_Z8EdBpWTlrHu4q-PTswjGeQuCDRpUm7uoeudguWn-napD",
        "AIb77b-yQlcVBwx55ePkPr1zJ2x0Z3oYtVKCVyPbeAvRtWTS9qJlkm4OZTMpunLV7Z-HoCKk7h94xqEPfj4Oaqs4",
        "ALc7OQe4HUK9M0b-VkiEEl-BB-KkWSZGuqkYpZ5fbgWDL6icCJatRwTzYS3jzyMJnEL0niPO5jG4ZltgF7VNLYf6AaDdf76Vlkc2i9mArueOd1xhNDRND__6NusAV2UIVcZabVj7r2XaheB22zuTrgUKD91yUlFSmO7joZSIl0wa8nzN",
    ),
];
