//! Revocation: the cut first, the record as soon as it can be.
//!
//! INVARIANT: gateways hear of a cut before anything can delay it: no disk, no lock of the state, no
//! policy. The record follows in the space that is kept back for it.

mod postponed;
mod unrecorded;

pub(crate) use postponed::Postponed;
pub(crate) use unrecorded::Unrecorded;

use crate::core::Core;
use crate::journal::Failure;
use crate::refusal::Refusal;
use crate::state::target_name;
use ledger::Draft;
use ledger::body::{self, Body as _, Target, TargetKind};
use proto::v1::{Cut, NodeUpdate, Withdrawn, node_update};
use std::sync::Arc;
use unrecorded::Key;

/// What to revoke, why, and by whose word.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    pub(crate) kind: TargetKind,
    /// SPIFFE ID, serial or node name.
    pub(crate) value: String,
    pub(crate) reason: String,
    /// `uid:0`, or the server's own SPIFFE ID.
    pub(crate) by: String,
    pub(crate) auth: &'static str,
}

/// Cuts, tells the nodes, records. Returns the index of the record; `None` if it waits for the disk,
/// which changes nothing of the cut while this server runs, or for the recovery of a server that may sign
/// nothing, which survives restarts.
pub(crate) async fn revoke(
    core: &Arc<Core>,
    revocation: Revocation,
) -> Result<Option<u64>, Refusal> {
    cut_now(core, &revocation);
    tell_nodes(core, &revocation);
    // INVARIANT: what has been cut is recorded, and what rests on it falls, also when whoever asked goes away in
    // between.
    let core = Arc::clone(core);
    let recording = async move {
        let more = drags(revocation.kind);
        let recorded = record_cut(&core, revocation).await?;
        if more {
            delegations_fall(&core).await;
        }
        Ok(recorded)
    };
    let recorded = tokio::spawn(recording).await;
    recorded.map_err(|error| Refusal::internal("recording a revocation", &error))?
}

/// Records a cut that has been made, with the records that say why, in one commit. Where that has to wait, the
/// revocation alone is recorded as soon as it can be.
pub(crate) async fn with(
    core: &Arc<Core>,
    mut drafts: Vec<Draft>,
    revocation: Revocation,
) -> Result<Option<u64>, Refusal> {
    tell_nodes(core, &revocation);
    drafts.push(record(core, &revocation)?);
    let entries = drafts.into_iter().map(Into::into).collect();
    let recorded = match core.journal.append_reserved(entries).await {
        Ok(committed) => {
            core.metrics.revocations.inc();
            Ok(committed.last().map(ledger_store::Committed::index))
        }
        Err(failure) if failure.waits() => record_cut(core, revocation).await,
        Err(failure) => Err(failure.into()),
    };
    delegations_fall(core).await;
    recorded
}

/// Whether delegations fall with it. Of a serial nothing else follows: what rests on a link falls by its `jti`.
fn drags(kind: TargetKind) -> bool {
    kind != TargetKind::Serial
}

/// What somebody let others act by falls with them. The revocation stands, whatever comes of this: the next
/// start takes it up.
pub(crate) async fn delegations_fall(core: &Arc<Core>) {
    if let Err(refusal) = crate::delegating::settle(core).await {
        tracing::error!(%refusal, "delegations that rest on what was revoked are not taken back yet");
    }
}

/// Tells gateways, which wait for no record.
pub(crate) fn cut_now(core: &Core, revocation: &Revocation) {
    core.hub.cut(cut(revocation));
}

fn cut(revocation: &Revocation) -> Cut {
    Cut {
        kind: target_name(revocation.kind).to_owned(),
        value: revocation.value.clone(),
        reason: revocation.reason.clone(),
    }
}

pub(crate) fn record(core: &Core, revocation: &Revocation) -> Result<Draft, Refusal> {
    let (whose, node) = whose(core, revocation);
    let body = body::Revocation {
        target: Target {
            kind: revocation.kind,
            value: revocation.value.clone(),
        },
        reason: revocation.reason.clone(),
        by: revocation.by.clone(),
        whose,
        node,
    };
    crate::core::draft(body.record().actor(&revocation.by, revocation.auth))
}

/// Whom a serial, or a delegation by its `jti`, was issued to, and on which machine.
fn whose(core: &Core, revocation: &Revocation) -> (Vec<String>, Option<String>) {
    if revocation.kind != TargetKind::Serial {
        return (Vec::new(), None);
    }
    let state = core.state();
    let value = revocation.value.as_str();
    let (whose, node) = match (state.svid(value), state.delegation(value)) {
        (Some(svid), _) => (vec![svid.spiffe_id.clone()], svid.node.clone()),
        (None, Some(delegation)) => (delegation.chain.clone(), delegation.node.clone()),
        (None, None) => return (Vec::new(), None),
    };
    (whose, Some(node).filter(|node| !node.is_empty()))
}

