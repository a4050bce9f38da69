//! Attestation keys that are trusted without an endorsement key: many clouds give their machines a TPM
//! that has no endorsement certificate, and vouch for its attestation key instead.
//!
//! A certificate of the cloud says that this key is restricted and in the TPM of this machine, and a
//! paravisor's report says the same inside a trusted execution environment, so that there is nothing
//! left for credential activation to prove: that the TPM is there and answers now is the quote's to say.
//!
//! Not here: the paravisor's report itself, which is `attest-tee`'s.

mod instance;

pub use instance::Instance;

use crate::certificate::{self, AK_CERTIFICATE, EK_CERTIFICATE, Kind};
use crate::ek::References;
use crate::keys::SigningKey;
use crate::path::Cloud;
use crypto::{PublicKey, hex};
use facts::{Finding, Source, Timestamp};

/// Why an attestation key is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// A cloud certified it.
    Chain {
        emulated: bool,
        /// As the certificate names the maker: `GOOG`.
        manufacturer: String,
        /// Which machine it was certified for, if a root that may say so does.
        instance: Option<Instance>,
    },
    /// By the digest of its public area.
    Pinned,
    /// Another verifier tied it to the machine.
    Vouched(Source),
}

/// An attestation key that another verifier has tied to this machine, and what stands behind its word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    pub key: PublicKey,
    pub source: Source,
}

/// Google certifies attestation keys under the purpose of endorsement keys; what tells the two apart is
/// that this key may sign, which no endorsement key may.
static CERTIFICATE: Kind = Kind {
    title: "the attestation key's certificate",
    of: "attestation key",
    place: "at NV index 0x1c10002 or 0x1c10000",
    purposes: &[AK_CERTIFICATE, EK_CERTIFICATE],
    usage: |usage, _| usage.digital_signature() && !usage.key_encipherment(),
    says_usage: true,
    known: &[instance::GOOGLE],
    structure: "TPM-AK-CERT-STRUCTURE",
    key: "TPM-AK-CERT-KEY",
    usages: "TPM-AK-CERT-USAGE",
    name: "TPM-AK-CERT-NAME",
    critical: "TPM-AK-CERT-CRITICAL",
    validity: "TPM-AK-CERT-VALIDITY",
    chain: "TPM-AK-CHAIN",
};

impl References {
    /// Why `ak` is trusted at `now` without an endorsement key: another verifier's word, else its
    /// certificate (DER, empty for none), else a pin.
    ///
    /// # Errors
    /// What is wrong with the certificate (`TPM-AK-…`, see `docs/attestation/tpm.md`),
    /// `TPM-AK-VOUCHED` if the other verifier's word is about another key, or `TPM-AK-UNKNOWN`.
    pub fn trust_attestation(
        &self,
        ak: &SigningKey,
        certificate: &[u8],
        vouched: Option<&Vouched>,
        now: Timestamp,
    ) -> Result<Trust, Vec<Finding>> {
        if let Some(vouched) = vouched {
            return same(vouched, ak).map_err(|finding| vec![finding]);
        }
        let chain = if certificate.is_empty() {
            Err(vec![self.unknown_attestation(ak)])
        } else {
            self.certified(ak, certificate, now)
        };
        match chain {
            Err(_) if self.pinned_ak.contains(&ak.sha256) => Ok(Trust::Pinned),
            outcome => outcome,
        }
    }

    fn certified(
        &self,
        ak: &SigningKey,
        certificate: &[u8],
        now: Timestamp,
    ) -> Result<Trust, Vec<Finding>> {
        let held = certificate::verify(certificate, &ak.key, &CERTIFICATE, &self.ak, now)?;
        let instance = match held.root.cloud {
            Some(Cloud::Google) => {
                Instance::of(&held.certificate).map_err(|finding| vec![finding])?
            }
            None => None,
        };
        Ok(Trust::Chain {
            emulated: held.root.emulated,
            manufacturer: held.manufacturer,
            instance,
        })
    }

    fn unknown_attestation(&self, ak: &SigningKey) -> Finding {
        Finding::new(
            "TPM-AK-UNKNOWN",
            "the TPM brings no endorsement key, and nobody who is trusted vouches for its attestation key",
        )
        .expected(format!(
            "an endorsement key, a certificate of the attestation key, or one of {} pinned keys",
            self.pinned_ak.len()
        ))
        .observed(hex::encode(&ak.sha256))
        .next("check the machine, then pin this digest as ak_sha256 in the estate's references")
    }
}

fn same(vouched: &Vouched, ak: &SigningKey) -> Result<Trust, Finding> {
    if vouched.key == ak.key {
        return Ok(Trust::Vouched(vouched.source));
    }
    Err(Finding::new(
        "TPM-AK-VOUCHED",
        "the attestation key is not the one that the machine's hardware vouches for",
    )
    .expected(hex::encode(&vouched.key.spki_sha256()))
    .observed(hex::encode(&ak.key.spki_sha256()))
    .next("join with the attestation key of this machine's own TPM"))
}
