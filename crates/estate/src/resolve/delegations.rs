//! `delegations/`, and how people log in: names that lead somewhere, and bounds that bound.

use super::parse::parse;
use super::{Seen, Source, declarations};
use crate::chain::MOST_PRINCIPALS;
use crate::declare::{DelegationEntry, DelegationsFile, IdentityEntry, IdentityKind, LoginEntry};
use crate::files::EstateFiles;
use crate::model::{Delegation, Login, Model, Party, Scope};
use crate::problem::{Lines, Problem};
use crate::resource::ResourceRef;
use crate::template::has_placeholder;
use crate::vocabulary::Vocabulary;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// No longer than people stay at work: who delegates for longer has forgotten it.
const LONGEST_S: u64 = 24 * 3_600;
/// As long as one task takes.
const DEFAULT_S: u64 = 15 * 60;
/// Of an issuer or a subject; `OpenID` Connect Core, section 2, gives a subject 255 characters.
const MOST_LOGIN_BYTES: usize = 255;

pub(super) fn resolve(
    files: &EstateFiles,
    vocabulary: &Vocabulary,
    model: &mut Model,
    problems: &mut Vec<Problem>,
) {
    let mut seen = Seen::default();
    for (file, text) in declarations(files, "delegations") {
        let Some(declared) = parse::<DelegationsFile>(file, text, problems) else {
            continue;
        };
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        for entry in &declared.delegations {
            source.check_text("the id of a delegation", &entry.id);
            let id = entry.id.get_ref().clone();
            if !seen.first(&mut source, "delegation", id, &entry.id) {
                continue;
            }
            if let Some(delegation) = delegation(&mut source, entry, vocabulary, model) {
                model.delegations.push(delegation);
            }
        }
    }
}

fn delegation(
    source: &mut Source<'_>,
    entry: &DelegationEntry,
    vocabulary: &Vocabulary,
    model: &Model,
) -> Option<Delegation> {
    let from = party(source, &entry.from, model);
    let to = party(source, &entry.to, model);
    if let Some(Party::Identity(path)) = &to
        && model
            .identity(path)
            .is_some_and(|identity| identity.kind == IdentityKind::Person)
    {
        let message = format!("`{path}` is a person, and only who holds an SVID acts for others");
        source.problem("ESTATE-DELEGATION", &entry.to, message);
    }
    let scope = scope(source, entry, vocabulary);
    let most = MOST_PRINCIPALS - 1;
    let max_hops = entry.max_hops.as_ref().map_or(1, |hops| {
        let number = usize::try_from(*hops.get_ref()).unwrap_or(usize::MAX);
        if !(1..=most).contains(&number) {
            let message = format!("max_hops is 1 to {most}");
            source.problem("ESTATE-DELEGATION", hops, message);
        }
        number
    });
    let max_ttl = entry.max_ttl.as_ref().map_or(DEFAULT_S, |ttl| {
        let seconds = ttl.get_ref().0;
        if seconds > LONGEST_S {
            source.problem("ESTATE-DELEGATION", ttl, "max_ttl is at most 24h");
        }
        seconds
    });
    Some(Delegation {
        id: entry.id.get_ref().clone(),
        from: from?,
        to: to?,
        scope,
        max_hops,
        max_ttl: Duration::from_secs(max_ttl),
        file: Arc::from(source.file),
        line: source.line(&entry.id),
    })
}

fn party(source: &mut Source<'_>, text: &Spanned<String>, model: &Model) -> Option<Party> {
    let value = text.get_ref();
    let quoted = |kind: &str| {
        let rest = value.strip_prefix(kind)?.strip_prefix("::\"")?;
        rest.strip_suffix('"')
    };
    if let Some(path) = quoted("Identity") {
        if model.identity(path).is_none() {
            let message = format!("no identity `{path}` is declared");
            let known: Vec<_> = model
                .identities
                .keys()
                .map(|one| format!("Identity::{one:?}"))
                .collect();
            let known = known.iter().map(String::as_str);
            source.unknown("ESTATE-DELEGATION", text, message, known);
            return None;
        }
        return Some(Party::Identity(path.to_owned()));
    }
    if let Some(name) = quoted("Group") {
        if !model.groups.contains_key(name) {
            let message = format!("no group `{name}` is declared");
            let known: Vec<_> = model
                .groups
                .keys()
                .map(|one| format!("Group::{one:?}"))
                .collect();
            let known = known.iter().map(String::as_str);
            source.unknown("ESTATE-DELEGATION", text, message, known);
            return None;
        }
        return Some(Party::Group(name.to_owned()));
    }
    let message =
        format!("{value:?} names no party: write Identity::\"people/ada\" or Group::\"staff\"");
    source.problem("ESTATE-DELEGATION", text, message);
    None
}

