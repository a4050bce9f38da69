//! The entry: text in, one [`Resolved`] a statement out, or the reason why not.

use super::access::{Access, Resolved};
use super::catalog::{Catalog, Relation};
use super::census::Census;
use super::columns::Noted;
use super::scope::{Names, Scope};
use super::statistics::Statistics;
use super::views::Views;
use estate::{Action, ResourceRef};
use facts::Finding;
use pg_query::NodeEnum;
use pg_query::protobuf::Token;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Queries within queries, expressions within expressions.
const MAX_DEPTH: usize = 64;
/// Steps that one statement, or one view, may take: nodes of its tree, and relations, functions and
/// accesses that they lead to. A step costs a microsecond or two.
const MAX_STEPS: usize = 250_000;
/// The same where nobody may be kept waiting.
const QUICK_STEPS: usize = 2_000;
/// Bytes of text that is read where nobody may be kept waiting.
const QUICK_TEXT: usize = 4096;

/// What is refused before it is parsed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the text of one message.
    pub bytes: usize,
    /// Tokens in it: words, numbers, strings, operators.
    pub tokens: usize,
    /// Statements in it.
    pub statements: usize,
}

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
    /// Whose rights to use schemas count; without one every schema may be used.
    pub role: Option<&'a str>,
    /// Of this catalogue and what this estate declares, and of no other.
    pub views: &'a Views,
}

/// Why a text is not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// PostgreSQL's grammar does not accept it: SQLSTATE 42601.
    Syntax(String),
    /// It could do what nobody could decide on: SQLSTATE 42501.
    Denied(Finding),
    /// It is too much to be parsed: SQLSTATE 42501.
    Oversized(Finding),
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
pub fn resolve(
    text: &str,
    environment: Environment<'_>,
    limits: Limits,
) -> Result<Vec<Resolved>, Refusal> {
    limits.check(text)?;
    let parsed = parse(text, limits)?;
    let mut resolved = Vec::with_capacity(parsed.len());
    for node in &parsed {
        resolved.push(settled(node, environment)?);
    }
    Ok(resolved)
}

/// As [`resolve`], where nobody may be kept waiting: `None` when it would take long.
#[must_use]
pub fn resolve_quickly(
    text: &str,
    environment: Environment<'_>,
    limits: Limits,
) -> Option<Result<Vec<Resolved>, Refusal>> {
    if text.len() > QUICK_TEXT {
        return None;
    }
    let parsed = match limits.check(text).and_then(|()| parse(text, limits)) {
        Ok(parsed) => parsed,
        Err(refusal) => return Some(Err(refusal)),
    };
    let mut work = Work::quick();
    let mut resolved = Vec::with_capacity(parsed.len());
    for node in &parsed {
        match one(node, environment, &mut work) {
            _ if work.is_spent() => return None,
            Ok(walked) if !walked.missing.is_empty() => return None,
            Ok(walked) => resolved.push(walked.resolved),
            Err(finding) => return Some(Err(finding.into())),
        }
    }
    Some(Ok(resolved))
}

impl Limits {
    /// Scanning costs a tenth of what parsing costs, and a text that is short by its bytes is not scanned.
    fn check(self, text: &str) -> Result<(), Refusal> {
        if text.len() > self.bytes {
            return Err(Refusal::Oversized(
                Finding::new("SQL-TOO-LONG", "the statement is too long to decide on")
                    .expected(format!("at most {} bytes", self.bytes))
                    .observed(format!("{} bytes", text.len()))
                    .next("bring data by parameters or COPY, or raise max_statement_bytes in gateway.toml"),
            ));
        }
        let ends = text.bytes().filter(|byte| *byte == b';').count();
        // A token has a byte at least.
        if text.len() <= self.tokens && ends <= self.statements {
            return Ok(());
        }
        let tokens = pg_query::scan_tokens(text).map_err(|error| match error {
            pg_query::Error::Scan(message) => Refusal::Syntax(message),
            other => Refusal::Syntax(other.to_string()),
        })?;
        let semicolon = Token::Ascii59 as i32;
        self.count(
            tokens
                .iter()
                .filter(|token| token.token == semicolon)
                .count(),
        )?;
        if tokens.len() > self.tokens {
            return Err(Refusal::Oversized(
                Finding::new("SQL-TOO-MUCH", "the statement has too many parts to decide on")
                    .expected(format!("at most {} tokens", self.tokens))
                    .observed(format!("{} tokens", tokens.len()))
                    .next("split it, bring data by parameters or COPY, or raise max_statement_tokens in gateway.toml"),
            ));
        }
        Ok(())
    }

    fn count(self, statements: usize) -> Result<(), Refusal> {
        if statements <= self.statements {
            return Ok(());
        }
        Err(Refusal::Oversized(
            Finding::new("SQL-TOO-MANY", "too many statements in one message")
                .expected(format!("at most {}", self.statements))
                .observed(statements.to_string())
                .next("send fewer at once, or raise max_statements in gateway.toml"),
        ))
    }
}

fn parse(text: &str, limits: Limits) -> Result<Vec<NodeEnum>, Refusal> {
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
    limits.count(tree.protobuf.stmts.len())?;
    let nodes = tree.protobuf.stmts.into_iter().map(|raw| {
        let node = raw.stmt.and_then(|stmt| stmt.node);
        node.ok_or_else(|| unsupported("an empty statement node").into())
    });
    nodes.collect()
}

/// What a walk came to.
pub(super) struct Walked {
    pub(super) resolved: Resolved,
    /// Views that nobody knows yet: `resolved` lacks what they stand for.
    pub(super) missing: HashSet<u32>,
}

