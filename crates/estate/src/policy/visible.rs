//! Whether gateways see the facts that policies read. A gateway knows of a session what the issuance
//! record shows; a `forbid` over a fact that stands nowhere would never match, and fail open.

use super::conditions::paths;
use super::{Guard, Policies, PolicyInfo, Scope, Side};
use crate::entities::Graph;
use crate::model::{Identity, Model};
use crate::problem::Problem;
use facts::names;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Refuses each policy about uses that reads a fact which an identity within its scope does not show.
pub(crate) fn check(policies: &Policies, model: &Model, graph: &Graph) -> Vec<Problem> {
    let classes = Classes::of(model);
    let mut code = model.references.code.values();
    let measured = code.any(|code| !code.fsverity.is_empty());
    // Thousands of policies ask the same few questions.
    let mut asked: HashMap<Question<'_>, Option<Hidden<'_>>> = HashMap::new();
    let mut problems = Vec::new();
    for info in &policies.list {
        if !speaks_of_uses(info) {
            continue;
        }
        let read = facts_read(info, measured);
        if read.is_empty() {
            continue;
        }
        let question = Question {
            scope: &info.principal,
            guards: principal_guards(info),
            read,
        };
        let hidden = match asked.get(&question) {
            Some(known) => known.clone(),
            None => {
                let found = classes.hidden_from(&question, graph);
                asked.insert(question, found.clone());
                found
            }
        };
        if let Some(Hidden { identity, fact }) = hidden {
            problems.push(refusal(info, identity, &fact));
        }
    }
    problems
}

/// What decides whom a policy concerns, and what it reads of them.
#[derive(PartialEq, Eq, Hash)]
struct Question<'a> {
    scope: &'a Scope,
    guards: Vec<Guard>,
    read: BTreeSet<String>,
}

/// One identity shows what is wrong; thousands would hide it.
#[derive(Clone)]
struct Hidden<'a> {
    identity: &'a Identity,
    fact: String,
}

/// The identities, each with the number of what it shows: many show the same.
struct Classes<'a> {
    shown: Vec<&'a BTreeSet<String>>,
    identities: BTreeMap<&'a str, (&'a Identity, usize)>,
}

impl<'a> Classes<'a> {
    fn of(model: &'a Model) -> Self {
        let mut shown: Vec<&BTreeSet<String>> = Vec::new();
        let mut numbers: HashMap<&BTreeSet<String>, usize> = HashMap::new();
        let mut identities = BTreeMap::new();
        for identity in model.identities.values() {
            let number = *numbers.entry(&identity.visible).or_insert_with(|| {
                shown.push(&identity.visible);
                shown.len() - 1
            });
            identities.insert(identity.path.as_str(), (identity, number));
        }
        Self { shown, identities }
    }

    /// The first identity, in order of paths, that the question concerns and that does not show all of it.
    fn hidden_from(&self, question: &Question<'_>, graph: &Graph) -> Option<Hidden<'a>> {
        let missing: Vec<Option<&String>> = self
            .shown
            .iter()
            .map(|shown| question.read.iter().find(|name| !shows(shown, name)))
            .collect();
        if missing.iter().all(Option::is_none) {
            return None;
        }
        let hidden = |(identity, number): &(&'a Identity, usize)| {
            let fact = missing.get(*number).copied().flatten()?;
            concerns(question, identity, graph).then(|| Hidden {
                identity,
                fact: fact.clone(),
            })
        };
        if let Scope::Eq(uid) = question.scope {
            let path: &str = uid.id().as_ref();
            return self.identities.get(path).and_then(hidden);
        }
        self.identities.values().find_map(hidden)
    }
}

fn speaks_of_uses(info: &PolicyInfo) -> bool {
    info.actions
        .as_ref()
        .is_none_or(|actions| actions.iter().any(|action| action.is_use()))
}

/// The facts below `context` that the policy reads: whole names, and `machine.tpm` where it asks only
/// whether there are any. `measured`: code goes by its fs-verity digest as well.
fn facts_read(info: &PolicyInfo, measured: bool) -> BTreeSet<String> {
    let mut read: BTreeSet<String> = super::conditions::conjuncts(&info.body)
        .iter()
        .flat_map(|conjunct| paths(conjunct))
        .filter_map(|path| path.strip_prefix("context.").map(str::to_owned))
        .flat_map(|path| match path.as_str() {
            // Derived from the digests.
            "code.known_as" if measured => {
                vec![
                    names::CODE_SHA256.to_owned(),
                    names::CODE_FSVERITY.to_owned(),
                ]
            }
            "code.known_as" => vec![names::CODE_SHA256.to_owned()],
            _ => vec![path],
        })
        .filter(|path| !matches!(path.as_str(), "machine" | "workload"))
        .collect();
    // Without its digest there is no code at all.
    if read.iter().any(|path| path.starts_with("code.")) {
        read.insert(names::CODE_SHA256.to_owned());
    }
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

fn shows(shown: &BTreeSet<String>, name: &str) -> bool {
    shown
        .iter()
        .filter_map(|visible| visible.strip_prefix(name))
        .any(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn principal_guards(info: &PolicyInfo) -> Vec<Guard> {
    let of_principal = info
        .guards
        .iter()
        .filter(|guard| guard.side == Side::Principal);
    of_principal.cloned().collect()
}

/// Whether some request of the identity can meet the policy: by its scope, and by what it asks of the
/// principal before anything else.
fn concerns(question: &Question<'_>, identity: &Identity, graph: &Graph) -> bool {
    let Some(node) = graph.identity(&identity.path) else {
        return true;
    };
    let scope = match question.scope {
        Scope::Any => true,
        Scope::Is(kind) => kind == "Identity",
        Scope::Eq(uid) => node.uid == *uid,
        Scope::In(_, uid) => graph.find(uid).is_some_and(|id| node.lineage.contains(&id)),
    };
    let fits = |guard: &Guard| node.texts.get(&guard.name) == Some(&guard.value);
    scope && question.guards.iter().all(fits)
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
