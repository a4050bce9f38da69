//! Accesses one after another: found as they are asked for, in order of identity, action and resource, and
//! not kept. An answer can be cut anywhere and goes on by its cursor.

use super::cursor::{Cursor, CursorError, Place};
use super::sweep::{Candidate, Sweep};
use super::{Access, Partial, elsewhere, unlisted_in};
use crate::action::Action;
use crate::authorize::Prepared;
use crate::entities::{Node, NodeId, resource_uid, shown};
use crate::estate::Estate;
use crate::policy::Side;
use crate::resource::{ResourceKind, ResourceRef};
use crate::sieve::Seen;
use cedar_policy::EntityUid;
use facts::FactSet;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The answer to `who-can` or `what-can`, as it is found.
///
/// An access, or what could not be evaluated: an answer with errors is not complete.
pub struct Accesses<'a> {
    estate: &'a Estate,
    asked: Asked<'a>,
    /// The question as a text, for cursors.
    question: String,
    prepared: Prepared,
    at: Place,
    /// Whether what stands at `at` has been looked at.
    looked: bool,
    ready: VecDeque<Result<Access, String>>,
    turn: Option<Turn<'a>>,
    evaluations: usize,
}

#[expect(clippy::large_enum_variant, reason = "one of a whole question")]
enum Asked<'a> {
    /// Nothing can be answered.
    Nothing,
    Who {
        action: Action,
        resource: ResourceRef,
        uid: EntityUid,
        lineage: Vec<NodeId>,
        declared: bool,
        texts: BTreeMap<String, String>,
    },
    What {
        principal: String,
        node: &'a Node,
        actions: Vec<Action>,
    },
}

/// One action, and everything that it could be done by or to.
struct Turn<'a> {
    action: Action,
    sweep: Sweep<'a>,
    /// Who can do it to the table of the column that was asked about.
    of_table: Option<Sweep<'a>>,
    segments: Vec<Segment<'a>>,
}

/// Candidates of one kind, in order of their paths.
struct Segment<'a> {
    kind: ResourceKind,
    nodes: &'a [NodeId],
    /// Where among them what no file lists stands, and how it is shown.
    elsewhere: Option<(usize, ResourceRef)>,
}

impl Segment<'_> {
    fn length(&self) -> usize {
        self.nodes.len() + usize::from(self.elsewhere.is_some())
    }
}

/// What one step came to.
#[expect(clippy::large_enum_variant, reason = "matched at once, never kept")]
enum Step {
    Item(Result<Access, String>),
    /// Another candidate was looked at, or passed by.
    Nothing,
    End,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The estate's version, SHA-256 hex.
    pub estate: String,
    pub accesses: Vec<Access>,
    /// What could not be evaluated. An answer with errors is not complete.
    pub errors: Vec<String>,
    /// Where the rest begins; without it there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Estate {
    /// Which identities can do this to that, in order of their paths. `resource` need not be declared.
    #[must_use]
    pub fn accesses_to(&self, action: Action, resource: &ResourceRef) -> Accesses<'_> {
        let question = format!("who-can {action} {resource}");
        let applies = action.is_use() && self.vocabulary.kinds_of(action).contains(&resource.kind);
        if !applies {
            let error = format!("`{action}` does not apply to {resource}");
            return self.unanswered(question, error);
        }
        let asked = match self.target(action, resource) {
            Err(unanswerable) => return self.unanswered(question, unanswerable.message),
            Ok((uid, side, _)) => {
                let met = side.met();
                Asked::Who {
                    action,
                    resource: resource.clone(),
                    lineage: met.lineage.to_vec(),
                    declared: met.stranger.is_none(),
                    texts: met.texts.clone(),
                    uid,
                }
            }
        };
        self.asked(question, asked)
    }

    /// What this identity can do, to every declared resource and to what is not declared: in each
    /// declared schema, in each declared database, and elsewhere. In order of action and resource.
    #[must_use]
    pub fn accesses_of(&self, principal: &str) -> Accesses<'_> {
        let question = format!("what-can {principal}");
        let Some(node) = self.identity_node(principal) else {
            let error = format!("no identity `{principal}` is declared");
            return self.unanswered(question, error);
        };
        let mut actions: Vec<Action> = self.vocabulary.uses().collect();
        actions.sort();
        let asked = Asked::What {
            principal: principal.to_owned(),
            node,
            actions,
        };
        self.asked(question, asked)
    }

    fn unanswered(&self, question: String, error: String) -> Accesses<'_> {
        let mut accesses = self.asked(question, Asked::Nothing);
        accesses.looked = true;
        accesses.ready.push_back(Err(error));
        accesses
    }

    fn asked<'a>(&'a self, question: String, asked: Asked<'a>) -> Accesses<'a> {
        Accesses {
            estate: self,
            asked,
            question,
            prepared: self.prepare(&FactSet::new()),
            at: Place::default(),
            looked: false,
            ready: VecDeque::new(),
            turn: None,
            evaluations: 0,
        }
    }
}

