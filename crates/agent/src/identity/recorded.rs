//! Whether the node's own SVID was recorded like any other, and under which key of the server's ledger.

use super::IdentityError;
use crate::config::AgentConfig;
use crate::join;
use crate::node_state::NodeState;
use crate::receipts::Receipts;
use crate::trust;
use facts::Timestamp;
use ledger::LedgerKey;
use spiffe_core::{Bundle, TrustDomain};
use std::sync::Arc;

/// Under any key that is known here.
pub(super) fn recorded(
    receipts: &Receipts,
    trust_domain: &TrustDomain,
    state: &NodeState,
) -> Result<(), IdentityError> {
    receipts
        .x509(
            &bundle(trust_domain, state)?,
            &chain(state),
            Timestamp::now(),
        )
        .map(drop)
        .map_err(IdentityError::Refused)
}

/// Of an SVID that was issued just now: under the newest key that is known here.
pub(super) fn recorded_now(
    receipts: &Receipts,
    trust_domain: &TrustDomain,
    state: &NodeState,
) -> Result<(), IdentityError> {
    receipts
        .x509_new(
            &bundle(trust_domain, state)?,
            &chain(state),
            Timestamp::now(),
        )
        .map(drop)
        .map_err(IdentityError::Refused)
}

/// As [`recorded`]. If it was not, the ledger may have gone on as a new log since the key was pinned: then the key that
/// signs now, which is kept only if the SVID was recorded under it.
pub(super) async fn recorded_since(
    receipts: &Receipts,
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    state: &NodeState,
) -> Result<Option<Arc<LedgerKey>>, IdentityError> {
    let Err(unrecorded) = recorded(receipts, trust_domain, state) else {
        return Ok(None);
    };
    let bundle = Arc::new(bundle(trust_domain, state)?);
    let links = match join::lineage(config, trust_domain, Arc::<Bundle>::clone(&bundle)).await {
        Ok(links) if links.is_empty() => return Err(unrecorded),
        Ok(links) => links,
        Err(error) => {
            tracing::warn!(error = %facts::with_causes(&error), "the server is not asked how its ledger went on");
            return Err(unrecorded);
        }
    };
    receipts
        .succeed_by(&links, &bundle, &chain(state), Timestamp::now())
        .map_err(IdentityError::Refused)
}

fn bundle(trust_domain: &TrustDomain, state: &NodeState) -> Result<Bundle, IdentityError> {
    let message = state.bundle.message(trust_domain.as_str());
    let (bundle, _) = trust::read(trust_domain, &message).map_err(IdentityError::Refused)?;
    Ok(bundle)
}

fn chain(state: &NodeState) -> Vec<&[u8]> {
    state.chain.iter().map(|blob| blob.0.as_slice()).collect()
}
