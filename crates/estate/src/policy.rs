//! Policies: parsed one by one so that each keeps its place, named, validated strictly, linted.

mod conditions;
mod lint;
mod needs;
mod reads;
mod visible;

pub(crate) use conditions::{Guard, Side, conjuncts, guards, known_as_names, may_err, path, paths};
pub(crate) use lint::{allows_assume, is_only_asserted, is_placed, reads_asserted};
pub(crate) use needs::{Atom, Need, TextNeed, Wanted, atoms, needs};
pub(crate) use reads::{Looks, Reads};
pub(crate) use visible::check as check_visible;

use crate::action::Action;
use crate::administrator::Administrator;
use crate::decision::{Effect, PolicyRef};
use crate::files::EstateFiles;
use crate::model::Model;
use crate::problem::{Problem, column_of, line_of};
use crate::resource::{ResourceKind, ResourceRef};
use crate::statements::{Statement, depth, find_code, statements};
use crate::suggest::{MOST_PROBLEMS, closest, meant};
use crate::vocabulary::Vocabulary;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, EntityId, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint,
    ResourceConstraint, Schema, ValidationMode, ValidationWarning, Validator, pst,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const MAX_ID_BYTES: usize = 512;
/// Longer than any statement a person wrote; short enough for Cedar's recursive passes.
const MAX_STATEMENT_BYTES: usize = 16 * 1024;
/// What Cedar parses and validates on the stack that compiling gets, and drops on 2 MiB (tested).
const MAX_DEPTH: usize = 200;

/// One policy of the estate.
#[derive(Debug, Clone)]
pub(crate) struct PolicyInfo {
    pub(crate) reference: Arc<PolicyRef>,
    pub(crate) policy: Policy,
    pub(crate) body: pst::Template,
    pub(crate) text: String,
    /// Of the text's first letter, from 1.
    pub(crate) column: u32,
    /// `None`: any.
    pub(crate) actions: Option<Vec<Action>>,
    pub(crate) principal: Scope,
    pub(crate) resource: Scope,
    /// What the condition asks before anything that can err, the most selective first.
    pub(crate) guards: Vec<Guard>,
    /// What the condition looks at of the entities of a request.
    pub(crate) looks: Looks,
}

impl PolicyInfo {
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            file: &self.reference.file,
            line: self.reference.line,
            column: self.column,
            text: &self.text,
        }
    }
}

/// Where a statement stands.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    /// Line and column of the text's first letter, from 1.
    pub(crate) line: u32,
    pub(crate) column: u32,
    /// As Cedar has it.
    pub(crate) text: &'a str,
}

impl Place<'_> {
    /// A problem at byte `offset` of the text.
    fn problem(&self, code: &'static str, offset: usize, message: String) -> Problem {
        let further = line_of(self.text, offset) - 1;
        let column = column_of(self.text, offset);
        // What stands before a statement on its first line is not in its text.
        let before = if further == 0 {
            self.column.saturating_sub(1)
        } else {
            0
        };
        let problem = Problem::new(code, self.file, self.line + further, message);
        if self.line == 0 {
            problem
        } else {
            problem.column(column + before)
        }
    }
}

/// One side of a policy's scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Any,
    Is(String),
    Eq(EntityUid),
    /// With the type that `is … in …` asks for as well.
    In(Option<String>, EntityUid),
}

impl Scope {
    /// What the index files the policy under.
    pub(crate) const fn uid(&self) -> Option<&EntityUid> {
        match self {
            Self::Any | Self::Is(_) => None,
            Self::Eq(uid) | Self::In(_, uid) => Some(uid),
        }
    }
}

/// All policies, in order of file and line.
#[derive(Debug)]
pub(crate) struct Policies {
    pub(crate) list: Vec<PolicyInfo>,
    by_id: HashMap<PolicyId, usize>,
    /// All of them, as plain Cedar would take them.
    pub(crate) set: PolicySet,
}

