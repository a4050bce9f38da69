//! What is to be approved now, compared with what was.

use super::{Approval, ApprovalSet, Approver, MOST, Pcrs, Scope};
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

/// What is good in a ring now.
pub(super) struct Wanted {
    pub(super) ring: String,
    /// Each once; or why that cannot be said, and then nothing is good.
    boots: Result<Vec<(Pcrs, String)>, Finding>,
    /// More than are approved.
    more: bool,
}

impl Wanted {
    /// What is left of `set`, by the key in use; nothing if all of it is good.
    pub(super) fn left_of(&self, set: &ApprovalSet, approver: &Approver) -> Option<ApprovalSet> {
        let boots = self.boots.as_deref().unwrap_or_default();
        let same_key = set.approver.name == approver.name;
        let good: BTreeSet<&Pcrs> = boots.iter().map(|(pcrs, _)| pcrs).collect();
        let stays = |one: &&Approval| same_key && good.contains(&one.pcrs);
        let left: Vec<Approval> = set.approvals().iter().filter(stays).cloned().collect();
        if left.len() == set.approvals().len() {
            return None;
        }
        let mut narrowed = ApprovalSet::empty(set.scope.clone(), set.approver.clone());
        for approval in left {
            // It was taken before, with the same signature.
            if let Err(finding) = narrowed.add(approval) {
                tracing::error!(%finding, "an approval is not told of any more");
            }
        }
        Some(narrowed)
    }
}

/// Every ring. For threads of the pool.
pub(super) fn wanted(core: &Core, current: &Current, now: Timestamp) -> Vec<Wanted> {
    let references = current.estate.references();
    let known: BTreeSet<String> = core.seals.lock().sets.keys().cloned().collect();
    let mut rings: BTreeSet<String> = references.pools.iter().cloned().collect();
    // Machines in no pool, and rings that were there before.
    rings.insert(String::new());
    rings.extend(known);
    let of_ring = |ring: String| {
        let found = references.values.boots(At { now, ring: &ring }, MOST);
        // INVARIANT: what is approved says what boots. Where another initrd or command line gives the same
        // PCRs, nothing is.
        let missing = found.unpinned.filter(|_| !found.boots.is_empty());
        core.seals.unpinned(&ring, missing);
        let boots = match missing {
            None => found.boots,
            Some(_) => Vec::new(),
        };
        let boots = boots.into_iter().map(|boot| {
            let pcrs = boot.pcrs.iter();
            let pcrs = pcrs.map(|(index, value)| (u32::from(*index), value.0));
            Ok((Pcrs::new(pcrs.collect())?, label(&boot.label)))
        });
        Wanted {
            boots: boots.collect(),
            more: found.more,
            ring,
        }
    };
    rings.into_iter().map(of_ring).collect()
}

/// Every ring whose approvals are to be others, each with what they are to be, or why they cannot be made. For
/// threads of the pool.
pub(super) fn changes(core: &Core, wanted: Vec<Wanted>) -> Vec<(String, Result<Change, Finding>)> {
    let changes = wanted.into_iter().filter_map(|one| {
        let (ring, more) = (one.ring.clone(), one.more);
        let change = change(core, one).transpose()?;
        if more && change.is_ok() {
            tracing::warn!(%ring, most = MOST, "more boots are good than are approved");
        }
        Some((ring, change))
    });
    changes.collect()
}

