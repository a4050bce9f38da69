//! From files to a [`Model`]: parses, resolves every name, and collects all problems, not the first.

mod authors;
mod delegations;
mod enforcement;
mod others;
mod parse;
mod references;
mod resources;
mod tee;
mod templates;
mod vouching;

use crate::administrator::Administrator;
use crate::declare::{
    AdministratorEntry, Attributes, DelegationsFile, EstateFile, GroupEntry, IdentitiesFile,
    IdentityEntry, ReferencesFile, ResourcesFile, TestEntry, TestsFile,
};
use crate::duration::Seconds;
use crate::files::EstateFiles;
use crate::model::{Granted, Identity, Login, Model, Settings};
use crate::problem::{Lines, Problem};
use crate::suggest::MOST_PROBLEMS;
use crate::template::{MAX_PATH, Templates, has_placeholder, is_segment};
use crate::vocabulary::{Shape, Vocabulary};
use facts::Value;
use parse::parse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// A test as declared, with its place.
#[derive(Debug, Clone)]
pub(crate) struct PlacedTest {
    pub(crate) entry: TestEntry,
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// What the declarations come to.
pub(crate) struct Resolved {
    pub(crate) model: Model,
    pub(crate) tests: Vec<PlacedTest>,
}

const MAX_TEXT: usize = 4096;
const MAX_GROUP_DEPTH: usize = 64;
/// Those of an estate that names none, from least to most restricted.
pub const CLASSIFICATIONS: [&str; 6] = [
    "public",
    "catalog",
    "internal",
    "confidential",
    "pii",
    "restricted",
];

/// One file while it is read, and the list that problems go to.
pub(super) struct Source<'a> {
    file: &'a str,
    lines: Lines,
    problems: &'a mut Vec<Problem>,
}

impl Source<'_> {
    fn line<T>(&self, spanned: &Spanned<T>) -> u32 {
        self.lines.line(spanned.span().start)
    }

    /// The columns of JSON are not those of the TOML form that it is read through.
    fn column<T>(&self, spanned: &Spanned<T>) -> u32 {
        if self.file.ends_with(".json") {
            return 0;
        }
        self.lines.column(spanned.span().start)
    }

    fn problem<T>(&mut self, code: &'static str, at: &Spanned<T>, message: impl Into<String>) {
        let problem = self.at(code, at, message);
        self.problems.push(problem);
    }

    fn at<T>(&self, code: &'static str, at: &Spanned<T>, message: impl Into<String>) -> Problem {
        Problem::new(code, self.file, self.line(at), message).column(self.column(at))
    }

    /// A name that leads nowhere, with the nearest that leads somewhere.
    fn unknown<'n>(
        &mut self,
        code: &'static str,
        name: &Spanned<String>,
        message: String,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        let problem = self.at(code, name, message);
        let suggested = self.problems.len() < MOST_PROBLEMS;
        let known = known.into_iter().filter(|_| suggested);
        self.problems
            .push(problem.did_you_mean(name.get_ref(), known));
    }

    /// A name that may be any text but an empty, overlong or invisible one.
    fn check_text(&mut self, what: &str, text: &Spanned<String>) {
        let value = text.get_ref();
        if value.is_empty() || value.len() > MAX_TEXT || value.chars().any(char::is_control) {
            let message =
                format!("{what} must be 1 to {MAX_TEXT} bytes without control characters");
            self.problem("ESTATE-NAME", text, message);
        }
    }

    /// A name within a closed world, which look-alike letters of other scripts must not enter.
    fn check_word(&mut self, what: &str, word: &Spanned<String>) {
        let value = word.get_ref();
        let plain = !value.is_empty()
            && value.len() <= 255
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !plain {
            let message = format!("{what} {value:?} must be of letters, digits, `.`, `_` and `-`");
            self.problem("ESTATE-NAME", word, message);
        }
    }
}

/// Names declared so far and where, so that the second of two is refused with the place of the first.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<String, String>);

