//! The commands themselves, and the contexts that they leave in the chip.

use super::{Error, ResponseCode, Tpm};
use attest_tpm::PcrSelection;
use crypto::SecretBytes;
use tpm2_protocol::TpmError;
use tpm2_protocol::data::{
    Tpm2bData, Tpm2bDigest, Tpm2bEncryptedSecret, Tpm2bIdObject, Tpm2bNonce, Tpm2bPublic, TpmAlgId,
    TpmCap, TpmCc, TpmRh, TpmSe, TpmSt, TpmaSession, TpmlPcrSelection, TpmsAuthCommand,
    TpmsPcrSelect, TpmsPcrSelection, TpmtPublic, TpmtSigScheme, TpmtSymDefObject, TpmtTkHashcheck,
};
use tpm2_protocol::frame::{
    TpmActivateCredentialCommand, TpmCertifyCommand, TpmCreatePrimaryCommand,
    TpmFlushContextCommand, TpmFrame, TpmGetCapabilityCommand, TpmPcrReadCommand,
    TpmPolicySecretCommand, TpmQuoteCommand, TpmReadPublicCommand, TpmSignCommand,
    TpmStartAuthSessionCommand,
};

/// First handles of what the chip holds in its slots (Part 2, section 7.2).
const TRANSIENT: u32 = 0x8000_0000;
const LOADED_SESSION: u32 = 0x0200_0000;
/// Handles asked for at once when sweeping; chips have three to seven slots.
const MANY: u32 = 64;

/// A seed that primary keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    Owner,
    Endorsement,
}

impl Hierarchy {
    const fn handle(self) -> TpmRh {
        match self {
            Self::Owner => TpmRh::Owner,
            Self::Endorsement => TpmRh::Endorsement,
        }
    }
}

/// A key that is loaded until it is flushed or its [`Tpm`] is dropped.
#[derive(Debug)]
pub struct Object {
    pub(super) handle: u32,
    /// `TPMT_PUBLIC`.
    pub public: Vec<u8>,
}

/// A statement of the chip under the signature of one of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// `TPMS_ATTEST`.
    pub attested: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