/// One statement, with all views that it needs.
fn settled(node: &NodeEnum, environment: Environment<'_>) -> Result<Resolved, Finding> {
    loop {
        let walked = one(node, environment, &mut Work::full())?;
        if walked.missing.is_empty() {
            return Ok(walked.resolved);
        }
        for view in walked.missing {
            environment.views.work_out(view, environment);
        }
    }
}

/// One statement, checked by census.
fn one(node: &NodeEnum, environment: Environment<'_>, work: &mut Work) -> Result<Walked, Finding> {
    let mut walker = Walker::new(environment, *work);
    let walked = walker.statement(node);
    *work = walker.work;
    if work.is_spent() {
        return Err(too_much());
    }
    walked?;
    walker.settle_columns()?;
    *work = walker.work;
    if work.is_spent() {
        return Err(too_much());
    }
    walker.statistics.check()?;
    if Census::of(node) != Some(walker.met) {
        return Err(Finding::new(
            "SQL-UNRESOLVED",
            "the statement holds parts that the resolver does not know",
        )
        .expected(format!("{:?}", Census::of(node)))
        .observed(format!("{:?}", walker.met))
        .next("report the statement's shape; until then it is refused"));
    }
    Ok(Walked {
        resolved: walker.out,
        missing: walker.missing,
    })
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
    loop {
        let mut walker = Walker::new(environment, Work::full());
        // UPDATE is the right to lock rows as well, which changes none.
        walker.cascading = action == Action::Delete;
        let schema = Some(relation.schema.as_str());
        walker.touch_name(schema, &relation.name, action, true)?;
        if walker.work.is_spent() {
            return Err(too_much());
        }
        if walker.missing.is_empty() {
            return Ok(walker.out.accesses);
        }
        for view in walker.missing {
            environment.views.work_out(view, environment);
        }
    }
}

/// The definition of a view: names in it are qualified, so the search path is empty.
pub(super) fn definition(
    view: u32,
    environment: Environment<'_>,
    work: &mut Work,
) -> Result<Walked, Finding> {
    let unreadable = || Finding::new("SQL-VIEW", "the definition of a view could not be resolved");
    let view = environment.catalog.relation(view);
    let text = view.and_then(|view| view.definition.as_deref());
    let tree = pg_query::parse(text.unwrap_or_default(), 0)
        .map_err(|error| unreadable().observed(error.to_string()))?;
    let [raw] = tree.protobuf.stmts.as_slice() else {
        return Err(unreadable());
    };
    let node = raw.stmt.as_ref().and_then(|stmt| stmt.node.as_ref());
    let inside = Environment {
        search_path: &[],
        ..environment
    };
    one(node.ok_or_else(unreadable)?, inside, work)
}

fn too_much() -> Finding {
    Finding::new(
        "SQL-TOO-MUCH-WORK",
        "what the statement leads to is too much to decide on",
    )
    .expected(format!("at most {MAX_STEPS} parts, relations and accesses"))
    .next("split it, or name fewer views, partitions and functions at once")
}

pub(super) fn unsupported(what: impl std::fmt::Display) -> Finding {
    Finding::new(
        "SQL-STATEMENT",
        format!("{what} is not among the statements that can be decided on"),
    )
    .next("docs/reference/postgresql.md lists the statements that the gateway forwards")
}

/// Steps that are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    left: usize,
    given: usize,
}

impl Work {
    pub(super) const fn full() -> Self {
        Self {
            left: MAX_STEPS,
            given: MAX_STEPS,
        }
    }

    const fn quick() -> Self {
        Self {
            left: QUICK_STEPS,
            given: QUICK_STEPS,
        }
    }

    pub(super) const fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
    }

    pub(super) const fn is_spent(self) -> bool {
        self.left == 0
    }

    pub(super) const fn spent(self) -> usize {
        self.given - self.left
    }
}

/// Walks one statement. Owned by one call of [`one`].
pub(super) struct Walker<'a> {
    pub(super) environment: Environment<'a>,
    pub(super) out: Resolved,
    pub(super) met: Census,
    /// Names of common table expressions in scope, innermost last.
    pub(super) tables_in_scope: Vec<String>,
    /// What is known of the columns of each.
    pub(super) names_in_scope: Vec<Arc<Names>>,
    /// Inside the `FROM` of a query with `FOR UPDATE` or its kin.
    pub(super) locking: bool,
    /// Rows go or change: foreign keys act.
    pub(super) cascading: bool,
    /// What foreign keys have been followed to.
    pub(super) cascaded: BTreeSet<(u32, Action)>,
    /// What has been touched, and how: a second time adds nothing.
    pub(super) touched: HashSet<Touch>,
    /// Views that are not known yet.
    pub(super) missing: HashSet<u32>,
    pub(super) statistics: Statistics,
    /// What stands in the FROM of each query around here, innermost last.
    pub(super) scopes: Vec<Scope<'a>>,
    /// Columns that have been named.
    pub(super) noted: Noted,
    pub(super) depth: usize,
    pub(super) work: Work,
}

/// A relation, what is done to it, whether to its children too, and whether foreign keys act.
pub(super) type Touch = (u32, Action, bool, bool);

impl<'a> Walker<'a> {
    fn new(environment: Environment<'a>, work: Work) -> Self {
        Self {
            environment,
            out: Resolved::new("", super::access::Effect::ReadOnly),
            met: Census::default(),
            tables_in_scope: Vec::new(),
            names_in_scope: Vec::new(),
            locking: false,
            cascading: false,
            cascaded: BTreeSet::new(),
            touched: HashSet::new(),
            missing: HashSet::new(),
            statistics: Statistics::default(),
            scopes: Vec::new(),
            noted: Noted::default(),
            depth: 0,
            work,
        }
    }

    pub(super) fn deeper(&mut self) -> Result<(), Finding> {
        self.work.spend(1);
        if self.work.is_spent() {
            return Err(too_much());
        }
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
