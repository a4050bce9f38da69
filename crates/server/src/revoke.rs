//! Revocation: the cut first, the record as soon as it can be.
//!
//! INVARIANT: gateways hear of a cut before anything can delay it: no disk, no lock of the state, no
//! policy. The record follows in the space that is kept back for it.

use crate::core::Core;
use crate::refusal::Refusal;
use crate::state::target_name;
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

/// Cuts, tells the nodes, records. Returns the index of the record.
pub(crate) async fn revoke(core: &Arc<Core>, revocation: Revocation) -> Result<u64, Refusal> {
    core.hub.cut(Cut {
        kind: target_name(revocation.kind).to_owned(),
        value: revocation.value.clone(),
        reason: revocation.reason.clone(),
    });
    tell_nodes(core, &revocation);
    let body = body::Revocation {
        target: Target {
            kind: revocation.kind,
            value: revocation.value,
        },
        reason: revocation.reason,
        by: revocation.by.clone(),
    };
    let record = crate::core::draft(body.record().actor(&revocation.by, revocation.auth))?;
    let committed = core.journal.append_reserved(record).await?;
    core.metrics.revocations.inc();
    Ok(committed.index())
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