impl Policies {
    pub(crate) fn find(&self, id: &PolicyId) -> Option<&PolicyInfo> {
        self.list.get(*self.by_id.get(id)?)
    }
}

/// # Errors
/// Every problem of `policies/*.cedar`: syntax, ids, strict validation, unknown names, lint. `recorded`: as
/// [`spelled_anew`].
pub(crate) fn parse_policies(
    files: &EstateFiles,
    vocabulary: &Vocabulary,
    model: &Model,
    recorded: bool,
) -> Result<Policies, Vec<Problem>> {
    let before = recorded.then_some(model);
    let mut problems = Vec::new();
    let mut list = Vec::new();
    for (file, text) in files
        .0
        .iter()
        .filter(|(path, _)| path.starts_with("policies/"))
    {
        each_statement(
            file,
            text,
            &mut problems,
            |statement, problems| match parse_policy(file, &statement, vocabulary, before) {
                Ok(policy) => list.push(policy),
                Err(problem) => problems.push(problem),
            },
        );
    }
    let set = collect(
        list.iter().map(|info| (&info.reference, &info.policy)),
        &mut problems,
    );
    // Of very many wrong policies each is looked up, so not one after another.
    let placed: HashMap<&PolicyId, &PolicyInfo> =
        list.iter().map(|info| (info.policy.id(), info)).collect();
    validate(&set, &vocabulary.schema, &mut problems, |id| {
        Some(placed.get(id)?.place())
    });
    for info in &list {
        check_names(&info.policy, info.place(), model, &mut problems);
        lint::check(info, model, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let by_id = list
        .iter()
        .enumerate()
        .map(|(index, info)| (info.policy.id().clone(), index))
        .collect();
    Ok(Policies { list, by_id, set })
}

/// The policies and invariants that do not parse, of every file.
pub(crate) fn unreadable_statements(files: &EstateFiles) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Ok(vocabulary) = Vocabulary::base() else {
        return problems;
    };
    for (file, text) in &files.0 {
        let parsed = |statement: Statement<'_>, problems: &mut Vec<Problem>| {
            let parsed = match file.split_once('/') {
                Some(("policies", _)) => {
                    parse_policy(file, &statement, &vocabulary, None).map(drop)
                }
                _ => crate::invariant::parse_invariant(file, &statement, None).map(drop),
            };
            problems.extend(parsed.err());
        };
        if file.starts_with("policies/") || file.starts_with("invariants/") {
            each_statement(file, text, &mut problems, parsed);
        }
    }
    problems
}

