//! Statements that are not queries: an allow-list. Everything else is refused.

use super::access::{Definition, Effect, NamedEffect, Resolved};
use super::resolve::{Walker, unsupported};
use super::settings;
use estate::Action;
use facts::Finding;
use pg_query::NodeEnum as N;
use pg_query::protobuf::{
    ConstrType, CopyStmt, CreateStmt, CreateTableAsStmt, DefElem, DiscardMode, DropBehavior,
    DropStmt, ExplainStmt, IndexStmt, LockStmt, Node, ObjectType, RangeVar, TransactionStmt,
    TransactionStmtKind, TruncateStmt, VariableSetKind, VariableSetStmt, ViewStmt, a_const,
};
use std::sync::Arc;

const EXPLAIN_OPTIONS: &[&str] = &[
    "analyze",
    "verbose",
    "costs",
    "settings",
    "generic_plan",
    "buffers",
    "wal",
    "timing",
    "summary",
    "format",
    "memory",
    "serialize",
];

/// `CURSOR_OPT_HOLD` of `nodes/parsenodes.h`: `WITH HOLD`.
const CURSOR_HOLD: i32 = 0x20;

impl Walker<'_> {
    pub(super) fn statement(&mut self, node: &N) -> Result<(), Finding> {
        match node {
            N::SelectStmt(select) => self.verb("SELECT", Effect::ReadOnly, |w| w.select(select)),
            N::InsertStmt(_) => self.query_as("INSERT", node),
            N::UpdateStmt(_) => self.query_as("UPDATE", node),
            N::DeleteStmt(_) => self.query_as("DELETE", node),
            N::MergeStmt(_) => self.query_as("MERGE", node),
            N::CopyStmt(copy) => self.copy(copy),
            N::TruncateStmt(truncate) => self.truncate(truncate),
            N::LockStmt(lock) => self.lock(lock),
            N::ExplainStmt(explain) => self.explain(explain),
            N::VariableSetStmt(set) => self.set(set),
            N::VariableShowStmt(show) => {
                self.out = Resolved::new("SHOW", Effect::ReadOnly);
                if settings::is_showable(&show.name) {
                    return Ok(());
                }
                Err(setting("SHOW", &show.name))
            }
            N::TransactionStmt(transaction) => self.transaction(transaction),
            N::PrepareStmt(prepare) => {
                let inner = self.inner(prepare.query.as_deref())?;
                self.out = Resolved::new("PREPARE", Effect::Session);
                self.out.absorb(&inner);
                let name = prepare.name.clone();
                self.out.named = Some(NamedEffect::Prepare {
                    name,
                    inner: Arc::new(inner),
                });
                prepare
                    .argtypes
                    .iter()
                    .try_for_each(|argument| match argument.node.as_ref() {
                        Some(N::TypeName(name)) => self.type_name(Some(name)),
                        _ => Err(unsupported("this argument type")),
                    })
            }
            N::ExecuteStmt(execute) => {
                // What it runs has an effect of its own.
                self.out = Resolved::new("EXECUTE", Effect::ReadOnly);
                let name = execute.name.clone();
                self.out.named = Some(NamedEffect::Execute { name });
                self.expressions(&execute.params)
            }
            N::DeallocateStmt(deallocate) => {
                let name = (!deallocate.isall).then(|| deallocate.name.clone());
                self.session("DEALLOCATE", Some(NamedEffect::Deallocate { name }))
            }
            N::DeclareCursorStmt(declare) => {
                let inner = self.inner(declare.query.as_deref())?;
                self.out = Resolved::new("DECLARE CURSOR", inner.effect);
                self.out.absorb(&inner);
                let name = declare.portalname.clone();
                self.out.named = Some(NamedEffect::Declare {
                    name,
                    inner: Arc::new(inner),
                    holds: declare.options & CURSOR_HOLD != 0,
                });
                Ok(())
            }
            N::FetchStmt(fetch) => {
                self.out = Resolved::new(
                    if fetch.ismove { "MOVE" } else { "FETCH" },
                    Effect::ReadOnly,
                );
                let name = fetch.portalname.clone();
                self.out.named = Some(NamedEffect::Fetch { name });
                Ok(())
            }
            N::ClosePortalStmt(close) => {
                let name = Some(close.portalname.clone()).filter(|name| !name.is_empty());
                self.session("CLOSE CURSOR", Some(NamedEffect::Close { name }))
            }
            N::DiscardStmt(discard) => {
                let all = discard.target == DiscardMode::DiscardAll as i32;
                self.session("DISCARD", all.then_some(NamedEffect::DiscardAll))
            }
            N::UnlistenStmt(_) => self.session("UNLISTEN", None),
            N::ConstraintsSetStmt(constraints) => {
                self.met.relations += constraints.constraints.len();
                self.session("SET CONSTRAINTS", None)
            }
            N::CallStmt(call) => {
                let function = call
                    .funccall
                    .as_deref()
                    .ok_or_else(|| unsupported("CALL"))?;
                self.verb("CALL", Effect::Write, |w| w.call(function))
            }
            N::CreateTableAsStmt(create) => self.create_table_as(create),
            N::CreateStmt(create) => self.create_table(create),
            N::IndexStmt(index) => self.create_index(index),
            N::ViewStmt(view) => self.create_view(view),
            N::DropStmt(drop) => self.drop_relations(drop),
            other => Err(unsupported(name_of(other))),
        }
    }

    fn verb(
        &mut self,
        verb: &'static str,
        effect: Effect,
        body: impl FnOnce(&mut Self) -> Result<(), Finding>,
    ) -> Result<(), Finding> {
        self.out = Resolved::new(verb, effect);
        body(self)
    }

    fn query_as(&mut self, verb: &'static str, node: &N) -> Result<(), Finding> {
        let node = Node {
            node: Some(node.clone()),
        };
        self.verb(verb, Effect::Write, |walker| walker.query(&node))
    }

    fn session(&mut self, verb: &'static str, named: Option<NamedEffect>) -> Result<(), Finding> {
        self.out = Resolved::new(verb, Effect::Session);
        self.out.named = named;
        Ok(())
    }

    /// The query inside PREPARE or DECLARE, resolved as a statement of its own.
    fn inner(&mut self, query: Option<&Node>) -> Result<Resolved, Finding> {
        let query = query.ok_or_else(|| unsupported("a statement without a query"))?;
        let outer = std::mem::replace(&mut self.out, Resolved::new("", Effect::ReadOnly));
        let touched = std::mem::take(&mut self.touched);
        let noted = std::mem::take(&mut self.noted);
        match query.node.as_ref() {
            Some(
                node @ (N::SelectStmt(_)
                | N::InsertStmt(_)
                | N::UpdateStmt(_)
                | N::DeleteStmt(_)
                | N::MergeStmt(_)),
            ) => self.statement(node)?,
            _ => return Err(unsupported("this inner statement")),
        }
        self.settle_columns()?;
        self.touched = touched;
        self.noted = noted;
        Ok(std::mem::replace(&mut self.out, outer))
    }

    fn copy(&mut self, copy: &CopyStmt) -> Result<(), Finding> {
        if copy.is_program || !copy.filename.is_empty() {
            return Err(Finding::new(
                "SQL-COPY-SERVER",
                "COPY with a file or program of the database server",
            )
            .next("use COPY … FROM STDIN or TO STDOUT; psql's \\copy does"));
        }
        for option in elements(&copy.options)? {
            if option.defname == "encoding" && !text(option).is_some_and(settings::is_utf8) {
                return Err(
                    Finding::new("SQL-ENCODING", "COPY in another encoding").expected("UTF8")
                );
            }
        }
        match (&copy.relation, copy.is_from) {
            (Some(target), true) => self.verb("COPY FROM", Effect::Write, |walker| {
                walker.write(target, Action::Insert)?;
                if copy.attlist.is_empty() {
                    walker.mark_all(target, Action::Insert);
                }
                walker.mark_targets(target, &copy.attlist, Action::Insert);
                walker.optional(copy.where_clause.as_deref())
            }),
            (Some(source), false) => self.verb("COPY TO", Effect::ReadOnly, |walker| {
                let level = walker.enter_query();
                if copy.attlist.is_empty() {
                    walker.note_all_columns();
                    walker.mark_all(source, Action::Select);
                }
                walker.mark_targets(source, &copy.attlist, Action::Select);
                walker.note_names(&copy.attlist);
                walker.read(source)?;
                walker.leave_query(level);
                Ok(())
            }),
            (None, _) => {
                let query = copy.query.as_deref().ok_or_else(|| unsupported("COPY"))?;
                self.verb("COPY TO", Effect::ReadOnly, |walker| walker.query(query))
            }
        }
    }

    fn truncate(&mut self, truncate: &TruncateStmt) -> Result<(), Finding> {
        self.out = Resolved::new("TRUNCATE TABLE", Effect::Write);
        refuse_cascade(truncate.behavior, "TRUNCATE")?;
        ranges(&truncate.relations)?
            .into_iter()
            .try_for_each(|range| self.write(range, Action::Truncate))
    }

    fn lock(&mut self, lock: &LockStmt) -> Result<(), Finding> {
        self.out = Resolved::new("LOCK TABLE", Effect::Session);
        let access_share = pg_query::LockMode::AccessShareLock as i32;
        let action = if lock.mode == access_share {
            Action::Select
        } else {
            Action::Update
        };
        for range in ranges(&lock.relations)? {
            self.met.relations += 1;
            self.touch_range(range, action)?;
        }
        Ok(())
    }

    fn explain(&mut self, explain: &ExplainStmt) -> Result<(), Finding> {
        let options = elements(&explain.options)?;
        for option in &options {
            if !EXPLAIN_OPTIONS.contains(&option.defname.as_str()) {
                return Err(unsupported(format!("EXPLAIN ({})", option.defname)));
            }
        }
        // Plans show statistics and constants of what they read, so they need the same rights; and
        // ANALYZE runs the statement.
        let inner = self.inner(explain.query.as_deref())?;
        self.out = Resolved::new("EXPLAIN", inner.effect);
        self.out.absorb(&inner);
        Ok(())
    }

    fn set(&mut self, set: &VariableSetStmt) -> Result<(), Finding> {
        self.session("SET", None)?;
        let value = set.args.first().and_then(constant);
        match VariableSetKind::try_from(set.kind) {
            Ok(VariableSetKind::VarResetAll) => Ok(()),
            Ok(VariableSetKind::VarSetMulti)
                if matches!(set.name.as_str(), "TRANSACTION" | "SESSION CHARACTERISTICS") =>
            {
                Ok(())
            }
            Ok(VariableSetKind::VarReset | VariableSetKind::VarSetDefault)
                if settings::is_showable(&set.name) && set.name != "session_authorization" =>
            {
                Ok(())
            }
            Ok(
                VariableSetKind::VarSetValue
                | VariableSetKind::VarSetDefault
                | VariableSetKind::VarSetCurrent
                | VariableSetKind::VarReset,
            ) if settings::is_settable(&set.name) && settings::lasts(&set.name, set_to(set)) => {
                Ok(())
            }
            Ok(VariableSetKind::VarSetValue)
                if set.name == "client_encoding" && value.is_some_and(settings::is_utf8) =>
            {
                Ok(())
            }
            Ok(VariableSetKind::VarSetValue)
                if set.name == "standard_conforming_strings"
                    && matches!(value, Some("on" | "true" | "1")) =>
            {
                Ok(())
            }
            _ => Err(setting("SET", &set.name)),
        }
    }

    fn transaction(&mut self, transaction: &TransactionStmt) -> Result<(), Finding> {
        use TransactionStmtKind as Kind;
        let (verb, effect) = match Kind::try_from(transaction.kind) {
            Ok(Kind::TransStmtBegin | Kind::TransStmtStart) => ("BEGIN", Effect::Session),
            Ok(Kind::TransStmtCommit) => ("COMMIT", Effect::Commit),
            Ok(Kind::TransStmtRollback) => ("ROLLBACK", Effect::Commit),
            Ok(Kind::TransStmtSavepoint) => ("SAVEPOINT", Effect::Session),
            Ok(Kind::TransStmtRelease) => ("RELEASE", Effect::Session),
            Ok(Kind::TransStmtRollbackTo) => ("ROLLBACK TO", Effect::Commit),
            _ => return Err(unsupported("a two-phase transaction")),
        };
        self.out = Resolved::new(verb, effect);
        Ok(())
    }

    fn create_table_as(&mut self, create: &CreateTableAsStmt) -> Result<(), Finding> {
        let into = create.into.as_ref().and_then(|into| into.rel.as_ref());
        let target = into.ok_or_else(|| unsupported("CREATE TABLE AS"))?;
        let query = create
            .query
            .as_deref()
            .ok_or_else(|| unsupported("CREATE TABLE AS"))?;
        let table = create.objtype == ObjectType::ObjectTable as i32;
        self.verb("CREATE TABLE AS", Effect::Write, |walker| {
            walker.create(target, table, false)?;
            walker.query(query)
        })
    }

    fn create_table(&mut self, create: &CreateStmt) -> Result<(), Finding> {
        let plain = create.inh_relations.is_empty()
            && create.partbound.is_none()
            && create.partspec.is_none()
            && create.of_typename.is_none();
        if !plain {
            return Err(unsupported("CREATE TABLE with INHERITS, PARTITION or OF"));
        }
        let target = create
            .relation
            .as_ref()
            .ok_or_else(|| unsupported("CREATE TABLE"))?;
        self.verb("CREATE TABLE", Effect::Write, |walker| {
            walker.create(target, true, false)?;
            walker.table_elements(&create.table_elts)?;
            walker.table_elements(&create.constraints)
        })
    }

    fn table_elements(&mut self, nodes: &[Node]) -> Result<(), Finding> {
        for element in nodes {
            match element.node.as_ref() {
                Some(N::ColumnDef(column)) => {
                    self.type_name(column.type_name.as_ref())?;
                    self.optional(column.raw_default.as_deref())?;
                    self.table_elements(&column.constraints)?;
                }
                Some(N::Constraint(constraint)) => {
                    if constraint.contype == ConstrType::ConstrForeign as i32
                        || constraint.pktable.is_some()
                        || !constraint.exclusions.is_empty()
                    {
                        return Err(unsupported("a constraint that names other tables"));
                    }
                    self.optional(constraint.raw_expr.as_deref())?;
                    self.optional(constraint.where_clause.as_deref())?;
                    // Options of an identity column's sequence: numbers, and its name.
                    for option in elements(&constraint.options)? {
                        self.sequence_name(option)?;
                    }
                }
                _ => return Err(unsupported("this part of CREATE TABLE")),
            }
        }
        Ok(())
    }

    /// `SEQUENCE NAME …`: a relation of any name comes into being.
    fn sequence_name(&mut self, option: &DefElem) -> Result<(), Finding> {
        if option.defname != "sequence_name" {
            return Ok(());
        }
        let Some(N::List(list)) = option.arg.as_deref().and_then(|arg| arg.node.as_ref()) else {
            return Err(unsupported("this name of a sequence"));
        };
        if let Some(name) = super::expression::names(&list.items)?.last() {
            self.out.definitions.insert(Definition {
                schema: String::new(),
                name: (*name).to_owned(),
                table: false,
                replaces: false,
            });
        }
        Ok(())
    }

    fn create_index(&mut self, index: &IndexStmt) -> Result<(), Finding> {
        let table = index
            .relation
            .as_ref()
            .ok_or_else(|| unsupported("CREATE INDEX"))?;
        self.verb("CREATE INDEX", Effect::Write, |walker| {
            walker.define(table)?;
            walker.out.definitions.insert(Definition {
                schema: table.schemaname.clone(),
                name: index.idxname.clone(),
                table: false,
                replaces: false,
            });
            walker.expressions(&index.index_params)?;
            walker.expressions(&index.index_including_params)?;
            walker.optional(index.where_clause.as_deref())
        })
    }

    fn create_view(&mut self, view: &ViewStmt) -> Result<(), Finding> {
        let target = view
            .view
            .as_ref()
            .ok_or_else(|| unsupported("CREATE VIEW"))?;
        let query = view
            .query
            .as_deref()
            .ok_or_else(|| unsupported("CREATE VIEW"))?;
        self.verb("CREATE VIEW", Effect::Write, |walker| {
            walker.create(target, false, view.replace)?;
            walker.query(query)
        })
    }

    fn drop_relations(&mut self, drop: &DropStmt) -> Result<(), Finding> {
        self.out = Resolved::new("DROP", Effect::Write);
        refuse_cascade(drop.behavior, "DROP")?;
        match ObjectType::try_from(drop.remove_type) {
            Ok(ObjectType::ObjectTable | ObjectType::ObjectView | ObjectType::ObjectMatview) => {}
            _ => return Err(unsupported("DROP of anything but tables and views")),
        }
        self.out.defines = true;
        for object in &drop.objects {
            let Some(N::List(list)) = object.node.as_ref() else {
                return Err(unsupported("this DROP"));
            };
            let (schema, name) = match super::expression::names(&list.items)?.as_slice() {
                [name] => (None, *name),
                [schema, name] => (Some(*schema), *name),
                _ => return Err(unsupported("this DROP")),
            };
            self.drop_name(schema, name)?;
        }
        Ok(())
    }
}