/// Records a cut that has been made, now or as soon as it can be.
pub(crate) async fn record_cut(
    core: &Arc<Core>,
    revocation: Revocation,
) -> Result<Option<u64>, Refusal> {
    let record = record(core, &revocation)?;
    let (kind, cut) = (revocation.kind, cut(&revocation));
    match core
        .journal
        .append_reserved(vec![record.clone().into()])
        .await
    {
        Ok(committed) => {
            core.metrics.revocations.inc();
            Ok(committed.first().map(ledger_store::Committed::index))
        }
        Err(failure) if failure.waits() => {
            tracing::error!(
                kind = %cut.kind, value = %cut.value, %failure,
                "cut, and not recorded yet: trying again until it is"
            );
            if !core.unrecorded.add(kind, cut, record) {
                return Err(failure.into());
            }
            core.metrics.unrecorded.set(core.unrecorded.count());
            if matches!(failure, Failure::Blocked(_)) {
                let keeping = Arc::clone(core);
                tokio::task::spawn_blocking(move || keeping.postponed.keep(&revocation))
                    .await
                    .map_err(|error| Refusal::internal("keeping a revocation", &error))?
                    .map_err(|error| Refusal::internal("keeping a revocation", &error))?;
            }
            Ok(None)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Takes up what an earlier run could not record: it is cut from the start.
pub(crate) fn take_up(core: &Core) -> Result<(), Refusal> {
    for revocation in core.postponed.waiting() {
        let record = record(core, &revocation)?;
        core.unrecorded
            .add(revocation.kind, cut(&revocation), record);
    }
    core.metrics.unrecorded.set(core.unrecorded.count());
    Ok(())
}

/// `keys` are in the ledger, and the state speaks for them.
pub(crate) async fn are_recorded(core: &Arc<Core>, keys: Vec<Key>) -> Result<(), Refusal> {
    for key in &keys {
        core.unrecorded.done(key);
    }
    core.metrics.unrecorded.set(core.unrecorded.count());
    if core.postponed.is_empty() {
        return Ok(());
    }
    let forgetting = Arc::clone(core);
    tokio::task::spawn_blocking(move || forgetting.postponed.forget(&keys))
        .await
        .map_err(|error| Refusal::internal("forgetting recorded revocations", &error))?
        .map_err(|error| Refusal::internal("forgetting recorded revocations", &error))
}

/// Records what waits, one by one, until the disk is full again.
pub(crate) async fn record_waiting(core: &Arc<Core>) {
    let mut more = false;
    while let Some((key, record)) = core.unrecorded.next() {
        match core.journal.append_reserved(vec![record.into()]).await {
            Ok(_) => {
                core.metrics.revocations.inc();
                more |= drags(key.0);
                // Forgotten only now that the state speaks for it.
                if let Err(refusal) = are_recorded(core, vec![key]).await {
                    tracing::warn!(%refusal, "a recorded cut is recorded again after the next start");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a cut is still not recorded");
                break;
            }
        }
    }
    // What rests on it was judged when it was cut, and may not have been taken back: the server ended, or failed.
    if more {
        delegations_fall(core).await;
    }
}

/// Revokes a machine in the server's own name.
pub(crate) async fn machine(core: &Arc<Core>, node: &str, reason: &str) -> Result<(), Refusal> {
    let revocation = Revocation {
        kind: TargetKind::Machine,
        value: node.to_owned(),
        reason: reason.to_owned(),
        by: core.authority.server_id().to_string(),
        auth: "self",
    };
    revoke(core, revocation).await.map(|_| ())
}

/// Nodes stop handing out what was taken; a revoked machine loses its stream.
fn tell_nodes(core: &Core, revocation: &Revocation) {
    let withdrawn = |spiffe_id: String, serial: String| NodeUpdate {
        update: Some(node_update::Update::Withdrawn(Withdrawn {
            spiffe_id,
            serial,
            reason: revocation.reason.clone(),
        })),
    };
    match revocation.kind {
        TargetKind::Identity => {
            core.workloads
                .broadcast(&withdrawn(revocation.value.clone(), String::new()));
        }
        TargetKind::Serial => {
            let svid = core.state().svid(&revocation.value).cloned();
            if let Some(svid) = svid {
                let update = withdrawn(svid.spiffe_id.clone(), svid.serial.clone());
                core.workloads.send(&svid.node, update);
            }
        }
        TargetKind::Machine => core.workloads.drop_connection(&revocation.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Future as _, poll_fn};
    use std::task::Poll;
    use std::time::Duration;

    /// What comes after the record comes as well.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_cut_is_recorded_also_when_whoever_asked_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let running = crate::trial::server(dir.path()).await;
        let core = Arc::clone(&running.core);
        let value = "spiffe://example.org/payments/api";
        let revocation = Revocation {
            kind: TargetKind::Identity,
            value: value.to_owned(),
            reason: "drill".to_owned(),
            by: "uid:0".to_owned(),
            auth: "peercred",
        };
        let mut revoking = Box::pin(revoke(&core, revocation));
        let waits = poll_fn(|context| Poll::Ready(revoking.as_mut().poll(context).is_pending()));
        assert!(waits.await);
        drop(revoking);
        let counted = async {
            while core.metrics.revocations.get() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), counted)
            .await
            .unwrap();
        assert!(core.state().revoked(TargetKind::Identity, value).is_some());
        drop(core);
        running.stop().await.unwrap();
    }
}