/// Runs `each` over the statements of a file, after the caps.
pub(crate) fn each_statement(
    file: &str,
    text: &str,
    problems: &mut Vec<Problem>,
    mut each: impl FnMut(Statement<'_>, &mut Vec<Problem>),
) {
    match statements(file, text) {
        Err(problem) => problems.push(problem),
        Ok(found) => {
            for statement in found {
                match check_size(file, &statement) {
                    Err(problem) => problems.push(problem),
                    Ok(()) => each(statement, problems),
                }
            }
        }
    }
}

/// Cedar's passes recurse: what they get is bounded in length and in depth.
fn check_size(file: &str, statement: &Statement<'_>) -> Result<(), Problem> {
    let refuse = |message: String| Problem::new("ESTATE-CEDAR-SIZE", file, statement.line, message);
    if statement.text.len() > MAX_STATEMENT_BYTES {
        let length = statement.text.len();
        return Err(refuse(format!(
            "{length} bytes in one statement; at most {MAX_STATEMENT_BYTES}"
        )));
    }
    if depth(statement.text) > MAX_DEPTH {
        let message =
            format!("more than {MAX_DEPTH} operators and brackets; cut the policy in two");
        return Err(refuse(message));
    }
    Ok(())
}

fn parse_policy(
    file: &str,
    statement: &Statement<'_>,
    vocabulary: &Vocabulary,
    before: Option<&Model>,
) -> Result<PolicyInfo, Problem> {
    if !matches!(statement.effect, "permit" | "forbid") {
        let message = format!(
            "a policy begins with `permit` or `forbid`, not `{}`",
            statement.effect
        );
        let problem = Problem::new("ESTATE-CEDAR-SYNTAX", file, statement.line, message);
        return Err(match statement.effect {
            "never" | "always" => problem.hint("invariants stand in invariants/*.cedar"),
            word => problem.did_you_mean(word, ["permit", "forbid"]),
        });
    }
    let (reference, policy) = parse_statement(file, statement, statement.text)?;
    let policy = match before {
        Some(model) => spelled_anew(policy, model),
        None => policy,
    };
    let unsupported = |error: &dyn std::fmt::Display| {
        Problem::new(
            "ESTATE-CEDAR-SYNTAX",
            file,
            statement.line,
            error.to_string(),
        )
    };
    let body = policy
        .to_pst()
        .map_err(|error| unsupported(&error))?
        .body()
        .clone();
    Ok(PolicyInfo {
        actions: actions(&policy.action_constraint(), vocabulary),
        guards: guards(&body),
        looks: reads::looks(&body),
        principal: principal_scope(policy.principal_constraint()),
        resource: resource_scope(policy.resource_constraint()),
        reference: Arc::new(reference),
        policy,
        body,
        text: statement.text.to_owned(),
        column: statement.column,
    })
}

/// Parses `text`, which is `statement` or its rewritten form of the same lines, and names it.
pub(crate) fn parse_statement(
    file: &str,
    statement: &Statement<'_>,
    text: &str,
) -> Result<(PolicyRef, Policy), Problem> {
    let policy = Policy::parse(None, text).map_err(|error| {
        let detailed = DetailedError::from(&error);
        let place = Place {
            file,
            line: statement.line,
            column: statement.column,
            text,
        };
        at_label("ESTATE-CEDAR-SYNTAX", &detailed, place)
    })?;
    let mut annotations: BTreeMap<String, String> = policy
        .annotations()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let id = match annotations.remove("id") {
        None => format!("{file}:{}", statement.line),
        Some(id)
            if id.trim().is_empty()
                || id.len() > MAX_ID_BYTES
                || id.chars().any(char::is_control) =>
        {
            let message =
                format!("@id must be 1 to {MAX_ID_BYTES} bytes without control characters");
            return Err(Problem::new(
                "ESTATE-POLICY-ID",
                file,
                statement.line,
                message,
            ));
        }
        Some(id) => id,
    };
    let effect = match policy.effect() {
        cedar_policy::Effect::Permit => Effect::Permit,
        cedar_policy::Effect::Forbid => Effect::Forbid,
    };
    let policy = policy.new_id(PolicyId::new(&id));
    let reference = PolicyRef {
        id,
        effect,
        file: file.to_owned(),
        line: statement.line,
        annotations,
    };
    Ok((reference, policy))
}

/// One set of all; the second of two with one id is a problem.
pub(crate) fn collect<'a>(
    policies: impl Iterator<Item = (&'a Arc<PolicyRef>, &'a Policy)>,
    problems: &mut Vec<Problem>,
) -> PolicySet {
    let mut set = PolicySet::new();
    let mut first: HashMap<&str, &PolicyRef> = HashMap::new();
    for (reference, policy) in policies {
        let PolicyRef { id, file, line, .. } = reference.as_ref();
        if let Some(other) = first.insert(id, reference) {
            let message = format!(
                "@id({id:?}) is taken; first at {}:{}",
                other.file, other.line
            );
            problems.push(Problem::new("ESTATE-DUPLICATE", file, *line, message));
        } else if let Err(error) = set.add(policy.clone()) {
            problems.push(Problem::new(
                "ESTATE-CEDAR-SYNTAX",
                file,
                *line,
                error.to_string(),
            ));
        }
    }
    set
}

/// To whom a policy speaks of columns in vain.
const DECIDE_COLUMNS: &str = "no action applies to columns here; where estate.toml says \
     `columns = \"decided\"`, select, insert and update do";