impl<'a> Accesses<'a> {
    /// Goes on where an answer to the same question by the same version of the estate was cut.
    ///
    /// # Errors
    /// The cursor belongs to another question or another version.
    pub fn after(mut self, cursor: &Cursor) -> Result<Self, CursorError> {
        let place = cursor.check(self.estate.version(), &self.question)?;
        if place.list != 0 {
            return Err(CursorError::Malformed);
        }
        self = self.at(place);
        Ok(self)
    }

    /// Goes on at a place of this answer.
    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.at = Place { list: 0, ..place };
        // An answer that is nothing but an error.
        let given = self.at.given.min(self.ready.len());
        self.ready.drain(..given);
        self
    }

    /// Where the next access stands.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let place = if self.looked && self.ready.is_empty() {
            // INVARIANT: what was looked at to its end is not looked at again, so that answers come to an end.
            Place {
                candidate: self.at.candidate + 1,
                given: 0,
                ..self.at
            }
        } else {
            self.at
        };
        Cursor::new(self.estate.version(), &self.question, place)
    }

    /// The next accesses, `limit` at most and after about `evaluations` requests to Cedar at most: a page may
    /// have fewer, or none, and say that there is more.
    #[must_use]
    pub fn page(&mut self, limit: usize, evaluations: usize) -> Page {
        let most = self.evaluations.saturating_add(evaluations.max(1));
        let mut page = Page {
            estate: self.estate.version().to_owned(),
            accesses: Vec::new(),
            errors: Vec::new(),
            next: None,
        };
        // What could not be evaluated takes a place as well.
        let mut taken = 0;
        let mut cursor = self.cursor();
        loop {
            match self.step() {
                Step::End => return page,
                Step::Item(_) if taken >= limit.max(1) => {
                    page.next = Some(cursor.to_string());
                    return page;
                }
                Step::Item(item) => {
                    match item {
                        Ok(access) => page.accesses.push(access),
                        Err(error) => page.errors.push(error),
                    }
                    taken += 1;
                    cursor = self.cursor();
                }
                Step::Nothing if self.ready.is_empty() => {
                    cursor = self.cursor();
                    if self.evaluations >= most {
                        page.next = Some(cursor.to_string());
                        return page;
                    }
                }
                Step::Nothing => {}
            }
        }
    }

    /// Requests put to Cedar so far.
    #[must_use]
    pub const fn evaluations(&self) -> usize {
        self.evaluations
    }

    fn step(&mut self) -> Step {
        if let Some(item) = self.ready.pop_front() {
            self.at.given += 1;
            return Step::Item(item);
        }
        if self.looked {
            self.at.candidate += 1;
            self.at.given = 0;
            self.looked = false;
        }
        if self.turn.is_none() {
            match self.begin() {
                None => return Step::End,
                Some(turn) => self.turn = Some(turn),
            }
        }
        let Some(turn) = self.turn.as_mut() else {
            return Step::End;
        };
        let before = turn.evaluations();
        let found = turn.look(
            &mut self.at.candidate,
            &self.asked,
            self.estate,
            &self.prepared,
        );
        self.evaluations += turn.evaluations() - before;
        match found {
            Some(found) => {
                self.looked = true;
                self.ready = found.into_iter().skip(self.at.given).collect();
            }
            None => {
                self.turn = None;
                self.at = Place {
                    turn: self.at.turn + 1,
                    ..Place::default()
                };
            }
        }
        Step::Nothing
    }

    fn begin(&self) -> Option<Turn<'a>> {
        let estate = self.estate;
        let graph = &estate.graph;
        match &self.asked {
            Asked::Who {
                action,
                resource,
                uid,
                lineage,
                declared,
                texts,
            } if self.at.turn == 0 => {
                let stands = Seen {
                    uid,
                    kind: resource.kind.type_name(),
                    lineage,
                    declared: *declared,
                    texts,
                };
                let identities = Segment {
                    kind: ResourceKind::Identity,
                    nodes: graph.of_kind(ResourceKind::Identity),
                    elsewhere: None,
                };
                let table = estate.table_asked(*action, resource);
                Some(Turn {
                    of_table: table.and_then(|table| who_can(estate, *action, &table)),
                    action: *action,
                    sweep: Sweep::new(estate, *action, Side::Principal, stands),
                    segments: vec![identities],
                })
            }
            Asked::What { node, actions, .. } => {
                let action = *actions.get(self.at.turn)?;
                let stands = Seen {
                    uid: &node.uid,
                    kind: ResourceKind::Identity.type_name(),
                    lineage: &node.lineage,
                    declared: true,
                    texts: &node.texts,
                };
                Some(Turn {
                    of_table: None,
                    action,
                    sweep: Sweep::new(estate, action, Side::Resource, stands),
                    segments: segments(estate, action),
                })
            }
            Asked::Nothing | Asked::Who { .. } => None,
        }
    }
}