impl Seen {
    fn first(
        &mut self,
        source: &mut Source<'_>,
        what: &str,
        key: String,
        at: &Spanned<impl std::fmt::Display>,
    ) -> bool {
        let place = format!("{}:{}", source.file, source.line(at));
        if let Some(first) = self.0.get(&key) {
            let message = format!(
                "{what} `{}` is declared twice; first at {first}",
                at.get_ref()
            );
            source.problem("ESTATE-DUPLICATE", at, message);
            return false;
        }
        self.0.insert(key, place);
        true
    }
}

/// Rules that came after estates were in force that break them. Such an estate is applied no more; one that
/// is recorded still compiles, and what it declares against these rules is refused where it is used.
const LATER_RULES: [&str; 2] = ["ESTATE-DNS-SHARED", "ESTATE-IDENTITY-RESERVED"];

/// `recorded`: the estate was applied once, under the rules of its time.
///
/// # Errors
/// Every problem of the declarations; policies are not looked at.
pub(crate) fn resolve(
    files: &EstateFiles,
    vocabulary: &Vocabulary,
    recorded: bool,
) -> Result<Resolved, Vec<Problem>> {
    let mut problems = Vec::new();
    if let Err(problem) = files.check() {
        return Err(vec![problem]);
    }
    check_layout(files, &mut problems);
    let Some(settings) = settings(files, &mut problems) else {
        return Err(problems);
    };
    let references = references::resolve(files, &mut problems);
    let mut model = Model {
        settings,
        identities: BTreeMap::new(),
        templates: Templates::default(),
        groups: BTreeMap::new(),
        administrators: BTreeMap::new(),
        authors: BTreeMap::new(),
        containers: BTreeMap::new(),
        objects: BTreeMap::new(),
        others: BTreeMap::new(),
        references,
        delegations: Vec::new(),
        granted: Granted::default(),
        logins: BTreeMap::new(),
    };
    identities(files, vocabulary, &mut model, &mut problems);
    resources::resolve(files, vocabulary, &mut model, &mut problems);
    administrators(files, &mut model, &mut problems);
    delegations::resolve(files, vocabulary, &mut model, &mut problems);
    model.granted = Granted::of(&model.delegations);
    let tests = tests(files, vocabulary, &mut problems);
    if recorded {
        problems.retain(|problem| !LATER_RULES.contains(&problem.code.as_str()));
    }
    if problems.is_empty() {
        Ok(Resolved { model, tests })
    } else {
        Err(problems)
    }
}

/// The declarations that do not parse, of every file.
pub(crate) fn unreadable_declarations(files: &EstateFiles) -> Vec<Problem> {
    let mut problems = Vec::new();
    let all = &mut problems;
    for (file, text) in &files.0 {
        match file
            .split_once('/')
            .map_or(file.as_str(), |(folder, _)| folder)
        {
            "estate.toml" => drop(parse::<EstateFile>(file, text, all)),
            "identities" => drop(parse::<IdentitiesFile>(file, text, all)),
            "resources" => drop(parse::<ResourcesFile>(file, text, all)),
            "references" => drop(parse::<ReferencesFile>(file, text, all)),
            "delegations" => drop(parse::<DelegationsFile>(file, text, all)),
            "tests" => drop(parse::<TestsFile>(file, text, all)),
            _ => {}
        }
    }
    problems
}

/// The text of each file under `folder` that declares something.
fn declarations<'a>(files: &'a EstateFiles, folder: &str) -> Vec<(&'a str, &'a str)> {
    files
        .0
        .iter()
        .filter(|(path, _)| {
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        })
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect()
}

