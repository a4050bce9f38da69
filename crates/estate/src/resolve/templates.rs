//! Templates among the identities: parsed, and held to what keeps their instances apart from everybody else.

use super::Source;
use crate::declare::{IdentityEntry, IdentityKind};
use crate::fact_schema::is_text;
use crate::model::Identity;
use crate::problem::Problem;
use crate::template::{NoTemplate, Overlaps, Template, Templates};
use std::collections::BTreeMap;

/// Ten times what was asked for; comparing them stays a matter of seconds whatever they are.
const MOST_TEMPLATES: usize = 10_000;

/// What is wrong with a template by itself.
pub(super) fn check(source: &mut Source<'_>, entry: &IdentityEntry) {
    let path = entry.path.get_ref();
    if let Err(error) = Template::parse(path) {
        let problem = source.at("ESTATE-TEMPLATE", &entry.path, format!("{path:?}: {error}"));
        let texts = facts::names::ALL
            .iter()
            .copied()
            .filter(|name| is_text(name));
        let hint = "write facts as whole segments: pools/{machine.pool}/jobs/{workload.unit}";
        source.problems.push(match &error {
            NoTemplate::Unknown(name) => problem.did_you_mean(name, texts),
            NoTemplate::NoText(_) => problem.hint("a path is made of facts that are texts"),
            _ => problem.hint(hint),
        });
    }
    if matches!(entry.kind, IdentityKind::Gateway | IdentityKind::Node) {
        let message = format!(
            "`{path}`: each {} is declared by itself, and no fact names one",
            entry.kind.as_str()
        );
        source.problem("ESTATE-TEMPLATE-KIND", &entry.path, message);
    }
    if let Some(name) = entry.dns_names.first() {
        let message = format!(
            "every instance of `{path}` would go by the name {:?}",
            name.get_ref()
        );
        let problem = source.at("ESTATE-DNS-SHARED", name, message);
        let hint = "declare the identity that serves under this name by itself";
        source.problems.push(problem.hint(hint));
    }
}

/// The templates, no two of which can come to one path, and none to a declared one.
pub(super) fn resolve(
    identities: &BTreeMap<String, Identity>,
    problems: &mut Vec<Problem>,
) -> Templates {
    let mut templates = Templates::default();
    let mut overlaps = Overlaps::default();
    let declared = identities
        .values()
        .filter(|identity| identity.is_template());
    for (number, identity) in declared.enumerate() {
        let path = &identity.path;
        let refuse = |message: String| {
            Problem::new(
                "ESTATE-TEMPLATE-OVERLAP",
                &*identity.file,
                identity.line,
                message,
            )
            .hint("let them differ in a segment that is no fact, in more than case")
        };
        if number >= MOST_TEMPLATES {
            let message = format!("more than {MOST_TEMPLATES} templates");
            problems.push(Problem::new(
                "ESTATE-TEMPLATE-LIMIT",
                &*identity.file,
                identity.line,
                message,
            ));
            return templates;
        }
        // Its problem was reported where it stands.
        let Ok(template) = Template::parse(path) else {
            continue;
        };
        if let Some(other) = overlaps.with(path, &template) {
            let message = format!("`{path}` and `{other}` could come to one path");
            problems.push(refuse(message));
        }
        templates.insert(path, template);
    }
    for identity in identities
        .values()
        .filter(|identity| !identity.is_template())
    {
        if let Some(template) = overlaps.of(&identity.path) {
            let message = format!(
                "identity `{}` could be an instance of the template `{template}`",
                identity.path
            );
            problems.push(
                Problem::new(
                    "ESTATE-TEMPLATE-OVERLAP",
                    &*identity.file,
                    identity.line,
                    message,
                )
                .hint("give one of them a path that differs in a segment that is no fact"),
            );
        }
    }
    templates
}
