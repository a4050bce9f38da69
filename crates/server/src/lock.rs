//! One state in two places: how that is seen, what is locked and cut then, and what may go on after a
//! readmission.
//!
//! Each renewal, and each new join of a machine that has kept a state, moves the node's generation on by
//! one. Two machines with one state present the same generation; the second to come presents one that has
//! passed. Nobody can say which of them is the original, so the node is locked and what its workloads hold
//! is cut, until an administrator readmits the machine. Then whoever renews first goes on, and every other
//! state of the generations so far is dead: it is refused and locks nobody.

use crate::core::{Core, draft, recorded};
use crate::evict::{EVICTED, is_evicted};
use crate::join::is_join_state;
use crate::node::{Lost, cut, withdraw};
use crate::refusal::Refusal;
use facts::Finding;
use ledger::Decimal;
use ledger::body::{self, Body as _};
use std::sync::Arc;
use store::{NodeRow, SvidRow};

/// A state that a machine presents, and the id of what it asks for with it.
pub(crate) struct Kept<'a> {
    pub(crate) join_state: &'a [u8],
    pub(crate) generation: u64,
    /// SHA-256 of the renewal's id.
    pub(crate) renewal: [u8; 32],
}

/// Where what is asked for stands against what is recorded of its node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the next.
    Next,
    /// It is the last one again, whose answer was lost.
    Again,
    /// Somebody else has made it.
    Passed,
    /// Somebody else went on after a readmission.
    Dead,
}

pub(crate) fn place(core: &Core, node: &NodeRow, kept: &Kept<'_>) -> Place {
    let known = is_join_state(core, kept.join_state, &node.name, kept.generation);
    placed(node, kept.generation, &kept.renewal, known)
}

fn placed(node: &NodeRow, generation: u64, renewal: &[u8; 32], known_state: bool) -> Place {
    let last = node.renewal.as_deref() == Some(crypto::hex::encode(renewal).as_str());
    let dead = node.dead.is_some_and(|dead| generation <= dead);
    let follows = generation.checked_add(1) == Some(node.generation);
    if node.readmitted.is_some() {
        Place::Next
    } else if !known_state {
        Place::Passed
    } else if last && (follows || dead) {
        // The first renewal after a readmission may have begun at any generation before it.
        Place::Again
    } else if generation == node.generation {
        Place::Next
    } else if dead {
        Place::Dead
    } else {
        Place::Passed
    }
}

/// Refuses a machine that may not even join.
pub(crate) fn may_join(node: &NodeRow) -> Result<(), Refusal> {
    if is_evicted(node) {
        return Ok(());
    }
    not_locked(node)
}

/// Refuses a machine that is locked out.
pub(crate) fn not_locked(node: &NodeRow) -> Result<(), Refusal> {
    match &node.locked {
        None => Ok(()),
        Some(_) if is_evicted(node) => Err(Refusal::Denied(
            Finding::new(EVICTED, "this machine is evicted until it joins clean")
                .expected("a join whose evidence is as it should be")
                .next("see why: trilith ledger search --ledger server --type verdict; then join again"),
        )),
        Some(why) => Err(Refusal::Denied(
            Finding::new("AGENT-LOCKED", "this machine is locked out")
                .observed(why.clone())
                .next(format!(
                    "find out why, then: trilith agent readmit {} --reason TEXT",
                    node.name
                )),
        )),
    }
}

/// Refuses an SVID from before a readmission: it is good for a renewal, and only the first of those goes on.
pub(crate) fn not_dead(node: &NodeRow, svid: &SvidRow) -> Result<(), Refusal> {
    if node.dead_before.is_none_or(|at| svid.index > at) {
        return Ok(());
    }
    Err(if node.readmitted.is_some() {
        Refusal::Denied(
            Finding::new(
                "AGENT-RENEW-FIRST",
                "the machine was readmitted and has not renewed yet",
            )
            .expected("an SVID issued since the readmission")
            .next("let the node agent renew"),
        )
    } else {
        dead(node)
    })
}

/// To whoever comes with a state that another went on from.
pub(crate) fn dead(node: &NodeRow) -> Refusal {
    Refusal::Denied(
        Finding::new(
            "AGENT-STATE-DEAD",
            "this state is dead: after the readmission another machine with the same state went on",
        )
        .expected(format!("generation {}", node.generation))
        .next(
            "if this machine is the real one, revoke and readmit it; then remove the agent's data \
             directory here and join anew",
        ),
    )
}

/// Locks the node, cuts what its workloads hold, and says so to whoever asked.
pub(crate) async fn lock(core: &Arc<Core>, node: &NodeRow, presented: u64, seen: &str) -> Refusal {
    let finding = Finding::new(
        "AGENT-LOCKED",
        "two machines use one state: both are locked",
    )
    .expected(format!("generation {}", node.generation))
    .observed(format!("generation {presented}: {seen}"))
    .next(format!(
        "find out which is the real one, then: trilith agent readmit {} --reason TEXT",
        node.name
    ));
    match lock_out(core, node, presented, &finding).await {
        Ok(()) => Refusal::Denied(finding),
        Err(refusal) => refusal,
    }
}

