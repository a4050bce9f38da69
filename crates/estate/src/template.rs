//! Templates of identities: paths with facts in the place of segments, `pools/{machine.pool}/jobs/{workload.unit}`,
//! and which of them a path is an instance of. Who may become an instance is for policies to say.
//!
//! An instance is no entity: policies see its template in its place, at `assume` and at every use. So whatever
//! is asked or proved of what is declared holds of instances as well
//! ([decision 0021](../../../docs/decisions/0021-identity-templates.md)).

use crate::fact_schema::is_text;
use facts::{FactSet, names};
use std::collections::{BTreeMap, HashMap};

/// More than a name for a workload can need.
const MOST_PLACEHOLDERS: usize = 8;
const MOST_SEGMENTS: usize = 32;
/// SPIFFE-ID section 2.3 bounds the whole; a longer name is nobody's.
const MAX_VALUE: usize = 255;
/// SPIFFE-ID section 2.3 allows 2048 bytes for the whole ID, 255 of them for the trust domain.
pub(crate) const MAX_PATH: usize = 1024;

/// SPIFFE-ID section 2.2: segments of letters, digits, `.`, `-`, `_`; none empty, none relative.
pub(crate) fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// True of what a template could be meant by: no SPIFFE path has braces.
pub(crate) fn has_placeholder(path: &str) -> bool {
    path.contains(['{', '}'])
}

/// INVARIANT: the first segment is a literal, so that no fact chooses among the names of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// Whatever the fact of this name says.
    Fact(String),
}

/// Why a path with braces is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTemplate {
    #[error("`{0}` is neither a SPIFFE path segment nor a fact in braces")]
    Segment(String),
    #[error("no verifier states a fact `{0}`")]
    Unknown(String),
    #[error("the fact `{0}` is no text")]
    NoText(String),
    #[error("`{{{0}}}` stands in it twice")]
    Twice(String),
    #[error("a template begins with a segment that is no fact")]
    First,
    #[error(
        "a template has at most {MOST_SEGMENTS} segments, {MOST_PLACEHOLDERS} of them facts, and {MAX_PATH} bytes"
    )]
    Long,
}

/// Why facts make no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoInstance {
    #[error("nothing states the fact `{0}`, which the path of the identity is made of")]
    Lacks(String),
    /// Never made one: two facts must not come to one path.
    #[error(
        "the fact `{name}`, which the path of the identity is made of, says {value:?}: no SPIFFE path segment"
    )]
    Value { name: String, value: String },
    #[error("the facts make a path of {0} bytes; at most {MAX_PATH}")]
    Long(usize),
}

impl Template {
    pub(crate) fn parse(path: &str) -> Result<Self, NoTemplate> {
        let segments = path
            .split('/')
            .map(segment)
            .collect::<Result<Vec<_>, _>>()?;
        let facts: Vec<&str> = segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Fact(name) => Some(name.as_str()),
                Segment::Literal(_) => None,
            })
            .collect();
        let bounded = path.len() <= MAX_PATH
            && segments.len() <= MOST_SEGMENTS
            && facts.len() <= MOST_PLACEHOLDERS;
        if !bounded {
            return Err(NoTemplate::Long);
        }
        for (place, name) in facts.iter().enumerate() {
            if facts.iter().take(place).any(|earlier| earlier == name) {
                return Err(NoTemplate::Twice((*name).to_owned()));
            }
        }
        match segments.first() {
            Some(Segment::Literal(_)) => Ok(Self { segments }),
            _ => Err(NoTemplate::First),
        }
    }

    /// The names of the facts that it is made of.
    pub(crate) fn facts(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Fact(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// The path of the instance that these facts make.
    pub(crate) fn fill(&self, facts: &FactSet) -> Result<String, NoInstance> {
        let mut path = String::new();
        for segment in &self.segments {
            if !path.is_empty() {
                path.push('/');
            }
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Fact(name) => {
                    let value = facts
                        .text(name)
                        .ok_or_else(|| NoInstance::Lacks(name.clone()))?;
                    if value.len() > MAX_VALUE || !is_segment(value) {
                        return Err(NoInstance::Value {
                            name: name.clone(),
                            value: value.chars().take(MAX_VALUE).collect(),
                        });
                    }
                    path.push_str(value);
                }
            }
        }
        if path.len() > MAX_PATH {
            return Err(NoInstance::Long(path.len()));
        }
        Ok(path)
    }

    /// In small letters where `folded`.
    fn steps(&self, folded: bool) -> Vec<Step> {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Fact(_) => Step::Any,
                Segment::Literal(text) if folded => Step::Exactly(text.to_ascii_lowercase()),
                Segment::Literal(text) => Step::Exactly(text.clone()),
            })
            .collect()
    }
}

