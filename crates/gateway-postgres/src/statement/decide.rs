//! What policy says of one statement: of each access, and of each of its columns where the estate decides on columns.

use super::operation::to_front;
use super::{ANY, Epoch, Judge, Known, Verdict};
use crate::database::Snapshot;
use crate::sql::{Access, Effect, Resolved};
use estate::{
    Action, ChainDecision, Decision, Estate, PolicyRef, RecordingMode, ResourceKind, ResourceRef,
};
use facts::Finding;
use gateway::Current;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Policies that a refusal names.
const MOST_NAMED: usize = 4;

impl Judge {
    pub(super) fn decide(
        &self,
        fingerprint: &str,
        resolved: &Resolved,
        current: &Current,
        snapshot: &Snapshot,
    ) -> Verdict {
        let estate = &current.estate;
        let settings = estate.settings();
        let prepared = self.prepared(current);
        let writes = resolved.effect >= Effect::Commit;
        let mut verdict = Verdict {
            epoch: Epoch {
                estate: current.index,
                catalog: snapshot.generation,
            },
            allow: true,
            denied: None,
            findings: Vec::new(),
            strict: writes || settings.recording == RecordingMode::Strict,
            silent: resolved.effect == Effect::Session && resolved.accesses.is_empty(),
            withholds: false,
            operation: self.operation(fingerprint, resolved, current, snapshot),
        };
        let catalog = resolved.catalog_reads.iter().map(|path| Access {
            action: Action::Select,
            resource: ResourceRef::table(path.clone()),
        });
        let accesses = resolved.accesses.iter().flat_map(|access| {
            let columns = columns_asked(estate, resolved, access);
            std::iter::once(access.clone()).chain(columns)
        });
        let accesses = accesses.map(|access| (access, true));
        for (Access { action, resource }, data) in
            accesses.chain(catalog.map(|access| (access, false)))
        {
            let (decision, denying) = self.decide_one(estate, action, &resource, &prepared);
            for id in decision.policy_ids() {
                if !verdict.operation.policies.contains(&id) {
                    verdict.operation.policies.push(id);
                }
            }
            // Only reads of the least restricted classification, and of the catalogue, may be lost in
            // a crash.
            let harmless = settings.classifications.first();
            if data && Some(&estate.object(&resource).classification) != harmless {
                verdict.strict = true;
            }
            if !decision.allow {
                verdict.allow = false;
                let shown = self.shown(&resource, resolved, current, snapshot);
                to_front(&mut verdict.operation, action, &shown.to_string());
                let column = (resource.kind == ResourceKind::Column).then_some(shown);
                verdict.denied = Some((action, resource));
                let errors = decision
                    .errors
                    .into_iter()
                    .map(|error| Finding::new("POLICY-ERROR", error));
                verdict.findings.extend(errors);
                verdict.findings.extend(decision.findings);
                if verdict.findings.is_empty() {
                    let finding = match column {
                        Some(column) => unallowed_column(action, &column, &decision.policies),
                        None => unallowed(&decision.policies),
                    };
                    verdict.findings.push(of_hop(finding, denying));
                }
                return verdict;
            }
        }
        verdict.withholds = self.withholds(estate, resolved, &prepared, snapshot);
        verdict
    }

    /// What policy says of one access alone: a statement's tables are asked beside their columns. Of one who acts for
    /// others: what it says of each of them, and of each delegation; where somebody of the chain may not, whom.
    pub(super) fn decide_one(
        &self,
        estate: &Estate,
        action: Action,
        resource: &ResourceRef,
        known: &Known,
    ) -> (Decision, Option<String>) {
        let Some(told) = &self.told else {
            let alone = estate.alone();
            let own = alone.decide_prepared(&self.principal.path, action, resource, &known.own);
            return (own, None);
        };
        let estate = estate.alone();
        let decided = estate.decide_chain(told.chain(), action, resource, &known.chain);
        let denying = denying(&decided);
        (decided.as_one(), denying)
    }
}

/// What is decided on beside the table: each of its columns, where the estate decides on columns. Where the catalogue
/// does not know which: each that the estate declares as well, and one that it does not.
pub(super) fn columns_asked(estate: &Estate, resolved: &Resolved, access: &Access) -> Vec<Access> {
    if !estate.decides_columns() {
        return Vec::new();
    }
    let Some(columns) = resolved.columns.get(access) else {
        return Vec::new();
    };
    let asked = |name: &str| Access {
        action: access.action,
        resource: access.resource.column(name),
    };
    let mut names: BTreeSet<&str> = columns.names.iter().map(|name| &**name).collect();
    if columns.unknown {
        names.extend(estate.columns_of(&access.resource));
        names.insert(ANY);
    }
    names.into_iter().map(asked).collect()
}

/// As [`unallowed`], of a column whose table is allowed.
fn unallowed_column(action: Action, column: &ResourceRef, policies: &[Arc<PolicyRef>]) -> Finding {
    let message = match unallowed(policies).message {
        _ if policies.is_empty() => {
            format!("its table is allowed, and no policy allows to {action} the column {column}")
        }
        forbidden => format!("its table is allowed, and the column {column} is {forbidden}"),
    };
    Finding::new("POLICY-COLUMN", message).next(
        "leave the column out of the statement, and name the others in the place of `*`; or permit it: \
         a permit `resource in Table::…` covers columns, one with `==` or `is Table` covers none",
    )
}

/// Each with file and line, as they stand in the version that decided.
fn unallowed(policies: &[Arc<PolicyRef>]) -> Finding {
    if policies.is_empty() {
        return Finding::new("POLICY-NONE", "no policy allows it");
    }
    let shown = policies.iter().take(MOST_NAMED).map(ToString::to_string);
    let mut shown: Vec<String> = shown.collect();
    if let Some(more) = policies
        .len()
        .checked_sub(MOST_NAMED)
        .filter(|more| *more > 0)
    {
        shown.push(format!("and {more} more"));
    }
    Finding::new(
        "POLICY-FORBID",
        format!("forbidden by {}", shown.join("; ")),
    )
}

/// The first of the chain that may not do it by itself.
fn denying(decided: &ChainDecision) -> Option<String> {
    let mut hops = decided.hops.iter();
    let hop = hops.find(|hop| !hop.decision.allow)?;
    Some(hop.principal.clone())
}

/// Which of the chain may not, where several were asked.
fn of_hop(mut finding: Finding, hop: Option<String>) -> Finding {
    if let Some(hop) = hop {
        finding.message = format!("{}: {hop} may not", finding.message);
    }
    finding
}