fn refuse_cascade(behavior: i32, statement: &str) -> Result<(), Finding> {
    if behavior == DropBehavior::DropCascade as i32 {
        return Err(unsupported(format!("{statement} … CASCADE")));
    }
    Ok(())
}

fn setting(verb: &str, name: &str) -> Finding {
    let finding = Finding::new(
        "SQL-SETTING",
        format!("{verb} {name} is not among the parameters that sessions may use"),
    );
    match name {
        "search_path" => finding.next("give search_path when connecting, or qualify the names"),
        name if name.starts_with("trilith.") => finding.next(
            "for whom a session acts is said when it begins: options='-c trilith.on_behalf_of=people/ada'",
        ),
        "role" | "session_authorization" => finding.next("the session's role is its identity"),
        "synchronous_commit" => {
            finding.next("on and remote_apply: what is recorded as done has to last")
        }
        _ => finding,
    }
}

fn ranges(nodes: &[Node]) -> Result<Vec<&RangeVar>, Finding> {
    nodes
        .iter()
        .map(|node| match node.node.as_ref() {
            Some(N::RangeVar(range)) => Ok(range),
            _ => Err(unsupported("this list of relations")),
        })
        .collect()
}

fn elements(nodes: &[Node]) -> Result<Vec<&DefElem>, Finding> {
    nodes
        .iter()
        .map(|node| match node.node.as_ref() {
            Some(N::DefElem(element)) => Ok(element.as_ref()),
            _ => Err(unsupported("this option")),
        })
        .collect()
}

fn text(option: &DefElem) -> Option<&str> {
    match option.arg.as_deref()?.node.as_ref()? {
        N::String(string) => Some(&string.sval),
        _ => None,
    }
}

fn constant(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        N::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(string) => Some(&string.sval),
            _ => None,
        },
        _ => None,
    }
}

/// The one value that a parameter is set to, if it is a word; nothing where it goes back to its default.
fn set_to(set: &VariableSetStmt) -> Option<&str> {
    match VariableSetKind::try_from(set.kind) {
        Ok(VariableSetKind::VarSetValue) => {
            Some(set.args.first().and_then(constant).unwrap_or_default())
        }
        _ => None,
    }
}

/// `DoStmt` as people write it: `DO`.
fn name_of(node: &N) -> String {
    let debug = format!("{node:?}");
    let name = debug.split(['(', ' ']).next().unwrap_or_default();
    let name = name.strip_suffix("Stmt").unwrap_or(name);
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_uppercase());
    }
    words
}