/// Refuses what no part of this version would read: a policy in a misspelt folder must not be
/// silently absent.
fn check_layout(files: &EstateFiles, problems: &mut Vec<Problem>) {
    const DECLARATIONS: &[&str] = &["toml", "json"];
    const FOLDERS: [(&str, &[&str]); 8] = [
        ("identities", DECLARATIONS),
        ("resources", DECLARATIONS),
        ("references", DECLARATIONS),
        ("schema", &["cedarschema"]),
        ("policies", &["cedar"]),
        ("invariants", &["cedar"]),
        ("delegations", DECLARATIONS),
        ("tests", DECLARATIONS),
    ];
    for path in files.0.keys() {
        if path == "estate.toml" || path == "README.md" {
            continue;
        }
        let Some((folder, rest)) = path.split_once('/') else {
            let problem = Problem::new(
                "ESTATE-LAYOUT",
                path,
                0,
                "no file of this name is read here",
            )
            .did_you_mean(path, ["estate.toml"]);
            problems.push(problem);
            continue;
        };
        let extension = rest.rsplit_once('.').map_or("", |(_, extension)| extension);
        match FOLDERS.iter().find(|(name, _)| *name == folder) {
            None => {
                let message = format!("no folder `{folder}` is read");
                let names = FOLDERS.iter().map(|(name, _)| *name);
                let problem = Problem::new("ESTATE-LAYOUT", path, 0, message);
                problems.push(problem.did_you_mean(folder, names));
            }
            Some((_, extensions)) if !extensions.contains(&extension) => {
                let message = format!("{folder}/ holds .{} files only", extensions.join(" and ."));
                problems.push(Problem::new("ESTATE-LAYOUT", path, 0, message));
            }
            Some(_) => {}
        }
    }
}

fn settings(files: &EstateFiles, problems: &mut Vec<Problem>) -> Option<Settings> {
    const FILE: &str = "estate.toml";
    let Some(text) = files.0.get(FILE) else {
        let problem = Problem::new("ESTATE-LAYOUT", FILE, 0, "the file is missing");
        problems.push(problem.hint("it needs at least: trust_domain = \"example.org\""));
        return None;
    };
    let declared: EstateFile = parse(FILE, text, problems)?;
    let mut source = Source {
        file: FILE,
        lines: Lines::of(text),
        problems,
    };
    let name = declared.trust_domain.get_ref();
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    // SPIFFE-ID section 2.1: lower-case letters, digits, dots, dashes, underscores; at most 255 bytes.
    if name.is_empty() || name.len() > 255 || !name.bytes().all(fits) {
        let message =
            format!("{name:?} is no trust domain: lower-case letters, digits, `.`, `-`, `_`");
        source.problem("ESTATE-TRUST-DOMAIN", &declared.trust_domain, message);
    }
    let classifications = match &declared.classifications {
        None => CLASSIFICATIONS.map(str::to_owned).to_vec(),
        Some(list) => {
            let names = list.get_ref().clone();
            if names.is_empty() || names.iter().collect::<BTreeSet<_>>().len() != names.len() {
                let message = "list each classification once, from least to most restricted";
                source.problem("ESTATE-CLASSIFICATION", list, message);
            }
            names
        }
    };
    let or = |seconds: Option<Seconds>, default: u64| {
        Duration::from_secs(seconds.map_or(default, |given| given.0))
    };
    Some(Settings {
        trust_domain: name.clone(),
        classifications,
        columns: declared.columns,
        // DESIGN section 6: short enough that expiry bounds what revocation cannot reach.
        x509_lifetime: or(declared.lifetimes.x509, 3_600),
        jwt_lifetime: or(declared.lifetimes.jwt, 300),
        recording: declared.recording.mode,
        // DESIGN section 10.
        session_max: or(declared.session.max, 43_200),
        // Longer than a server's restart, shorter than a working day's leak.
        max_staleness: or(declared.max_staleness, 300),
        // As long as the SVID that rests on it.
        evidence_max_age: or(declared.evidence.max_age, 3_600),
    })
}

