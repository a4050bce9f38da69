//! Eviction: a machine that is not as it should be loses everything that it was issued, at once, until it
//! joins clean.
//!
//! It is not a ban: `revoke machine` locks a machine until an administrator readmits it, an eviction is
//! lifted by the next join whose evidence was made after it and is affirmed. Both cut the same way.
//! Recorded in one commit: the refused verdict with its findings, the node's state `evicted`, and the
//! revocation that gateways follow.

use crate::core::{Core, draft, recorded};
use crate::erase;
use crate::join::verdict_body;
use crate::lock::held;
use crate::metrics::Code;
use crate::refusal::Refusal;
use crate::revoke::{self, Revocation};
use facts::{Finding, Verdict};
use ledger::body::{self, Body as _, TargetKind};
use ledger::{Decimal, Draft, EstateRef, HexDigest};
use proto::v1::{NodeUpdate, Withdrawn, node_update};
use std::sync::Arc;
use store::NodeRow;

/// Of [`NodeRow::locked`].
pub(crate) const EVICTED: &str = "AGENT-EVICTED";
/// Of [`body::NodeState`].
pub(crate) const STATE: &str = "evicted";

/// Whether `node` is out until it joins clean.
pub(crate) fn is_evicted(node: &NodeRow) -> bool {
    node.locked.as_deref() == Some(EVICTED)
}

