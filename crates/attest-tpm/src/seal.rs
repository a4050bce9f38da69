//! Sealed startup: which boots may open what a machine has sealed to its TPM, by the authority's signature.
//!
//! A machine seals under `TPM2_PolicyAuthorize(key, policyRef)`; the authority signs, for each boot that it
//! approves, the `TPM2_PolicyPCR` digest of that boot. The chip opens for a boot whose PCRs are those of an
//! approval, and for no other; a new kernel is approved by a signature, and nothing is sealed anew.
//! Approvals are public. Who talks to the chip is `device::tpm`.

mod policy;
mod set;

pub use policy::{Approver, approved_policy, authorized_policy, signed_message};
pub use set::{Approval, ApprovalSet, LONGEST, MOST};

use crypto::Sha256;
use facts::Finding;
use std::collections::BTreeMap;

/// What an approval is for. It counts for no other trust domain, ring, or epoch, because the policy that a
/// machine seals under holds the digest of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub trust_domain: String,
    /// The ring of machines: their pool; empty for machines in none.
    pub ring: String,
    /// Begins anew whenever something that was approved is approved no longer: machines then seal anew, and
    /// the older approvals open nothing that is sealed from then on.
    pub epoch: u64,
}

impl Scope {
    /// `policyRef`: H("trilith-seal-v1", "agent-state", trust domain, ring, epoch), each field with its length
    /// before it as four big-endian bytes, the epoch as eight.
    #[must_use]
    pub fn policy_ref(&self) -> [u8; 32] {
        let mut state = Sha256::new();
        for field in [
            b"trilith-seal-v1".as_slice(),
            b"agent-state",
            self.trust_domain.as_bytes(),
            self.ring.as_bytes(),
            &self.epoch.to_be_bytes(),
        ] {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            state.update(&length.to_be_bytes());
            state.update(field);
        }
        state.finish()
    }
}

/// The PCRs of a boot, of the SHA-256 bank: never empty, and no index above 23.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pcrs(BTreeMap<u32, [u8; 32]>);

impl Pcrs {
    /// # Errors
    /// `TPM-SELECTION` for no PCR, or one above 23.
    pub fn new(pcrs: BTreeMap<u32, [u8; 32]>) -> Result<Self, Finding> {
        let indices: Vec<u32> = pcrs.keys().copied().collect();
        crate::PcrSelection::new(&indices)?;
        Ok(Self(pcrs))
    }

    /// Ascending by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8; 32])> {
        self.0.iter().map(|(index, value)| (*index, value))
    }

    /// The indices, ascending.
    #[must_use]
    pub fn indices(&self) -> Vec<u32> {
        self.0.keys().copied().collect()
    }

    #[must_use]
    pub fn value(&self, index: u32) -> Option<&[u8; 32]> {
        self.0.get(&index)
    }
}
