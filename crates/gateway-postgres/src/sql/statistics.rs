//! Columns of `pg_class` that tell how many rows tables hold, whoever may read those. The catalogue is open,
//! so that clients can describe what they see; these columns are not.
//!
//! No scopes are followed but that of `*`: a name that could be one of them, or a row that could hold
//! them, refuses the statement if `pg_class` stands anywhere in it.

use super::resolve::Walker;
use facts::Finding;
use pg_query::NodeEnum as N;
use pg_query::protobuf::{Alias, ColumnRef, JoinExpr, Node, RangeVar};
use std::collections::HashSet;

const TELLING: &[&str] = &["reltuples", "relpages", "relallvisible", "relallfrozen"];

/// What stands in a statement.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    read: bool,
    /// One of them is named, or all columns are, or they have other names.
    shown: bool,
    /// Under which rows of `pg_class` may be known.
    rows: HashSet<String>,
    /// Names that may be those of rows.
    used: HashSet<String>,
    level: Level,
}

/// Of one query, without those in it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Level {
    reads: bool,
    star: bool,
}

impl Walker<'_> {
    /// Enters a query; what it returns is for [`Self::leave_query`].
    pub(super) fn enter_query(&mut self) -> Level {
        std::mem::take(&mut self.statistics.level)
    }

    pub(super) fn leave_query(&mut self, outer: Level) {
        let inner = std::mem::replace(&mut self.statistics.level, outer);
        self.statistics.shown |= inner.reads && inner.star;
    }

    /// A relation that is read, and no common table expression.
    pub(super) fn note_relation(&mut self, range: &RangeVar) {
        let schema = range.schemaname.as_str();
        if range.relname != "pg_class" || !matches!(schema, "" | "pg_catalog") {
            return;
        }
        self.statistics.read = true;
        self.statistics.level.reads = true;
        match &range.alias {
            Some(alias) => self.note_alias(alias),
            None => {
                self.statistics.rows.insert(range.relname.clone());
            }
        }
    }

    fn note_alias(&mut self, alias: &Alias) {
        self.statistics.shown |= !alias.colnames.is_empty();
        self.statistics.rows.insert(alias.aliasname.clone());
    }

    pub(super) fn note_join(&mut self, join: &JoinExpr) {
        self.statistics.shown |= join.is_natural;
        self.note_names(&join.using_clause);
        if let Some(alias) = &join.alias {
            self.note_alias(alias);
        }
    }

    /// Names of columns.
    pub(super) fn note_names(&mut self, names: &[Node]) {
        for node in names {
            if let Some(N::String(name)) = &node.node {
                self.statistics.shown |= TELLING.contains(&name.sval.as_str());
            }
        }
    }

    /// `COPY pg_class TO` without a list of columns.
    pub(super) fn note_all_columns(&mut self) {
        self.statistics.level.star = true;
    }

    pub(super) fn note_column(&mut self, column: &ColumnRef) {
        self.note_names(&column.fields);
        let row = match column.fields.as_slice() {
            [.., row, last] if matches!(last.node, Some(N::AStar(_))) => row,
            [last] if matches!(last.node, Some(N::AStar(_))) => {
                self.statistics.level.star = true;
                return;
            }
            [.., last] => last,
            [] => return,
        };
        if let Some(N::String(row)) = &row.node {
            self.statistics.used.insert(row.sval.clone());
        }
    }
}

impl Statistics {
    /// # Errors
    /// `SQL-STATISTICS` when it could show how many rows tables hold.
    pub(super) fn check(&self) -> Result<(), Finding> {
        let shown = self.shown || !self.rows.is_disjoint(&self.used);
        if !self.read || !shown {
            return Ok(());
        }
        Err(Finding::new(
            "SQL-STATISTICS",
            "the statement could show how many rows tables hold",
        )
        .expected(format!(
            "columns of pg_class by name, without {}",
            TELLING.join(", ")
        ))
        .next("name the columns of pg_class that you need, one by one"))
    }
}