impl Iterator for Accesses<'_> {
    type Item = Result<Access, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Step::Item(item) => return Some(item),
                Step::Nothing => {}
                Step::End => return None,
            }
        }
    }
}

/// Who can do this to what stands.
fn who_can<'a>(estate: &'a Estate, action: Action, stands: &ResourceRef) -> Option<Sweep<'a>> {
    let (uid, side, _) = estate.target(action, stands).ok()?;
    let met = side.met();
    let seen = Seen {
        uid: &uid,
        kind: stands.kind.type_name(),
        lineage: met.lineage,
        declared: met.stranger.is_none(),
        texts: met.texts,
    };
    Some(Sweep::new(estate, action, Side::Principal, seen))
}

/// Everything that the action could be done to, in order of kind and path.
fn segments(estate: &Estate, action: Action) -> Vec<Segment<'_>> {
    let kinds = estate.vocabulary.kinds_of(action);
    let mut others: BTreeMap<ResourceKind, ResourceRef> = elsewhere()
        .into_iter()
        .filter(|other| !unlisted_in(kinds, other).is_empty())
        .map(|other| (other.kind, other))
        .collect();
    let mut all: Vec<ResourceKind> = estate.graph.kinds().chain(others.keys().copied()).collect();
    all.sort();
    all.dedup();
    let mut segments = Vec::new();
    for kind in all.into_iter().filter(|kind| kind.is_classified()) {
        let container = !unlisted_in(kinds, &ResourceRef::new(kind, "-")).is_empty();
        if !container && !kinds.contains(&kind) {
            continue;
        }
        let nodes = estate.graph.of_kind(kind);
        let path = |id: &NodeId| estate.graph.node(*id).map(Node::path);
        let place = |other: ResourceRef| {
            let place = nodes.partition_point(|id| path(id) < Some(other.path.as_str()));
            (place, other)
        };
        segments.push(Segment {
            kind,
            nodes,
            elsewhere: others.remove(&kind).map(place),
        });
    }
    segments
}

impl Turn<'_> {
    fn evaluations(&self) -> usize {
        let of_table = self.of_table.as_ref();
        self.sweep.evaluations + of_table.map_or(0, |sweep| sweep.evaluations)
    }

    /// What comes of the candidate of this number, or of the next that anything could come of; `None` at the end.
    fn look(
        &mut self,
        number: &mut usize,
        asked: &Asked<'_>,
        estate: &Estate,
        prepared: &Prepared,
    ) -> Option<Vec<Result<Access, String>>> {
        let mut first = 0;
        for segment in &self.segments {
            let end = first + segment.length();
            while *number < end {
                let within = *number - first;
                let other = segment.elsewhere.as_ref();
                if let Some((_, shown)) = other.filter(|(place, _)| *place == within) {
                    if self.sweep.reaches_elsewhere() {
                        let mut found = Found::new(asked, self.action, shown.clone());
                        let sweeps = (&mut self.sweep, &mut self.of_table);
                        found.unlisted(sweeps, &[], estate, prepared);
                        return Some(found.done());
                    }
                    *number += 1;
                    continue;
                }
                // What is elsewhere stands among the nodes and is none.
                let after = other.is_some_and(|(place, _)| within > *place);
                let from = within - usize::from(after);
                let next = self.sweep.next_of(segment.nodes, from);
                if let Some((place, _)) = other.filter(|(place, _)| !after && next >= *place) {
                    *number = first + place;
                    continue;
                }
                let Some(id) = segment.nodes.get(next) else {
                    *number = end;
                    break;
                };
                *number = first + next + usize::from(after);
                let node = estate.graph.node(*id)?;
                let about = (asked, self.action, segment.kind);
                let sweeps = (&mut self.sweep, &mut self.of_table);
                return Some(found_at(sweeps, about, node, estate, prepared));
            }
            first = end;
        }
        None
    }
}

/// What is asked of resources, and of a column's table where one column was asked about.
type Sweeps<'s, 'a> = (&'s mut Sweep<'a>, &'s mut Option<Sweep<'a>>);