impl Tpm {
    /// The public area (`TPMT_PUBLIC`) of the object at `handle`, if there is one.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn read_public(&mut self, handle: u32) -> Result<Option<Vec<u8>>, Error> {
        let command = TpmReadPublicCommand {
            handles: [handle.into()],
        };
        match self.execute(&command, &[], 0) {
            Ok(response) => read(&command, || {
                response
                    .parameters()
                    .sized()
                    .map(|public| Some(public.to_vec()))
            }),
            Err(Error::Refused { code, .. }) if code == ResponseCode::NO_SUCH_HANDLE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the primary key of `template`: always the same one, until the hierarchy is cleared.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn create_primary(
        &mut self,
        hierarchy: Hierarchy,
        template: TpmtPublic,
    ) -> Result<Object, Error> {
        let command = TpmCreatePrimaryCommand {
            handles: [(hierarchy.handle().value()).into()],
            in_sensitive: Default::default(),
            in_public: Tpm2bPublic { inner: template },
            outside_info: Default::default(),
            creation_pcr: Default::default(),
        };
        let response = self.execute(&command, &[empty_password()], 1)?;
        let handle = read(&command, || response.handle())?;
        self.loaded.push(handle);
        let public = read(&command, || {
            response.parameters().sized().map(<[u8]>::to_vec)
        })?;
        Ok(Object { handle, public })
    }

    /// Opens a credential: the secret, if `attestation` is the key and this the chip that it was made
    /// for. `endorsement` is the handle of the endorsement key.
    ///
    /// # Errors
    /// [`Error::Refused`] if the credential is for another key or chip.
    pub fn activate_credential(
        &mut self,
        attestation: &Object,
        endorsement: u32,
        blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<SecretBytes, Error> {
        let cc = TpmCc::ActivateCredential;
        let command = TpmActivateCredentialCommand {
            handles: [attestation.handle.into(), endorsement.into()],
            credential_blob: encode(cc, Tpm2bIdObject::try_from(blob))?,
            secret: encode(cc, Tpm2bEncryptedSecret::try_from(encrypted_secret))?,
        };
        let session = self.endorsement_session()?;
        let policy = TpmsAuthCommand {
            session_handle: session.into(),
            ..TpmsAuthCommand::default()
        };
        // The chip ends the session itself when the command succeeds.
        let outcome = self.execute(&command, &[empty_password(), policy], 0);
        match &outcome {
            Ok(_) => self.loaded.retain(|handle| *handle != session),
            Err(_) => self.flush_handle(session)?,
        }
        let response = outcome?;
        read(&command, || {
            let secret = response.parameters().sized()?.to_vec();
            Ok(SecretBytes::new(secret))
        })
    }

    /// A policy session that satisfies the endorsement key's policy: knowledge of the endorsement
    /// hierarchy's (empty) password.
    fn endorsement_session(&mut self) -> Result<u32, Error> {
        let cc = TpmCc::StartAuthSession;
        let null = TpmRh::Null.value();
        let start = TpmStartAuthSessionCommand {
            handles: [null.into(), null.into()],
            nonce_caller: encode(cc, Tpm2bNonce::try_from(&crypto::random::<32>()[..]))?,
            encrypted_salt: Default::default(),
            session_type: TpmSe::Policy,
            symmetric: TpmtSymDefObject {
                algorithm: TpmAlgId::Null,
                ..TpmtSymDefObject::default()
            },
            auth_hash: TpmAlgId::Sha256,
        };
        let response = self.execute(&start, &[], 1)?;
        let session = read(&start, || response.handle())?;
        self.loaded.push(session);
        let policy = TpmPolicySecretCommand {
            handles: [TpmRh::Endorsement.value().into(), session.into()],
            nonce_tpm: Default::default(),
            cp_hash_a: Default::default(),
            policy_ref: Default::default(),
            expiration: 0.into(),
        };
        self.execute(&policy, &[empty_password()], 0)?;
        Ok(session)
    }

    /// Has `key` sign the digest of the selected PCRs with `qualifying` data, at most 64 bytes.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn quote(
        &mut self,
        key: &Object,
        qualifying: &[u8],
        pcrs: &PcrSelection,
    ) -> Result<Signed, Error> {
        let command = TpmQuoteCommand {
            handles: [key.handle.into()],
            qualifying_data: encode(TpmCc::Quote, Tpm2bData::try_from(qualifying))?,
            in_scheme: TpmtSigScheme::default(),
            pcr_select: selection(TpmCc::Quote, TpmAlgId::Sha256, pcrs.bitmap())?,
        };
        self.signed(&command, &[empty_password()])
    }

    /// As [`Tpm::quote`], of the bank of SHA-384. A chip without that bank quotes nothing, or refuses.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn quote_strong(
        &mut self,
        key: &Object,
        qualifying: &[u8],
        pcrs: &PcrSelection,
    ) -> Result<Signed, Error> {
        let command = TpmQuoteCommand {
            handles: [key.handle.into()],
            qualifying_data: encode(TpmCc::Quote, Tpm2bData::try_from(qualifying))?,
            in_scheme: TpmtSigScheme::default(),
            pcr_select: selection(TpmCc::Quote, TpmAlgId::Sha384, pcrs.bitmap())?,
        };
        self.signed(&command, &[empty_password()])
    }