/// Strict validation, and level 1: a condition reads the principal's, the resource's and the
/// context's attributes and goes no further, so that these and their ancestors are all a decision
/// needs (Cedar RFC 76).
pub(crate) fn validate<'a>(
    set: &PolicySet,
    schema: &Schema,
    problems: &mut Vec<Problem>,
    place: impl Fn(&PolicyId) -> Option<Place<'a>>,
) {
    let result = Validator::new(schema.clone()).validate_with_level(set, ValidationMode::Strict, 1);
    let nowhere = Place {
        file: "",
        line: 0,
        column: 0,
        text: "",
    };
    let by_table = !schema.resources().any(|kind| kind.to_string() == "Column");
    let about_columns = |text: &str| by_table && text.contains("Column");
    let mut untyped: BTreeSet<PolicyId> = BTreeSet::new();
    for error in result.validation_errors() {
        untyped.insert(error.policy_id().clone());
        let place = place(error.policy_id()).unwrap_or(nowhere);
        let detailed = DetailedError::from(error);
        let problem = at_label("ESTATE-POLICY-TYPE", &detailed, place);
        problems.push(if problem.hint.is_none() && about_columns(place.text) {
            problem.hint(DECIDE_COLUMNS)
        } else {
            problem
        });
    }
    // A condition that can never hold is a policy that does nothing: refused, not only warned of.
    // So are mixed scripts and bidirectional controls, which make text read other than it is.
    for warning in result.validation_warnings() {
        // Of a policy that speaks of what there is not, that it never matches follows and says nothing.
        let follows = matches!(
            warning,
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_)
        );
        if follows && untyped.contains(warning.policy_id()) {
            continue;
        }
        let place = place(warning.policy_id()).unwrap_or(nowhere);
        let detailed = DetailedError::from(warning);
        let problem = at_label("ESTATE-POLICY-SUSPECT", &detailed, place);
        problems.push(if follows && about_columns(place.text) {
            problem.hint(DECIDE_COLUMNS)
        } else {
            problem
        });
    }
}

/// A problem where Cedar's label points to.
pub(crate) fn at_label(code: &'static str, error: &DetailedError, place: Place<'_>) -> Problem {
    let error = error.related.first().unwrap_or(error);
    let label = error.source_locations.first();
    let start = label.map_or(0, |label| label.loc.start);
    let label = label.and_then(|label| label.label.clone());
    let message = match label {
        Some(label) if !error.message.contains(&label) => format!("{}: {label}", error.message),
        _ => error.message.clone(),
    };
    let help = error.help.clone().or_else(|| meant(&message));
    let mut problem = place.problem(code, start, message);
    problem.hint = help;
    problem
}

/// A policy of a recorded version, with the resources that it names under the names that they have today: those with
/// `"`, `\` or a control character were written as they are.
pub(crate) fn spelled_anew(policy: Policy, model: &Model) -> Policy {
    let named = policy.entity_literals().into_iter().filter_map(|uid| {
        let kind = ResourceKind::from_type_name(&uid.type_name().to_string())?;
        let was = ResourceRef::new(kind, uid.id().unescaped());
        let now = was.spelled_anew().filter(|now| model.declares(now))?;
        let now =
            EntityUid::from_type_name_and_id(uid.type_name().clone(), EntityId::new(now.path));
        Some((uid, now))
    });
    let named: BTreeMap<EntityUid, EntityUid> = named.collect();
    if named.is_empty() {
        return policy;
    }
    policy.sub_entity_literals(named).unwrap_or(policy)
}

