//! Whether gateways see the facts that policies read. A gateway knows of a session what the issuance
//! record shows; a `forbid` over a fact that stands nowhere would never match, and fail open.

use super::conditions::{guards, paths};
use super::{Policies, PolicyInfo, Scope, Side};
use crate::action::Action;
use crate::entities::{Graph, Node};
use crate::model::{Identity, Model};
use crate::problem::Problem;
use facts::names;
use std::collections::BTreeSet;

/// Refuses each policy about uses that reads a fact which an identity within its scope does not show.
pub(crate) fn check(policies: &Policies, model: &Model, graph: &Graph) -> Vec<Problem> {
    let mut problems = Vec::new();
    for info in &policies.list {
        if !speaks_of_uses(info) {
            continue;
        }
        let read = facts_read(info);
        if read.is_empty() {
            continue;
        }
        for identity in model.identities.values() {
            if let Some(hidden) = read.iter().find(|name| !shows(identity, name))
                && concerns(info, identity, graph)
            {
                problems.push(refusal(info, identity, hidden));
                // One identity shows what is wrong; thousands would hide it.
                break;
            }
        }
    }
    problems
}

fn speaks_of_uses(info: &PolicyInfo) -> bool {
    info.actions
        .as_ref()
        .is_none_or(|actions| actions.iter().any(|action| Action::USES.contains(action)))
}

/// The facts below `context` that the policy reads: whole names, and `machine.tpm` where it asks only
/// whether there are any.
fn facts_read(info: &PolicyInfo) -> BTreeSet<String> {
    let mut read: BTreeSet<String> = super::conditions::conjuncts(&info.body)
        .iter()
        .flat_map(|conjunct| paths(conjunct))
        .filter_map(|path| path.strip_prefix("context.").map(str::to_owned))
        .map(|path| match path.as_str() {
            // Derived from the digest.
            "code.known_as" => names::CODE_SHA256.to_owned(),
            _ => path,
        })
        .filter(|path| !matches!(path.as_str(), "machine" | "workload"))
        .collect();
    // `x has tpm && x.tpm.kind == …` asks for the branch and for the fact: the fact is what counts.
    let branches: Vec<String> = read
        .iter()
        .filter(|path| {
            let below = format!("{path}.");
            read.iter().any(|other| other.starts_with(&below))
        })
        .cloned()
        .collect();
    for branch in branches {
        read.remove(&branch);
    }
    read
}

fn shows(identity: &Identity, name: &str) -> bool {
    let below = format!("{name}.");
    identity
        .visible
        .iter()
        .any(|visible| visible == name || visible.starts_with(&below))
}

/// Whether some request of the identity can meet the policy: by its scope, and by what it asks of the
/// principal before anything else.
fn concerns(info: &PolicyInfo, identity: &Identity, graph: &Graph) -> bool {
    let Some(node) = graph.identity(&identity.path) else {
        return true;
    };
    let scope = match &info.principal {
        Scope::Any => true,
        Scope::Is(kind) => kind == "Identity",
        Scope::Eq(uid) => node.uid == *uid,
        Scope::In(_, uid) => graph.find(uid).is_some_and(|id| node.lineage.contains(&id)),
    };
    scope && guards_fit(info, node)
}

fn guards_fit(info: &PolicyInfo, node: &Node) -> bool {
    guards(&info.body)
        .iter()
        .filter(|guard| guard.side == Side::Principal)
        .all(|guard| node.texts.get(&guard.name) == Some(&guard.value))
}

fn refusal(info: &PolicyInfo, identity: &Identity, hidden: &str) -> Problem {
    Problem::new(
        "ESTATE-FACT-NOT-VISIBLE",
        info.reference.file.as_str(),
        info.reference.line,
        format!(
            "it reads the fact `{hidden}`, which issuance records of `{}` ({}:{}) do not show: no \
             gateway will ever see it",
            identity.path, identity.file, identity.line
        ),
    )
    .hint(format!("add it to that identity: visible = [\"{hidden}\"]"))
}
