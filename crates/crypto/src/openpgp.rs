//! What OpenPGP (RFC 4880, RFC 9580) needs of the backend: digests, fingerprints, and signatures by RSA
//! and Ed25519. Packets, keys and their validity are read above this crate.

use crate::Error;
use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};

/// A hash by which a signature may be made. SHA-1 and MD5 are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// By its number in RFC 9580, section 9.5.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            8 => Some(Self::Sha256),
            9 => Some(Self::Sha384),
            10 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The digest of `message`: 32, 48 or 64 bytes.
    #[must_use]
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, message).as_ref().to_vec()
    }
}

/// SHA-1 of `bytes`, for the fingerprint of a version 4 key (RFC 9580, section 5.5.4.2): a name, which
/// nothing is trusted for.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> [u8; 20] {
    let mut output = [0; 20];
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    // INVARIANT: the backend's SHA-1 outputs are 20 bytes long.
    output.copy_from_slice(digest.as_ref());
    output
}

/// A key that checks signatures over whole messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey(Scheme);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Ed25519([u8; 32]),
}

impl VerifyingKey {
    /// RSA by big-endian modulus and exponent, without leading zeros.
    ///
    /// # Errors
    /// [`Error::PublicKey`] if the modulus has not between 2048 and 8192 bits.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, Error> {
        let starts_well = modulus.first().is_some_and(|first| *first != 0);
        if !starts_well || !(256..=1024).contains(&modulus.len()) || exponent.len() > 8 {
            return Err(Error::PublicKey("RSA key outside of 2048 to 8192 bits"));
        }
        Ok(Self(Scheme::Rsa {
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
        }))
    }

    /// The 32 bytes of RFC 8032, section 5.1.2.
    #[must_use]
    pub const fn ed25519(key: [u8; 32]) -> Self {
        Self(Scheme::Ed25519(key))
    }

    /// Checks `signature` over `message`: PKCS #1 v1.5 with `hash`, or Ed25519 over the digest by `hash`
    /// (RFC 9580, section 5.2.3). An RSA signature may lack its leading zeros.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn verify(&self, hash: Hash, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        match &self.0 {
            Scheme::Rsa { modulus, exponent } => {
                let missing = modulus.len().checked_sub(signature.len());
                let missing = missing.ok_or(Error::Signature)?;
                let padded = [vec![0; missing].as_slice(), signature].concat();
                let scheme = match hash {
                    Hash::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
                    Hash::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
                    Hash::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
                };
                RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                }
                .verify(scheme, message, &padded)
            }
            Scheme::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(&hash.digest(message), signature)
            }
        }
        .map_err(|_| Error::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, KeyPair, Signer as _};

    #[test]
    fn a_fingerprint_is_sha_1() {
        // FIPS 180-4, "abc".
        assert_eq!(
            crate::hex::encode(&fingerprint(b"abc")),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }

    #[test]
    fn ed25519_signs_the_digest_and_nothing_else() {
        let pair = KeyPair::generate(Algorithm::Ed25519).unwrap();
        let raw: [u8; 32] = pair.public_key().raw().try_into().unwrap();
        let key = VerifyingKey::ed25519(raw);
        let signature = pair.sign(&Hash::Sha512.digest(b"m")).unwrap();
        assert!(key.verify(Hash::Sha512, b"m", &signature).is_ok());
        assert!(key.verify(Hash::Sha256, b"m", &signature).is_err());
        assert!(key.verify(Hash::Sha512, b"n", &signature).is_err());
        assert!(key.verify(Hash::Sha512, b"m", &signature[..63]).is_err());
    }

    #[test]
    fn weak_rsa_keys_and_hashes_are_refused() {
        assert!(VerifyingKey::rsa(&[0xff; 128], &[1, 0, 1]).is_err());
        assert!(VerifyingKey::rsa(&[0; 256], &[1, 0, 1]).is_err());
        assert!(VerifyingKey::rsa(&[0xff; 256], &[1, 0, 1]).is_ok());
        assert_eq!(Hash::from_id(2), None);
        assert_eq!(Hash::from_id(1), None);
    }
}
