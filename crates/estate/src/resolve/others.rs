//! `[[resource]]` of `resources/`: tool servers, tools, APIs, routes, and what is of the estate's own kinds.
//! They lie in one another across files, in any order, without cycles.

use super::resources::classification;
use super::{Seen, Source, attributes, check_groups, names};
use crate::declare::{ResourceEntry, ResourcesFile};
use crate::model::{Inherited, Model, Resource};
use crate::problem::{Lines, Problem};
use crate::resource::{ResourceKind, ResourceRef};
use crate::suggest::MOST_PROBLEMS;
use crate::vocabulary::{OwnKind, Vocabulary};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toml::Spanned;

/// As deep as resources can lie in one another.
const MOST_LEVELS: usize = 32;
const MOST_LABELS: usize = 64;
/// A label is a word or a short sentence.
const MOST_LABEL: usize = 256;

/// A resource before it has what it inherits.
struct Pending<'a> {
    entry: &'a ResourceEntry,
    file: &'a str,
    line: u32,
    parents: Vec<ResourceRef>,
    classification: Option<String>,
    attributes: BTreeMap<String, facts::Value>,
}

pub(super) fn resolve(
    parsed: &[(&str, Lines, ResourcesFile)],
    vocabulary: &Vocabulary,
    model: &mut Model,
    problems: &mut Vec<Problem>,
) {
    let mut seen = Seen::default();
    let mut pending: BTreeMap<ResourceRef, Pending<'_>> = BTreeMap::new();
    for (file, lines, declared) in parsed {
        let mut source = Source {
            file,
            lines: lines.clone(),
            problems,
        };
        for entry in &declared.resources {
            let Some(resource) = resource(&mut source, entry, vocabulary) else {
                continue;
            };
            if !seen.first(&mut source, "resource", resource.to_string(), &entry.name) {
                continue;
            }
            let own = vocabulary.own_kind(resource.kind);
            let one = read(&mut source, file, entry, &resource, own, model);
            pending.insert(resource, one);
        }
    }
    for (file, lines, declared) in parsed {
        let mut source = Source {
            file,
            lines: lines.clone(),
            problems,
        };
        for entry in &declared.resources {
            check_parents(&mut source, entry, &pending, model);
        }
    }
    let mut settling = Settling {
        pending: &pending,
        model,
        settled: BTreeMap::new(),
        levels: BTreeMap::new(),
        failed: BTreeSet::new(),
        problems,
    };
    for resource in pending.keys() {
        settling.settle(resource, 0);
    }
    model.others = settling.settled;
}

/// What the entry declares; a name that does not fit its kind is refused.
fn resource(
    source: &mut Source<'_>,
    entry: &ResourceEntry,
    vocabulary: &Vocabulary,
) -> Option<ResourceRef> {
    source.check_text("the name of a resource", &entry.name);
    let kind = entry.kind.get_ref();
    let known = ResourceKind::from_type_name(kind).filter(|found| match found {
        ResourceKind::Own(_) => vocabulary.own_kind(*found).is_some(),
        base => base.is_classified() && !base.is_in_database(),
    });
    let Some(known) = known else {
        let message = format!("no schema declares a kind of resources `{kind}`");
        let problem = source.at("ESTATE-RESOURCE-KIND", &entry.kind, message);
        let in_database =
            ResourceKind::from_type_name(kind).is_some_and(ResourceKind::is_in_database);
        source.problems.push(if in_database {
            problem.hint("what lies in a database stands under `[[database]]`")
        } else {
            problem.did_you_mean(kind, vocabulary.resource_names())
        });
        return None;
    };
    let resource = ResourceRef::new(known, entry.name.get_ref());
    if !resource.is_well_formed() {
        let message = format!("`{}` is no name of a {kind}", entry.name.get_ref());
        let form = match known {
            ResourceKind::Tool => "server/tool",
            ResourceKind::Route => "api/METHOD/path",
            _ => "a name without `/`",
        };
        let problem = source.at("ESTATE-NAME", &entry.name, message);
        source.problems.push(problem.hint(format!("write {form}")));
        return None;
    }
    Some(resource)
}

