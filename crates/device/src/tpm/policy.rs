//! The commands by which a session shows that a boot was approved: `TPM2_LoadExternal` of the authority's
//! key, `TPM2_VerifySignature`, `TPM2_PolicyPCR` and `TPM2_PolicyAuthorize` (TPM 2.0 Library, Part 3).

use super::session::{parsed, sized};
use super::{Error, Object, Tpm};
use attest_tpm::seal::{Approver, Pcrs, Scope, approved_policy, signed_message};
use tpm2_protocol::data::TpmCc;

/// `TPM_RH_OWNER`: what is loaded under the null hierarchy gives tickets that no policy takes.
const OWNER: u32 = 0x4000_0001;

impl Tpm {
    /// Loads the public key of the authority.
    pub(super) fn load_approver(&mut self, approver: &Approver) -> Result<Object, Error> {
        let code = TpmCc::LoadExternal;
        let parameters = [
            // No private part.
            sized(&[]),
            sized(&approver.public),
            OWNER.to_be_bytes().to_vec(),
        ]
        .concat();
        let response = self.bare(code, &[], &parameters, 1)?;
        let handle = parsed(code, || response.handle())?;
        self.loaded.push(handle);
        Ok(Object {
            handle,
            public: approver.public.clone(),
        })
    }

    /// Has the chip verify the authority's signature over `pcrs` for `scope`; its ticket for that.
    pub(super) fn verify_approval(
        &mut self,
        approver: &Object,
        scope: &Scope,
        pcrs: &Pcrs,
        signature: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let message = signed_message(&approved_policy(pcrs), scope);
        let parameters = [&sized(&crypto::sha256(&message))[..], signature].concat();
        let code = TpmCc::VerifySignature;
        let response = self.bare(code, &[approver.handle], &parameters, 0)?;
        Ok(response.parameters().rest().to_vec())
    }

    /// Puts into the session's policy that the PCRs are these; refused while they are others.
    pub(super) fn policy_pcr(&mut self, session: u32, pcrs: &Pcrs) -> Result<(), Error> {
        let mut values = Vec::new();
        let mut bits = 0_u32;
        for (index, value) in pcrs.iter() {
            bits |= 1_u32.checked_shl(index).unwrap_or_default();
            values.extend_from_slice(value);
        }
        let [low, middle, high, _] = bits.to_le_bytes();
        // One bank, SHA-256, in three bytes.
        let selection = [0, 0, 0, 1, 0, 0x0b, 3, low, middle, high];
        let parameters = [&sized(&crypto::sha256(&values))[..], &selection].concat();
        self.bare(TpmCc::PolicyPcr, &[session], &parameters, 0)
            .map(drop)
    }

    /// Replaces the session's policy by that of whoever signed it.
    pub(super) fn policy_authorize(
        &mut self,
        session: u32,
        approver: &Approver,
        scope: &Scope,
        pcrs: &Pcrs,
        ticket: &[u8],
    ) -> Result<(), Error> {
        let parameters = [
            &sized(&approved_policy(pcrs))[..],
            &sized(&scope.policy_ref()),
            &sized(approver.name.as_bytes()),
            ticket,
        ]
        .concat();
        self.bare(TpmCc::PolicyAuthorize, &[session], &parameters, 0)
            .map(drop)
    }
}
