//! Encryption of what is kept on disk: AES-256-GCM (NIST SP 800-38D) under a key that somebody else guards.

use crate::{Error, SecretBytes, random};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes of a key.
pub const KEY: usize = 32;

/// Encrypts `plaintext` and binds `associated`, which is not part of the answer: a nonce of 12 random bytes,
/// the ciphertext, and a tag of 16 bytes. One key is good for some billions of messages.
///
/// # Errors
/// [`Error::Backend`] if the key is not 32 bytes, or the backend refuses.
pub fn encrypt(key: &SecretBytes, associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    let nonce = random::<NONCE_LEN>();
    let mut sealed = zeroize::Zeroizing::new(plaintext.to_vec());
    let tag = cipher(key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated),
            &mut sealed,
        )
        .map_err(|_| Error::Backend("AES-256-GCM"))?;
    Ok([&nonce[..], &sealed, tag.as_ref()].concat())
}

/// What [`encrypt`] was given, if key and `associated` are the same and no byte has changed.
///
/// # Errors
/// [`Error::Backend`] otherwise; it does not say which.
pub fn decrypt(key: &SecretBytes, associated: &[u8], message: &[u8]) -> Result<SecretBytes, Error> {
    let refused =
        || Error::Backend("to decrypt: the key, what it is bound to, or the bytes are others");
    let (nonce, rest) = message
        .split_first_chunk::<NONCE_LEN>()
        .ok_or_else(refused)?;
    let mut bytes = zeroize::Zeroizing::new(rest.to_vec());
    let length = cipher(key)?
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(associated),
            &mut bytes,
        )
        .map_err(|_| refused())?
        .len();
    bytes.truncate(length);
    Ok(SecretBytes::new(std::mem::take(&mut bytes)))
}

fn cipher(key: &SecretBytes) -> Result<LessSafeKey, Error> {
    UnboundKey::new(&AES_256_GCM, key.expose())
        .map(LessSafeKey::new)
        .map_err(|_| Error::Backend("an AES-256 key that is not 32 bytes"))
}
