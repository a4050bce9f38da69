//! Refusals of policies that are well typed and yet say something that no one should mean.

use super::conditions::{conjuncts, names_machines, paths};
use super::{PolicyInfo, Scope};
use crate::action::Action;
use crate::decision::Effect;
use crate::model::{Identity, Model};
use crate::problem::Problem;
use cedar_policy::pst::{Expr, Template};
use std::collections::BTreeSet;

/// Facts that the node agent asserts: whoever has root there writes them.
const ASSERTED: [&str; 12] = [
    "code",
    "machine.enforcement",
    "machine.ipe",
    "uid",
    "gid",
    "groups",
    "path",
    "unit",
    "cgroup",
    "caller",
    "helper",
    "interpreter",
];

pub(super) fn check(info: &PolicyInfo, model: &Model, problems: &mut Vec<Problem>) {
    if info.reference.effect == Effect::Permit && allows_assume(info) {
        check_assume(info, model, problems);
    }
}

/// Whether its scope takes in workloads that become somebody.
pub(crate) fn allows_assume(info: &PolicyInfo) -> bool {
    let action = info
        .actions
        .as_ref()
        .is_none_or(|actions| actions.contains(&Action::Assume));
    let principal = match &info.principal {
        Scope::Any => true,
        Scope::Is(name) | Scope::In(Some(name), _) => name == "Workload",
        Scope::Eq(uid) => uid.type_name().to_string() == "Workload",
        Scope::In(None, uid) => uid.type_name().to_string() == "Pool",
    };
    action && principal
}

/// Whether it names the machines on which facts that a node agent asserts count.
pub(crate) fn is_placed(info: &PolicyInfo) -> bool {
    matches!(info.principal, Scope::In(..))
        || conjuncts(&info.body)
            .iter()
            .any(|conjunct| names_machines(conjunct))
}

/// Whether any of its conditions reads a fact that a node agent asserts. What is not read attribute by attribute
/// may be one.
pub(crate) fn reads_asserted(body: &Template) -> bool {
    let read: Vec<String> = conjuncts(body)
        .iter()
        .flat_map(|conjunct| paths(conjunct))
        .collect();
    read.iter().any(|read| {
        let Some(fact) = read.strip_prefix("principal.") else {
            return false;
        };
        fact == "machine" || ASSERTED.into_iter().any(|name| is_below(fact, name))
    })
}

/// Whether the condition reads nothing of a workload but what its node agent asserts, and what is declared of the
/// identity.
pub(crate) fn is_only_asserted(conjunct: &Expr) -> bool {
    let read = paths(conjunct);
    !read.is_empty()
        && read.iter().all(|read| {
            let fact = read.strip_prefix("principal.");
            read.starts_with("resource.")
                || fact.is_some_and(|fact| ASSERTED.into_iter().any(|name| is_below(fact, name)))
        })
}

/// `code.source` is below `code`, and `code` itself is.
fn is_below(fact: &str, name: &str) -> bool {
    let rest = fact.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// DESIGN section 3, invariant 10: a fact asserted by the node agent counts only on machines that
/// the policy names. Section 7: code facts hold between uids, so the uid or unit is asked as well.
fn check_assume(info: &PolicyInfo, model: &Model, problems: &mut Vec<Problem>) {
    let conjuncts = conjuncts(&info.body);
    let read: Vec<String> = conjuncts
        .iter()
        .flat_map(|conjunct| paths(conjunct))
        .collect();
    let reads = |name: &str| {
        let path = format!("principal.{name}");
        read.iter()
            .any(|read| *read == path || read.starts_with(&format!("{path}.")))
    };
    let placed = is_placed(info);
    let mut refuse = |code, message: &str, hint: &str| {
        let problem = Problem::new(
            code,
            info.reference.file.as_str(),
            info.reference.line,
            message,
        );
        problems.push(problem.hint(hint));
    };
    let asserted = ASSERTED.into_iter().find(|name| reads(name));
    if !placed && (asserted.is_some() || !reads("machine")) {
        let message = match asserted {
            Some(name) => format!(
                "it rests on `principal.{name}`, which any node agent can assert, and names no machines"
            ),
            None => "any workload on any machine could assume the identity".to_owned(),
        };
        let hint = "write `principal in Pool::\"…\"`, or compare `principal.machine.name`";
        refuse("ESTATE-ASSUME-PLACEMENT", &message, hint);
    } else if !placed && let Some((path, fact)) = asserted_template(info, model) {
        let message = format!(
            "`{path}` is made of `{fact}`, which any node agent can assert, and the policy names no machines"
        );
        let hint = "write `principal in Pool::\"…\"`, or compare `principal.machine.name`";
        refuse("ESTATE-ASSUME-PLACEMENT", &message, hint);
    }
    if reads("code") && !["uid", "unit", "cgroup"].into_iter().any(reads) {
        let hint = "add `principal has uid && principal.uid == …`";
        let message = "it rests on code alone; within one uid, processes can act for each other";
        refuse("ESTATE-ASSUME-UID", message, hint);
    }
}

/// A template in the policy's scope that is made of an asserted fact: whoever writes it chooses the instance.
fn asserted_template<'a>(info: &PolicyInfo, model: &'a Model) -> Option<(&'a str, &'a str)> {
    let asserted = |name: &str| {
        let name = name.strip_prefix("workload.").unwrap_or(name);
        ASSERTED.into_iter().any(|one| is_below(name, one))
    };
    model.templates.iter().find_map(|(path, template)| {
        let identity = model.identities.get(path)?;
        let fact = template.facts().find(|name| asserted(name))?;
        in_scope(&info.resource, identity, model).then_some((path.as_str(), fact))
    })
}

fn in_scope(scope: &Scope, identity: &Identity, model: &Model) -> bool {
    let Some(uid) = scope.uid() else {
        return true;
    };
    let id: &str = uid.id().unescaped();
    match uid.type_name().to_string().as_str() {
        "Identity" => identity.path == id,
        "Group" => is_member(&identity.groups, id, model),
        _ => false,
    }
}

fn is_member(groups: &BTreeSet<String>, of: &str, model: &Model) -> bool {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&String> = groups.iter().collect();
    while let Some(group) = next.pop() {
        if group == of {
            return true;
        }
        if seen.insert(group) {
            next.extend(model.groups.get(group).into_iter().flatten());
        }
    }
    false
}
