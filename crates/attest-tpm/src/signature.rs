//! `TPMT_SIGNATURE` (Part 2, section 11.3.4), and its conversion to what the crypto backend checks.

use crate::public::{ECDSA, SHA256};
use crate::wire::{Malformed, Reader};
use crypto::{Algorithm, PublicKey};

pub(crate) const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;

/// A parsed signature. Numbers are big-endian, as the TPM padded them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    Ecdsa {
        hash: u16,
        r: Vec<u8>,
        s: Vec<u8>,
    },
    /// RSASSA or RSAPSS, by its number.
    Rsa {
        scheme: u16,
        hash: u16,
        bytes: Vec<u8>,
    },
}

impl Signature {
    /// # Errors
    /// [`Malformed`] if `bytes` are not exactly one `TPMT_SIGNATURE` by ECDSA, RSASSA or RSAPSS.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("TPMT_SIGNATURE", bytes)?;
        let scheme = reader.u16("sigAlg")?;
        let hash = reader.u16("hash")?;
        let signature = match scheme {
            ECDSA => Self::Ecdsa {
                hash,
                r: reader.sized(66, "signatureR")?.to_vec(),
                s: reader.sized(66, "signatureS")?.to_vec(),
            },
            RSASSA | RSAPSS => Self::Rsa {
                scheme,
                hash,
                bytes: reader.sized(512, "sig")?.to_vec(),
            },
            _ => return Err(reader.malformed("sigAlg is neither ECDSA, RSASSA nor RSAPSS")),
        };
        reader.finish()?;
        Ok(signature)
    }

    /// The ASN.1 DER of an ECDSA signature with SHA-256 whose numbers fit P-256.
    #[must_use]
    pub fn p256_der(&self) -> Option<Vec<u8>> {
        let Self::Ecdsa { hash: SHA256, r, s } = self else {
            return None;
        };
        let body = [der_integer(r)?, der_integer(s)?].concat();
        let length = u8::try_from(body.len()).ok()?;
        Some([&[0x30, length][..], &body].concat())
    }

    /// The `TPMT_SIGNATURE` of an ASN.1 DER signature by ECDSA on P-256 with SHA-256. Absent for anything else.
    #[must_use]
    pub fn p256_from_der(der: &[u8]) -> Option<Vec<u8>> {
        let (&[0x30, length], body) = der.split_first_chunk::<2>()? else {
            return None;
        };
        if usize::from(length) != body.len() {
            return None;
        }
        let (r, rest) = der_number(body)?;
        let (s, rest) = der_number(rest)?;
        let heads = [ECDSA, SHA256, 32].map(u16::to_be_bytes).concat();
        rest.is_empty()
            .then(|| [&heads[..], &r, &[0, 32], &s].concat())
    }

    /// Whether this is ECDSA over SHA-256 of `message` by the P-256 key, or RSASSA over it by the RSA
    /// key. No other scheme is accepted.
    #[must_use]
    pub fn verifies(&self, key: &PublicKey, message: &[u8]) -> bool {
        let bytes = match (self, key.algorithm()) {
            (Self::Ecdsa { .. }, Algorithm::EcdsaP256) => self.p256_der(),
            (
                Self::Rsa {
                    scheme: RSASSA,
                    hash: SHA256,
                    bytes,
                },
                Algorithm::Rsa,
            ) => Some(bytes.clone()),
            _ => None,
        };
        bytes.is_some_and(|bytes| key.verify(message, &bytes).is_ok())
    }
}

/// DER INTEGER of a positive number of at most 32 bytes. Zero is no ECDSA number.
fn der_integer(number: &[u8]) -> Option<Vec<u8>> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = number.get(zeros..)?;
    let first = *number.first()?;
    let sign = usize::from(first >= 0x80);
    let length = u8::try_from(number.len() + sign).ok()?;
    if number.len() > 32 {
        return None;
    }
    let mut bytes = vec![0x02, length];
    bytes.resize(2 + sign, 0);
    bytes.extend_from_slice(number);
    Some(bytes)
}

/// A positive DER INTEGER of at most 32 bytes, padded to them, and what follows it.
fn der_number(bytes: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (&[0x02, length], rest) = bytes.split_first_chunk::<2>()? else {
        return None;
    };
    let (number, rest) = rest.split_at_checked(length.into())?;
    let number = match number {
        [0, more @ ..] => more,
        number => number,
    };
    let mut padded = [0; 32];
    let at = padded.len().checked_sub(number.len())?;
    padded.get_mut(at..)?.copy_from_slice(number);
    Some((padded, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_for_the_chip_is_the_one_that_was_made() {
        use crypto::Signer as _;
        let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
        // Numbers of all lengths come up.
        for turn in 0..64_u8 {
            let der = key.sign(&[turn]).unwrap();
            let bytes = Signature::p256_from_der(&der).unwrap();
            let back = Signature::parse(&bytes).unwrap();
            assert!(back.verifies(key.public_key(), &[turn]));
            for cut in 0..der.len() {
                assert!(Signature::p256_from_der(&der[..cut]).is_none());
            }
        }
    }

    #[test]
    fn der_has_no_spare_zero_and_no_sign() {
        assert_eq!(der_integer(&[0, 0, 0x7f]).unwrap(), [2, 1, 0x7f]);
        assert_eq!(der_integer(&[0, 0x80]).unwrap(), [2, 2, 0, 0x80]);
        assert_eq!(der_integer(&[0, 0]), None);
        assert_eq!(der_integer(&[1; 33]), None);
        assert_eq!(der_integer(&[0xff; 32]).unwrap().len(), 35);
    }
}