fn found_at(
    (sweep, of_table): Sweeps<'_, '_>,
    (asked, action, kind): (&Asked<'_>, Action, ResourceKind),
    node: &Node,
    estate: &Estate,
    prepared: &Prepared,
) -> Vec<Result<Access, String>> {
    let mut found = Found::new(asked, action, ResourceRef::new(kind, node.path()));
    let applies = match asked {
        Asked::Who { .. } => true,
        _ => estate.vocabulary.kinds_of(action).contains(&kind),
    };
    if applies {
        let candidate = Candidate {
            kind,
            uid: &node.uid,
            lineage: &node.lineage,
            declared: true,
            texts: &node.texts,
        };
        let varied = found.shown.clone();
        let sweeps = (&mut *sweep, &mut *of_table);
        found.one(sweeps, &candidate, varied, estate, prepared);
    }
    if matches!(asked, Asked::What { .. }) {
        found.unlisted((sweep, of_table), &node.lineage, estate, prepared);
    }
    found.done()
}

/// What comes of one candidate.
struct Found<'a> {
    asked: &'a Asked<'a>,
    action: Action,
    /// The candidate; of what no file lists, what stands for it.
    shown: ResourceRef,
    accesses: Vec<Access>,
    errors: Vec<String>,
}

impl<'a> Found<'a> {
    const fn new(asked: &'a Asked<'a>, action: Action, shown: ResourceRef) -> Self {
        Self {
            asked,
            action,
            shown,
            accesses: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// What no file lists in what is shown, whose lineage this is.
    fn unlisted(
        &mut self,
        (sweep, of_table): Sweeps<'_, '_>,
        lineage: &[NodeId],
        estate: &Estate,
        prepared: &Prepared,
    ) {
        let kinds = estate.vocabulary.kinds_of(self.action);
        for unlisted in unlisted_in(kinds, &self.shown) {
            let info = estate.model.undeclared(&unlisted);
            let texts = shown(&info, None, &estate.vocabulary).texts();
            let uid = resource_uid(&unlisted);
            let candidate = Candidate {
                kind: unlisted.kind,
                uid: &uid,
                lineage,
                declared: false,
                texts: &texts,
            };
            let sweeps = (&mut *sweep, &mut *of_table);
            self.one(sweeps, &candidate, unlisted.clone(), estate, prepared);
        }
    }

    fn one(
        &mut self,
        (sweep, of_table): Sweeps<'_, '_>,
        candidate: &Candidate<'_>,
        varied: ResourceRef,
        estate: &Estate,
        prepared: &Prepared,
    ) {
        let asked = self.asked;
        let (principal, on) = match asked {
            Asked::Who { resource, .. } => (candidate.uid.id().unescaped(), resource),
            Asked::What { principal, .. } => (principal.as_str(), &self.shown),
            Asked::Nothing => return,
        };
        let outcome = match asked {
            Asked::Who { resource, .. } => {
                let resource = || resource.clone();
                sweep.partial(candidate, principal, resource, prepared)
            }
            _ => sweep.partial(candidate, principal, || varied, prepared),
        };
        let possible = |on: &ResourceRef, outcome: Result<Option<Arc<Partial>>, String>| {
            let outcome = outcome.as_ref().map(Option::as_deref);
            estate.possible(principal, self.action, on, outcome)
        };
        let own = possible(on, outcome);
        let found = match (own, estate.table_asked(self.action, on)) {
            (Ok(Some(own)), Some(table)) => {
                let outcome = match asked {
                    Asked::Who { .. } => match of_table {
                        Some(sweep) => {
                            sweep.partial(candidate, principal, || table.clone(), prepared)
                        }
                        None => Err(format!("`{}` does not apply to {table}", self.action)),
                    },
                    // A column that is declared lies in a table that is.
                    _ => match estate.graph.resource(&table) {
                        Some(node) => {
                            let candidate = Candidate {
                                kind: table.kind,
                                uid: &node.uid,
                                lineage: &node.lineage,
                                declared: true,
                                texts: &node.texts,
                            };
                            sweep.partial(&candidate, principal, || table.clone(), prepared)
                        }
                        None => Err(format!("{table} is not declared")),
                    },
                };
                let of_table = possible(&table, outcome);
                of_table.map(|of_table| of_table.map(|of_table| own.and(of_table)))
            }
            (own, _) => own,
        };
        match found {
            Ok(access) => self.accesses.extend(access),
            Err(errors) => self.errors.extend(errors),
        }
    }

    fn done(mut self) -> Vec<Result<Access, String>> {
        self.accesses.sort();
        // `define` applies to a schema and to each kind of thing in it.
        self.accesses.dedup();
        let errors = self.errors.into_iter().map(Err);
        self.accesses.into_iter().map(Ok).chain(errors).collect()
    }
}
