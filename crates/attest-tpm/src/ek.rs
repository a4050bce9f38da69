//! Endorsement keys: which public areas are accepted, and whether their maker is trusted.
//!
//! Not here: proof that the TPM holds the key, which is activation (`credential`).

use crate::certificate::{self, EK_CERTIFICATE, Kind};
use crate::path::Authorities;
use crate::public::{
    AES, Attributes, CFB, Key, NIST_P256, NULL, Public, SHA256, Scheme, Symmetric,
};
use crypto::{Algorithm, PublicKey, hex};
use facts::{Finding, Timestamp};

/// PolicySecret(endorsement), SHA-256: `PolicyA` of the TCG EK Credential Profile, section B.2.
pub const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
const TEMPLATE_ATTRIBUTES: Attributes = Attributes::FIXED_TPM
    .and(Attributes::FIXED_PARENT)
    .and(Attributes::SENSITIVE_DATA_ORIGIN)
    .and(Attributes::ADMIN_WITH_POLICY)
    .and(Attributes::RESTRICTED)
    .and(Attributes::DECRYPT);
const NO_SCHEME: Scheme = Scheme {
    algorithm: NULL,
    hash: None,
};
const AES_128_CFB: Symmetric = Symmetric {
    algorithm: AES,
    bits: 128,
    mode: CFB,
};

/// An endorsement key made by the default template L-1 (RSA 2048) or L-2 (ECC P-256) of the TCG EK
/// Credential Profile, section B.3.
///
/// INVARIANT: the public area is a function of the key alone, so that one key has one digest: whoever
/// changed an attribute would otherwise appear as another machine.
#[derive(Debug, Clone)]
pub struct EndorsementKey {
    key: PublicKey,
    sha256: [u8; 32],
}

impl EndorsementKey {
    /// Reads a `TPMT_PUBLIC`.
    ///
    /// # Errors
    /// `TPM-STRUCTURE`, `TPM-EK-KEY`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let public = Public::parse(bytes).map_err(|bad| bad.finding("endorsement key"))?;
        let key = templated(&public).ok_or_else(|| {
            Finding::new(
                "TPM-EK-KEY",
                "the endorsement key is not made by a template that is accepted",
            )
            .expected("TCG template L-1 (RSA 2048) or L-2 (ECC P-256)")
            .observed(format!("attributes {}", public.attributes))
            .next("use the endorsement key at 0x81010001, or let the node agent create it")
        })?;
        Ok(Self {
            key,
            sha256: crypto::sha256(bytes),
        })
    }

    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of the public area: the machine's TPM in facts, pins and records.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

fn templated(public: &Public) -> Option<PublicKey> {
    let common = public.name_algorithm == SHA256
        && public.attributes == TEMPLATE_ATTRIBUTES
        && public.policy == POLICY_A;
    if !common {
        return None;
    }
    match &public.key {
        Key::Rsa {
            symmetric: Some(AES_128_CFB),
            scheme: NO_SCHEME,
            bits: 2048,
            exponent: 0,
            modulus,
        } if modulus.len() == 256 => PublicKey::from_rsa(modulus, &[1, 0, 1]).ok(),
        Key::Ecc {
            symmetric: Some(AES_128_CFB),
            scheme: NO_SCHEME,
            curve: NIST_P256,
            kdf: NO_SCHEME,
            x,
            y,
        } if x.len() == 32 && y.len() == 32 => PublicKey::from_p256_xy(x, y).ok(),
        _ => None,
    }
}

/// Whose TPMs are trusted. All of it is the owner's choice and comes with the estate or the server's
/// configuration; nothing is built in.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// Who certifies endorsement keys. What chains to a vendor is stated with source `hardware`.
    pub ek: Authorities,
    /// SHA-256 of the public areas of single endorsement keys that are trusted without a chain.
    pub pinned_ek: Vec<[u8; 32]>,
    /// Who certifies attestation keys: clouds, for the TPMs of their machines.
    pub ak: Authorities,
    /// SHA-256 of the public areas of single attestation keys that are trusted without a chain.
    pub pinned_ak: Vec<[u8; 32]>,
}

/// Why an endorsement key is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    Chain {
        emulated: bool,
        /// As the certificate names the vendor.
        manufacturer: String,
    },
    Pinned,
}

/// The endorsement certificate of the TCG EK Credential Profile, section 3.2: keyEncipherment for RSA,
/// keyAgreement for ECC.
static CERTIFICATE: Kind = Kind {
    title: "the endorsement certificate",
    of: "endorsement key",
    place: "at NV index 0x1c00002 or 0x1c0000a",
    purposes: &[EK_CERTIFICATE],
    usage: |usage, key| match key.algorithm() {
        Algorithm::Rsa => usage.key_encipherment(),
        _ => usage.key_agreement(),
    },
    says_usage: false,
    known: &[],
    structure: "TPM-EK-CERT-STRUCTURE",
    key: "TPM-EK-CERT-KEY",
    usages: "TPM-EK-CERT-USAGE",
    name: "TPM-EK-CERT-NAME",
    critical: "TPM-EK-CERT-CRITICAL",
    validity: "TPM-EK-CERT-VALIDITY",
    chain: "TPM-EK-CHAIN",
};

impl References {
    /// Why `ek` is trusted at `now`: its certificate (DER, empty for none) if that holds, else a pin.
    ///
    /// # Errors
    /// What is wrong with the certificate (`TPM-EK-…`, see `docs/attestation/tpm.md`), or
    /// `TPM-EK-UNKNOWN` without one.
    pub fn trust(
        &self,
        ek: &EndorsementKey,
        certificate: &[u8],
        now: Timestamp,
    ) -> Result<Trust, Vec<Finding>> {
        let chain = if certificate.is_empty() {
            Err(vec![self.unknown(ek)])
        } else {
            certificate::verify(certificate, ek.key(), &CERTIFICATE, &self.ek, now).map(|held| {
                Trust::Chain {
                    emulated: held.root.emulated,
                    manufacturer: held.manufacturer,
                }
            })
        };
        match chain {
            Err(_) if self.pinned_ek.contains(ek.sha256()) => Ok(Trust::Pinned),
            outcome => outcome,
        }
    }

    fn unknown(&self, ek: &EndorsementKey) -> Finding {
        Finding::new(
            "TPM-EK-UNKNOWN",
            "the TPM brings no endorsement certificate and its key is not pinned",
        )
        .expected(format!("one of {} pinned keys", self.pinned_ek.len()))
        .observed(hex::encode(ek.sha256()))
        .next("check the machine, then pin this digest in the estate's references")
    }
}
