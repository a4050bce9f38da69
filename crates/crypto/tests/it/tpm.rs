//! The TPM's key derivation and wrapping, against values computed by other implementations.

use crate::bytes;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use crypto::{Algorithm, KeyPair, PublicKey, Signer as _, tpm};

/// Computed with `KBKDFHMAC` of the Python package `cryptography` 48, counter mode, r = 32.
#[test]
fn kdfa_is_counter_mode_kbkdf() {
    let key: Vec<u8> = (0..32).collect();
    for (label, u, v, bits, output) in [
        (
            "STORAGE",
            &bytes("000baabb")[..],
            &b""[..],
            128,
            "ebd76b24034bb0dce3b25fea3d31086a",
        ),
        (
            "INTEGRITY",
            b"",
            b"",
            256,
            "bacf689f634ece301e1f1b15b072d9c87db6a69585db42b1a0cb8f73ebe2692e",
        ),
        (
            "LONG",
            b"uu",
            b"vv",
            512,
            "e4ae73acc4ac2e6e763a8f61e97d1676391406dcaae36beec811e60b1ea4285a
             5d82c18a82313262c29a4710609f5111ced87756210e4eae2de6e16286b67222",
        ),
    ] {
        let derived = tpm::kdfa_sha256(&key, label, u, v, bits);
        assert_eq!(derived.as_slice(), bytes(output), "{label}");
    }
}

/// Computed with `ConcatKDFHash` of the Python package `cryptography` 48.
#[test]
fn kdfe_is_the_concatenation_kdf() {
    let derived = tpm::kdfe_sha256(&[0x33; 32], "IDENTITY", &[0x11; 32], &[0x22; 32], 320);
    let expected =
        bytes("3760cf1561df1c9322bcd5c43bc23aae37c2e60b944092288289c9cbdeed61a0ab405382e1614eca");
    assert_eq!(derived.as_slice(), expected);
}

/// SP 800-38A, F.3.13. Its IV is not zero, but the first block of a zero-IV message can be chosen
/// so that its ciphertext is that IV; from there on the chaining is the standard's.
#[test]
fn cfb_matches_sp_800_38a() {
    let key: [u8; 16] = bytes("2b7e151628aed2a6abf7158809cf4f3c")
        .try_into()
        .unwrap();
    let iv = bytes("000102030405060708090a0b0c0d0e0f");
    let keystream = tpm::aes128_cfb_encrypt(&key, &[0; 16]).unwrap();
    let mut plaintext: Vec<u8> = keystream.iter().zip(&iv).map(|(a, b)| a ^ b).collect();
    plaintext.extend(bytes(
        "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51",
    ));
    let ciphertext = tpm::aes128_cfb_encrypt(&key, &plaintext).unwrap();
    let expected = bytes(
        "000102030405060708090a0b0c0d0e0f
         3b3fd92eb72dad20333449f8e83cfb4a c8a64537a0b3a93fcde3cdad9f1ce58b",
    );
    assert_eq!(ciphertext, expected);
    // A message that is no multiple of the block keeps its length.
    let part = plaintext.get(..21).unwrap();
    assert_eq!(
        tpm::aes128_cfb_encrypt(&key, part).unwrap(),
        ciphertext.get(..21).unwrap()
    );
}

#[test]
fn oaep_opens_under_its_label_only() {
    let spki = PublicKey::from_spki_der(include_bytes!("../data/rsa2048.spki.der")).unwrap();
    let sealed = tpm::rsa_oaep_sha256_encrypt(&spki, b"IDENTITY\0", b"seed").unwrap();
    let private =
        PrivateDecryptingKey::from_pkcs8(include_bytes!("../data/rsa2048.pkcs8.der")).unwrap();
    let private = OaepPrivateDecryptingKey::new(private).unwrap();
    let mut output = vec![0; private.min_output_size()];
    let open = |label: &[u8], output: &mut [u8]| {
        private
            .decrypt(&OAEP_SHA256_MGF1SHA256, &sealed, output, Some(label))
            .map(|plaintext| plaintext.to_vec())
            .ok()
    };
    assert_eq!(
        open(b"IDENTITY\0", &mut output).as_deref(),
        Some(&b"seed"[..])
    );
    assert_eq!(open(b"IDENTITY", &mut output), None);
    let too_long = tpm::rsa_oaep_sha256_encrypt(&spki, b"", &[0; 200]);
    assert!(too_long.is_err());
}

#[test]
fn oaep_and_ecdh_ask_for_their_kind_of_key() {
    let rsa = PublicKey::from_spki_der(include_bytes!("../data/rsa2048.spki.der")).unwrap();
    assert!(tpm::ecdh(&rsa).is_err());
    let ec = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    assert!(tpm::rsa_oaep_sha256_encrypt(ec.public_key(), b"", b"").is_err());
}

#[test]
fn both_sides_of_ecdh_agree() {
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
    let chip = PrivateKey::generate(&ECDH_P256).unwrap();
    let point = chip.compute_public_key().unwrap();
    let (x, y) = point.as_ref().get(1..).unwrap().split_at(32);
    let peer = PublicKey::from_p256_xy(x, y).unwrap();
    let ours = tpm::ecdh(&peer).unwrap();
    let theirs = agree(
        &chip,
        UnparsedPublicKey::new(&ECDH_P256, ours.ephemeral.raw()),
        (),
        |z| Ok(z.to_vec()),
    )
    .unwrap();
    assert_eq!(ours.z.as_slice(), theirs);
}