fn identities(
    files: &EstateFiles,
    vocabulary: &Vocabulary,
    model: &mut Model,
    problems: &mut Vec<Problem>,
) {
    let mut parsed: Vec<(&str, &str, IdentitiesFile)> = Vec::new();
    for (file, text) in declarations(files, "identities") {
        if let Some(declared) = parse(file, text, problems) {
            parsed.push((file, text, declared));
        }
    }
    let mut seen = Seen::default();
    for (file, text, declared) in &parsed {
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        for group in &declared.groups {
            source.check_word("group", &group.name);
            if seen.first(
                &mut source,
                "group",
                group.name.get_ref().clone(),
                &group.name,
            ) {
                model
                    .groups
                    .insert(group.name.get_ref().clone(), names(&group.groups));
            }
        }
    }
    let mut seen = Seen::default();
    let mut folded = BTreeMap::new();
    let mut logins = Seen::default();
    let mut hosts = BTreeMap::new();
    for (file, text, declared) in &parsed {
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        for GroupEntry { groups, .. } in &declared.groups {
            check_groups(&mut source, groups, &model.groups);
        }
        for entry in &declared.identities {
            let path = entry.path.get_ref();
            if !seen.first(&mut source, "identity", path.clone(), &entry.path) {
                continue;
            }
            if let Some(other) = folded.insert(path.to_ascii_lowercase(), path.clone()) {
                let message = format!("identity `{path}` differs from `{other}` only in case");
                source.problem("ESTATE-LOOKALIKE", &entry.path, message);
            }
            check_hosts(&mut source, entry, &mut hosts);
            let login = delegations::login(&mut source, entry, &mut logins);
            if let Some(Login { issuer, subject }) = login.clone() {
                let of_issuer = model.logins.entry(issuer).or_default();
                of_issuer.insert(subject, path.clone());
            }
            let identity = Identity {
                login,
                ..identity(&mut source, entry, vocabulary, model)
            };
            model.identities.insert(path.clone(), identity);
        }
        check_depth(&mut source, declared, model);
    }
    model.templates = templates::resolve(&model.identities, problems);
}

/// One name, one identity: whoever checks a server by its name must not take one for another. `hosts` is
/// what was declared so far: the name in lower case, the identity, and where it stands.
fn check_hosts<'e>(
    source: &mut Source<'_>,
    entry: &'e IdentityEntry,
    hosts: &mut BTreeMap<String, (&'e str, String)>,
) {
    let path = entry.path.get_ref();
    for name in &entry.dns_names {
        let folded = name.get_ref().to_ascii_lowercase();
        let place = format!("{}:{}", source.file, source.line(name));
        match hosts.get(&folded) {
            Some((other, first)) if *other != path => {
                let message = format!(
                    "{:?} is a DNS name of `{other}` already, at {first}: a client that checks the name \
                     alone would take `{path}` for `{other}`",
                    name.get_ref()
                );
                let problem = source.at("ESTATE-DNS-SHARED", name, message);
                source
                    .problems
                    .push(problem.hint("give each identity DNS names of its own"));
            }
            Some(_) => {}
            None => {
                hosts.insert(folded, (path, place));
            }
        }
    }
}

/// True of the paths that Trilith names its own parts by: `trilith` and everything below it. No estate
/// declares them, and no workload is issued one: the server's and the machines' identities come with what
/// they prove at start and at a join.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    first.eq_ignore_ascii_case("trilith")
}