fn segment(text: &str) -> Result<Segment, NoTemplate> {
    let inside = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    match inside {
        Some(name) if name.contains(['{', '}']) => Err(NoTemplate::Segment(text.to_owned())),
        Some(name) if !names::ALL.contains(&name) => Err(NoTemplate::Unknown(name.to_owned())),
        Some(name) if !is_text(name) => Err(NoTemplate::NoText(name.to_owned())),
        Some(name) => Ok(Segment::Fact(name.to_owned())),
        None if is_segment(text) => Ok(Segment::Literal(text.to_owned())),
        None => Err(NoTemplate::Segment(text.to_owned())),
    }
}

/// All templates of an estate, by their paths.
///
/// INVARIANT: no path is an instance of two of them, or of one and declared as well; `resolve` refuses such.
#[derive(Debug, Clone, Default)]
pub(crate) struct Templates {
    parsed: BTreeMap<String, Template>,
    paths: Paths,
}

impl Templates {
    pub(crate) fn insert(&mut self, path: &str, template: Template) {
        self.paths.insert(&template.steps(false), path);
        self.parsed.insert(path.to_owned(), template);
    }

    /// In order of their paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Template)> {
        self.parsed.iter()
    }

    /// By its own path, with the braces.
    pub(crate) fn get(&self, path: &str) -> Option<&Template> {
        self.parsed.get(path)
    }

    /// The template that `path` is an instance of, whether or not some facts make it.
    pub(crate) fn of(&self, path: &str) -> Option<&str> {
        if self.parsed.is_empty() {
            return None;
        }
        self.paths.find(path)
    }
}

/// What was declared so far, whose letters count as the same in either case.
#[derive(Debug, Default)]
pub(crate) struct Overlaps(Paths);

impl Overlaps {
    /// An earlier template that has an instance in common with this one, which is one of them from now on.
    pub(crate) fn with(&mut self, path: &str, template: &Template) -> Option<String> {
        let steps = template.steps(true);
        let other = self.0.meet(&steps).map(str::to_owned);
        self.0.insert(&steps, path);
        other
    }

    /// The template that the declared `path` is an instance of.
    pub(crate) fn of(&self, path: &str) -> Option<&str> {
        self.0.find(&path.to_ascii_lowercase())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Exactly(String),
    Any,
}

/// A tree of segments. Node 0 is the root; there is none before the first path.
#[derive(Debug, Clone, Default)]
struct Paths(Vec<PathNode>);

#[derive(Debug, Clone, Default)]
struct PathNode {
    exactly: HashMap<String, usize>,
    any: Option<usize>,
    /// The path of the template that ends here.
    end: Option<String>,
}

impl Paths {
    fn insert(&mut self, steps: &[Step], path: &str) {
        if self.0.is_empty() {
            self.0.push(PathNode::default());
        }
        let mut at = 0;
        for step in steps {
            let next = self.0.len();
            let Some(node) = self.0.get_mut(at) else {
                return;
            };
            at = match step {
                Step::Exactly(text) => *node.exactly.entry(text.clone()).or_insert(next),
                Step::Any => *node.any.get_or_insert(next),
            };
            if at == next {
                self.0.push(PathNode::default());
            }
        }
        if let Some(node) = self.0.get_mut(at) {
            node.end.get_or_insert_with(|| path.to_owned());
        }
    }

    /// Of a path without facts in it. Visits each node once at most.
    fn find(&self, path: &str) -> Option<&str> {
        let mut here: Vec<&PathNode> = self.0.first().into_iter().collect();
        for segment in path.split('/') {
            here = here
                .iter()
                .flat_map(|node| [node.exactly.get(segment).copied(), node.any])
                .flatten()
                .filter_map(|next| self.0.get(next))
                .collect();
            if here.is_empty() {
                return None;
            }
        }
        here.iter().find_map(|node| node.end.as_deref())
    }

