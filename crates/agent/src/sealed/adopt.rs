//! What the server tells of approved boots: the state is sealed, sealed anew, or kept in memory again.

use super::Seal;
use super::open::booted;
use crate::config::{AgentConfig, JoinConfig, SealConfig};
use crate::node_state::{StateDir, StateError};
use attest_tpm::seal::ApprovalSet;
use crypto::{SecretBytes, Zeroizing, random};
use device::tpm::seal::UnsealError;
use device::tpm::{self, Tpm};
use facts::Finding;
use spiffe_core::TrustDomain;
use std::sync::{Mutex, PoisonError};

/// Why the state is not sealed. The agent goes on: the key is in memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("{0}")]
    Refused(Finding),
    #[error("the TPM")]
    Tpm(#[from] tpm::Error),
    #[error("what was sealed does not open")]
    Unseal(#[from] UnsealError),
    #[error("keeping it")]
    State(#[from] StateError),
}

/// Seals the state of this machine by what the server tells.
#[derive(Debug)]
pub(crate) struct Sealing {
    trust_domain: TrustDomain,
    /// The chip; absent where nothing is sealed.
    address: Option<String>,
    /// One set after the other.
    alone: Mutex<()>,
}

impl Sealing {
    pub(crate) fn of(config: &AgentConfig, trust_domain: &TrustDomain) -> Self {
        let address = match &config.join {
            JoinConfig::Tpm { tpm, .. } if config.seal != SealConfig::Off => Some(tpm.clone()),
            JoinConfig::Tpm { .. } | JoinConfig::Token { .. } => None,
        };
        Self {
            trust_domain: trust_domain.clone(),
            address,
            alone: Mutex::default(),
        }
    }

    /// Whether a state that is sealed stays so.
    pub(crate) const fn is_on(&self) -> bool {
        self.address.is_some()
    }

    /// Takes the set `bytes` of the server; `store` writes the state as `directory` is sealed then. Blocks: the
    /// chip seals.
    pub(crate) fn adopt(
        &self,
        directory: &StateDir,
        bytes: &[u8],
        store: impl FnOnce() -> Result<(), StateError>,
    ) -> Result<(), SealError> {
        let Some(address) = &self.address else {
            return Ok(());
        };
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let set = ApprovalSet::parse(bytes).map_err(SealError::Refused)?;
        if set.scope.trust_domain != self.trust_domain.as_str() {
            return Err(SealError::Refused(
                Finding::new("SEAL-SCOPE", "these approvals are of another trust domain")
                    .expected(self.trust_domain.as_str())
                    .observed(set.scope.trust_domain),
            ));
        }
        match directory.keep_approvals(&set) {
            Some(true) => return Ok(store()?),
            Some(false) => return Ok(()),
            None => {}
        }
        let Some(seal) = sealed(address, &set)? else {
            if directory.sealed_by(None) {
                tracing::warn!(
                    ring = set.scope.ring,
                    "this boot is approved no longer: the node's key is kept in memory alone"
                );
                store()?;
            }
            return Ok(());
        };
        directory.sealed_by(Some(seal));
        store()?;
        tracing::info!(
            ring = set.scope.ring,
            epoch = set.scope.epoch,
            approved = set.approvals().len(),
            "the node's state is sealed to approved boots"
        );
        Ok(())
    }
}

/// A new key, sealed. Nothing where this very boot is not approved: what cannot be opened is not sealed.
fn sealed(address: &str, set: &ApprovalSet) -> Result<Option<Seal>, SealError> {
    if set.approvals().is_empty() {
        return Ok(None);
    }
    let mut tpm = Tpm::open(address)?;
    let booted = booted(&mut tpm, std::slice::from_ref(set))?;
    let Some(approval) = set.of(|index| booted.get(&index).copied()) else {
        return Ok(None);
    };
    let random = Zeroizing::new(random::<32>());
    let key = SecretBytes::new(random.to_vec());
    let sealed = tpm.seal(&key, &set.approver, &set.scope)?;
    // INVARIANT: nothing is encrypted by a key that the chip has not given back once.
    let opened = tpm.unseal(&sealed, &set.approver, &set.scope, approval)?;
    if opened != key {
        return Err(SealError::Unseal(UnsealError::Chip));
    }
    Ok(Some(Seal::new(key, set, sealed)))
}
