//! `TPM2_MakeCredential` without a TPM (Part 1, section 24): a secret that only the TPM with this
//! endorsement key gives back, and only while it holds the key with this name.

use crate::ek::EndorsementKey;
use crate::public::Name;
use crate::wire::sized;
use crypto::tpm::{aes128_cfb_encrypt, ecdh, kdfa_sha256, kdfe_sha256, rsa_oaep_sha256_encrypt};
use crypto::{Algorithm, Error, PublicKey, hmac_sha256};

/// What the agent passes to `TPM2_ActivateCredential`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// Body of a `TPM2B_ID_OBJECT`: integrity, then the wrapped secret.
    pub blob: Vec<u8>,
    /// Body of a `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: Vec<u8>,
}

/// Wraps `secret` for the object `ak_name` in the TPM of `ek`.
///
/// `seed` is fresh randomness, used for RSA endorsement keys; for P-256 ones the seed comes out of the
/// key agreement and `seed` is not used.
///
/// # Errors
/// [`Error`] if the backend refuses the key.
pub fn make_credential(
    ek: &EndorsementKey,
    ak_name: &Name,
    secret: &[u8; 32],
    seed: &[u8; 32],
) -> Result<Credential, Error> {
    let key = ek.key();
    match key.algorithm() {
        Algorithm::EcdsaP256 => {
            let shared = ecdh(key)?;
            let (ours, ephemeral) = coordinates(&shared.ephemeral)?;
            let (theirs, _) = coordinates(key)?;
            let seed = kdfe_sha256(&shared.z, "IDENTITY", ours, theirs, 256);
            // TPMS_ECC_POINT (Part 2, section 11.2.5.2).
            let encrypted_secret = [sized(ours), sized(ephemeral)].concat();
            wrap(&seed, ak_name, secret, encrypted_secret)
        }
        _ => {
            // The label's terminating zero belongs to it (Part 1, section B.4).
            let encrypted_secret = rsa_oaep_sha256_encrypt(key, b"IDENTITY\0", seed)?;
            wrap(seed, ak_name, secret, encrypted_secret)
        }
    }
}

fn coordinates(key: &PublicKey) -> Result<(&[u8], &[u8]), Error> {
    key.xy().ok_or(Error::Backend("a key without coordinates"))
}

/// Encrypt, then MAC over ciphertext and name (Part 1, section 24.4 and 24.5).
fn wrap(
    seed: &[u8],
    name: &Name,
    secret: &[u8; 32],
    encrypted_secret: Vec<u8>,
) -> Result<Credential, Error> {
    let name = name.as_bytes();
    let storage = kdfa_sha256(seed, "STORAGE", name, &[], 128);
    let storage = storage
        .first_chunk::<16>()
        .ok_or(Error::Backend("a short derived key"))?;
    let wrapped = aes128_cfb_encrypt(storage, &sized(secret))?;
    let integrity_key = kdfa_sha256(seed, "INTEGRITY", &[], &[], 256);
    let integrity = hmac_sha256(&integrity_key, &[&wrapped, name].concat());
    Ok(Credential {
        blob: [sized(&integrity), wrapped].concat(),
        encrypted_secret,
    })
}