fn read<'a>(
    source: &mut Source<'_>,
    file: &'a str,
    entry: &'a ResourceEntry,
    resource: &ResourceRef,
    own: Option<&OwnKind>,
    model: &Model,
) -> Pending<'a> {
    let kind = entry.kind.get_ref();
    let what = resource.to_string();
    let mut refuse = |at: &Spanned<String>, message: String| {
        let problem = source.at("ESTATE-RESOURCE-KIND", at, message);
        let hint = format!("its schema says what a {kind} has");
        source.problems.push(problem.hint(hint));
    };
    if let Some(own) = own {
        if !own.labels && !entry.labels.is_empty() {
            refuse(&entry.name, format!("a {kind} has no labels"));
        }
        if !own.owner && entry.owner.is_some() {
            refuse(&entry.name, format!("a {kind} has no owner"));
        }
        if let Some(group) = entry.groups.first().filter(|_| !own.in_groups) {
            refuse(group, format!("a {kind} is in no group"));
        }
    } else if let Some(parent) = entry.parents.first() {
        refuse(parent, format!("the name of a {kind} says what it lies in"));
    }
    check_groups(source, &entry.groups, &model.groups);
    check_labels(source, &entry.name, &entry.labels);
    let shape = own.map(|own| &own.shape);
    let attributes = attributes(
        source,
        &entry.name,
        &what,
        &entry.attributes,
        shape.unwrap_or(&BTreeMap::new()),
    );
    let by_name = resource.parent().into_iter();
    let by_hand = entry.parents.iter();
    let by_hand = by_hand.filter_map(|parent| parent.get_ref().parse().ok());
    let mut parents: Vec<ResourceRef> = by_name.chain(by_hand).collect();
    parents.retain(|parent| match own {
        Some(own) => own.parents.contains(&parent.kind),
        None => true,
    });
    Pending {
        entry,
        file,
        line: source.line(&entry.name),
        parents,
        classification: classification(source, &model.settings, entry.classification.as_ref()),
        attributes,
    }
}

/// Labels are tags: what names one must be visible and short.
pub(super) fn check_labels(
    source: &mut Source<'_>,
    at: &Spanned<String>,
    labels: &BTreeMap<String, String>,
) {
    let odd = |text: &String| text.len() > MOST_LABEL || text.chars().any(char::is_control);
    let names = labels.keys().any(|name| name.is_empty() || odd(name));
    if names || labels.values().any(odd) || labels.len() > MOST_LABELS {
        let message = format!(
            "at most {MOST_LABELS} labels, each of at most {MOST_LABEL} bytes without control characters"
        );
        source.problem("ESTATE-LABEL", at, message);
    }
}

/// What an entry lies in has to be declared, and of a kind that its own can lie in. The server of a tool and
/// the API of a route may be left undeclared: then nobody classified them.
fn check_parents(
    source: &mut Source<'_>,
    entry: &ResourceEntry,
    pending: &BTreeMap<ResourceRef, Pending<'_>>,
    model: &Model,
) {
    for parent in &entry.parents {
        let text = parent.get_ref();
        let Ok(resource) = text.parse::<ResourceRef>() else {
            let message = format!("`{text}` names no resource");
            let problem = source.at("ESTATE-RESOURCE-PARENT", parent, message);
            source.problems.push(problem.hint("write Kind::\"name\""));
            continue;
        };
        if !pending.contains_key(&resource) && !model.declares(&resource) {
            let message = format!("{resource} is not declared");
            let alike = pending.keys().chain(model.resources());
            let alike = alike
                .filter(|other| other.kind == resource.kind)
                .map(|other| other.path.as_str());
            let problem = source.at("ESTATE-RESOURCE-PARENT", parent, message);
            let problem = if source.problems.len() < MOST_PROBLEMS {
                problem.did_you_mean(&resource.path, alike)
            } else {
                problem
            };
            source.problems.push(problem);
            continue;
        }
        let itself = ResourceKind::from_type_name(entry.kind.get_ref())
            .map(|kind| ResourceRef::new(kind, entry.name.get_ref()));
        let fits = itself
            .and_then(|itself| pending.get(&itself))
            .is_none_or(|one| one.parents.contains(&resource));
        if !fits {
            let kind = entry.kind.get_ref();
            let message = format!("a {kind} does not lie in a {}", resource.kind.type_name());
            source.problem("ESTATE-RESOURCE-PARENT", parent, message);
        }
    }
}