/// Each entity that a policy names must be declared: a misspelt name grants nothing, silently.
pub(crate) fn check_names(
    policy: &Policy,
    place: Place<'_>,
    model: &Model,
    problems: &mut Vec<Problem>,
) {
    for uid in policy.entity_literals() {
        let type_name = uid.type_name().to_string();
        let id: &str = uid.id().unescaped();
        if is_declared(&type_name, id, model) {
            continue;
        }
        let message = format!("{type_name}::{id:?} is not declared");
        let at = find_code(place.text, &format!("{type_name}::{id:?}"));
        let mut problem = place.problem("ESTATE-POLICY-NAME", at.unwrap_or(0), message);
        if type_name == "Identity"
            && let Some(template) = model.templates.of(id)
        {
            let hint = format!("name its template, which stands for all: Identity::{template:?}");
            problems.push(problem.hint(hint));
            continue;
        }
        let candidates = match problems.len() {
            ..MOST_PROBLEMS => declared(&type_name, model),
            _ => Vec::new(),
        };
        problem.hint = match closest(id, candidates) {
            Some(candidate) => Some(format!("did you mean {type_name}::{candidate:?}?")),
            None if type_name == "Admin" => Some("write Admin::\"uid:0\"".to_owned()),
            None => None,
        };
        problems.push(problem);
    }
}

fn is_declared(type_name: &str, id: &str, model: &Model) -> bool {
    match type_name {
        "Identity" => model.identities.contains_key(id),
        "Group" => model.groups.contains_key(id),
        "Pool" => model.references.pools.contains(id),
        "Estate" => model.settings.trust_domain == id,
        "Admin" => is_administrator(id, model),
        // A workload is known by its facts, not by a name.
        "Workload" => false,
        // Machines join by token under names that no file lists; actions are the schema's.
        _ => match ResourceKind::from_type_name(type_name) {
            Some(kind) if kind.is_classified() => {
                let resource = ResourceRef::new(kind, id);
                model.declares(&resource)
            }
            _ => true,
        },
    }
}

fn declared<'a>(type_name: &str, model: &'a Model) -> Vec<&'a str> {
    match type_name {
        "Identity" => model.identities.keys().map(String::as_str).collect(),
        "Group" => model.groups.keys().map(String::as_str).collect(),
        "Pool" => model.references.pools.iter().map(String::as_str).collect(),
        "Estate" => vec![model.settings.trust_domain.as_str()],
        _ => {
            let resources = model.resources();
            resources
                .filter(|resource| resource.kind.type_name() == type_name)
                .map(|resource| resource.path.as_str())
                .collect()
        }
    }
}

fn is_administrator(id: &str, model: &Model) -> bool {
    Administrator::parse(id).is_some_and(|who| match who {
        Administrator::Uid(_) => true,
        Administrator::Person(_) => model.administrators.contains_key(&who),
    })
}

/// What the scope means: of a group of actions, its members. A name that nothing has is the validator's to
/// refuse.
fn actions(constraint: &ActionConstraint, vocabulary: &Vocabulary) -> Option<Vec<Action>> {
    let uids = match constraint {
        ActionConstraint::Any => return None,
        ActionConstraint::Eq(uid) => std::slice::from_ref(uid),
        ActionConstraint::In(uids) => uids,
    };
    let meant = uids
        .iter()
        .flat_map(|uid| vocabulary.meant_by(uid.id().unescaped()));
    Some(meant.collect())
}

pub(crate) fn principal_scope(constraint: PrincipalConstraint) -> Scope {
    match constraint {
        PrincipalConstraint::Any => Scope::Any,
        PrincipalConstraint::Is(name) => Scope::Is(name.to_string()),
        PrincipalConstraint::Eq(uid) => Scope::Eq(uid),
        PrincipalConstraint::In(uid) => Scope::In(None, uid),
        PrincipalConstraint::IsIn(name, uid) => Scope::In(Some(name.to_string()), uid),
    }
}

pub(crate) fn resource_scope(constraint: ResourceConstraint) -> Scope {
    match constraint {
        ResourceConstraint::Any => Scope::Any,
        ResourceConstraint::Is(name) => Scope::Is(name.to_string()),
        ResourceConstraint::Eq(uid) => Scope::Eq(uid),
        ResourceConstraint::In(uid) => Scope::In(None, uid),
        ResourceConstraint::IsIn(name, uid) => Scope::In(Some(name.to_string()), uid),
    }
}
