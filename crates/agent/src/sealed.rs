//! The node's state at rest on a machine with a TPM: encrypted by a key that the chip gives out in approved
//! boots only. Here is the form on disk; [`open`] is what a start does with it, [`adopt`] what follows from the
//! approvals that the server tells.
//!
//! INVARIANT: the key that the node's SVID certifies is on disk only so. Without a seal it stays in memory, and
//! the next start joins again.

mod adopt;
mod open;

pub(crate) use adopt::{SealError, Sealing};
pub(crate) use open::open;

use crate::node_state::{Blob, NodeState};
use attest_tpm::seal::{ApprovalSet, Approver, Scope};
use crypto::{PublicKey, SecretBytes, Zeroizing, aead};
use device::tpm::seal::Sealed;
use facts::Finding;
use serde::{Deserialize, Serialize};

/// `v` of a sealed `node.json`.
pub(crate) const VERSION: u32 = 2;

/// A sealed `node.json`. Everything but `state` is public.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Envelope {
    v: u32,
    trust_domain: String,
    ring: String,
    /// A number as text.
    epoch: String,
    /// SPKI of the authority's key, pinned when it was sealed.
    key: Blob,
    /// What the chip made: `TPM2B_PUBLIC`, `TPM2B_PRIVATE`, and the name of its storage key.
    public: Blob,
    private: Blob,
    parent: Blob,
    /// The boots that were approved when the server last told, so that a start needs no server.
    approvals: Blob,
    /// AES-256-GCM under the sealed key, bound to everything above but the approvals.
    state: Blob,
}

/// A seal that is open: the key, and what goes with it.
pub(crate) struct Seal {
    key: SecretBytes,
    envelope: Envelope,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal")
            .field("ring", &self.envelope.ring)
            .field("epoch", &self.envelope.epoch)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// What `key` was sealed as under the scope and key of `set`.
    pub(crate) fn new(key: SecretBytes, set: &ApprovalSet, sealed: Sealed) -> Self {
        Self {
            key,
            envelope: Envelope {
                v: VERSION,
                trust_domain: set.scope.trust_domain.clone(),
                ring: set.scope.ring.clone(),
                epoch: set.scope.epoch.to_string(),
                key: Blob(set.approver.key.spki_der().to_vec()),
                public: Blob(sealed.public),
                private: Blob(sealed.private),
                parent: Blob(sealed.parent),
                approvals: Blob(set.to_json().into_bytes()),
                state: Blob::default(),
            },
        }
    }

    /// Whether approvals of `set` open it.
    pub(crate) fn is_of(&self, set: &ApprovalSet) -> bool {
        self.envelope.takes(set)
    }

    /// Keeps `set` for the next start; whether it is another than before.
    pub(crate) fn keep(&mut self, set: &ApprovalSet) -> bool {
        let bytes = Blob(set.to_json().into_bytes());
        let changed = self.envelope.approvals != bytes;
        self.envelope.approvals = bytes;
        changed
    }

    /// The content of `node.json`.
    pub(crate) fn around(&self, state: &NodeState) -> Result<Envelope, crypto::Error> {
        let text = serde_json::to_vec(state).map(Zeroizing::new);
        let text = text.map_err(|_| crypto::Error::Backend("what is no JSON"))?;
        let mut envelope = self.envelope.clone();
        envelope.state = Blob(aead::encrypt(&self.key, &envelope.bound(), &text)?);
        Ok(envelope)
    }
}

impl Envelope {
    fn scope(&self) -> Option<Scope> {
        Some(Scope {
            trust_domain: self.trust_domain.clone(),
            ring: self.ring.clone(),
            epoch: self.epoch.parse().ok()?,
        })
    }

    fn approver(&self) -> Option<Approver> {
        let key = PublicKey::from_spki_der(&self.key.0).ok()?;
        Approver::new(key).ok()
    }

    /// Whether `set` is by the key that was pinned, for what this was sealed for.
    fn takes(&self, set: &ApprovalSet) -> bool {
        set.approver.key.spki_der() == self.key.0 && Some(&set.scope) == self.scope().as_ref()
    }

    fn sealed(&self) -> Sealed {
        Sealed {
            private: self.private.0.clone(),
            public: self.public.0.clone(),
            parent: self.parent.0.clone(),
        }
    }