/// Gives each resource what it inherits, what it lies in first.
struct Settling<'a> {
    pending: &'a BTreeMap<ResourceRef, Pending<'a>>,
    model: &'a Model,
    settled: BTreeMap<ResourceRef, Resource>,
    /// How many lie one in another down to each that is settled.
    levels: BTreeMap<ResourceRef, usize>,
    /// What lies in itself or too deep: said once for all that lie in it.
    failed: BTreeSet<ResourceRef>,
    problems: &'a mut Vec<Problem>,
}

impl Settling<'_> {
    /// How deep `resource` lies; nothing if that is too deep. `asked` is how many wait for it.
    fn settle(&mut self, resource: &ResourceRef, asked: usize) -> Option<usize> {
        let Some(one) = self.pending.get(resource) else {
            return Some(0);
        };
        if let Some(level) = self.levels.get(resource) {
            return Some(*level);
        }
        if self.failed.contains(resource) {
            return None;
        }
        let mut deepest = 0;
        for parent in &one.parents {
            let level = (asked < MOST_LEVELS)
                .then(|| self.settle(parent, asked + 1))
                .flatten();
            let Some(level) = level.filter(|level| *level < MOST_LEVELS) else {
                if self.failed.insert(resource.clone()) && !self.failed.contains(parent) {
                    let message = format!(
                        "{resource} lies in itself, or more than {MOST_LEVELS} resources lie one in another"
                    );
                    self.problems.push(Problem::new(
                        "ESTATE-RESOURCE-CYCLE",
                        one.file,
                        one.line,
                        message,
                    ));
                }
                return None;
            };
            deepest = deepest.max(level + 1);
        }
        self.levels.insert(resource.clone(), deepest);
        let settled = self.inherit(resource, one);
        self.settled.insert(resource.clone(), settled);
        Some(deepest)
    }

    fn inherit(&mut self, resource: &ResourceRef, one: &Pending<'_>) -> Resource {
        let above: Vec<Inherited> = one
            .parents
            .iter()
            .filter_map(|parent| match self.settled.get(parent) {
                Some(other) => Some(Inherited {
                    classification: (!other.unclassified).then(|| other.classification.clone()),
                    owner: other.owner.clone(),
                    labels: other.labels.clone(),
                }),
                None => self.model.inherited(parent),
            })
            .collect();
        let inherited = inherited(&above, self.model, one, resource, self.problems);
        let classification = one.classification.clone().or(inherited.classification);
        let mut labels = inherited.labels;
        labels.extend(one.entry.labels.clone());
        Resource {
            resource: resource.clone(),
            parents: one.parents.iter().cloned().collect(),
            unclassified: classification.is_none(),
            classification: classification
                .unwrap_or_else(|| self.model.settings.most_restricted().to_owned()),
            owner: one.entry.owner.clone().or(inherited.owner),
            labels,
            groups: names(&one.entry.groups),
            attributes: one.attributes.clone(),
            file: Arc::from(one.file),
            line: one.line,
        }
    }
}

/// Of several that something lies in: the most restricted classification, where one of them has none none;
/// the owner on which they agree; and each label on which they do. On others the resource itself has to say.
fn inherited(
    above: &[Inherited],
    model: &Model,
    one: &Pending<'_>,
    resource: &ResourceRef,
    problems: &mut Vec<Problem>,
) -> Inherited {
    let ranked = above.iter().map(|one| {
        let name = one.classification.as_ref()?;
        Some((model.settings.rank(name), name))
    });
    let classification: Option<Vec<_>> = ranked.collect();
    let owners: BTreeSet<&String> = above.iter().filter_map(|one| one.owner.as_ref()).collect();
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in above.iter().flat_map(|one| &one.labels) {
        let first = labels.entry(name.clone()).or_insert_with(|| value.clone());
        if first != value && !one.entry.labels.contains_key(name) {
            let message = format!(
                "{resource} would inherit the label `{name}` as {first:?} and as {value:?}"
            );
            let problem = Problem::new("ESTATE-LABEL", one.file, one.line, message);
            problems.push(problem.hint(format!("give it a label `{name}` of its own")));
        }
    }
    Inherited {
        classification: classification
            .and_then(|ranked| ranked.into_iter().max())
            .map(|(_, name)| name.clone()),
        owner: owners
            .first()
            .filter(|_| owners.len() == 1)
            .map(|owner| (*owner).clone()),
        labels,
    }
}
