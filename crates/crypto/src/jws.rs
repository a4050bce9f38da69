//! The signature algorithms of JSON Web Signature that SPIFFE allows (RFC 7518, section 3.1;
//! JWT-SVID, section 2.1), over public keys given as JWK parameters.
//!
//! Neither headers nor claims are known here, and neither `none`, HMAC nor EdDSA.

use crate::{Error, PublicKey};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

/// One of the nine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwsAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

impl JwsAlgorithm {
    /// By its `alg` value, case-sensitive.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::Es512 => return None,
        })
    }
}

/// The curve of an elliptic-curve JWK (RFC 7518, section 6.2.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// By its `crv` value, case-sensitive.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "P-256" => Self::P256,
            "P-384" => Self::P384,
            "P-521" => Self::P521,
            _ => return None,
        })
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Length of a coordinate in bytes; a JWK has exactly that many (RFC 7518, section 6.2.1.2).
    #[must_use]
    pub const fn field(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// RFC 7518, section 3.4: each curve goes with one algorithm.
    fn scheme(self, algorithm: JwsAlgorithm) -> Option<&'static dyn VerificationAlgorithm> {
        match (self, algorithm) {
            (Self::P256, JwsAlgorithm::Es256) => Some(&ECDSA_P256_SHA256_FIXED),
            (Self::P384, JwsAlgorithm::Es384) => Some(&ECDSA_P384_SHA384_FIXED),
            (Self::P521, JwsAlgorithm::Es512) => Some(&ECDSA_P521_SHA512_FIXED),
            _ => None,
        }
    }
}

/// A public key that verifies JWS signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerificationKey {
    Ec {
        curve: Curve,
        x: Vec<u8>,
        y: Vec<u8>,
    },
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

impl VerificationKey {
    /// The JWK form of an elliptic-curve key; `None` for the kinds that SPIFFE's JWTs do not use
    /// or that Trilith does not issue.
    #[must_use]
    pub fn from_public_key(key: &PublicKey) -> Option<Self> {
        let (x, y) = key.xy()?;
        let curve = match x.len() {
            32 => Curve::P256,
            _ => Curve::P384,
        };
        Some(Self::Ec {
            curve,
            x: x.to_vec(),
            y: y.to_vec(),
        })
    }

    /// Checks a signature in the form of RFC 7518, sections 3.3 to 3.5.
    ///
    /// # Errors
    /// [`Error::Signature`], also if `algorithm` is not one for this kind of key.
    pub fn verify(
        &self,
        algorithm: JwsAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        match self {
            Self::Ec { curve, x, y } => {
                let scheme = curve.scheme(algorithm).ok_or(Error::Signature)?;
                let point = [&[4], x.as_slice(), y].concat();
                UnparsedPublicKey::new(scheme, point).verify(message, signature)
            }
            Self::Rsa { modulus, exponent } => {
                let scheme = algorithm.rsa().ok_or(Error::Signature)?;
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(scheme, message, signature)
            }
        }
        .map_err(|_| Error::Signature)
    }
}

/// An ES256 signature (r ‖ s, 64 bytes; RFC 7518, section 3.4) from the ASN.1 DER one
/// (RFC 3279, section 2.2.3) that a P-256 [`Signer`](crate::Signer) returns.
///
/// # Errors
/// [`Error::Signature`] if `der` is not such a signature.
pub fn es256_from_der(der: &[u8]) -> Result<[u8; 64], Error> {
    fn number<'a>(bytes: &'a [u8], output: &mut [u8]) -> Option<&'a [u8]> {
        let [0x02, length, rest @ ..] = bytes else {
            return None;
        };
        let (number, rest) = rest.split_at_checked(usize::from(*length))?;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        let start = output.len().checked_sub(number.len())?;
        output.get_mut(start..)?.copy_from_slice(number);
        Some(rest)
    }
    let mut output = [0; 64];
    let (r, s) = output.split_at_mut(32);
    let rest = match der {
        [0x30, length, rest @ ..] if rest.len() == usize::from(*length) => {
            number(rest, r).and_then(|rest| number(rest, s))
        }
        _ => None,
    };
    if rest.is_some_and(<[u8]>::is_empty) {
        Ok(output)
    } else {
        Err(Error::Signature)
    }
}