    /// As [`Self::find`], of a path in which facts may say anything.
    fn meet(&self, steps: &[Step]) -> Option<&str> {
        let mut here: Vec<&PathNode> = self.0.first().into_iter().collect();
        for step in steps {
            here = here
                .iter()
                .flat_map(|node| {
                    let (one, all) = match step {
                        Step::Exactly(text) => (node.exactly.get(text), None),
                        Step::Any => (None, Some(node.exactly.values())),
                    };
                    one.into_iter()
                        .chain(all.into_iter().flatten())
                        .chain(&node.any)
                })
                .filter_map(|next| self.0.get(*next))
                .collect();
        }
        here.iter().find_map(|node| node.end.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::{Source, Timestamp};

    fn facts(pairs: &[(&str, &str)]) -> FactSet {
        let mut facts = FactSet::new();
        for (name, value) in pairs {
            facts.state(name, *value, Source::Verified, Timestamp::EPOCH);
        }
        facts
    }

    #[test]
    fn a_template_is_of_whole_segments_and_begins_with_a_name() {
        assert!(Template::parse("pools/{machine.pool}/jobs/{workload.unit}").is_ok());
        for (path, expected) in [
            (
                "jobs/job-{workload.unit}",
                "`job-{workload.unit}` is neither a SPIFFE path segment nor a fact in braces",
            ),
            (
                "jobs/{{workload.unit}}",
                "`{{workload.unit}}` is neither a SPIFFE path segment nor a fact in braces",
            ),
            ("jobs/{}", "no verifier states a fact ``"),
            (
                "jobs/{workload.name}",
                "no verifier states a fact `workload.name`",
            ),
            ("jobs/{workload.uid}", "the fact `workload.uid` is no text"),
            (
                "jobs/{workload.groups}",
                "the fact `workload.groups` is no text",
            ),
            (
                "jobs/{workload.unit}/{workload.unit}",
                "`{workload.unit}` stands in it twice",
            ),
            (
                "{machine.pool}/jobs",
                "a template begins with a segment that is no fact",
            ),
            (
                "jobs//{workload.unit}",
                "`` is neither a SPIFFE path segment nor a fact in braces",
            ),
            (
                "jobs/../{workload.unit}",
                "`..` is neither a SPIFFE path segment nor a fact in braces",
            ),
        ] {
            let error = Template::parse(path).unwrap_err();
            assert_eq!(error.to_string(), expected, "{path}");
        }
        let long = format!("jobs/{}{{workload.unit}}", "a/".repeat(31));
        assert_eq!(Template::parse(&long), Err(NoTemplate::Long));
    }

    #[test]
    fn a_value_that_is_no_segment_makes_no_instance() {
        let template = Template::parse("jobs/{workload.unit}").unwrap();
        let filled = template.fill(&facts(&[(names::WORKLOAD_UNIT, "nightly.service")]));
        assert_eq!(filled.as_deref(), Ok("jobs/nightly.service"));
        let long = "a".repeat(MAX_VALUE + 1);
        for value in [
            "", ".", "..", "a/b", "a%2Fb", "a b", "a@b", "bücher", "a\0", &long,
        ] {
            let refused = template.fill(&facts(&[(names::WORKLOAD_UNIT, value)]));
            assert!(
                matches!(refused, Err(NoInstance::Value { .. })),
                "{value:?} {refused:?}"
            );
        }
        let lacking = template.fill(&FactSet::new());
        assert!(matches!(lacking, Err(NoInstance::Lacks(_))));
    }

    #[test]
    fn a_path_is_found_below_the_template_that_has_it() {
        let mut templates = Templates::default();
        for path in [
            "jobs/{workload.unit}",
            "pools/{machine.pool}/jobs/{workload.unit}",
            "pools/{machine.pool}/web",
        ] {
            templates.insert(path, Template::parse(path).unwrap());
        }
        for (path, expected) in [
            ("jobs/a", Some("jobs/{workload.unit}")),
            ("jobs", None),
            ("jobs/a/b", None),
            ("Jobs/a", None),
            ("pools/demo/web", Some("pools/{machine.pool}/web")),
            (
                "pools/demo/jobs/a",
                Some("pools/{machine.pool}/jobs/{workload.unit}"),
            ),
            ("pools/demo/jobs", None),
            ("", None),
        ] {
            assert_eq!(templates.of(path), expected, "{path}");
        }
    }

    #[test]
    fn templates_that_could_come_to_one_path_overlap() {
        for (left, right, overlap) in [
            ("jobs/{workload.unit}", "jobs/{machine.name}", true),
            ("jobs/{workload.unit}/a", "jobs/b/{workload.unit}", true),
            ("jobs/{workload.unit}/a", "JOBS/b/{workload.unit}", true),
            ("jobs/{workload.unit}/a", "jobs/{workload.unit}/b", false),
            ("jobs/{workload.unit}", "jobs/{workload.unit}/a", false),
            ("jobs/{workload.unit}", "tasks/{workload.unit}", false),
        ] {
            let mut overlaps = Overlaps::default();
            let parse = |path| Template::parse(path).unwrap();
            assert_eq!(overlaps.with(left, &parse(left)), None);
            let found = overlaps.with(right, &parse(right));
            assert_eq!(found.as_deref(), overlap.then_some(left), "{left} {right}");
        }
    }
}
