//! The two signing keys of a join: the attestation key, which signs only what the TPM itself says,
//! and the identity key, which never leaves it. One scheme: ECDSA on P-256 with SHA-256; attestation
//! keys that a cloud made may be RSA 2048 with RSASSA and SHA-256.

use crate::public::{Attributes, ECDSA, Key, NIST_P256, Name, Public, SHA256, Scheme};
use crate::signature::RSASSA;
use crypto::PublicKey;
use facts::Finding;

/// Made in this TPM, by it, and bound to it: what every accepted key must be.
const RESIDENT: Attributes = Attributes::FIXED_TPM
    .and(Attributes::FIXED_PARENT)
    .and(Attributes::SENSITIVE_DATA_ORIGIN);

/// A signing key whose public area says the right things. That a TPM holds it is still to be proved:
/// by activation for the attestation key, by a certificate of that key for the identity key.
#[derive(Debug, Clone)]
pub struct SigningKey {
    pub key: PublicKey,
    pub name: Name,
    /// Of the public area.
    pub(crate) sha256: [u8; 32],
}

impl SigningKey {
    /// Reads a `TPMT_PUBLIC` as an attestation key.
    ///
    /// # Errors
    /// `TPM-STRUCTURE`, `TPM-AK-ATTRIBUTES`, `TPM-AK-SCHEME`.
    pub fn attestation(public: &[u8]) -> Result<Self, Finding> {
        Role {
            what: "attestation key",
            attributes: "TPM-AK-ATTRIBUTES",
            scheme: "TPM-AK-SCHEME",
            required: RESIDENT.and(Attributes::RESTRICTED).and(Attributes::SIGN),
            forbidden: Attributes::DECRYPT,
            rsa: true,
        }
        .read(public)
    }

    /// Reads a `TPMT_PUBLIC` as an identity key. It must not be restricted: TLS signs what it likes.
    ///
    /// # Errors
    /// `TPM-STRUCTURE`, `TPM-KEY-ATTRIBUTES`, `TPM-KEY-SCHEME`.
    pub fn identity(public: &[u8]) -> Result<Self, Finding> {
        Role {
            what: "identity key",
            attributes: "TPM-KEY-ATTRIBUTES",
            scheme: "TPM-KEY-SCHEME",
            required: RESIDENT.and(Attributes::SIGN),
            forbidden: Attributes::RESTRICTED.and(Attributes::DECRYPT),
            rsa: false,
        }
        .read(public)
    }
}

struct Role {
    what: &'static str,
    attributes: &'static str,
    scheme: &'static str,
    required: Attributes,
    forbidden: Attributes,
    rsa: bool,
}

impl Role {
    fn read(&self, bytes: &[u8]) -> Result<SigningKey, Finding> {
        let what = self.what;
        let public = Public::parse(bytes).map_err(|malformed| malformed.finding(what))?;
        let attributes = public.attributes;
        if !attributes.contains(self.required) || attributes.intersects(self.forbidden) {
            return Err(Finding::new(
                self.attributes,
                format!("the {what} is not of the kind that its role asks for"),
            )
            .expected(format!("{} and not {}", self.required, self.forbidden))
            .observed(attributes.to_string())
            .next("let the node agent create the key"));
        }
        let scheme = || {
            Finding::new(self.scheme, format!("the {what} signs by another scheme"))
                .expected(if self.rsa {
                    "ECDSA on P-256 or RSASSA with 2048 bits, with SHA-256, named by SHA-256"
                } else {
                    "ECDSA on P-256 with SHA-256, named by SHA-256"
                })
                .observed(describe(&public))
                .next("let the node agent create the key")
        };
        let name = public.name().ok_or_else(scheme)?;
        let key = match &public.key {
            Key::Ecc {
                symmetric: None,
                scheme:
                    Scheme {
                        algorithm: ECDSA,
                        hash: Some(SHA256),
                    },
                curve: NIST_P256,
                x,
                y,
                ..
            } => PublicKey::from_p256_xy(x, y).ok(),
            Key::Rsa {
                symmetric: None,
                scheme:
                    Scheme {
                        algorithm: RSASSA,
                        hash: Some(SHA256),
                    },
                bits: 2048,
                exponent: 0 | 65537,
                modulus,
            } if self.rsa && modulus.len() == 256 => PublicKey::from_rsa(modulus, &[1, 0, 1]).ok(),
            _ => None,
        };
        Ok(SigningKey {
            key: key.ok_or_else(scheme)?,
            name,
            sha256: crypto::sha256(bytes),
        })
    }
}

fn describe(public: &Public) -> String {
    let name = public.name_algorithm;
    match &public.key {
        Key::Rsa { scheme, bits, .. } => format!(
            "RSA {bits}, scheme {:#06x} with hash {:#06x}, name {name:#06x}",
            scheme.algorithm,
            scheme.hash.unwrap_or_default()
        ),
        Key::Ecc { scheme, curve, .. } => format!(
            "curve {curve:#06x}, scheme {:#06x} with hash {:#06x}, name {name:#06x}",
            scheme.algorithm,
            scheme.hash.unwrap_or_default()
        ),
    }
}