    /// Has `key` sign that this chip holds `object`, with `qualifying` data, at most 64 bytes.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn certify(
        &mut self,
        key: &Object,
        object: &Object,
        qualifying: &[u8],
    ) -> Result<Signed, Error> {
        let command = TpmCertifyCommand {
            handles: [object.handle.into(), key.handle.into()],
            qualifying_data: encode(TpmCc::Certify, Tpm2bData::try_from(qualifying))?,
            in_scheme: TpmtSigScheme::default(),
        };
        self.signed(&command, &[empty_password(), empty_password()])
    }

    /// The `TPMT_SIGNATURE` of an unrestricted `key` over a SHA-256 digest.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn sign(&mut self, key: &Object, digest: &[u8; 32]) -> Result<Vec<u8>, Error> {
        let command = TpmSignCommand {
            handles: [key.handle.into()],
            digest: encode(TpmCc::Sign, Tpm2bDigest::try_from(&digest[..]))?,
            in_scheme: TpmtSigScheme::default(),
            // No ticket: the key is not restricted.
            validation: TpmtTkHashcheck {
                tag: TpmSt::HashCheck,
                hierarchy: TpmRh::Null,
                digest: Default::default(),
            },
        };
        let response = self.execute(&command, &[empty_password()], 0)?;
        Ok(response.parameters().rest().to_vec())
    }

    /// The values of the selected PCRs of the SHA-256 bank, ascending. Other values may be there by
    /// the time that they are quoted.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection; [`Error::Response`] if the chip has no SHA-256 bank.
    pub fn read_pcrs(&mut self, pcrs: &PcrSelection) -> Result<Vec<Vec<u8>>, Error> {
        let mut values = Vec::new();
        // A chip returns at most eight values at once (Part 3, section 22.4).
        for eight in pcrs.indices().chunks(8) {
            let mut bits = [0u8; 3];
            for pcr in eight {
                if let Some(byte) = usize::try_from(pcr / 8)
                    .ok()
                    .and_then(|at| bits.get_mut(at))
                {
                    *byte |= 1 << (pcr % 8);
                }
            }
            let command = TpmPcrReadCommand {
                handles: [],
                pcr_selection_in: selection(TpmCc::PcrRead, TpmAlgId::Sha256, bits)?,
            };
            let response = self.execute(&command, &[], 0)?;
            let read = read(&command, || digests(&mut response.parameters()))?;
            if read.len() != eight.len() {
                return Err(Error::Response {
                    command: TpmCc::PcrRead,
                    problem: "not all of the PCRs: is the SHA-256 bank enabled?",
                });
            }
            values.extend(read);
        }
        Ok(values)
    }

    /// Takes a key out of its slot.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what was flushed must not be used again"
    )]
    pub fn flush(&mut self, object: Object) -> Result<(), Error> {
        self.flush_handle(object.handle)
    }

    pub(super) fn flush_handle(&mut self, handle: u32) -> Result<(), Error> {
        self.loaded.retain(|one| *one != handle);
        let command = TpmFlushContextCommand {
            handles: [],
            flush_handle: handle.into(),
        };
        self.execute(&command, &[], 0).map(drop)
    }

    /// Empties the slots of what a process that died left in them. Only where nobody else can be using
    /// the chip: it has one client at a time and no resource manager.
    pub(super) fn sweep(&mut self) -> Result<(), Error> {
        for first in [TRANSIENT, LOADED_SESSION] {
            let command = TpmGetCapabilityCommand {
                handles: [],
                cap: TpmCap::Handles,
                property: first.into(),
                property_count: MANY.into(),
            };
            let response = self.execute(&command, &[], 0)?;
            let stale = read(&command, || handles(&mut response.parameters()))?;
            for handle in stale {
                if !self.loaded.contains(&handle) {
                    self.flush_handle(handle)?;
                }
            }
        }
        Ok(())
    }

    fn signed<C: TpmFrame>(
        &mut self,
        command: &C,
        sessions: &[TpmsAuthCommand],
    ) -> Result<Signed, Error> {
        let response = self.execute(command, sessions, 0)?;
        read(command, || {
            let mut parameters = response.parameters();
            Ok(Signed {
                attested: parameters.sized()?.to_vec(),
                signature: parameters.rest().to_vec(),
            })
        })
    }
}

/// Authorisation with an empty password.
pub(super) fn empty_password() -> TpmsAuthCommand {
    TpmsAuthCommand {
        session_handle: TpmRh::Pw.value().into(),
        session_attributes: TpmaSession::CONTINUE_SESSION,
        ..TpmsAuthCommand::default()
    }
}

fn selection(command: TpmCc, bank: TpmAlgId, bits: [u8; 3]) -> Result<TpmlPcrSelection, Error> {
    let mut list = TpmlPcrSelection::new();
    let one = TpmsPcrSelection {
        hash: bank,
        pcr_select: encode(command, TpmsPcrSelect::try_from(&bits[..]))?,
    };
    encode(command, list.try_push(one))?;
    Ok(list)
}

/// `TPML_DIGEST` after the update counter and the selection that was read.
fn digests(parameters: &mut super::frame::Reader<'_>) -> Result<Vec<Vec<u8>>, &'static str> {
    let _update_counter = parameters.u32()?;
    for _ in 0..bounded(parameters.u32()?)? {
        let _hash = parameters.u16()?;
        let length = parameters.u8()?;
        parameters.take(length.into())?;
    }
    (0..bounded(parameters.u32()?)?)
        .map(|_| parameters.sized().map(<[u8]>::to_vec))
        .collect()
}

/// `TPML_HANDLE` after the flag for more and the kind of capability.
fn handles(parameters: &mut super::frame::Reader<'_>) -> Result<Vec<u32>, &'static str> {
    let _more = parameters.u8()?;
    let _capability = parameters.u32()?;
    (0..bounded(parameters.u32()?)?)
        .map(|_| parameters.u32())
        .collect()
}

fn bounded(count: u32) -> Result<u32, &'static str> {
    if count <= MANY {
        Ok(count)
    } else {
        Err("its list is too long")
    }
}

fn encode<T>(command: TpmCc, value: Result<T, TpmError>) -> Result<T, Error> {
    value.map_err(|source| Error::Command { command, source })
}

pub(super) fn read<C: TpmFrame, T>(
    command: &C,
    parse: impl FnOnce() -> Result<T, &'static str>,
) -> Result<T, Error> {
    parse().map_err(|problem| Error::Response {
        command: command.cc(),
        problem,
    })
}