fn change(core: &Core, wanted: Wanted) -> Result<Option<Change>, Finding> {
    let (key, approver) = (core.seals.key.as_ref(), core.seals.approver.clone());
    let Wanted { ring, boots, .. } = wanted;
    let wanted = boots?;
    let (known, ending) = {
        let rings = core.seals.lock();
        (rings.sets.get(&ring).cloned(), rings.ending.contains(&ring))
    };
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
    if same_key && was == is && !ending {
        return Ok(None);
    }
    // INVARIANT: what was approved and is good no longer opens nothing that is sealed from now on.
    let goes_on = same_key && !ending && !was.is_empty() && was.is_subset(&is);
    let scope = match &known {
        Some(known) if goes_on => known.scope.clone(),
        Some(known) => next(&known.scope, core.now()),
        None => next(
            &Scope {
                trust_domain: core.trust_domain.to_string(),
                ring: ring.clone(),
                epoch: 0,
            },
            core.now(),
        ),
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

/// The scope of the epoch after that of `scope`.
pub(super) fn next(scope: &Scope, now: Timestamp) -> Scope {
    Scope {
        epoch: epoch_after(scope.epoch, now, u32::from_be_bytes(crypto::random())),
        ..scope.clone()
    }
}

/// Bits of an epoch that are random.
const RANDOM: u32 = 20;

/// The number of an epoch that begins `now`, after `before`: the time in milliseconds, then random bits.
///
/// INVARIANT: no number comes twice in the life of a key, not even after a recovery from a ledger that does not
/// know of the last ones. Counted on from what the ledger says, it would: an approval of the lost epoch would
/// open what is sealed under the second of the same number.
fn epoch_after(before: u64, now: Timestamp, random: u32) -> u64 {
    let after = (before >> RANDOM).saturating_add(1);
    let time = now.as_millis().max(after).min(u64::MAX >> RANDOM);
    let random = u64::from(random) & ((1 << RANDOM) - 1);
    (time << RANDOM | random).max(before.saturating_add(1))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::{Algorithm, KeyPair, Signer as _};

    fn boot(value: u8) -> Pcrs {
        Pcrs::new([(4, [value; 32])].into()).unwrap()
    }

    fn wanted(boots: Result<Vec<Pcrs>, Finding>) -> Wanted {
        let labelled = |boots: Vec<Pcrs>| {
            let named = boots.into_iter().map(|pcrs| (pcrs, String::new()));
            named.collect()
        };
        Wanted {
            ring: "a".to_owned(),
            boots: boots.map(labelled),
            more: false,
        }
    }

    /// One ring of which it could not be said what is good kept what was withdrawn of all others.
    #[test]
    fn what_is_told_of_a_ring_is_what_is_good_there_and_nothing_when_that_is_unknown() {
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let approver = Approver::new(key.public_key().clone()).unwrap();
        let scope = Scope {
            trust_domain: "example.org".to_owned(),
            ring: "a".to_owned(),
            epoch: 1,
        };
        let mut set = ApprovalSet::empty(scope.clone(), approver.clone());
        for value in [1, 2] {
            let signed = ApprovalSet::sign(&scope, &key, boot(value), String::new());
            set.add(signed.unwrap()).unwrap();
        }
        let left = |boots| {
            let left = wanted(boots).left_of(&set, &approver)?;
            assert_eq!(left.scope, scope);
            let approvals = left.approvals().iter();
            Some(approvals.map(|one| one.pcrs.clone()).collect())
        };
        assert_eq!(left(Ok(vec![boot(2), boot(3), boot(1)])), None);
        assert_eq!(left(Ok(vec![boot(3), boot(2)])), Some(vec![boot(2)]));
        assert_eq!(left(Ok(Vec::new())), Some(Vec::new()));
        let unknown = Finding::new("TPM-SELECTION", "this is no selection of PCRs");
        assert_eq!(left(Err(unknown)), Some(Vec::new()));
        // By a key that is in use no longer, nothing is told.
        let other = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let other = Approver::new(other.public_key().clone()).unwrap();
        let left = wanted(Ok(vec![boot(1), boot(2)])).left_of(&set, &other);
        assert!(left.unwrap().approvals().is_empty());
    }

    /// After a recovery from an older ledger the same number was counted again.
    #[test]
    fn the_same_ledger_at_another_time_names_another_epoch() {
        let at = |second: u64| Timestamp::from_secs(1_800_000_000 + second);
        let lost = epoch_after(7, at(0), 5);
        let again = epoch_after(7, at(1), 5);
        assert!(lost < again && lost > 7);
        assert_ne!(lost, epoch_after(7, at(0), 6), "in the same millisecond");
        // A clock that was set back: it goes up all the same.
        for random in [0, u32::MAX] {
            assert!(epoch_after(again, Timestamp::from_secs(1), random) > again);
        }
        assert_eq!(epoch_after(u64::MAX, at(0), 0), u64::MAX, "and never down");
        assert!(epoch_after(u64::MAX - 1, at(0), 0) > u64::MAX - 1);
    }
}
