//! A counterexample for people: who could do what to what, because of which line.

use cedar_policy::{Entities, EntityUid, EvalResult, Request};
use estate::{InvariantKind, PolicyRef};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A request that breaks an invariant, and the data in which it does.
#[derive(Debug, Clone, Serialize)]
pub struct Counterexample {
    pub principal: Party,
    pub action: String,
    pub resource: Party,
    /// Cedar text of the context; only what the solver chose to set.
    pub context: String,
    /// Whether the request is allowed where it never should be, or denied where it always should not.
    pub allowed: bool,
    /// What allows it, or forbids it; empty for a denial by default.
    pub because: Vec<Arc<PolicyRef>>,
    /// Whether it is so with what is declared now: the same request, of declared parties, or of a workload with
    /// these facts.
    pub today: bool,
    /// Of whoever becomes somebody: what that somebody could do then, and never should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Box<Self>>,
    /// All of it as a sentence.
    pub text: String,
}

/// One side of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Party {
    /// `Identity`
    pub kind: String,
    /// Set when the declared entity of this id is meant, not any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Attributes as Cedar text.
    pub attributes: BTreeMap<String, String>,
    /// Those attributes that a declared entity does not have today, but could.
    pub supposed: Vec<String>,
    /// Of a workload: its facts, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// What it is in: `Group::"g2"`, `Schema::"shop/public"`.
    pub within: Vec<String>,
    /// Names of those facts that the policies and the invariant speak of; the solver sets the others as well.
    #[serde(skip)]
    pub(crate) telling: BTreeSet<String>,
}

impl Counterexample {
    pub(crate) fn new(
        kind: InvariantKind,
        request: &Request,
        entities: &Entities,
        declared: &Entities,
        because: Vec<Arc<PolicyRef>>,
    ) -> Option<Self> {
        let mut found = Self {
            principal: Party::of(request.principal()?, entities, declared),
            action: request.action()?.id().unescaped().to_owned(),
            resource: Party::of(request.resource()?, entities, declared),
            context: request
                .context()
                .map(ToString::to_string)
                .unwrap_or_default(),
            allowed: kind == InvariantKind::Never,
            because,
            today: false,
            then: None,
            text: String::new(),
        };
        found.text = found.to_string();
        Some(found)
    }
}

impl Counterexample {
    /// Names first what the Cedar of `policies` speaks of.
    pub(crate) fn telling(mut self, policies: &str) -> Self {
        let words: BTreeSet<&str> = policies
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .collect();
        let party = &mut self.principal;
        let told = |name: &&String| name.split('.').all(|part| words.contains(part));
        party.telling = party.facts.keys().filter(told).cloned().collect();
        self.text = self.to_string();
        self
    }

    /// With what the identity that is become could do.
    pub(crate) fn and_then(mut self, then: Self) -> Self {
        self.then = Some(Box::new(then));
        self.text = self.to_string();
        self
    }
}

impl Party {
    pub(crate) fn of(uid: &EntityUid, entities: &Entities, declared: &Entities) -> Self {
        let attributes = attributes(uid, entities);
        let today = attributes_today(uid, declared);
        let supposed = today.map_or_else(Vec::new, |today| {
            let differs = |name: &&String| attributes.get(*name) != today.get(*name);
            attributes.keys().filter(differs).cloned().collect()
        });
        let above = entities.ancestors(uid).into_iter().flatten();
        let mut within: Vec<String> = above
            .filter(|above| declared.get(above).is_some())
            .map(ToString::to_string)
            .collect();
        within.sort();
        within.dedup();
        Self {
            kind: uid.type_name().to_string(),
            id: declared.get(uid).map(|_| uid.id().unescaped().to_owned()),
            attributes,
            facts: facts(uid, entities),
            supposed,
            within,
            telling: BTreeSet::new(),
        }
    }
}

fn attributes(uid: &EntityUid, entities: &Entities) -> BTreeMap<String, String> {
    entities
        .get(uid)
        .into_iter()
        .flat_map(|entity| entity.attrs())
        .filter_map(|(name, value)| Some((name.to_owned(), value.ok()?.to_string())))
        .collect()
}

fn attributes_today(uid: &EntityUid, declared: &Entities) -> Option<BTreeMap<String, String>> {
    declared.get(uid)?;
    Some(attributes(uid, declared))
}

/// Facts that a sentence names; the rest is in the JSON.
const MOST_FACTS: usize = 6;

impl Party {
    /// ` with uid 0, machine.pool "demo"`, of a workload, which is nothing but its facts.
    fn facts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != "Workload" {
            return Ok(());
        }
        let matters = |name: &String| self.telling.is_empty() || self.telling.contains(name);
        let mut shown: Vec<String> = self
            .facts
            .iter()
            .filter(|(name, _)| matters(name))
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        if shown.is_empty() {
            return f.write_str(" of which nothing is known");
        }
        let others = self.facts.len() - shown.len();
        let more = shown.len().saturating_sub(MOST_FACTS);
        shown.truncate(MOST_FACTS);
        write!(f, " with {}", shown.join(", "))?;
        match (more, others) {
            (0, 0) => Ok(()),
            (0, others) => write!(f, " (and {others} facts that none of these speaks of)"),
            (more, _) => write!(f, " and {more} more facts"),
        }
    }
}

/// The leaves of a record of facts, by their names.
fn leaves(name: &str, value: &EvalResult, into: &mut BTreeMap<String, String>) {
    match value {
        EvalResult::Record(record) => {
            for (field, value) in record.iter() {
                leaves(&format!("{name}.{field}"), value, into);
            }
        }
        value => {
            into.insert(name.to_owned(), value.to_string());
        }
    }
}

fn facts(uid: &EntityUid, entities: &Entities) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if uid.type_name().to_string() == "Workload" {
        let attributes = entities
            .get(uid)
            .into_iter()
            .flat_map(|entity| entity.attrs());
        for (name, value) in attributes {
            if let Ok(value) = value {
                leaves(name, &value, &mut found);
            }
        }
    }
    found
}

/// `some Identity of kind "ai-agent" in Group::"g2"`
impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{}::{id:?}", self.kind)?,
            None => write!(f, "some {}", self.kind)?,
        }
        // The attributes that say what a thing is; the rest is in the JSON.
        let telling = ["kind", "classification"];
        for (name, value) in telling
            .iter()
            .filter_map(|name| self.attributes.get_key_value(*name))
        {
            if value == "\"\"" {
                continue;
            }
            let supposed = if self.supposed.contains(name) {
                " (supposed)"
            } else {
                ""
            };
            write!(f, " of {name} {value}{supposed}")?;
        }
        self.facts(f)?;
        if !self.within.is_empty() {
            write!(f, " in {}", self.within.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.allowed { "could" } else { "could not" };
        write!(
            f,
            "{} {verb} {} {}",
            self.principal, self.action, self.resource
        )?;
        let places: Vec<_> = self
            .because
            .iter()
            .map(|policy| policy.with_reasons())
            .collect();
        match (places.is_empty(), self.allowed) {
            (false, _) => write!(f, ", because of {}", places.join(" and "))?,
            (true, false) => write!(f, ", because no policy allows it")?,
            (true, true) => {}
        }
        match &self.then {
            Some(then) => write!(f, "; and then {then}"),
            None => Ok(()),
        }
    }
}
