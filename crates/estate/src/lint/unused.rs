//! What is declared and leads nowhere: identities that nobody may become, groups without members,
//! references that nothing names.

use super::declared::{Declared, Name};
use super::reading::{fact_of, paths, texts};
use super::{Means, Remark, Severity};
use crate::action::Action;
use crate::decision::Effect;
use crate::declare::IdentityKind;
use crate::estate::Estate;
use crate::policy::Scope;
use crate::problem::Problem;
use std::collections::BTreeSet;

pub(super) fn check(estate: &Estate, declared: &Declared, remarks: &mut Vec<Remark>) {
    identities(estate, remarks);
    groups(estate, declared, remarks);
    references(estate, declared, remarks);
}

fn warn(
    remarks: &mut Vec<Remark>,
    code: &'static str,
    at: (&str, u32),
    message: String,
    next: &str,
) {
    let problem = Problem::new(code, at.0, at.1, message).hint(next);
    remarks.push(Remark::new(Severity::Warning, Means::Declarations, problem));
}

/// Those that no permit for `assume` has in its scope. Conditions are not looked at.
fn identities(estate: &Estate, remarks: &mut Vec<Remark>) {
    let permits = estate.policies.list.iter().filter(|info| {
        let assume = info
            .actions
            .as_ref()
            .is_none_or(|actions| actions.contains(&Action::Assume));
        info.reference.effect == Effect::Permit && assume && may_be_workload(&info.principal)
    });
    // By what permits name: identities, and groups of them.
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let mut named_groups: BTreeSet<&str> = BTreeSet::new();
    for info in permits {
        match info.resource.uid() {
            // Every identity.
            None => return,
            Some(uid) if uid.type_name().to_string() == "Group" => {
                named_groups.insert(uid.id().unescaped());
            }
            Some(uid) => {
                named.insert(uid.id().unescaped());
            }
        }
    }
    for identity in estate.identities() {
        // Nodes get theirs when they join; people have none.
        let reachable = identity.kind == IdentityKind::Node
            || identity.is_person()
            || named.contains(identity.path.as_str())
            || !groups_above(estate, &identity.groups).is_disjoint(&named_groups);
        if reachable {
            continue;
        }
        let message = format!("nobody may become identity `{}`", identity.path);
        warn(
            remarks,
            "LINT-IDENTITY-UNREACHABLE",
            (&identity.file, identity.line),
            message,
            "add a policy for `assume` in policies/, or delete the identity",
        );
    }
}

fn may_be_workload(principal: &Scope) -> bool {
    match principal {
        Scope::Any => true,
        Scope::Is(name) | Scope::In(Some(name), _) => name == "Workload",
        Scope::Eq(_) => false,
        Scope::In(None, uid) => uid.type_name().to_string() == "Pool",
    }
}

/// `groups`, and those that they are in.
fn groups_above<'a>(estate: &'a Estate, groups: &'a BTreeSet<String>) -> BTreeSet<&'a str> {
    let mut above = BTreeSet::new();
    let mut next: Vec<&str> = groups.iter().map(String::as_str).collect();
    while let Some(group) = next.pop() {
        if above.insert(group)
            && let Some(parents) = estate.model.groups.get(group)
        {
            next.extend(parents.iter().map(String::as_str));
        }
    }
    above
}

fn groups(estate: &Estate, declared: &Declared, remarks: &mut Vec<Remark>) {
    let mut peopled: BTreeSet<&str> = BTreeSet::new();
    let identities = estate.identities().map(|identity| &identity.groups);
    let resources = estate.model.others.values().map(|one| &one.groups);
    let members = identities.chain(resources);
    for groups in members.chain(estate.model.administrators.values()) {
        peopled.extend(groups_above(estate, groups));
    }
    for group in &declared.groups {
        if !peopled.contains(group.name.as_str()) {
            let message = format!("group `{}` has no members", group.name);
            warn(
                remarks,
                "LINT-GROUP-EMPTY",
                (&group.file, group.line),
                message,
                "name it under `groups` of an identity, a resource or an administrator, or delete it",
            );
        }
    }
}

/// What policies, invariants and tests say: texts, ids of entities, and facts that they read.
#[derive(Default)]
struct Said {
    words: BTreeSet<String>,
    facts: BTreeSet<String>,
}

impl Said {
    fn by(estate: &Estate) -> Self {
        let mut said = Self::default();
        for info in &estate.policies.list {
            said.read(&info.policy, Some(&info.body));
        }
        for invariant in &estate.invariants {
            let body = invariant.policy.to_pst().ok();
            said.read(&invariant.policy, body.as_ref().map(|policy| policy.body()));
        }
        for test in &estate.tests {
            for (name, value) in &test.entry.facts {
                said.facts.insert(name.clone());
                if let facts::Value::Text(text) = value {
                    said.words.insert(text.clone());
                }
            }
        }
        said
    }

    fn read(&mut self, policy: &cedar_policy::Policy, body: Option<&cedar_policy::pst::Template>) {
        let ids = policy.entity_literals().into_iter();
        self.words
            .extend(ids.map(|uid| uid.id().unescaped().to_owned()));
        if let Some(body) = body {
            self.words.extend(texts(body));
            self.facts
                .extend(paths(body).iter().filter_map(|path| fact_of(path)));
        }
    }

    fn reads(&self, branch: &str) -> bool {
        self.facts.iter().any(|fact| fact.starts_with(branch))
    }
}

fn references(estate: &Estate, declared: &Declared, remarks: &mut Vec<Remark>) {
    let said = Said::by(estate);
    let references = estate.references();
    let mut rings: BTreeSet<&str> = references
        .machines
        .values()
        .filter_map(|machine| machine.pool.as_deref())
        .collect();
    rings.extend(references.tees.iter().map(|tee| tee.pool.as_str()));
    let enforced = references.enforcement.iter().flat_map(|one| &one.rings);
    rings.extend(enforced.map(String::as_str));
    let mut unused = |name: &Name, what: &str, next: &str| {
        let message = format!("{what} `{}` is used by nothing", name.name);
        warn(
            remarks,
            "LINT-REFERENCE-UNUSED",
            (&name.file, name.line),
            message,
            next,
        );
    };
    for pool in &declared.pools {
        if !said.words.contains(&pool.name) && !rings.contains(pool.name.as_str()) {
            let next = "name it in a policy: `principal in Pool::\"…\"`; or delete it";
            unused(pool, "pool", next);
        }
    }
    // A policy that reads what names code goes by may compare them in ways that no text shows.
    for code in &declared.code {
        if !said.words.contains(&code.name) {
            let next = "ask for it: `principal.code.known_as.contains(\"…\")`; or delete it";
            unused(code, "code", next);
        }
    }
    let vouching = said.reads("code.signer")
        || said.reads("code.approved_by")
        || said.reads("code.image.signer")
        || said.reads("code.image.approved_by");
    for signer in &declared.signers {
        let name = &signer.name;
        let counts = declared.used_signers.contains(name) || declared.approving.contains(name);
        if !vouching && !counts && !said.words.contains(name) {
            let next = "name it in a `[[provenance]]`, ask for `code.approved_by`; or delete it";
            unused(signer, "signer", next);
        }
    }
    for root in &declared.roots {
        if !declared.used_roots.contains(&root.name) {
            let next = "name it under `root` of a `[[signer]]`, or delete it";
            unused(root, "trusted root", next);
        }
    }
}