    /// Each field with its length before it.
    fn bound(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [
            b"trilith-agent-state-v2".as_slice(),
            self.trust_domain.as_bytes(),
            self.ring.as_bytes(),
            self.epoch.as_bytes(),
            &self.key.0,
            &self.public.0,
            &self.private.0,
            &self.parent.0,
        ] {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    /// The state, and the seal that goes on holding it.
    fn opened(mut self, key: SecretBytes) -> Result<(NodeState, Seal), Finding> {
        let changed = |what: &str| {
            Finding::new("AGENT-SEALED-CHANGED", "the sealed state is not what was sealed")
                .observed(what.to_owned())
                .next(
                    "find out who can write to the agent's data directory; to join anew, move node.json away",
                )
        };
        let state = aead::decrypt(&key, &self.bound(), &self.state.0)
            .map_err(|_| changed("its bytes, or what they are bound to, are others"))?;
        let state = serde_json::from_slice(state.expose())
            .map_err(|_| changed("it opens, and is no state of this version"))?;
        self.state = Blob::default();
        let seal = Seal {
            key,
            envelope: self,
        };
        Ok((state, seal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    pub(super) use crate::node_state::tests::state;
    use attest_tpm::seal::Pcrs;
    use crypto::{Algorithm, KeyPair, Signer as _};

    pub(super) fn set(epoch: u64, key: &KeyPair) -> ApprovalSet {
        let scope = Scope {
            trust_domain: "example.org".to_owned(),
            ring: "production".to_owned(),
            epoch,
        };
        let approver = Approver::new(key.public_key().clone()).unwrap();
        let mut set = ApprovalSet::empty(scope.clone(), approver);
        let pcrs = Pcrs::new([(4, [7; 32])].into()).unwrap();
        let approval = ApprovalSet::sign(&scope, key, pcrs, "linux".to_owned()).unwrap();
        set.add(approval).unwrap();
        set
    }

    #[test]
    fn a_sealed_state_opens_whole_and_as_it_was_sealed_or_not_at_all() {
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let secret = || SecretBytes::new(vec![9; aead::KEY]);
        let sealed = Sealed {
            private: vec![1, 2],
            public: vec![3, 4],
            parent: vec![5, 6],
        };
        let mut seal = Seal::new(secret(), &set(1, &key), sealed);
        let envelope = seal.around(&state()).unwrap();
        let text = serde_json::to_string(&envelope).unwrap();
        assert!(!text.contains("trilith/node"));
        let read = || serde_json::from_str::<Envelope>(&text).unwrap();
        let (opened, _) = read().opened(secret()).unwrap();
        assert_eq!(opened, state());

        let code = |change: &dyn Fn(&mut Envelope)| {
            let mut changed = read();
            change(&mut changed);
            changed.opened(secret()).map(drop).unwrap_err().code
        };
        let changes: [&dyn Fn(&mut Envelope); 7] = [
            &|envelope| envelope.ring = "canary".to_owned(),
            &|envelope| envelope.epoch = "2".to_owned(),
            &|envelope| envelope.trust_domain = "example.com".to_owned(),
            &|envelope| envelope.key = Blob(vec![7]),
            &|envelope| envelope.public = Blob(vec![7]),
            &|envelope| envelope.private = Blob(vec![7]),
            &|envelope| envelope.parent = Blob(vec![7]),
        ];
        for change in changes {
            assert_eq!(code(change), "AGENT-SEALED-CHANGED");
        }
        for at in 0..envelope.state.0.len() {
            let flip = |envelope: &mut Envelope| envelope.state.0[at] ^= 1;
            assert_eq!(code(&flip), "AGENT-SEALED-CHANGED", "byte {at}");
        }
        let other = read().opened(SecretBytes::new(vec![8; aead::KEY]));
        assert!(other.is_err());

        // Approvals of the same scope and key go with it, and with no other.
        assert!(seal.is_of(&set(1, &key)) && !seal.is_of(&set(2, &key)));
        let another = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        assert!(!seal.is_of(&set(1, &another)));
        let empty = ApprovalSet::empty(set(1, &key).scope, set(1, &key).approver);
        assert!(seal.keep(&empty) && !seal.keep(&empty));
    }
}
