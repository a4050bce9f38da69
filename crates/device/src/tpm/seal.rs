//! Secrets that this chip gives out in approved boots only: sealed under the authority's key, opened in a
//! policy session that is salted to the storage key.
//!
//! What is sealed has no password, takes no part in the dictionary-attack lockout, and cannot be moved to
//! another chip or parent. It is bound to the owner hierarchy: whoever clears that has lost it.

use super::session::{Hides, Kind, Raw, parsed, sized};
use super::{Error, Hierarchy, Object, Tpm, template};
use attest_tpm::seal::{Approval, Approver, Scope, authorized_policy};
use attest_tpm::{PcrSelection, Public, Signature};
use crypto::{SecretBytes, Zeroizing};
use tpm2_protocol::data::TpmCc;

/// The longest secret: what every chip seals.
const LONGEST: usize = 128;
/// `TPM_ALG_KEYEDHASH`, `TPM_ALG_SHA256`, `TPM_ALG_NULL`.
const KEYED_HASH: u16 = 0x0008;
const SHA256: u16 = 0x000b;
const NULL: u16 = 0x0010;
/// fixedTPM, fixedParent, noDA; without userWithAuth only the policy opens it.
const ATTRIBUTES: u32 = 1 << 1 | 1 << 4 | 1 << 10;

/// What a machine keeps: the chip alone can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// `TPM2B_PRIVATE`'s content.
    pub private: Vec<u8>,
    /// `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// The name of the storage key that it was sealed under.
    pub parent: Vec<u8>,
}

/// Why a chip does not open.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    #[error("this boot is not the one that the approval is for")]
    Boot(#[source] Error),
    #[error("the chip does not take the authority's signature")]
    Signature,
    #[error("it was sealed under another key, ring or epoch than the approval is for")]
    Policy,
    #[error("it was sealed by another chip, or the owner hierarchy has been cleared since")]
    Chip,
    #[error("the TPM")]
    Tpm(#[from] Error),
}

impl Tpm {
    /// Seals `secret`, at most 128 bytes, so that it opens in the boots that `approver` approves for `scope`.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn seal(
        &mut self,
        secret: &SecretBytes,
        approver: &Approver,
        scope: &Scope,
    ) -> Result<Sealed, Error> {
        if secret.expose().len() > LONGEST {
            return Err(Error::Challenge("the secret is longer than a chip seals"));
        }
        let storage = self.storage_key()?;
        let name = name(&storage)?;
        let policy = authorized_policy(approver, scope);
        let public = [
            &KEYED_HASH.to_be_bytes()[..],
            &SHA256.to_be_bytes(),
            &ATTRIBUTES.to_be_bytes(),
            &sized(&policy),
            // No scheme, and nothing unique yet.
            &NULL.to_be_bytes(),
            &[0, 0],
        ]
        .concat();
        // TPMS_SENSITIVE_CREATE: an empty password, and the secret.
        let inner = Zeroizing::new([sized(&[]), sized(secret.expose())].concat());
        let parameters = Zeroizing::new(
            [
                &sized(&inner)[..],
                &sized(&public),
                // No outside information, no creation PCRs.
                &[0, 0],
                &[0, 0, 0, 0],
            ]
            .concat(),
        );
        let code = TpmCc::Create;
        let mut session = self.salted(Kind::Hmac, &storage)?;
        let command = Raw {
            code,
            handles: &[(storage.handle, &name)],
            parameters,
        };
        let created = self.within(&mut session, command, Hides::Command);
        self.flush_handle(session.handle)?;
        self.flush(storage)?;
        let created = created?;
        let (private, public) = parsed(code, || {
            let mut answer = super::frame::Reader(created.expose());
            Ok((answer.sized()?.to_vec(), answer.sized()?.to_vec()))
        })?;
        Ok(Sealed {
            private,
            public,
            parent: name,
        })
    }

    /// What was sealed, in a boot that `approval` is for.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn unseal(
        &mut self,
        sealed: &Sealed,
        approver: &Approver,
        scope: &Scope,
        approval: &Approval,
    ) -> Result<SecretBytes, UnsealError> {
        let storage = self.storage_key()?;
        if name(&storage)? != sealed.parent {
            self.flush(storage)?;
            return Err(UnsealError::Chip);
        }
        // Every path flushes what it has loaded: chips have three slots.
        let opened = self.load_sealed(&storage, sealed).and_then(|object| {
            let opened = self.open_sealed(&storage, &object, approver, scope, approval);
            self.flush(object)?;
            opened
        });
        self.flush(storage)?;
        opened
    }

    /// The values of these PCRs now.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn pcr_values(&mut self, pcrs: &PcrSelection) -> Result<Vec<(u32, [u8; 32])>, Error> {
        let values = self.read_pcrs(pcrs)?;
        let pairs = pcrs.indices().iter().copied().zip(values);
        parsed(TpmCc::PcrRead, || {
            pairs
                .map(|(pcr, value)| {
                    let value = value.try_into().map_err(|_| "a PCR that is not 32 bytes")?;
                    Ok((pcr, value))
                })
                .collect()
        })
    }

    fn storage_key(&mut self) -> Result<Object, Error> {
        let template = template::storage_key().map_err(|source| Error::Command {
            command: TpmCc::CreatePrimary,
            source,
        })?;
        self.create_primary(Hierarchy::Owner, template)
    }

    fn load_sealed(&mut self, storage: &Object, sealed: &Sealed) -> Result<Object, UnsealError> {
        let parameters = [sized(&sealed.private), sized(&sealed.public)].concat();
        // No secret: the chip has encrypted it. Another object in its place has another name, which the
        // session that opens it signs.
        let loaded = self.load(storage, &parameters);
        let handle = loaded.map_err(|error| match error {
            // SIZE, VALUE, INTEGRITY, HASH, TYPE, ATTRIBUTES and their like: it is not of this chip.
            Error::Refused { code, .. } if code.0 & 0x80 != 0 => UnsealError::Chip,
            error => UnsealError::Tpm(error),
        })?;
        Ok(Object {
            handle,
            public: sealed.public.clone(),
        })
    }

    fn open_sealed(
        &mut self,
        storage: &Object,
        object: &Object,
        approver: &Approver,
        scope: &Scope,
        approval: &Approval,
    ) -> Result<SecretBytes, UnsealError> {
        let signature =
            Signature::p256_from_der(&approval.signature).ok_or(UnsealError::Signature)?;
        let key = self.load_approver(approver)?;
        let ticket = self.verify_approval(&key, scope, &approval.pcrs, &signature);
        self.flush(key)?;
        let ticket = ticket.map_err(|error| match error {
            // SIGNATURE, and numbers that are out of range.
            Error::Refused { code, .. } if code.0 & 0x80 != 0 => UnsealError::Signature,
            error => UnsealError::Tpm(error),
        })?;
        let mut session = self.salted(Kind::Policy, storage)?;
        let shown = self
            .policy_pcr(session.handle, &approval.pcrs)
            .map_err(other_pcrs)
            .and_then(|()| {
                let handle = session.handle;
                self.policy_authorize(handle, approver, scope, &approval.pcrs, &ticket)
                    .map_err(UnsealError::Tpm)
            });
        let opened = shown.and_then(|()| {
            let name = sealed_name(&object.public);
            let command = Raw {
                code: TpmCc::Unseal,
                handles: &[(object.handle, &name)],
                parameters: Zeroizing::default(),
            };
            self.within(&mut session, command, Hides::Answer)
                .map_err(refused)
        });
        self.flush_handle(session.handle)?;
        let opened = opened?;
        let secret = parsed(TpmCc::Unseal, || {
            super::frame::Reader(opened.expose())
                .sized()
                .map(<[u8]>::to_vec)
        })?;
        Ok(SecretBytes::new(secret))
    }
}

