//! Which key this machine's TPM is known by, and the attestation key that goes with it.
//!
//! A TPM with an endorsement certificate is known by its endorsement key. Google leaves it out and
//! vouches for the attestation key, by a certificate beside a template in non-volatile memory (0x1c10000
//! and following). A TPM with none of it is known by its endorsement key, to be pinned. Azure's paravisor
//! vouches for an attestation key as well (its report at 0x1400001, the key at 0x81000003): a machine rests on
//! that where its agent is told so, since by either key it is another machine to whoever pins one.

use super::command::{Hierarchy, Object};
use super::endorsement::{P256_CERTIFICATE, RSA_CERTIFICATE, without_padding};
use super::{Endorsement, Error, Tpm, template};
use attest_tpm::JoinRequest;
use tpm2_protocol::TpmUnmarshal as _;
use tpm2_protocol::data::{TpmCc, TpmtPublic};

/// Certificate and template of Google's attestation keys: P-256 first, then RSA.
const GOOGLE: [(u32, u32); 2] = [(0x01c1_0002, 0x01c1_0003), (0x01c1_0000, 0x01c1_0001)];

/// Azure's paravisor: its report, and the attestation key that the report names.
const PARAVISOR_REPORT: u32 = 0x0140_0001;
const PARAVISOR_KEY: u32 = 0x8100_0003;

/// What the chip has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Endorsement,
    Google { certificate: u32, template: u32 },
    Paravisor,
}

/// The keys that a join rests on, loaded.
#[derive(Debug)]
pub(super) struct Anchor {
    /// Absent where the join rests on the attestation key alone.
    pub(super) endorsement: Option<Endorsement>,
    pub(super) attestation: Object,
    /// DER, where a cloud certified the attestation key.
    pub(super) certificate: Vec<u8>,
}

impl Anchor {
    /// The first message of a join, with the identity key's public area.
    pub(super) fn request(&self, identity_public: Vec<u8>) -> JoinRequest {
        let (ek_public, ek_certificate) = match &self.endorsement {
            Some(key) => (key.public.clone(), key.certificate.clone()),
            None => Default::default(),
        };
        JoinRequest {
            ek_public,
            ek_certificate,
            ak_public: self.attestation.public.clone(),
            ak_certificate: self.certificate.clone(),
            identity_public,
        }
    }
}

impl Tpm {
    /// The keys of this machine.
    pub(super) fn anchor(&mut self) -> Result<Anchor, Error> {
        let kind = self.kind()?;
        let (endorsement, certificate) = match kind {
            Kind::Endorsement => (Some(self.endorsement()?), Vec::new()),
            Kind::Google { certificate, .. } => {
                let certificate = self.nv_held(certificate)?.and_then(without_padding);
                (None, certificate.unwrap_or_default())
            }
            Kind::Paravisor => (None, Vec::new()),
        };
        Ok(Anchor {
            endorsement,
            attestation: self.attestation(kind)?,
            certificate,
        })
    }

    /// The attestation key that this machine joins with: the same at every start.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn attestation_key(&mut self) -> Result<Object, Error> {
        let kind = self.kind()?;
        self.attestation(kind)
    }

    /// The same connection to a chip that joins by the key that Azure's paravisor vouches for, or not at all.
    #[must_use]
    pub fn by_paravisor(mut self) -> Self {
        self.by_paravisor = true;
        self
    }

    /// The report by which the paravisor ties that key to the hardware under it, as it stands in non-volatile
    /// memory: that of this boot.
    ///
    /// # Errors
    /// [`Error::Paravisor`] where there is none; else of the chip or the connection.
    pub(super) fn paravisor_report(&mut self) -> Result<Vec<u8>, Error> {
        self.nv_held(PARAVISOR_REPORT)?
            .ok_or(Error::Paravisor("no report at NV index 0x1400001"))
    }

    fn kind(&mut self) -> Result<Kind, Error> {
        if self.by_paravisor {
            return Ok(Kind::Paravisor);
        }
        for certificate in [RSA_CERTIFICATE, P256_CERTIFICATE] {
            if self.nv_written(certificate)?.is_some() {
                return Ok(Kind::Endorsement);
            }
        }
        for (certificate, template) in GOOGLE {
            if self.nv_written(certificate)?.is_some() && self.nv_written(template)?.is_some() {
                return Ok(Kind::Google {
                    certificate,
                    template,
                });
            }
        }
        Ok(Kind::Endorsement)
    }

    fn attestation(&mut self, kind: Kind) -> Result<Object, Error> {
        let template = match kind {
            Kind::Endorsement => template::attestation_key(),
            Kind::Google { template, .. } => {
                let bytes = self.nv_held(template)?.unwrap_or_default();
                let (template, _padding) =
                    TpmtPublic::unmarshal(&bytes).map_err(|source| Error::Command {
                        command: TpmCc::CreatePrimary,
                        source,
                    })?;
                template
            }
            Kind::Paravisor => {
                let public = self.read_public(PARAVISOR_KEY)?;
                return Ok(Object {
                    handle: PARAVISOR_KEY,
                    public: public.ok_or(Error::Paravisor("no key at handle 0x81000003"))?,
                });
            }
        };
        self.create_primary(Hierarchy::Endorsement, template)
    }

    fn nv_held(&mut self, index: u32) -> Result<Option<Vec<u8>>, Error> {
        match self.nv_written(index)? {
            Some(written) => self.nv_read(written).map(Some),
            None => Ok(None),
        }
    }
}
