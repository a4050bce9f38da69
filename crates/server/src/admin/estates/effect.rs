//! What a version would do to what runs: machines that it evicts, SVIDs that it revokes, identities that
//! workloads may become or not any more. Whoever applies it has to have seen the numbers. Changes nothing.

use crate::attesting::would_lapse;
use crate::core::Core;
use crate::current::Current;
use crate::node::{Moved, tried};
use estate::Estate;
use facts::{Finding, names};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Machines that a plan names, and workloads of one identity; all are counted.
const MOST: usize = 32;
/// Machines that a refusal names.
const FEW: usize = 3;

/// What it would do, as of now.
pub(super) struct Effect {
    /// Whether it changes what machines are judged by; of how many what they booted is known.
    judged: Option<usize>,
    /// Machines that would be out, with the reasons.
    evicted: Vec<(String, Vec<Finding>)>,
    /// SVIDs of workloads that stand, and how many of them would not.
    standing: usize,
    revoked: usize,
    identities: BTreeMap<String, Change>,
}

/// What becomes of one identity.
#[derive(Default)]
struct Change {
    loses: Vec<Moved>,
    gains: Vec<Moved>,
    revoked: usize,
}

impl Effect {
    /// Of `new` after `old`. Reads the disk.
    pub(super) fn of(core: &Core, old: &Arc<Current>, new: &Arc<Estate>) -> Self {
        let (before, after) = (old.estate.references(), new.references());
        let judges_anew = before.values != after.values || before.machines != after.machines;
        let planned = Current::tried(Arc::clone(new), Arc::clone(old));
        let (judged, evicted) = if judges_anew {
            let (judged, evicted) = would_lapse(core, &planned);
            (Some(judged), evicted)
        } else {
            (None, Vec::new())
        };
        let out: HashSet<&str> = evicted.iter().map(|(node, _)| node.as_str()).collect();
        let tried = tried(core, old, &planned);
        let mut identities: BTreeMap<String, Change> = BTreeMap::new();
        for moved in tried.loses {
            let change = identities.entry(moved.path.clone()).or_default();
            change.loses.push(moved);
        }
        for moved in tried.gains {
            let change = identities.entry(moved.path.clone()).or_default();
            change.gains.push(moved);
        }
        let prefix = format!("spiffe://{}/", core.trust_domain);
        let (mut standing, mut revoked) = (0, 0);
        {
            let now = core.now().as_millis();
            let state = core.state();
            let stands = state
                .svids()
                .filter(|svid| svid.estate.is_some() && svid.not_after > now && state.stands(svid));
            for svid in stands {
                standing += 1;
                if tried.cut.contains(&svid.serial) || out.contains(svid.node.as_str()) {
                    revoked += 1;
                    let path = svid.spiffe_id.strip_prefix(&prefix);
                    let path = path.unwrap_or(&svid.spiffe_id).to_owned();
                    identities.entry(path).or_default().revoked += 1;
                }
            }
        }
        Self {
            judged,
            evicted,
            standing,
            revoked,
            identities,
        }
    }

    /// What a change of reference values would do to the machines that stand, by what they booted. Nothing, if
    /// there is no such change.
    pub(super) fn machines(&self) -> Option<Value> {
        let named = self.evicted.iter().take(MOST);
        let named: Vec<Value> = named
            .map(|(node, findings)| json!({ "node": node, "finding": findings.first() }))
            .collect();
        Some(json!({ "judged": self.judged?, "count": self.evicted.len(), "evicted": named }))
    }

    /// What it would do to identities and their SVIDs.
    pub(super) fn running(&self) -> Value {
        let identities: Vec<Value> = self
            .identities
            .iter()
            .map(|(path, change)| {
                json!({
                    "identity": path,
                    "revoked": change.revoked,
                    "loses": workloads(&change.loses),
                    "gains": workloads(&change.gains),
                })
            })
            .collect();
        json!({ "standing": self.standing, "revoked": self.revoked, "identities": identities })
    }

    /// What an apply has to say that it has seen: each a number, or 0 where nothing has to be said.
    pub(super) fn acknowledge(&self) -> Value {
        json!({ "evict": self.evicted.len(), "revoke": self.most_are_cut() })
    }

    /// How many SVIDs would be revoked, if that is more than half of those that stand; else 0.
    fn most_are_cut(&self) -> usize {
        if self.revoked * 2 > self.standing {
            self.revoked
        } else {
            0
        }
    }

    /// Why it may not be applied by whoever has seen so many evictions and revocations.
    pub(super) fn unseen(&self, (evict, revoke): (u64, u64)) -> Option<Finding> {
        let more = |count: usize, seen: u64| u64::try_from(count).unwrap_or(u64::MAX) > seen;
        let (evicted, cut) = (self.evicted.len(), self.most_are_cut());
        let finding = if more(evicted, evict) {
            let mut named: Vec<String> = self
                .evicted
                .iter()
                .take(FEW)
                .map(|(node, findings)| match findings.first() {
                    Some(finding) => format!("{node} ({})", finding.code),
                    None => node.clone(),
                })
                .collect();
            if evicted > FEW {
                named.push(format!("and {} more", evicted - FEW));
            }
            Finding::new(
                "ESTATE-EVICTS",
                "this change puts machines out that stand, with everything that runs on them",
            )
            .expected(seen("evicts", evict, "--evict"))
            .observed(format!("it evicts {evicted}: {}", named.join(", ")))
        } else if more(cut, revoke) {
            Finding::new(
                "ESTATE-REVOKES",
                "this change revokes more than half of the SVIDs that stand",
            )
            .expected(seen("revokes", revoke, "--revoke"))
            .observed(format!("it revokes {cut} of {}", self.standing))
        } else {
            return None;
        };
        Some(finding.next(format!(
            "look at what it does: trilith estate plan DIR; if that is meant: trilith estate apply DIR{}",
            self.flags()
        )))
    }

    /// The arguments of an apply that has seen everything.
    fn flags(&self) -> String {
        let flag = |name: &str, count: usize| match count {
            0 => String::new(),
            count => format!(" --{name} {count}"),
        };
        let cut = flag("revoke", self.most_are_cut());
        format!("{}{cut}", flag("evict", self.evicted.len()))
    }

    /// For the record of who applied it.
    pub(super) fn recorded(&self) -> String {
        let flags = self.flags();
        if flags.is_empty() {
            return flags;
        }
        format!(" (seen:{flags})")
    }
}

fn seen(does: &str, count: u64, flag: &str) -> String {
    match count {
        0 => format!("a change that {does} none, or `{flag}` with the number that the plan names"),
        count => {
            format!("no more than `{flag} {count}`, which the plan named when it was looked at")
        }
    }
}

fn workloads(moved: &[Moved]) -> Value {
    let named = moved.iter().take(MOST);
    let named: Vec<Value> = named
        .map(|one| {
            json!({
                "node": one.node,
                "uid": one.facts.value(names::WORKLOAD_UID),
                "path": one.facts.text(names::WORKLOAD_PATH),
                "unit": one.facts.text(names::WORKLOAD_UNIT),
            })
        })
        .collect();
    json!({ "count": moved.len(), "workloads": named })
}
