//! SELECT, INSERT, UPDATE, DELETE, MERGE and everything that stands in a FROM.

use super::columns::{counted, width};
use super::resolve::{Walker, unsupported};
use super::scope::{Names, Scope, bare_name, names_of};
use estate::Action;
use facts::Finding;
use pg_query::NodeEnum as N;
use pg_query::protobuf::{
    CmdType, CommonTableExpr, DeleteStmt, InferClause, InsertStmt, JoinExpr, MergeStmt, Node,
    OnConflictAction, OnConflictClause, RangeVar, ReturningClause, SelectStmt, UpdateStmt,
    WithClause,
};
use std::sync::Arc;

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
        self.scopes.push(Scope::default());
        let outer = self.tables_in_scope.len();
        if let Some(with) = with {
            self.with(with)?;
        }
        body(self)?;
        self.tables_in_scope.truncate(outer);
        self.names_in_scope.truncate(outer);
        self.scopes.pop();
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
            let names = expressions.iter().map(|one| names_of_expression(one));
            self.names_in_scope.extend(names);
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
                self.names_in_scope.push(names_of_expression(expression));
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
        self.of_result(&select.distinct_clause, select, false)?;
        self.expressions(&select.target_list)?;
        self.optional(select.where_clause.as_deref())?;
        self.of_result(&select.group_clause, select, true)?;
        self.optional(select.having_clause.as_deref())?;
        self.expressions(&select.window_clause)?;
        self.expressions(&select.values_lists)?;
        self.of_result(&select.sort_clause, select, false)?;
        self.optional(select.limit_offset.as_deref())?;
        self.optional(select.limit_count.as_deref())
    }

    /// ORDER BY, DISTINCT ON and GROUP BY: a name by itself is one of the result's, or, of a GROUP BY that has such a
    /// column, the column's (`findTargetlistEntrySQL92`). What the result has was read for it.
    fn of_result(
        &mut self,
        nodes: &[Node],
        select: &SelectStmt,
        grouping: bool,
    ) -> Result<(), Finding> {
        if nodes.is_empty() {
            return Ok(());
        }
        let names = names_of(select);
        self.work.spend(names.len() / 16);
        for node in nodes {
            let (value, order) = match node.node.as_ref() {
                Some(N::SortBy(sort)) => (sort.node.as_deref(), sort.use_op.as_slice()),
                _ => (Some(node), [].as_slice()),
            };
            let named = value.and_then(bare_name).filter(|(_, name)| {
                let of_result = select.larg.is_some()
                    || names.iter().flatten().any(|one| one.as_str() == *name);
                of_result && !(grouping && self.level_has(name))
            });
            match named {
                Some((column, _)) => {
                    self.operator(order)?;
                    self.note_column(column);
                }
                None => self.expression(node)?,
            }
        }
        Ok(())
    }

    fn items_of_from(&mut self, items: &[Node]) -> Result<(), Finding> {
        items.iter().try_for_each(|item| self.item_of_from(item))
    }

    fn item_of_from(&mut self, item: &Node) -> Result<(), Finding> {
        match item.node.as_ref() {
            Some(N::RangeVar(range)) => {
                self.read(range)?;
                self.add_range(range);
                Ok(())
            }
            Some(N::JoinExpr(join)) => self.join(join),
            Some(N::RangeSubselect(subselect)) => {
                let query = subselect.subquery.as_deref();
                let query = query.ok_or_else(|| unsupported("an empty subquery"))?;
                // What stands beside it is in sight of a LATERAL one alone.
                let hidden = if subselect.lateral { 0 } else { self.items() };
                let before = self.hide(hidden);
                self.query(query)?;
                self.see(before);
                self.add_derived(subselect.alias.as_ref(), Some(query));
                Ok(())
            }
            Some(N::RangeFunction(function)) => {
                self.expressions(&function.functions)?;
                // The types of a record's columns: values come to be of them.
                self.expressions(&function.coldeflist)?;
                self.add_derived(function.alias.as_ref(), None);
                Ok(())
            }
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
                // What it is sampled by sees the levels around this one, and nothing of this one.
                let before = self.hide(self.items());
                self.expressions(&sample.args)?;
                self.optional(sample.repeatable.as_deref())?;
                self.see(before);
                Ok(())
            }
            Some(N::RangeTableFunc(table)) => {
                self.optional(table.docexpr.as_deref())?;
                self.optional(table.rowexpr.as_deref())?;
                self.expressions(&table.namespaces)?;
                self.expressions(&table.columns)?;
                self.add_derived(table.alias.as_ref(), None);
                Ok(())
            }
            _ => Err(unsupported("this kind of FROM item")),
        }
    }

    fn join(&mut self, join: &JoinExpr) -> Result<(), Finding> {
        self.deeper()?;
        self.note_join(join);
        let from = self.items();
        if let Some(left) = join.larg.as_deref() {
            self.item_of_from(left)?;
        }
        let middle = self.items();
        if let Some(right) = join.rarg.as_deref() {
            self.item_of_from(right)?;
        }
        self.depth -= 1;
        if join.is_natural || !join.using_clause.is_empty() {
            self.implied(&["="]);
        }
        self.compare_joined(join, from, middle);
        // Its condition sees its two sides, and nothing beside them.
        let before = self.hide(from);
        self.optional(join.quals.as_deref())?;
        self.see(before);
        self.add_join(join, from);
        Ok(())
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
            walker.mark_targets(&target, &insert.cols, Action::Insert);
            if let Some(source) = &insert.select_stmt {
                if insert.cols.is_empty() {
                    let count = width(Some(source));
                    walker.mark_first(&target, count, Action::Insert);
                }
                walker.query(source)?;
            }
            walker.add_target(&target);
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
            // Which columns a constraint is of, the catalogue does not say here.
            if !infer.conname.is_empty() {
                self.mark_all(target, Action::Select);
            }
            self.infer(infer)?;
        }
        let own = self.items();
        self.add_target_as(target, "excluded");
        self.expressions(&clause.target_list)?;
        self.mark_targets(target, &clause.target_list, Action::Update);
        self.optional(clause.where_clause.as_deref())?;
        self.forget_items(own);
        Ok(())
    }

    fn infer(&mut self, infer: &InferClause) -> Result<(), Finding> {
        for element in &infer.index_elems {
            if let Some(N::IndexElem(element)) = element.node.as_ref()
                && !element.name.is_empty()
            {
                self.refer_plainly(&element.name);
            }
        }
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
        let own = self.items();
        let named = clause.options.iter().filter_map(|node| match &node.node {
            Some(N::ReturningOption(option)) => Some(option.value.as_str()),
            _ => None,
        });
        for name in ["old", "new"].into_iter().chain(named) {
            self.add_target_as(target, name);
        }
        self.expressions(&clause.exprs)?;
        self.forget_items(own);
        Ok(())
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
            walker.add_target(&target);
            walker.items_of_from(&update.from_clause)?;
            walker.expressions(&update.target_list)?;
            walker.mark_targets(&target, &update.target_list, Action::Update);
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
            walker.add_target(&target);
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
            walker.add_target(&target);
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
                match CmdType::try_from(when.command_type) {
                    Ok(CmdType::CmdInsert) if when.target_list.is_empty() => {
                        let count = counted(&when.values);
                        walker.mark_first(&target, count, Action::Insert);
                    }
                    Ok(CmdType::CmdInsert) => {
                        walker.mark_targets(&target, &when.target_list, Action::Insert);
                    }
                    Ok(CmdType::CmdUpdate) => {
                        walker.mark_targets(&target, &when.target_list, Action::Update);
                    }
                    _ => {}
                }
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

fn names_of_expression(expression: &CommonTableExpr) -> Arc<Names> {
    let given = expression.aliascolnames.iter();
    let given: Vec<String> = given
        .map(|node| match &node.node {
            Some(N::String(name)) => name.sval.clone(),
            _ => String::new(),
        })
        .collect();
    // SEARCH and CYCLE add columns.
    let plain = expression.search_clause.is_none() && expression.cycle_clause.is_none();
    let query = expression.ctequery.as_deref().filter(|_| plain);
    Arc::new(Names::of(query, &given))
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