/// `TPM_RC_PCR_CHANGED` (Part 2, section 6.6.3).
const PCR_CHANGED: u32 = 0x128;

/// What a refusal of `TPM2_PolicyPCR` means (Part 3, section 23.7). A chip that is busy, or out of memory, has
/// said nothing about the boot.
fn other_pcrs(error: Error) -> UnsealError {
    /// `TPM_RC_VALUE`: the PCRs are others.
    const VALUE: u32 = 0x84;
    match error {
        Error::Refused { code, .. } if matches!(code.base(), VALUE | PCR_CHANGED) => {
            UnsealError::Boot(error)
        }
        error => UnsealError::Tpm(error),
    }
}

fn refused(error: Error) -> UnsealError {
    /// `TPM_RC_POLICY_FAIL` (Part 2, section 6.6.3).
    const POLICY_FAIL: u32 = 0x9d;
    match error {
        Error::Refused { code, .. } if code.base() == POLICY_FAIL => UnsealError::Policy,
        Error::Refused { code, .. } if code.base() == PCR_CHANGED => UnsealError::Boot(error),
        error => UnsealError::Tpm(error),
    }
}

/// The name of a key that was just made.
fn name(key: &Object) -> Result<Vec<u8>, Error> {
    parsed(TpmCc::CreatePrimary, || {
        let public = Public::parse(&key.public).map_err(|_| "the key is no public area")?;
        let name = public.name().ok_or("the key has no name by SHA-256")?;
        Ok(name.as_bytes().to_vec())
    })
}

/// `nameAlg` and the digest of the public area (Part 1, section 16).
fn sealed_name(public: &[u8]) -> Vec<u8> {
    [&SHA256.to_be_bytes()[..], &crypto::sha256(public)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::ResponseCode;

    /// It was taken for another boot, and the state behind it was given up.
    #[test]
    fn a_chip_that_is_busy_has_not_said_that_the_boot_is_another() {
        let said = |code| {
            other_pcrs(Error::Refused {
                command: TpmCc::PolicyPcr,
                code: ResponseCode(code),
            })
        };
        // VALUE of the first parameter, and PCR_CHANGED.
        for code in [0x1c4, PCR_CHANGED] {
            assert!(matches!(said(code), UnsealError::Boot(_)), "{code:#x}");
        }
        // RETRY, MEMORY, LOCKOUT, FAILURE, REFERENCE_S0, and HANDLE of the first handle.
        for code in [0x922, 0x904, 0x921, 0x101, 0x918, 0x18b] {
            assert!(matches!(said(code), UnsealError::Tpm(_)), "{code:#x}");
        }
    }
}
