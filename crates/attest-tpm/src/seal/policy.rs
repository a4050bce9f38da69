//! The two policy commands, and the key by which the chip believes the authority (TPM 2.0 Library, Part 3,
//! sections 23.7 `TPM2_PolicyPCR` and 23.16 `TPM2_PolicyAuthorize`).

use super::{Pcrs, Scope};
use crate::public::{Attributes, ECC, ECDSA, NIST_P256, NULL, Name, SHA256};
use crypto::{Algorithm, PublicKey};
use facts::Finding;

/// `TPM_CC_PolicyPCR` and `TPM_CC_PolicyAuthorize` (Part 2, section 6.5.2).
const POLICY_PCR: u32 = 0x0000_017f;
const POLICY_AUTHORIZE: u32 = 0x0000_016a;

/// The `policyDigest` of a session that has begun and then done `TPM2_PolicyPCR` while the PCRs were these:
/// H(0…0 ‖ `TPM_CC_PolicyPCR` ‖ pcrs ‖ H(values)).
#[must_use]
pub fn approved_policy(pcrs: &Pcrs) -> [u8; 32] {
    let mut bits = 0_u32;
    let mut values = Vec::new();
    for (index, value) in pcrs.iter() {
        bits |= 1_u32.checked_shl(index).unwrap_or_default();
        values.extend_from_slice(value);
    }
    let [low, middle, high, _] = bits.to_le_bytes();
    let bank = SHA256.to_be_bytes();
    // TPML_PCR_SELECTION: one bank, three bytes.
    let selection = [&[0, 0, 0, 1][..], &bank, &[3, low, middle, high]].concat();
    extend(
        &[0; 32],
        POLICY_PCR,
        &[&selection, &crypto::sha256(&values)],
    )
}

/// What a machine seals under: H(H(0…0 ‖ `TPM_CC_PolicyAuthorize` ‖ name of the key) ‖ policyRef).
#[must_use]
pub fn authorized_policy(approver: &Approver, scope: &Scope) -> [u8; 32] {
    let by_key = extend(&[0; 32], POLICY_AUTHORIZE, &[approver.name.as_bytes()]);
    crypto::sha256(&[by_key, scope.policy_ref()].concat())
}

/// What the authority signs: approvedPolicy ‖ policyRef. The chip is given its SHA-256, `aHash`.
#[must_use]
pub fn signed_message(policy: &[u8; 32], scope: &Scope) -> [u8; 64] {
    let mut message = [0; 64];
    let (first, second) = message.split_at_mut(32);
    first.copy_from_slice(policy);
    second.copy_from_slice(&scope.policy_ref());
    message
}

fn extend(old: &[u8; 32], command: u32, arguments: &[&[u8]]) -> [u8; 32] {
    let code = command.to_be_bytes();
    crypto::sha256(&[&old[..], &code, &arguments.concat()].concat())
}

/// The key that approves, as a chip loads it.
#[derive(Debug, Clone)]
pub struct Approver {
    pub key: PublicKey,
    /// `TPMT_PUBLIC`: signs by ECDSA with SHA-256 and does nothing else.
    pub public: Vec<u8>,
    pub name: Name,
}

impl Approver {
    /// # Errors
    /// `SEAL-KEY` if it is not a P-256 key, which every TPM of the PC Client profile verifies.
    pub fn new(key: PublicKey) -> Result<Self, Finding> {
        let unfit = || {
            Finding::new("SEAL-KEY", "this key approves no boots")
                .expected("a P-256 key")
                .observed(key.algorithm().to_string())
                .next("look at the server's key `seal`; docs/operate/sealed-startup.md")
        };
        if key.algorithm() != Algorithm::EcdsaP256 {
            return Err(unfit());
        }
        let (x, y) = key.xy().ok_or_else(unfit)?;
        let length = [0, 32];
        let mut public = Vec::with_capacity(88);
        for part in [
            ECC.to_be_bytes().as_slice(),
            &SHA256.to_be_bytes(),
            &Attributes::SIGN.0.to_be_bytes(),
            // No policy of its own.
            &[0, 0],
            // No symmetric algorithm.
            &NULL.to_be_bytes(),
            &ECDSA.to_be_bytes(),
            &SHA256.to_be_bytes(),
            &NIST_P256.to_be_bytes(),
            // No key derivation.
            &NULL.to_be_bytes(),
            &length,
            x,
            &length,
            y,
        ] {
            public.extend_from_slice(part);
        }
        Ok(Self {
            name: Name::of(&public),
            key,
            public,
        })
    }
}