/// INVARIANT: gateways hear of the cut first. What was issued until the lock was in force is found after
/// it; what is recorded later is not signed.
async fn lock_out(
    core: &Arc<Core>,
    node: &NodeRow,
    presented: u64,
    finding: &Finding,
) -> Result<(), Refusal> {
    let reason = reason(node);
    for svid in held(core, std::slice::from_ref(node)) {
        cut(core, &svid, &reason);
    }
    core.workloads.drop_connection(&node.name);
    let body = body::Lock {
        node: node.name.clone(),
        finding: recorded(finding),
        generation: Decimal(presented),
    };
    let record = body
        .record()
        .actor(core.authority.server_id().as_str(), "self");
    core.journal
        .append_reserved(vec![draft(record)?.into()])
        .await?;
    withdraw(core, held(core, std::slice::from_ref(node)), &reason).await?;
    crate::revoke::delegations_fall(core).await;
    Ok(())
}

/// Cuts what a crash between a lock and its cuts has left.
pub(crate) async fn cut_again(core: &Arc<Core>) -> Result<(), Refusal> {
    let locked: Vec<NodeRow> = {
        let state = core.state();
        let locked = state.nodes().filter(|node| node.locked.is_some());
        locked.cloned().collect()
    };
    withdraw(core, held(core, &locked), "its machine is locked").await
}

fn reason(node: &NodeRow) -> String {
    format!("the machine {} is locked", node.name)
}

/// What workloads of the nodes hold. The nodes' own SVIDs stay: without one nobody could renew once the
/// machine is readmitted.
pub(crate) fn held(core: &Core, nodes: &[NodeRow]) -> Vec<Lost> {
    let now = core.now().as_millis();
    let own: Vec<(&str, String)> = nodes
        .iter()
        .filter_map(|node| {
            let id = core.node_id(&node.name).ok()?.to_string();
            Some((node.name.as_str(), id))
        })
        .collect();
    let state = core.state();
    own.iter()
        .flat_map(|(node, own)| state.svids_on(node).map(move |svid| (svid, own)))
        .filter(|(svid, own)| svid.spiffe_id != **own)
        .filter(|(svid, _)| svid.not_after > now && state.stands(svid))
        .map(|(svid, _)| Lost {
            node: svid.node.clone(),
            spiffe_id: svid.spiffe_id.clone(),
            serial: svid.serial.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(generation: u64, renewal: [u8; 32], readmitted: Option<u64>) -> NodeRow {
        NodeRow {
            name: "m1".to_owned(),
            generation,
            renewal: Some(crypto::hex::encode(&renewal)),
            verdict: 1,
            evidence_time: 1,
            facts: String::new(),
            key: None,
            locked: None,
            locked_at: None,
            readmitted,
            dead: None,
            dead_before: None,
            stated: None,
        }
    }

    #[test]
    fn a_copy_is_told_from_a_repetition() {
        let (last, other) = ([1; 32], [2; 32]);
        let at_5 = node(5, last, None);
        assert_eq!(placed(&at_5, 5, &other, true), Place::Next);
        assert_eq!(placed(&at_5, 4, &last, true), Place::Again);
        assert_eq!(placed(&at_5, 4, &other, true), Place::Passed);
        assert_eq!(placed(&at_5, 6, &other, true), Place::Passed);
        assert_eq!(placed(&at_5, u64::MAX, &last, true), Place::Passed);
        assert_eq!(
            placed(&at_5, 5, &other, false),
            Place::Passed,
            "a forged state"
        );
        assert_eq!(
            placed(&at_5, 4, &last, false),
            Place::Passed,
            "a forged state"
        );
    }

    #[test]
    fn after_a_readmission_the_first_goes_on_and_the_others_lock_nobody() {
        let (won, other) = ([1; 32], [2; 32]);
        let readmitted = NodeRow {
            dead: Some(5),
            ..node(5, other, Some(9))
        };
        assert_eq!(placed(&readmitted, 3, &won, true), Place::Next);
        let moved_on = NodeRow {
            dead: Some(5),
            ..node(6, won, None)
        };
        assert_eq!(
            placed(&moved_on, 3, &won, true),
            Place::Again,
            "its answer was lost"
        );
        assert_eq!(placed(&moved_on, 5, &other, true), Place::Dead);
        assert_eq!(placed(&moved_on, 6, &other, true), Place::Next);
        let later = NodeRow {
            dead: Some(5),
            ..node(8, won, None)
        };
        assert_eq!(placed(&later, 6, &other, true), Place::Passed, "a new copy");
        assert_eq!(placed(&later, 4, &other, true), Place::Dead);
    }
}
