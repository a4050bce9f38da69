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
use std::sync::{Mutex, TryLockError};

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
    #[error("the chip is still busy with what was told before")]
    Busy,
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
            JoinConfig::Tpm { .. } | JoinConfig::Enclave { .. } | JoinConfig::Token { .. } => None,
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
    /// chip seals. What fails may be told again: what was not written is written then.
    pub(crate) fn adopt(
        &self,
        directory: &StateDir,
        bytes: &[u8],
        store: impl FnOnce() -> Result<(), StateError>,
    ) -> Result<(), SealError> {
        let Some(address) = &self.address else {
            return Ok(());
        };
        // INVARIANT: a chip that hangs holds one thread, however often the agent connects meanwhile.
        let _alone = match self.alone.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(SealError::Busy),
        };
        let set = ApprovalSet::parse(bytes).map_err(SealError::Refused)?;
        if set.scope.trust_domain != self.trust_domain.as_str() {
            return Err(SealError::Refused(
                Finding::new("SEAL-SCOPE", "these approvals are of another trust domain")
                    .expected(self.trust_domain.as_str())
                    .observed(set.scope.trust_domain),
            ));
        }
        let due = |directory: &StateDir| match directory.is_unwritten() {
            true => store(),
            false => Ok(()),
        };
        if directory.keep_approvals(&set) {
            return Ok(due(directory)?);
        }
        let Some(seal) = sealed(address, &set)? else {
            if directory.sealed_by(None) {
                tracing::warn!(
                    ring = set.scope.ring,
                    "this boot is approved no longer: the node's key is kept in memory alone"
                );
            }
            return Ok(due(directory)?);
        };
        directory.sealed_by(Some(seal));
        due(directory)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_state::Kept;
    use crate::sealed::tests::{set, state};
    use crypto::{Algorithm, KeyPair, aead};
    use device::tpm::seal::Sealed;
    use std::path::Path;

    /// Of a chip that is not there: what is tested here needs none.
    fn sealing() -> Sealing {
        Sealing {
            trust_domain: TrustDomain::new("example.org").unwrap(),
            address: Some("/nowhere".to_owned()),
            alone: Mutex::default(),
        }
    }

    fn directory(path: &Path) -> StateDir {
        StateDir::open(path).unwrap().vouched(true)
    }

    fn sealed_to(directory: &StateDir, set: &ApprovalSet) {
        let sealed = Sealed {
            private: vec![1],
            public: vec![2],
            parent: vec![3],
        };
        let key = SecretBytes::new(vec![9; aead::KEY]);
        directory.sealed_by(Some(Seal::new(key, set, sealed)));
        directory.store(&state()).unwrap();
    }

    /// The approvals in the file; none of a file that is not sealed.
    fn kept(directory: &StateDir) -> Option<Vec<u8>> {
        match directory.load().unwrap() {
            Kept::Sealed(envelope) => Some(envelope.approvals.0.clone()),
            Kept::Plain(state) => {
                assert!(state.key.0.is_empty());
                None
            }
            Kept::Nothing => panic!("nothing was kept"),
        }
    }

    /// A disk that was full at the wrong moment: the key stayed there, for the boot that was withdrawn.
    #[test]
    fn a_withdrawal_that_was_not_written_is_written_when_it_is_told_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("agent");
        let directory = directory(&path);
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let first = set(1, &key);
        sealed_to(&directory, &first);
        let sealing = sealing();
        let adopt = |told: &ApprovalSet| {
            let store = || directory.store(&state());
            sealing.adopt(&directory, told.to_json().as_bytes(), store)
        };
        // Nothing can be written while a folder has the name of what is written beside.
        let obstacle = path.join("node.json.new");

        let none = ApprovalSet::empty(first.scope.clone(), first.approver.clone());
        std::fs::create_dir(&obstacle).unwrap();
        assert!(matches!(adopt(&none), Err(SealError::State(_))));
        assert_eq!(kept(&directory).unwrap(), first.to_json().as_bytes());
        std::fs::remove_dir(&obstacle).unwrap();
        adopt(&none).unwrap();
        assert_eq!(kept(&directory).unwrap(), none.to_json().as_bytes());

        let over = set(2, &key);
        let over = ApprovalSet::empty(over.scope, over.approver);
        std::fs::create_dir(&obstacle).unwrap();
        assert!(matches!(adopt(&over), Err(SealError::State(_))));
        assert!(kept(&directory).is_some());
        std::fs::remove_dir(&obstacle).unwrap();
        adopt(&over).unwrap();
        assert!(kept(&directory).is_none(), "no key is kept");

        // What is written is not written again.
        let unchanged = || panic!("there is nothing to write");
        let told = over.to_json();
        sealing
            .adopt(&directory, told.as_bytes(), unchanged)
            .unwrap();
    }

    /// Each connection left a thread behind it, until none was left to attest a workload.
    #[test]
    fn a_chip_that_hangs_holds_one_thread() {
        let parent = tempfile::tempdir().unwrap();
        let directory = directory(&parent.path().join("agent"));
        let sealing = sealing();
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let told = set(1, &key).to_json();
        let alone = sealing.alone.lock().unwrap();
        let (done, answer) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let adopted = sealing.adopt(&directory, told.as_bytes(), || Ok(()));
                done.send(matches!(adopted, Err(SealError::Busy))).unwrap();
            });
            let answered = answer.recv_timeout(std::time::Duration::from_secs(60));
            drop(alone);
            assert_eq!(answered, Ok(true));
        });
    }
}
