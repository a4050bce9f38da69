//! Taking back what may be no more: the estate grants it no longer, the person's login is somebody else's now, or
//! the machine from which it was asked for was cut. Decision points are told by `jti`, as of a revoked SVID; what rests on one falls with it there.

use super::{chain, is_cut, login, path};
use crate::core::Core;
use crate::current::Current;
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
    let by = core.current.load_full().map(|new| By { new, before: None });
    take_back(core, by).await
}

/// As [`settle`], by the version `new`, which has come into force in the place of `old` when there were `records`.
/// What those let was let by the people as `old` knew them; if that cannot be read, by nobody who is known now.
///
/// # Errors
/// As [`settle`].
pub(crate) async fn settle_by(
    core: &Arc<Core>,
    old: Option<Arc<Current>>,
    new: Arc<Current>,
    records: u64,
) -> Result<usize, Refusal> {
    let before = Some((old, records));
    take_back(core, Some(By { new, before })).await
}

/// The version that judges; after a change, the one before it and how many records there were at the change.
struct By {
    new: Arc<Current>,
    before: Option<(Option<Arc<Current>>, u64)>,
}

impl By {
    /// Whether whoever began `row` was known by another login than the person is now: somebody else let it.
    fn rebound(&self, row: &DelegationRow, trust_domain: &str) -> bool {
        let Some((old, records)) = &self.before else {
            return false;
        };
        if row.index >= *records {
            return false;
        }
        let person = row.chain.first().map_or("", String::as_str);
        let path = path(person, trust_domain);
        let now = login(&self.new, path);
        now.is_none() || old.as_ref().and_then(|old| login(old, path)) != now
    }
}

async fn take_back(core: &Arc<Core>, by: Option<By>) -> Result<usize, Refusal> {
    let live = live(core);
    if live.is_empty() {
        return Ok(0);
    }
    let judging = Arc::clone(core);
    let judged = core
        .pool
        .run(move || judge(&judging, by.as_ref(), live))
        .await;
    let Judged {
        fallen,
        refused,
        rebound,
    } = judged.map_err(|error| Refusal::internal("judging delegations", &error))?;
    let count = fallen.len() + refused.len() + rebound.len();
    if count > 0 {
        tracing::info!(count, "delegations are taken back");
    }
    withdraw(core, fallen, "who or what let it was revoked").await?;
    let reason = "the estate does not grant the delegation any more";
    withdraw(core, refused, reason).await?;
    withdraw(core, rebound, "the person's login is another one now").await?;
    Ok(count)
}

#[derive(Default)]
struct Judged {
    /// A revocation or a lock of something else has hit them.
    fallen: Vec<Lost>,
    /// The estate in force does not grant them, or not for so long.
    refused: Vec<Lost>,
    /// Let by whoever had the person's login before.
    rebound: Vec<Lost>,
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
    // Also by what was in the ledger before it.
    let barred = |row: &DelegationRow| state.delegation_barred(&row.chain, &row.node).is_some();
    let rows = state.delegations().filter(|row| row.not_after > now);
    rows.filter_map(|row| {
        let links = state.delegation_links(row)?;
        let over = links.iter().any(|link| taken(link));
        (!over).then(|| Live {
            fallen: !state.delegation_stands(row)
                || links.iter().any(|link| barred(link) || is_cut(core, link)),
            links: links.into_iter().cloned().collect(),
        })
    })
    .collect()
}

/// For the pool: the state is not held.
fn judge(core: &Core, by: Option<&By>, live: Vec<Live>) -> Judged {
    let trust_domain = core.trust_domain.as_str();
    let mut judged = Judged::default();
    for Live { links, fallen } in live {
        let Some(row) = links.last() else { continue };
        if fallen {
            judged.fallen.push(lost(row));
            continue;
        }
        let Some(by) = by else { continue };
        let links: Vec<&DelegationRow> = links.iter().collect();
        let longest =
            chain(&links, trust_domain).and_then(|chain| by.new.estate.may_delegate(&chain));
        let life = u128::from(row.not_after.saturating_sub(row.not_before));
        if longest.is_err() || longest.is_ok_and(|longest| longest.as_millis() < life) {
            judged.refused.push(lost(row));
        } else if by.rebound(row, trust_domain) {
            judged.rebound.push(lost(row));
        }
    }
    judged
}

pub(super) fn lost(row: &DelegationRow) -> Lost {
    Lost {
        // No node hands it out.
        node: String::new(),
        spiffe_id: row.chain.last().cloned().unwrap_or_default(),
        serial: row.jti.clone(),
    }
}
