//! What a state that was kept counts for, and what of it a new join begins with.

use crate::config::{AgentConfig, JoinConfig};
use crate::join::Before;
use crate::node_state::{Blob, NodeState, Renewal as Pending, StoredBundle};
use std::sync::Arc;
use svid_tls::BundleSource;

/// Takes out of `state` what its form does not vouch for; whether its anchors stay.
///
/// INVARIANT: on a machine with a TPM no key is used that comes from the disk in the clear, because this agent
/// leaves none there: somebody else has put it there. Such a state, and one for another pin than the configured,
/// says what the node has asked for and nothing of whom to trust.
pub(super) fn doubted(config: &AgentConfig, state: &mut NodeState, sealed: bool) -> bool {
    let enclave = match config.join {
        JoinConfig::Token { .. } => return true,
        JoinConfig::Tpm { .. } => false,
        // Whatever an enclave finds on a disk its host may have put there: the pin in what was measured decides.
        JoinConfig::Enclave { .. } => true,
    };
    let anchored = !enclave && state.pin == config.pin && (sealed || state.key.0.is_empty());
    if !sealed || !anchored {
        state.key = Blob::default();
        if let Some(renewal) = &mut state.renewal {
            renewal.key = Blob::default();
        }
    }
    if !anchored {
        // No later start takes them either, until the node has joined.
        state.pin = String::new();
        state.ledger_key = Blob::default();
        state.bundle = StoredBundle::default();
    }
    anchored
}

/// INVARIANT: what was begun with a key that is gone is repeated by a join with its id, and by nothing else:
/// another renewal would look like a second machine.
pub(super) fn has_its_keys(state: &NodeState) -> bool {
    let pending = state.renewal.as_ref();
    !state.key.0.is_empty() && pending.is_none_or(|pending| !pending.key.0.is_empty())
}

/// Makes sure that `state` names what is asked for next. An answer that was lost is known by it.
pub(super) fn asked(state: &mut NodeState) {
    state.renewal.get_or_insert_with(|| Pending {
        id: Blob(crypto::random::<16>().to_vec()),
        key: Blob::default(),
    });
}

/// What a new join needs of `state`.
pub(super) fn before(state: &NodeState, bundles: Option<Arc<dyn BundleSource>>) -> Before {
    let renewal = state.renewal.as_ref();
    Before {
        anchors: bundles.map(|bundles| (bundles, state.ledger_key.clone())),
        join_state: state.join_state.clone(),
        renewal_id: renewal
            .map(|renewal| renewal.id.clone())
            .unwrap_or_default(),
    }
}

/// Never back to an older bundle than the one that was kept.
pub(super) fn newer_bundle(state: &mut NodeState, kept: &NodeState) {
    if state.bundle.sequence < kept.bundle.sequence {
        state.bundle = kept.bundle.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody had put a key, an SVID and anchors of their own on the disk, and the agent went on with them.
    #[test]
    fn a_state_that_was_put_there_gives_neither_key_nor_anchors() {
        let config = |join: &str| {
            let pin = format!("tl1:{}", "0".repeat(64));
            let text = format!(
                "trust_domain = \"example.org\"\nserver = \"localhost:1\"\npin = \"{pin}\"\n[join]\n{join}"
            );
            AgentConfig::parse(&text, std::path::Path::new("agent.toml")).unwrap()
        };
        let tpm = config("method = \"tpm\"\ntpm = \"/dev/tpmrm0\"");
        let put = NodeState {
            v: 1,
            trust_domain: "example.org".to_owned(),
            pin: tpm.pin.clone(),
            ledger_key: Blob(vec![1]),
            node_id: "spiffe://example.org/trilith/node/a".to_owned(),
            key: Blob(vec![2; 32]),
            chain: vec![Blob(vec![3])],
            join_state: Blob(vec![4]),
            generation: 5,
            bundle: StoredBundle {
                sequence: u64::MAX,
                x509_authorities: vec![Blob(vec![6])],
                ..StoredBundle::default()
            },
            renewal: Some(Pending {
                id: Blob(vec![7; 16]),
                key: Blob(vec![8; 32]),
            }),
        };
        let mut without_key = put.clone();
        without_key.key = Blob::default();
        let mut other_pin = put.clone();
        other_pin.pin = format!("tl1:{}", "1".repeat(64));
        let left = |state: &NodeState, sealed| {
            let mut state = state.clone();
            let anchored = doubted(&tpm, &mut state, sealed);
            // What the server knows a repetition and a copy by.
            assert_eq!(state.join_state, put.join_state);
            assert_eq!(state.generation, put.generation);
            assert_eq!(state.renewal.as_ref().unwrap().id.0, [7; 16]);
            let anchors = !state.ledger_key.0.is_empty()
                && state.bundle == put.bundle
                && state.pin == tpm.pin;
            assert_eq!(anchors, anchored);
            if !anchors {
                assert!(state.ledger_key.0.is_empty() && state.pin.is_empty());
                assert_eq!(state.bundle, StoredBundle::default());
                assert!(
                    !doubted(&tpm, &mut state.clone(), sealed),
                    "nor at the next start"
                );
            }
            let renewal = &state.renewal.as_ref().unwrap().key;
            (has_its_keys(&state) && !renewal.0.is_empty(), anchors)
        };
        // Key and anchors of what the chip has opened; the anchors of what this agent keeps without a seal.
        assert_eq!(left(&put, true), (true, true));
        assert_eq!(left(&without_key, false), (false, true));
        assert_eq!(left(&put, false), (false, false), "a key in the clear");
        assert_eq!(left(&other_pin, true), (false, false), "another pin");
        assert_eq!(left(&other_pin, false), (false, false));

        // An enclave takes nothing of what its host may have put there but what the server knows it by.
        let enclave = config("method = \"enclave\"\nenclave = \"nitro\"");
        for kept in [&put, &without_key] {
            let mut state = kept.clone();
            assert!(!doubted(&enclave, &mut state, false));
            assert!(state.key.0.is_empty() && state.ledger_key.0.is_empty());
            assert_eq!(state.bundle, StoredBundle::default());
            assert_eq!(state.join_state, put.join_state);
        }

        // Without a chip the disk is all there is.
        let token = config("method = \"token\"");
        let mut state = other_pin.clone();
        assert!(doubted(&token, &mut state, false));
        assert_eq!(state, other_pin);
    }

    /// A join whose answer was lost, and a sealed key from before it: a renewal under another id would have
    /// locked the machine.
    #[test]
    fn a_join_that_was_begun_is_repeated_although_a_key_is_there() {
        let mut state = NodeState {
            v: 1,
            trust_domain: "example.org".to_owned(),
            pin: String::new(),
            ledger_key: Blob::default(),
            node_id: String::new(),
            key: Blob(vec![1]),
            chain: Vec::new(),
            join_state: Blob(vec![2]),
            generation: 1,
            bundle: StoredBundle::default(),
            renewal: None,
        };
        assert!(has_its_keys(&state));
        asked(&mut state);
        assert!(!has_its_keys(&state), "its id is all that is left of it");
        state.renewal.as_mut().unwrap().key = Blob(vec![3]);
        assert!(has_its_keys(&state), "a renewal is repeated as it was");
        state.key = Blob::default();
        assert!(!has_its_keys(&state));
    }
}
