//! SELECT, INSERT, UPDATE, DELETE, MERGE and everything that stands in a FROM.

use super::resolve::{Walker, unsupported};
use estate::Action;
use facts::Finding;
use pg_query::NodeEnum as N;
use pg_query::protobuf::{
    CmdType, DeleteStmt, InferClause, InsertStmt, MergeStmt, Node, OnConflictAction,
    OnConflictClause, RangeVar, ReturningClause, SelectStmt, UpdateStmt, WithClause,
};

impl Walker<'_> {
    /// A statement that may stand in a CTE, a subquery, EXPLAIN or PREPARE.
    pub(super) fn query(&mut self, node: &Node) -> Result<(), Finding> {
        match node.node.as_ref() {
            Some(N::SelectStmt(select)) => self.select(select),
            Some(N::InsertStmt(insert)) => self.insert(insert),
            Some(N::UpdateStmt(update)) => self.update(update),
            Some(N::DeleteStmt(delete)) => self.delete(delete),
            Some(N::MergeStmt(merge)) => self.merge(merge),
            _ => Err(unsupported("this kind of query")),
        }
    }

    /// Runs `body` with the names of `with` in scope.
    /// In `WITH`, each query sees those before it; in `WITH RECURSIVE`, all see all.
    fn scoped(
        &mut self,
        with: Option<&WithClause>,
        body: impl FnOnce(&mut Self) -> Result<(), Finding>,
    ) -> Result<(), Finding> {
        self.deeper()?;
        let level = self.enter_query();
        let outer = self.tables_in_scope.len();
        if let Some(with) = with {
            self.with(with)?;
        }
        body(self)?;
        self.tables_in_scope.truncate(outer);
        self.leave_query(level);
        self.depth -= 1;
        Ok(())
    }

    fn with(&mut self, with: &WithClause) -> Result<(), Finding> {
        let mut expressions = Vec::with_capacity(with.ctes.len());
        for node in &with.ctes {
            let Some(N::CommonTableExpr(expression)) = node.node.as_ref() else {
                return Err(unsupported("this kind of WITH"));
            };
            expressions.push(expression);
        }
        if with.recursive {
            let names = expressions
                .iter()
                .map(|expression| expression.ctename.clone());
            self.tables_in_scope.extend(names);
        }
        // Inside a CTE rows are not locked by the outer query's FOR UPDATE.
        let locking = std::mem::take(&mut self.locking);
        for expression in expressions {
            if let Some(query) = &expression.ctequery {
                self.query(query)?;
            }
            if let Some(cycle) = &expression.cycle_clause {
                self.optional(cycle.cycle_mark_value.as_deref())?;
                self.optional(cycle.cycle_mark_default.as_deref())?;
            }
            if !with.recursive {
                self.tables_in_scope.push(expression.ctename.clone());
            }
        }
        self.locking = locking;
        Ok(())
    }

    pub(super) fn select(&mut self, select: &SelectStmt) -> Result<(), Finding> {
        self.met.queries += 1;
        self.scoped(select.with_clause.as_ref(), |walker| {
            walker.select_body(select)
        })
    }

    fn select_body(&mut self, select: &SelectStmt) -> Result<(), Finding> {
        if let Some(into) = &select.into_clause {
            let target = into
                .rel
                .as_ref()
                .ok_or_else(|| unsupported("SELECT INTO"))?;
            self.create(target, true, false)?;
        }
        let outer = self.locking;
        for node in &select.locking_clause {
            let Some(N::LockingClause(clause)) = node.node.as_ref() else {
                return Err(unsupported("this locking clause"));
            };
            // These name relations of the FROM clause, all of which count as locked.
            self.met.relations += clause.locked_rels.len();
            self.locking = true;
        }
        self.items_of_from(&select.from_clause)?;
        for side in [select.larg.as_deref(), select.rarg.as_deref()]
            .into_iter()
            .flatten()
        {
            self.select(side)?;
        }
        self.locking = outer;
        self.expressions(&select.distinct_clause)?;
        self.expressions(&select.target_list)?;
        self.optional(select.where_clause.as_deref())?;
        self.expressions(&select.group_clause)?;
        self.optional(select.having_clause.as_deref())?;
        self.expressions(&select.window_clause)?;
        self.expressions(&select.values_lists)?;
        self.expressions(&select.sort_clause)?;
        self.optional(select.limit_offset.as_deref())?;
        self.optional(select.limit_count.as_deref())
    }

    fn items_of_from(&mut self, items: &[Node]) -> Result<(), Finding> {
        items.iter().try_for_each(|item| self.item_of_from(item))
    }

    fn item_of_from(&mut self, item: &Node) -> Result<(), Finding> {
        match item.node.as_ref() {
            Some(N::RangeVar(range)) => self.read(range),
            Some(N::JoinExpr(join)) => {
                self.deeper()?;
                self.note_join(join);
                for side in [join.larg.as_deref(), join.rarg.as_deref()]
                    .into_iter()
                    .flatten()
                {
                    self.item_of_from(side)?;
                }
                self.depth -= 1;
                if join.is_natural || !join.using_clause.is_empty() {
                    self.implied(&["="]);
                }
                self.optional(join.quals.as_deref())
            }
            Some(N::RangeSubselect(subselect)) => match &subselect.subquery {
                Some(query) => self.query(query),
                None => Err(unsupported("an empty subquery")),
            },
            Some(N::RangeFunction(function)) => self.expressions(&function.functions),
            Some(N::RangeTableSample(sample)) => {
                let method = super::expression::names(&sample.method)?;
                if !matches!(method.as_slice(), ["system" | "bernoulli"]) {
                    return Err(unsupported(format!(
                        "the sampling method {}",
                        method.join(".")
                    )));
                }
                if let Some(relation) = &sample.relation {
                    self.item_of_from(relation)?;
                }
                self.expressions(&sample.args)?;
                self.optional(sample.repeatable.as_deref())
            }
            Some(N::RangeTableFunc(table)) => {
                self.optional(table.docexpr.as_deref())?;
                self.optional(table.rowexpr.as_deref())?;
                self.expressions(&table.namespaces)?;
                self.expressions(&table.columns)
            }
            _ => Err(unsupported("this kind of FROM item")),
        }
    }

    fn target(&self, relation: Option<&RangeVar>) -> Result<RangeVar, Finding> {
        relation
            .cloned()
            .ok_or_else(|| unsupported("a write without a target"))
    }

    fn insert(&mut self, insert: &InsertStmt) -> Result<(), Finding> {
        self.met.queries += 1;
        self.scoped(insert.with_clause.as_ref(), |walker| {
            let target = walker.target(insert.relation.as_ref())?;
            walker.write(&target, Action::Insert)?;
            walker.expressions(&insert.cols)?;
            if let Some(source) = &insert.select_stmt {
                walker.query(source)?;
            }
            if let Some(conflict) = &insert.on_conflict_clause {
                walker.on_conflict(&target, conflict)?;
            }
            walker.returning(&target, insert.returning_clause.as_ref())
        })
    }

    /// Both forms tell whether a row exists; `DO UPDATE` changes it.
    fn on_conflict(&mut self, target: &RangeVar, clause: &OnConflictClause) -> Result<(), Finding> {
        if clause.infer.is_some() {
            self.touch_range(target, Action::Select)?;
        }
        if clause.action != OnConflictAction::OnconflictNothing as i32 {
            self.change(target, Action::Update)?;
            self.touch_range(target, Action::Select)?;
        }
        if let Some(infer) = &clause.infer {
            self.infer(infer)?;
        }
        self.expressions(&clause.target_list)?;
        self.optional(clause.where_clause.as_deref())
    }

    fn infer(&mut self, infer: &InferClause) -> Result<(), Finding> {
        self.expressions(&infer.index_elems)?;
        self.optional(infer.where_clause.as_deref())
    }

    fn returning(
        &mut self,
        target: &RangeVar,
        clause: Option<&ReturningClause>,
    ) -> Result<(), Finding> {
        let Some(clause) = clause else { return Ok(()) };
        self.touch_range(target, Action::Select)?;
        self.expressions(&clause.exprs)
    }

    /// Whatever an UPDATE or DELETE compares, computes with or returns it also reads: `select` is
    /// asked for unless it does none of these.
    fn update(&mut self, update: &UpdateStmt) -> Result<(), Finding> {
        self.met.queries += 1;
        self.scoped(update.with_clause.as_ref(), |walker| {
            let target = walker.target(update.relation.as_ref())?;
            walker.write(&target, Action::Update)?;
            let reads = update.where_clause.is_some()
                || !update.from_clause.is_empty()
                || update.target_list.iter().any(mentions_column);
            if reads {
                walker.touch_range(&target, Action::Select)?;
            }
            walker.expressions(&update.target_list)?;
            walker.items_of_from(&update.from_clause)?;
            walker.optional(update.where_clause.as_deref())?;
            walker.returning(&target, update.returning_clause.as_ref())
        })
    }

    fn delete(&mut self, delete: &DeleteStmt) -> Result<(), Finding> {
        self.met.queries += 1;
        self.scoped(delete.with_clause.as_ref(), |walker| {
            let target = walker.target(delete.relation.as_ref())?;
            walker.write(&target, Action::Delete)?;
            if delete.where_clause.is_some() || !delete.using_clause.is_empty() {
                walker.touch_range(&target, Action::Select)?;
            }
            walker.items_of_from(&delete.using_clause)?;
            walker.optional(delete.where_clause.as_deref())?;
            walker.returning(&target, delete.returning_clause.as_ref())
        })
    }

    fn merge(&mut self, merge: &MergeStmt) -> Result<(), Finding> {
        self.met.queries += 1;
        self.scoped(merge.with_clause.as_ref(), |walker| {
            let target = walker.target(merge.relation.as_ref())?;
            walker.write(&target, Action::Select)?;
            if let Some(source) = &merge.source_relation {
                walker.item_of_from(source)?;
            }
            walker.optional(merge.join_condition.as_deref())?;
            for node in &merge.merge_when_clauses {
                let Some(N::MergeWhenClause(when)) = node.node.as_ref() else {
                    return Err(unsupported("this kind of MERGE"));
                };
                match CmdType::try_from(when.command_type) {
                    Ok(CmdType::CmdInsert) => walker.touch_range(&target, Action::Insert)?,
                    Ok(CmdType::CmdUpdate) => walker.change(&target, Action::Update)?,
                    Ok(CmdType::CmdDelete) => walker.change(&target, Action::Delete)?,
                    Ok(CmdType::CmdNothing) => {}
                    _ => return Err(unsupported("this action of MERGE")),
                }
                walker.optional(when.condition.as_deref())?;
                walker.expressions(&when.target_list)?;
                walker.expressions(&when.values)?;
            }
            walker.returning(&target, merge.returning_clause.as_ref())
        })
    }

    /// A relation that changes.
    pub(super) fn define(&mut self, target: &RangeVar) -> Result<(), Finding> {
        self.out.defines = true;
        self.write(target, Action::Define)
    }
}

/// Anything but constants, parameters and DEFAULT may read a column.
fn mentions_column(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(N::ResTarget(target)) => target.val.as_deref().is_some_and(mentions_column),
        Some(N::TypeCast(cast)) => cast.arg.as_deref().is_some_and(mentions_column),
        Some(N::AConst(_) | N::ParamRef(_) | N::SetToDefault(_) | N::SqlvalueFunction(_)) => false,
        _ => true,
    }
}
