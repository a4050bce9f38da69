//! Taking back what may be no more: the estate grants it no longer, or the machine from which it was asked for
//! was cut. Decision points are told by `jti`, as of a revoked SVID; what rests on one falls with it there.

use super::{chain, is_cut};
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
    let live = live(core);
    if live.is_empty() {
        return Ok(0);
    }
    let judging = Arc::clone(core);
    let judged = core.pool.run(move || judge(&judging, live)).await;
    let Judged { fallen, refused } =
        judged.map_err(|error| Refusal::internal("judging delegations", &error))?;
    let count = fallen.len() + refused.len();
    if count > 0 {
        tracing::info!(count, "delegations are taken back");
    }
    withdraw(core, fallen, "who or what let it was revoked").await?;
    let reason = "the estate does not grant the delegation any more";
    withdraw(core, refused, reason).await?;
    Ok(count)
}

#[derive(Default)]
struct Judged {
    /// A revocation or a lock of something else has hit them.
    fallen: Vec<Lost>,
    /// The estate in force does not grant them, or not for so long.
    refused: Vec<Lost>,
}

/// A delegation with all that it rests on, itself last, and whether a revocation has hit it.
struct Live {
    links: Vec<DelegationRow>,
    fallen: bool,
}

/// Those that have not ended and that no revocation of a `jti` has ended already.
fn live(core: &Core) -> Vec<Live> {
    let now = core.now().as_millis();
    let state = core.state();
    // Its own cut may wait for its record.
    let taken = |row: &DelegationRow| {
        state.revoked(TargetKind::Serial, &row.jti).is_some()
            || core.unrecorded.holds(TargetKind::Serial, &row.jti)
    };
    let locked = |row: &DelegationRow| {
        let node = state.node(&row.node);
        node.is_some_and(|node| node.locked_at.is_some_and(|at| at > row.index))
    };
    let rows = state.delegations().filter(|row| row.not_after > now);
    rows.filter_map(|row| {
        let links = state.delegation_links(row)?;
        let over = links.iter().any(|link| taken(link));
        (!over).then(|| Live {
            fallen: !state.delegation_stands(row)
                || links.iter().any(|link| locked(link) || is_cut(core, link)),
            links: links.into_iter().cloned().collect(),
        })
    })
    .collect()
}

/// For the pool: the state is not held.
fn judge(core: &Core, live: Vec<Live>) -> Judged {
    let current = core.current.load_full();
    let mut judged = Judged::default();
    for Live { links, fallen } in live {
        let Some(row) = links.last() else { continue };
        if fallen {
            judged.fallen.push(lost(row));
            continue;
        }
        let Some(current) = &current else { continue };
        let links: Vec<&DelegationRow> = links.iter().collect();
        let longest = chain(&links, core.trust_domain.as_str())
            .and_then(|chain| current.estate.may_delegate(&chain));
        let life = u128::from(row.not_after.saturating_sub(row.not_before));
        if longest.is_err() || longest.is_ok_and(|longest| longest.as_millis() < life) {
            judged.refused.push(lost(row));
        }
    }
    judged
}

fn lost(row: &DelegationRow) -> Lost {
    Lost {
        // No node hands it out.
        node: String::new(),
        spiffe_id: row.chain.last().cloned().unwrap_or_default(),
        serial: row.jti.clone(),
    }
}