fn identity(
    source: &mut Source<'_>,
    entry: &IdentityEntry,
    vocabulary: &Vocabulary,
    model: &Model,
) -> Identity {
    let path = entry.path.get_ref();
    if has_placeholder(path) {
        templates::check(source, entry);
    } else if !path.split('/').all(is_segment) || path.len() > MAX_PATH {
        let message =
            format!("{path:?} is no SPIFFE path: segments of letters, digits, `.`, `-`, `_`");
        let problem = source.at("ESTATE-IDENTITY-PATH", &entry.path, message);
        source
            .problems
            .push(problem.hint("write it without a leading slash: payments/api"));
    }
    if is_reserved(path) {
        let message = format!(
            "{path:?} is of the names that Trilith's own parts go by: the server and the machines that joined"
        );
        let problem = source.at("ESTATE-IDENTITY-RESERVED", &entry.path, message);
        source
            .problems
            .push(problem.hint("give it a path that does not begin with `trilith`: payments/api"));
    }
    if entry.owner.trim().is_empty() {
        let message = format!("identity `{path}` has no owner: somebody answers for it");
        source.problem("ESTATE-IDENTITY-OWNER", &entry.path, message);
    }
    check_groups(source, &entry.groups, &model.groups);
    let what = format!("identity `{path}`");
    let attributes = attributes(
        source,
        &entry.path,
        &what,
        &entry.attributes,
        &vocabulary.identity_attributes,
    );
    for name in &entry.dns_names {
        // RFC 1035 section 2.3.1, lower case; no wildcards.
        let fits = name.get_ref().split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        });
        if !fits || name.get_ref().len() > 253 {
            let message = format!("{:?} is no DNS name", name.get_ref());
            source.problem("ESTATE-DNS-NAME", name, message);
        }
    }
    for name in &entry.visible {
        if !facts::names::ALL.contains(&name.get_ref().as_str()) {
            let message = format!("no verifier states a fact `{}`", name.get_ref());
            source.unknown(
                "ESTATE-FACT",
                name,
                message,
                facts::names::ALL.iter().copied(),
            );
        }
    }
    Identity {
        path: path.clone(),
        kind: entry.kind,
        owner: entry.owner.clone(),
        labels: entry.labels.clone(),
        groups: names(&entry.groups),
        attributes,
        login: None,
        hint: entry.hint.clone(),
        dns_names: entry
            .dns_names
            .iter()
            .map(|name| name.get_ref().clone())
            .collect(),
        visible: names(&entry.visible),
        file: Arc::from(source.file),
        line: source.line(&entry.path),
    }
}

fn names(list: &[Spanned<String>]) -> BTreeSet<String> {
    list.iter().map(|name| name.get_ref().clone()).collect()
}

/// Group to the groups it is in.
type Groups = BTreeMap<String, BTreeSet<String>>;

fn check_groups(source: &mut Source<'_>, groups: &[Spanned<String>], known: &Groups) {
    for group in groups {
        if !known.contains_key(group.get_ref()) {
            let message = format!("no group `{}` is declared", group.get_ref());
            source.unknown(
                "ESTATE-GROUP",
                group,
                message,
                known.keys().map(String::as_str),
            );
        }
    }
}

/// What a declaration gives, held to the shape that the estate's own schema says. `at` and `what` are whose
/// attributes they are.
fn attributes(
    source: &mut Source<'_>,
    at: &Spanned<String>,
    what: &str,
    given: &Attributes,
    shape: &Shape,
) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (name, value) in given {
        match shape.get(name.get_ref()) {
            None => {
                let message = format!("no schema gives {what} an attribute `{}`", name.get_ref());
                let known = shape.keys().map(String::as_str);
                source.unknown("ESTATE-ATTRIBUTE", name, message, known);
            }
            Some(attribute) if !attribute.holds.fits(value.get_ref()) => {
                let message = format!(
                    "`{}` must be {}, not {}",
                    name.get_ref(),
                    attribute.holds.name(),
                    value.get_ref()
                );
                source.problem("ESTATE-ATTRIBUTE", value, message);
            }
            Some(_) => {
                found.insert(name.get_ref().clone(), value.get_ref().clone());
            }
        }
    }
    for (name, attribute) in shape {
        if attribute.required && !given.keys().any(|given| given.get_ref() == name) {
            let message = format!("{what} has no `{name}`, which its schema requires");
            let problem = source.at("ESTATE-ATTRIBUTE", at, message);
            let hint = format!("attributes.{name} = … ({})", attribute.holds.name());
            source.problems.push(problem.hint(hint));
        }
    }
    found
}

