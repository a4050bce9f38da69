//! The entry: text in, one [`Resolved`] a statement out, or the reason why not.

use super::access::{Access, Resolved};
use super::catalog::{Catalog, Relation};
use super::census::Census;
use estate::{Action, ResourceRef};
use facts::Finding;
use pg_query::NodeEnum;
use std::collections::BTreeSet;

/// Longest statement text that is parsed.
pub(crate) const MAX_TEXT: usize = 1024 * 1024;
/// Views within views, and queries within queries.
const MAX_DEPTH: usize = 64;

/// Which resources the estate declares: a partition is governed by its parent unless declared.
pub trait Declared {
    fn is_declared(&self, resource: &ResourceRef) -> bool;
}

impl Declared for estate::Estate {
    fn is_declared(&self, resource: &ResourceRef) -> bool {
        self.object(resource).declared
    }
}

/// What names are resolved against.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    pub catalog: &'a Catalog,
    /// Of the session, fixed at its start.
    pub search_path: &'a [String],
    pub declared: &'a dyn Declared,
}

/// Why a text is not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// PostgreSQL's grammar does not accept it: SQLSTATE 42601.
    Syntax(String),
    /// It could do what nobody could decide on: SQLSTATE 42501.
    Denied(Finding),
}

impl From<Finding> for Refusal {
    fn from(finding: Finding) -> Self {
        Self::Denied(finding)
    }
}

/// Resolves every statement in `text`, in order. Empty for an empty query.
///
/// # Errors
/// [`Refusal`] for the first statement that cannot be resolved.
pub fn resolve(text: &str, environment: Environment<'_>) -> Result<Vec<Resolved>, Refusal> {
    if text.len() > MAX_TEXT {
        return Err(
            Finding::new("SQL-TOO-LONG", "the statement is too long to decide on")
                .expected(format!("at most {MAX_TEXT} bytes"))
                .observed(format!("{} bytes", text.len()))
                .next("bring data by parameters or COPY")
                .into(),
        );
    }
    let tree = pg_query::parse(text, 0).map_err(|error| match error {
        pg_query::Error::Parse(message) => Refusal::Syntax(message),
        other => Finding::new(
            "SQL-TOO-DEEP",
            "the statement nests too deeply to decide on",
        )
        .observed(other.to_string())
        .next("split it, or use fewer nested expressions")
        .into(),
    })?;
    let mut resolved = Vec::with_capacity(tree.protobuf.stmts.len());
    for raw in &tree.protobuf.stmts {
        let Some(node) = raw.stmt.as_ref().and_then(|stmt| stmt.node.as_ref()) else {
            return Err(unsupported("an empty statement node").into());
        };
        resolved.push(one(node, environment, 0)?);
    }
    Ok(resolved)
}

/// One statement, checked by census.
fn one(node: &NodeEnum, environment: Environment<'_>, depth: usize) -> Result<Resolved, Finding> {
    let mut walker = Walker::new(environment, depth);
    walker.statement(node)?;
    if Census::of(node) != Some(walker.met) {
        return Err(Finding::new(
            "SQL-UNRESOLVED",
            "the statement holds parts that the resolver does not know",
        )
        .expected(format!("{:?}", Census::of(node)))
        .observed(format!("{:?}", walker.met))
        .next("report the statement's shape; until then it is refused"));
    }
    Ok(walker.out)
}

/// What touching `relation` touches: base tables of views, children, what governs a partition.
///
/// # Errors
/// When a view's definition cannot be resolved, or the relation holds no rows.
pub fn stands_for(
    relation: &Relation,
    action: Action,
    environment: Environment<'_>,
) -> Result<BTreeSet<Access>, Finding> {
    let mut walker = Walker::new(environment, 0);
    // UPDATE is the right to lock rows as well, which changes none.
    walker.cascading = action == Action::Delete;
    let schema = Some(relation.schema.as_str());
    walker.touch_name(schema, &relation.name, action, true)?;
    Ok(walker.out.accesses)
}

/// The definition of a view: names in it are qualified, so the search path is empty.
pub(super) fn definition(
    text: &str,
    environment: Environment<'_>,
    depth: usize,
) -> Result<Resolved, Finding> {
    let unreadable = || Finding::new("SQL-VIEW", "the definition of a view could not be resolved");
    let tree =
        pg_query::parse(text, 0).map_err(|error| unreadable().observed(error.to_string()))?;
    let [raw] = tree.protobuf.stmts.as_slice() else {
        return Err(unreadable());
    };
    let node = raw.stmt.as_ref().and_then(|stmt| stmt.node.as_ref());
    let inside = Environment {
        search_path: &[],
        ..environment
    };
    one(node.ok_or_else(unreadable)?, inside, depth)
}

pub(super) fn unsupported(what: impl std::fmt::Display) -> Finding {
    Finding::new(
        "SQL-STATEMENT",
        format!("{what} is not among the statements that can be decided on"),
    )
    .next("docs/reference/postgresql.md lists the statements that the gateway forwards")
}

/// Walks one statement. Owned by one call of [`one`].
pub(super) struct Walker<'a> {
    pub(super) environment: Environment<'a>,
    pub(super) out: Resolved,
    pub(super) met: Census,
    /// Names of common table expressions in scope, innermost last.
    pub(super) tables_in_scope: Vec<String>,
    /// Inside the `FROM` of a query with `FOR UPDATE` or its kin.
    pub(super) locking: bool,
    /// Rows go or change: foreign keys act.
    pub(super) cascading: bool,
    /// What foreign keys have been followed to.
    pub(super) cascaded: BTreeSet<(u32, Action)>,
    pub(super) depth: usize,
}

impl<'a> Walker<'a> {
    fn new(environment: Environment<'a>, depth: usize) -> Self {
        Self {
            environment,
            out: Resolved::new("", super::access::Effect::ReadOnly),
            met: Census::default(),
            tables_in_scope: Vec::new(),
            locking: false,
            cascading: false,
            cascaded: BTreeSet::new(),
            depth,
        }
    }

    pub(super) fn deeper(&mut self) -> Result<(), Finding> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Finding::new(
                "SQL-TOO-DEEP",
                "the statement nests too deeply to decide on",
            )
            .expected(format!("at most {MAX_DEPTH} levels")));
        }
        Ok(())
    }
}
