//! Taking back what may be no more: the estate grants it no longer, or the machine from which it was asked for
//! was cut. Decision points are told by `jti`, as of a revoked SVID; what rests on one falls with it there.

use super::chain;
use crate::core::Core;
use crate::node::{Lost, withdraw};
use crate::refusal::Refusal;
use ledger::body::TargetKind;
use std::sync::Arc;
use store::DelegationRow;

/// Revokes every delegation that lives and should not, each by its own `jti`. Returns how many. Does nothing to
/// those that are revoked already, so it may be called at any time, and is after a crash.
///
/// # Errors
/// What cannot be recorded. The cuts have been made then.
pub(crate) async fn settle(core: &Arc<Core>) -> Result<usize, Refusal> {
    let (fallen, refused) = find(core);
    let count = fallen.len() + refused.len();
    if count > 0 {
        tracing::info!(count, "delegations are taken back");
    }
    withdraw(
        core,
        fallen,
        "the identity or machine behind the delegation was revoked",
    )
    .await?;
    withdraw(
        core,
        refused,
        "the estate does not grant the delegation any more",
    )
    .await?;
    Ok(count)
}

/// Those that a revocation of something else has hit, and those that the estate in force does not grant.
fn find(core: &Core) -> (Vec<Lost>, Vec<Lost>) {
    let current = core.current.load_full();
    let now = core.now().as_millis();
    let state = core.state();
    let (mut fallen, mut refused) = (Vec::new(), Vec::new());
    for row in state.delegations().filter(|row| row.not_after > now) {
        if state.revoked(TargetKind::Serial, &row.jti).is_some() {
            continue;
        }
        let Some(links) = state.delegation_links(row) else {
            fallen.push(lost(row));
            continue;
        };
        if !state.delegation_stands(row) {
            fallen.push(lost(row));
            continue;
        }
        let Some(current) = &current else { continue };
        let longest = chain(&links, core.trust_domain.as_str())
            .and_then(|chain| current.estate.may_delegate(&chain));
        let life = row.not_after.saturating_sub(row.not_before);
        if longest.is_err() || longest.is_ok_and(|longest| longest.as_millis() < u128::from(life)) {
            refused.push(lost(row));
        }
    }
    (fallen, refused)
}

fn lost(row: &DelegationRow) -> Lost {
    Lost {
        // No node hands it out.
        node: String::new(),
        spiffe_id: row.chain.last().cloned().unwrap_or_default(),
        serial: row.jti.clone(),
    }
}