fn scope(source: &mut Source<'_>, entry: &DelegationEntry, vocabulary: &Vocabulary) -> Scope {
    let actions = entry.actions.as_ref().map(|actions| {
        let mut known = BTreeSet::new();
        for action in actions {
            let word = *action.get_ref();
            if word.is_use() && vocabulary.knows(word) {
                known.insert(word);
                continue;
            }
            let message = format!("`{word}` is no use of a resource");
            let problem = source.at("ESTATE-DELEGATION", action, message);
            let uses: Vec<_> = vocabulary.uses().collect();
            let names = uses.iter().map(|one| one.as_str());
            source
                .problems
                .push(problem.did_you_mean(word.as_str(), names));
        }
        known
    });
    let resources = entry.resources.as_ref().map(|resources| {
        let mut known = BTreeSet::new();
        for resource in resources {
            match resource.get_ref().parse::<ResourceRef>() {
                Ok(parsed) if parsed.kind.is_classified() => {
                    known.insert(parsed);
                }
                Ok(parsed) => {
                    let message = format!("{parsed} is nothing that identities use");
                    source.problem("ESTATE-DELEGATION", resource, message);
                }
                Err(error) => {
                    source.problem("ESTATE-DELEGATION", resource, error.to_string());
                }
            }
        }
        known
    });
    Scope { actions, resources }
}

/// How the person of `entry` logs in. `seen` are those so far: two people are not one.
pub(super) fn login(
    source: &mut Source<'_>,
    entry: &IdentityEntry,
    seen: &mut Seen,
) -> Option<Login> {
    let declared = entry.login.as_ref()?;
    if entry.kind != IdentityKind::Person || has_placeholder(entry.path.get_ref()) {
        let message = "only a person with a path of its own logs in";
        let problem = source.at("ESTATE-LOGIN", &declared.subject, message);
        source.problems.push(problem.hint("kind = \"person\""));
    }
    let LoginEntry { issuer, subject } = declared;
    if !is_issuer(issuer.get_ref()) {
        let message = format!("{:?} is no issuer", issuer.get_ref());
        let problem = source.at("ESTATE-LOGIN", issuer, message);
        let hint = "write it as its tokens do, such as https://login.example.org";
        source.problems.push(problem.hint(hint));
    }
    let name = subject.get_ref();
    if name.is_empty() || name.len() > MOST_LOGIN_BYTES || !name.is_ascii() || has_control(name) {
        let message = format!("a subject is 1 to {MOST_LOGIN_BYTES} plain ASCII characters");
        source.problem("ESTATE-LOGIN", subject, message);
    }
    let key = format!("{}\n{name}", issuer.get_ref());
    seen.first(source, "the login", key, subject);
    Some(Login {
        issuer: issuer.get_ref().clone(),
        subject: name.clone(),
    })
}

/// `OpenID` Connect Core, section 2: "a case-sensitive URL using the https scheme that contains scheme, host,
/// and optionally, port number and path components and no query or fragment components". Plain HTTP only on
/// this machine itself.
fn is_issuer(text: &str) -> bool {
    let local = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
    let rest = text.strip_prefix("https://");
    let rest = rest.or_else(|| local.iter().find_map(|start| text.strip_prefix(start)));
    text.len() <= MOST_LOGIN_BYTES
        && !has_control(text)
        && text.is_ascii()
        && !text.contains(['?', '#', ' ', '@', '\\', '"'])
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}
