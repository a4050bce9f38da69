//! The cryptography of TPM 2.0 that a verifier needs for `TPM2_MakeCredential`: KDFa, KDFe, CFB,
//! OAEP and one-pass ECDH (TCG TPM 2.0 Library, Part 1, sections 11.4.10, B.10 and C.6.4).
//!
//! Structures (`TPM2B_…`) are built by the caller; nothing here talks to a TPM.

use crate::{Algorithm, Error, PublicKey, Sha256, hmac_sha256};
use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use zeroize::Zeroizing;

/// KDFa with HMAC-SHA-256 (Part 1, section 11.4.10.2; SP 800-108 counter mode): the first
/// `bits / 8` bytes of HMAC(key, counter ‖ label ‖ 0x00 ‖ `context_u` ‖ `context_v` ‖ bits) ….
///
/// `label` is given without its terminating zero; `bits` is a multiple of eight.
#[must_use]
pub fn kdfa_sha256(
    key: &[u8],
    label: &str,
    context_u: &[u8],
    context_v: &[u8],
    bits: u32,
) -> Zeroizing<Vec<u8>> {
    let block = |counter: u32| {
        let message = [
            &counter.to_be_bytes(),
            label.as_bytes(),
            &[0],
            context_u,
            context_v,
            &bits.to_be_bytes(),
        ]
        .concat();
        hmac_sha256(key, &message)
    };
    stretch(bits, block)
}

/// KDFe with SHA-256 (Part 1, section 11.4.10.3; SP 800-56A): the first `bits / 8` bytes of
/// SHA-256(counter ‖ z ‖ label ‖ 0x00 ‖ `party_u` ‖ `party_v`) ….
///
/// `label` is given without its terminating zero; `party_u` and `party_v` are the x coordinates of
/// the ephemeral and of the static key.
#[must_use]
pub fn kdfe_sha256(
    z: &[u8],
    label: &str,
    party_u: &[u8],
    party_v: &[u8],
    bits: u32,
) -> Zeroizing<Vec<u8>> {
    let block = |counter: u32| {
        let mut state = Sha256::new();
        for part in [
            &counter.to_be_bytes(),
            z,
            label.as_bytes(),
            &[0],
            party_u,
            party_v,
        ] {
            state.update(part);
        }
        state.finish()
    };
    stretch(bits, block)
}

/// AES-128 in CFB mode with a zero IV, as the outer wrap of a credential asks for (Part 1,
/// section 24.4). Integrity comes from the HMAC that goes with it.
///
/// # Errors
/// [`Error::Backend`].
pub fn aes128_cfb_encrypt(key: &[u8; 16], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    aes128_cfb_encrypt_from(key, &[0; 16], plaintext)
}

/// AES-128 in CFB mode from `iv` on, as a session encrypts a parameter (Part 1, section 21.3).
///
/// # Errors
/// [`Error::Backend`].
pub fn aes128_cfb_encrypt_from(
    key: &[u8; 16],
    iv: &[u8; 16],
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let refused = |_| Error::Backend("AES-128-CFB");
    let key = UnboundCipherKey::new(&AES_128, key)
        .and_then(EncryptingKey::cfb128)
        .map_err(refused)?;
    let mut bytes = plaintext.to_vec();
    key.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128((*iv).into()))
        .map_err(refused)?;
    Ok(bytes)
}

/// The other way round.
///
/// # Errors
/// [`Error::Backend`].
pub fn aes128_cfb_decrypt_from(
    key: &[u8; 16],
    iv: &[u8; 16],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let refused = |_| Error::Backend("AES-128-CFB");
    let key = UnboundCipherKey::new(&AES_128, key)
        .and_then(DecryptingKey::cfb128)
        .map_err(refused)?;
    let mut bytes = Zeroizing::new(ciphertext.to_vec());
    key.decrypt(&mut bytes, DecryptionContext::Iv128((*iv).into()))
        .map_err(refused)?;
    Ok(bytes)
}

/// RSAES-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017, section 7.1) to the key in `spki`.
///
/// The TPM's labels end with a zero byte that is part of the label (Part 1, section B.4): pass
/// `b"IDENTITY\0"`.
///
/// # Errors
/// [`Error::PublicKey`] if `spki` is not RSA, [`Error::Backend`] if the plaintext is too long.
pub fn rsa_oaep_sha256_encrypt(
    spki: &PublicKey,
    label: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    if spki.algorithm() != Algorithm::Rsa {
        return Err(Error::Unsupported {
            algorithm: spki.algorithm(),
            operation: "OAEP encryption",
        });
    }
    let key = PublicEncryptingKey::from_der(spki.spki_der())
        .map_err(|_| Error::PublicKey("RSA key that the backend does not encrypt to"))?;
    let refused = |_| Error::Backend("OAEP encryption");
    let key = OaepPublicEncryptingKey::new(key).map_err(refused)?;
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let length = key
        .encrypt(
            &OAEP_SHA256_MGF1SHA256,
            plaintext,
            &mut ciphertext,
            Some(label),
        )
        .map_err(refused)?
        .len();
    ciphertext.truncate(length);
    Ok(ciphertext)
}

/// One side of a one-pass ECDH: the ephemeral public key to send, and the shared x coordinate.
pub struct Shared {
    pub ephemeral: PublicKey,
    /// Big-endian, as long as the curve's field.
    pub z: Zeroizing<Vec<u8>>,
}

/// A fresh key agreed with `peer`, which is a P-256 or P-384 key (Part 1, section C.6.4).
///
/// # Errors
/// [`Error::Unsupported`] for other keys, [`Error::Backend`].
pub fn ecdh(peer: &PublicKey) -> Result<Shared, Error> {
    let curve = match peer.algorithm() {
        Algorithm::EcdsaP256 => &ECDH_P256,
        Algorithm::EcdsaP384 => &ECDH_P384,
        algorithm @ (Algorithm::Ed25519 | Algorithm::Rsa | Algorithm::MlDsa44) => {
            return Err(Error::Unsupported {
                algorithm,
                operation: "ECDH with a TPM",
            });
        }
    };
    let refused = |_| Error::Backend("ECDH");
    let ours = PrivateKey::generate(curve).map_err(refused)?;
    let public = ours.compute_public_key().map_err(refused)?;
    let z = agreement::agree(
        &ours,
        UnparsedPublicKey::new(curve, peer.raw()),
        Error::Backend("ECDH"),
        |z| Ok(Zeroizing::new(z.to_vec())),
    )?;
    Ok(Shared {
        ephemeral: PublicKey::from_raw(peer.algorithm(), public.as_ref())?,
        z,
    })
}

/// Blocks 1, 2, … cut to `bits`.
fn stretch(bits: u32, block: impl Fn(u32) -> [u8; 32]) -> Zeroizing<Vec<u8>> {
    let length = usize::try_from(bits / 8).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    for counter in 1.. {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(&block(counter));
    }
    bytes.truncate(length);
    bytes
}