/// Evicts `node` for `findings`; `evidence` is what they were found in. Does nothing to a machine that is
/// out already.
///
/// # Errors
/// When it cannot be recorded. The cut has been made then.
pub(crate) async fn evict(
    core: &Arc<Core>,
    node: &str,
    findings: Vec<Finding>,
    evidence: Vec<(&'static str, Vec<u8>)>,
) -> Result<(), Refusal> {
    evict_by(core, node, findings, evidence, None).await
}

/// As [`evict`], for what the `estate` makes of `evidence` that has all that was judged.
///
/// # Errors
/// As [`evict`].
pub(crate) async fn evict_by(
    core: &Arc<Core>,
    node: &str,
    findings: Vec<Finding>,
    evidence: Vec<(&'static str, Vec<u8>)>,
    estate: Option<EstateRef>,
) -> Result<(), Refusal> {
    let known = core.state().node(node).cloned();
    let Some(known) = known.filter(|known| known.locked.is_none()) else {
        return Ok(());
    };
    // INVARIANT: what has been cut is recorded, also when whoever asked goes away in between.
    let (core, node) = (Arc::clone(core), node.to_owned());
    let evicting =
        async move { evict_known(&core, &node, known, findings, (evidence, estate)).await };
    let evicted = tokio::spawn(evicting).await;
    evicted.map_err(|error| Refusal::internal("evicting a machine", &error))?
}

async fn evict_known(
    core: &Arc<Core>,
    node: &str,
    known: NodeRow,
    findings: Vec<Finding>,
    (evidence, estate): (Vec<(&'static str, Vec<u8>)>, Option<EstateRef>),
) -> Result<(), Refusal> {
    let Some(first) = findings.first() else {
        return Ok(());
    };
    let code = first.code.to_string();
    tracing::warn!(node, finding = %first, "evicted");
    let revocation = Revocation {
        kind: TargetKind::Machine,
        value: node.to_owned(),
        reason: {
            let first = recorded(first);
            format!("{}: {}", first.code, first.message)
        },
        by: core.authority.server_id().to_string(),
        auth: "self",
    };
    cut(core, &known, &revocation);
    let named = evidence
        .iter()
        .map(|(_, bytes)| HexDigest::of(bytes))
        .collect();
    // Where the record has to wait, none comes to name it; which it was, the next start sees.
    let mut naming = erase::naming(core, named).await;
    let mut kept = Vec::new();
    for (kind, bytes) in evidence.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let digest = attest::Evidence::new(kind, bytes.as_slice()).digest();
        match naming.keep(vec![bytes]).await {
            Ok(()) => kept.push(digest),
            Err(refusal) => tracing::error!(%refusal, node, "the evidence is not kept"),
        }
    }
    let id = core.node_id(node)?;
    let verdict = Verdict::refused(findings, kept);
    let mut verdict = verdict_body(id.as_str(), &verdict, None).record();
    if let Some(estate) = estate {
        verdict = verdict.estate(estate);
    }
    let verdict = core.by_server(verdict)?;
    if record(core, &known, vec![verdict], revocation)
        .await?
        .is_some()
    {
        naming.recorded().await;
    }
    core.metrics.evictions.get_or_create(&Code { code }).inc();
    Ok(())
}

/// Evicts `node` by an administrator's word. Returns the index of the revocation, `None` if its record waits.
///
/// # Errors
/// As [`evict`].
pub(crate) async fn by_hand(
    core: &Arc<Core>,
    node: &NodeRow,
    revocation: Revocation,
) -> Result<Option<u64>, Refusal> {
    let (core, node) = (Arc::clone(core), node.clone());
    let evicting = async move {
        cut(&core, &node, &revocation);
        record(&core, &node, Vec::new(), revocation).await
    };
    let evicted = tokio::spawn(evicting).await;
    evicted.map_err(|error| Refusal::internal("evicting a machine", &error))?
}

/// Gateways first; then the agent, which hands out nothing of it any more.
fn cut(core: &Core, node: &NodeRow, revocation: &Revocation) {
    revoke::cut_now(core, revocation);
    for svid in held(core, std::slice::from_ref(node)) {
        let withdrawn = Withdrawn {
            spiffe_id: svid.spiffe_id,
            serial: svid.serial,
            reason: revocation.reason.clone(),
        };
        let update = Some(node_update::Update::Withdrawn(withdrawn));
        core.workloads.send(&node.name, NodeUpdate { update });
    }
    core.workloads.drop_connection(&node.name);
}

async fn record(
    core: &Arc<Core>,
    node: &NodeRow,
    mut drafts: Vec<Draft>,
    revocation: Revocation,
) -> Result<Option<u64>, Refusal> {
    let digest = |text: &Option<String>| -> HexDigest {
        let known = text.as_deref().and_then(|text| text.parse().ok());
        known.unwrap_or(HexDigest([0; 32]))
    };
    let state = body::NodeState {
        node: node.name.clone(),
        state: STATE.to_owned(),
        generation: Decimal(node.generation),
        renewal: digest(&node.renewal),
        key: digest(&node.key),
        verdict: None,
        counted: None,
    };
    // INVARIANT: the state right before the revocation, by which the fold tells an eviction from a ban.
    drafts.push(draft(
        state.record().actor(&revocation.by, revocation.auth),
    )?);
    drafts.push(revoke::record(core, &revocation)?);
    let entries = drafts.into_iter().map(Into::into).collect();
    match core.journal.append_reserved(entries).await {
        Ok(committed) => {
            // Until then it goes on being asked, and is overdue if this fails.
            core.watched.forget(&node.name);
            core.metrics.revocations.inc();
            revoke::delegations_fall(core).await;
            Ok(committed.last().map(ledger_store::Committed::index))
        }
        // What can be recorded later is the revocation alone: the machine is then out until it is
        // readmitted.
        Err(failure) if failure.waits() => {
            let waits = revoke::record_cut(core, revocation).await?;
            revoke::delegations_fall(core).await;
            Ok(waits)
        }
        Err(failure) => Err(failure.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> NodeRow {
        NodeRow {
            name: "m1".to_owned(),
            generation: 1,
            renewal: None,
            verdict: 0,
            evidence_time: 0,
            facts: String::new(),
            key: None,
            locked: None,
            locked_at: None,
            readmitted: None,
            dead: None,
            dead_before: None,
            stated: None,
        }
    }

    /// A server that may sign nothing cuts, and keeps for later what it can: the revocation.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_eviction_that_cannot_be_recorded_stands_and_waits() {
        let dir = tempfile::tempdir().unwrap();
        let running = crate::trial::server(dir.path()).await;
        let core = Arc::clone(&running.core);
        let behind = Finding::new("SERVER-BEHIND", "the server is behind a peer");
        core.signing.block(behind, None);
        let revocation = Revocation {
            kind: TargetKind::Machine,
            value: "m1".to_owned(),
            reason: "drill".to_owned(),
            by: "uid:0".to_owned(),
            auth: "peercred",
        };
        let evicted = by_hand(&core, &machine(), revocation).await;
        assert_eq!(evicted.unwrap(), None);
        assert!(core.unrecorded.holds(TargetKind::Machine, "m1"));
        let waiting = core.postponed.waiting();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].value, "m1");
        assert!(core.state().revoked(TargetKind::Machine, "m1").is_none());
        drop(core);
        running.stop().await.unwrap();
    }
}
