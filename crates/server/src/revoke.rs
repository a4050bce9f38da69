//! Revocation: the cut first, the record as soon as it can be.
//!
//! INVARIANT: gateways hear of a cut before anything can delay it: no disk, no lock of the state, no
//! policy. The record follows in the space that is kept back for it.

mod unrecorded;

pub(crate) use unrecorded::Unrecorded;

use crate::core::Core;
use crate::journal::Failure;
use crate::refusal::Refusal;
use crate::state::target_name;
use ledger::Draft;
use ledger::body::{self, Body as _, Target, TargetKind};
use proto::v1::{Cut, NodeUpdate, Withdrawn, node_update};
use std::sync::Arc;

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
/// which changes nothing of the cut while this server runs.
pub(crate) async fn revoke(
    core: &Arc<Core>,
    revocation: Revocation,
) -> Result<Option<u64>, Refusal> {
    let cut = Cut {
        kind: target_name(revocation.kind).to_owned(),
        value: revocation.value.clone(),
        reason: revocation.reason.clone(),
    };
    core.hub.cut(cut.clone());
    tell_nodes(core, &revocation);
    let kind = revocation.kind;
    let body = body::Revocation {
        target: Target {
            kind,
            value: revocation.value,
        },
        reason: revocation.reason,
        by: revocation.by.clone(),
    };
    let record = crate::core::draft(body.record().actor(&revocation.by, revocation.auth))?;
    record_cut(core, kind, cut, record).await
}

/// Records a cut that has been made, now or as soon as the disk takes it.
pub(crate) async fn record_cut(
    core: &Arc<Core>,
    kind: TargetKind,
    cut: Cut,
    record: Draft,
) -> Result<Option<u64>, Refusal> {
    match core
        .journal
        .append_reserved(vec![record.clone().into()])
        .await
    {
        Ok(committed) => {
            core.metrics.revocations.inc();
            Ok(committed.first().map(ledger_store::Committed::index))
        }
        Err(Failure::Ledger(error)) if !error.is_fatal() => {
            tracing::error!(
                kind = %cut.kind, value = %cut.value, %error,
                "cut, and not recorded yet: trying again until it is"
            );
            if !core.unrecorded.add(kind, cut, record) {
                return Err(Failure::Ledger(error).into());
            }
            core.metrics.unrecorded.set(core.unrecorded.count());
            Ok(None)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Records what waits, one by one, until the disk is full again.
pub(crate) async fn record_waiting(core: &Arc<Core>) {
    while let Some((key, record)) = core.unrecorded.next() {
        match core.journal.append_reserved(vec![record.into()]).await {
            Ok(_) => {
                core.metrics.revocations.inc();
                // Forgotten only now that the state speaks for it.
                core.unrecorded.done(&key);
                core.metrics.unrecorded.set(core.unrecorded.count());
            }
            Err(error) => {
                tracing::debug!(%error, "a cut is still not recorded");
                return;
            }
        }
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