/// Refuses cycles and chains longer than any organisation has.
fn check_depth(source: &mut Source<'_>, declared: &IdentitiesFile, model: &Model) {
    for group in &declared.groups {
        let mut level = model
            .groups
            .get(group.name.get_ref())
            .cloned()
            .unwrap_or_default();
        let mut above = BTreeSet::new();
        let mut depth = 0;
        while !level.is_empty() {
            depth += 1;
            if level.contains(group.name.get_ref()) {
                let message = format!("group `{}` is a member of itself", group.name.get_ref());
                source.problem("ESTATE-GROUP-CYCLE", &group.name, message);
                return;
            }
            if depth > MAX_GROUP_DEPTH {
                let message =
                    format!("more than {MAX_GROUP_DEPTH} groups stand one in another here");
                source.problem("ESTATE-GROUP-DEPTH", &group.name, message);
                return;
            }
            let next = level
                .iter()
                .filter_map(|name| model.groups.get(name))
                .flatten()
                .filter(|name| !above.contains(*name))
                .cloned()
                .collect();
            above.extend(level);
            level = next;
        }
    }
}

fn administrators(files: &EstateFiles, model: &mut Model, problems: &mut Vec<Problem>) {
    const FILE: &str = "estate.toml";
    let Some(text) = files.0.get(FILE) else {
        return;
    };
    // Its problems were reported when the settings were read.
    let Some(declared) = parse::<EstateFile>(FILE, text, &mut Vec::new()) else {
        return;
    };
    let mut source = Source {
        file: FILE,
        lines: Lines::of(text),
        problems,
    };
    for entry in &declared.administrators {
        check_groups(&mut source, &entry.groups, &model.groups);
        let Some(who) = administrator(entry, &model.identities, &mut source) else {
            continue;
        };
        let message = format!("administrator {who} is declared twice");
        if model
            .administrators
            .insert(who, names(&entry.groups))
            .is_some()
        {
            match (&entry.uid, &entry.person) {
                (Some(uid), _) => source.problem("ESTATE-DUPLICATE", uid, message),
                (None, Some(person)) => source.problem("ESTATE-DUPLICATE", person, message),
                (None, None) => {}
            }
        }
    }
    authors::resolve(&declared.authors, &mut source, &mut model.authors);
}

/// Whom an entry names. A person has to be one who can log in: a name that nobody has would be free to take.
fn administrator(
    entry: &AdministratorEntry,
    identities: &BTreeMap<String, Identity>,
    source: &mut Source<'_>,
) -> Option<Administrator> {
    match (&entry.uid, &entry.person) {
        (Some(uid), None) => Some(Administrator::Uid(*uid.get_ref())),
        (None, Some(person)) => {
            let path = person.get_ref();
            let logs_in = identities
                .get(path)
                .is_some_and(|identity| identity.login.is_some());
            if logs_in {
                return Some(Administrator::Person(path.clone()));
            }
            let message = format!("{path:?} is no person who logs in");
            let problem = source.at("ESTATE-ADMINISTRATOR", person, message);
            let hint = "name an identity of kind = \"person\" that has a `login`";
            source.problems.push(problem.hint(hint));
            None
        }
        (Some(uid), Some(_)) => {
            let message = "an administrator is a local user or a person, not both";
            source.problem("ESTATE-ADMINISTRATOR", uid, message);
            None
        }
        (None, None) => {
            let message = "an administrator has neither `uid` nor `person`";
            let problem = Problem::new("ESTATE-ADMINISTRATOR", source.file, 0, message);
            source.problems.push(problem);
            None
        }
    }
}

fn tests(
    files: &EstateFiles,
    vocabulary: &Vocabulary,
    problems: &mut Vec<Problem>,
) -> Vec<PlacedTest> {
    let mut tests = Vec::new();
    for (file, text) in declarations(files, "tests") {
        let Some(declared) = parse::<TestsFile>(file, text, problems) else {
            continue;
        };
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        for entry in declared.tests {
            source.check_text("the name of a test", &entry.name);
            let action = entry.action.get_ref();
            if !vocabulary.knows(*action) {
                let message = format!("no schema declares an action `{action}`");
                let problem = source.at("ESTATE-TEST", &entry.action, message);
                let known = vocabulary.action_names();
                source
                    .problems
                    .push(problem.did_you_mean(action.as_str(), known));
            }
            tests.push(PlacedTest {
                line: source.line(&entry.name),
                file: file.to_owned(),
                entry,
            });
        }
    }
    tests
}
