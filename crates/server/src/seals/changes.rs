//! What is to be approved now, compared with what was.

use super::{Approval, ApprovalSet, MOST, Pcrs, Scope};
use crate::core::Core;
use crate::current::Current;
use attest_tpm::seal::approved_policy;
use facts::{Finding, Timestamp};
use ledger::body::{PcrItem, SealApproval};
use ledger::{Base64, Decimal, HexDigest};
use references::At;
use std::collections::BTreeSet;

/// A ring whose approvals are others than before.
pub(super) struct Change {
    pub(super) ring: String,
    pub(super) set: ApprovalSet,
    /// Those that were signed just now.
    pub(super) fresh: Vec<Approval>,
}

impl Change {
    pub(super) fn records(&self) -> impl Iterator<Item = SealApproval> {
        self.fresh.iter().map(|approval| SealApproval {
            ring: self.ring.clone(),
            epoch: Decimal(self.set.scope.epoch),
            label: approval.label.clone(),
            pcrs: approval
                .pcrs
                .iter()
                .map(|(index, value)| PcrItem {
                    index,
                    sha256: HexDigest(*value),
                })
                .collect(),
            policy: HexDigest(approved_policy(&approval.pcrs)),
            policy_ref: HexDigest(self.set.scope.policy_ref()),
            key: Base64(self.set.approver.key.spki_der().to_vec()),
            signature: Base64(approval.signature.clone()),
        })
    }
}

/// Every ring that differs. For threads of the pool.
pub(super) fn changes(
    core: &Core,
    current: &Current,
    now: Timestamp,
) -> Result<Vec<Change>, Finding> {
    let references = current.estate.references();
    let known: BTreeSet<String> = core.seals.lock().sets.keys().cloned().collect();
    let mut rings: BTreeSet<String> = references.pools.iter().cloned().collect();
    // Machines in no pool, and rings that were there before.
    rings.insert(String::new());
    rings.extend(known);
    let mut changes = Vec::new();
    for ring in rings {
        let found = references.values.boots(At { now, ring: &ring }, MOST);
        let mut wanted: Vec<(Pcrs, String)> = Vec::new();
        // INVARIANT: what is approved says what boots. Where another initrd or command line gives the same
        // PCRs, nothing is.
        let missing = found.unpinned.filter(|_| !found.boots.is_empty());
        let boots = match missing {
            None => found.boots,
            Some(_) => Vec::new(),
        };
        core.seals.unpinned(&ring, missing);
        for boot in boots {
            let pcrs = boot.pcrs.iter();
            let pcrs = pcrs.map(|(index, value)| (u32::from(*index), value.0));
            wanted.push((Pcrs::new(pcrs.collect())?, label(&boot.label)));
        }
        let change = change(core, ring, wanted)?;
        if let Some(change) = change.as_ref().filter(|_| found.more) {
            tracing::warn!(ring = %change.ring, most = MOST, "more boots are good than are approved");
        }
        changes.extend(change);
    }
    Ok(changes)
}

fn change(
    core: &Core,
    ring: String,
    wanted: Vec<(Pcrs, String)>,
) -> Result<Option<Change>, Finding> {
    let (key, approver) = (core.seals.key.as_ref(), core.seals.approver.clone());
    let known = core.seals.lock().sets.get(&ring).cloned();
    if known.is_none() && wanted.is_empty() {
        return Ok(None);
    }
    let was: BTreeSet<&Pcrs> = known
        .iter()
        .flat_map(|set| set.approvals())
        .map(|one| &one.pcrs)
        .collect();
    let is: BTreeSet<&Pcrs> = wanted.iter().map(|(pcrs, _)| pcrs).collect();
    let same_key = known
        .as_ref()
        .is_none_or(|set| set.approver.name == approver.name);
    if same_key && was == is {
        return Ok(None);
    }
    // INVARIANT: what was approved and is good no longer opens nothing that is sealed from now on.
    let goes_on = same_key && !was.is_empty() && was.is_subset(&is);
    let before = known.as_ref().map_or(0, |set| set.scope.epoch);
    let scope = Scope {
        trust_domain: core.trust_domain.to_string(),
        ring: ring.clone(),
        epoch: if goes_on { before } else { before + 1 },
    };
    let mut set = ApprovalSet::empty(scope, approver);
    if let Some(known) = known.as_ref().filter(|_| goes_on) {
        for approval in known.approvals() {
            set.add(approval.clone())?;
        }
    }
    let mut fresh = Vec::new();
    for (pcrs, label) in wanted {
        if goes_on && was.contains(&pcrs) {
            continue;
        }
        let approval = ApprovalSet::sign(&set.scope, key, pcrs, label)?;
        set.add(approval.clone())?;
        fresh.push(approval);
    }
    Ok(Some(Change { ring, set, fresh }))
}

/// A record is small, and a label for people.
fn label(text: &str) -> String {
    const LONGEST: usize = 200;
    let plain = text.chars().filter(|letter| !letter.is_control());
    let mut label = String::new();
    for letter in plain {
        if label.len() + letter.len_utf8() > LONGEST {
            break;
        }
        label.push(letter);
    }
    label
}
