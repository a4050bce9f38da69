//! Where the name of a column leads: as PostgreSQL looks names up, level by level, among what stands in each
//! FROM. Not whether what it names is there: that the server says.
//!
//! A name that could be two columns marks both. What cannot be looked up marks all that is in sight.

use super::catalog::{Found, Relation};
use super::columns::Which;
use super::resolve::Walker;
use estate::Action;
use pg_query::NodeEnum as N;
use pg_query::protobuf::{Alias, ColumnRef, JoinExpr, Node, RangeVar, SelectStmt};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// One level of a query: what its FROM has so far.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    items: Vec<Item<'a>>,
    /// So many of `items` cannot be seen from where the walk is.
    hidden: usize,
}

#[derive(Debug)]
struct Item<'a> {
    /// By which its columns can be qualified; nothing has no name.
    name: String,
    /// Of a relation without an alias: by which the name can be qualified.
    schema: Option<&'a str>,
    holds: Holds<'a>,
    seen: Seen,
}

/// What joins leave of an item that they join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Alone,
    /// In a join without an alias: a name by itself is one of the join's columns, and system columns are none.
    InJoin,
    /// In a join that has an alias: it is in sight no more, for no name.
    Covered,
}

/// Whether an item has a column of some name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Surely,
    /// What it has so called may have been given another name: a look farther out is needed.
    Perhaps,
    No,
}

#[derive(Debug, Clone)]
enum Holds<'a> {
    /// With the names that an alias gives its first columns.
    Relation(&'a Relation, Arc<[String]>),
    /// What has been read where it stands: a subquery, a function.
    Derived(Arc<Names>),
    /// An alias of a join, with names that it gives.
    Joined(Joined),
}

#[derive(Debug, Clone)]
struct Joined {
    /// The items that it joins, without those that a join within it covers.
    members: Arc<[usize]>,
    given: Arc<[String]>,
    /// Steps that a look at all of them takes.
    cost: usize,
}

/// Names of columns that something surely has.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<String>,
    /// It has no others.
    complete: bool,
}

impl Names {
    /// Of a query under an alias that may give names to its first columns.
    pub(super) fn of(query: Option<&Node>, given: &[String]) -> Self {
        let made = query.and_then(|query| match query.node.as_ref() {
            Some(N::SelectStmt(select)) => Some(names_of(select)),
            _ => None,
        });
        let complete = made
            .as_ref()
            .is_some_and(|made| !made.is_empty() && made.iter().all(Option::is_some));
        // Which of them an alias names, is known only where all are.
        let skipped = if complete || given.is_empty() {
            given.len()
        } else {
            usize::MAX
        };
        let made = made.into_iter().flatten().skip(skipped).flatten();
        Self {
            known: given.iter().cloned().chain(made).collect(),
            complete,
        }
    }
}

type Marks = Vec<(u32, Which)>;

impl Walker<'_> {
    pub(super) fn items(&self) -> usize {
        self.scopes.last().map_or(0, |scope| scope.items.len())
    }

    /// Hides the first `count` items of this level; what it returns is for [`Self::see`].
    pub(super) fn hide(&mut self, count: usize) -> usize {
        match self.scopes.last_mut() {
            Some(scope) => std::mem::replace(&mut scope.hidden, count),
            None => 0,
        }
    }

    pub(super) fn see(&mut self, before: usize) {
        self.hide(before);
    }

    pub(super) fn forget_items(&mut self, from: usize) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.items.truncate(from);
        }
    }
}

impl<'a> Walker<'a> {
    /// What the catalogue knows under this name.
    pub(super) fn relation_of(&mut self, range: &RangeVar) -> Option<&'a Relation> {
        self.work.spend(1);
        let schema = Some(range.schemaname.as_str()).filter(|schema| !schema.is_empty());
        let catalog = self.environment.catalog;
        match catalog.find(schema, &range.relname, self.environment.search_path) {
            Found::Relation(relation) => Some(relation),
            _ => None,
        }
    }

    fn add(&mut self, item: Item<'a>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.items.push(item);
        }
    }

    /// A relation in FROM, or what a statement writes.
    pub(super) fn add_range(&mut self, range: &RangeVar) {
        let expression =
            range.schemaname.is_empty() && self.tables_in_scope.contains(&range.relname);
        let relation = (!expression).then(|| self.relation_of(range)).flatten();
        self.add_relation(range, relation);
    }

    /// What a statement writes is never a common table expression.
    pub(super) fn add_target(&mut self, range: &RangeVar) {
        let relation = self.relation_of(range);
        self.add_relation(range, relation);
    }

    /// The names of a common table expression; of what the catalogue does not know none are.
    fn expression_named(&self, range: &RangeVar, given: &[String]) -> Arc<Names> {
        let mut scope = self.tables_in_scope.iter().zip(&self.names_in_scope).rev();
        let found = scope.find(|(name, _)| range.schemaname.is_empty() && **name == range.relname);
        match found {
            Some((_, names)) if given.is_empty() => Arc::clone(names),
            _ => Arc::new(Names {
                known: given.iter().cloned().collect(),
                complete: false,
            }),
        }
    }

    fn add_relation(&mut self, range: &RangeVar, relation: Option<&'a Relation>) {
        let alias = range.alias.as_ref();
        let given = alias.map(names_given).unwrap_or_default();
        let holds = match relation {
            Some(relation) => Holds::Relation(relation, given),
            None => Holds::Derived(self.expression_named(range, &given)),
        };
        let item = Item {
            name: alias.map_or_else(|| range.relname.clone(), |alias| alias.aliasname.clone()),
            schema: relation
                .filter(|_| alias.is_none())
                .map(|relation| relation.schema.as_str()),
            holds,
            seen: Seen::Alone,
        };
        self.add(item);
    }

    /// Another name for what a statement writes: `old` and `new` of RETURNING; `excluded` of ON CONFLICT, whose rows the
    /// statement itself brings, and whose columns PostgreSQL asks the right to read for all the same.
    pub(super) fn add_target_as(&mut self, range: &RangeVar, name: &str) {
        if let Some(relation) = self.relation_of(range) {
            self.add(Item {
                name: name.to_owned(),
                schema: None,
                holds: Holds::Relation(relation, Arc::default()),
                seen: Seen::Alone,
            });
        }
    }

    /// Rows that were read where they stand.
    pub(super) fn add_derived(&mut self, alias: Option<&Alias>, query: Option<&Node>) {
        let given = alias.map(names_given).unwrap_or_default();
        let names = Names::of(query, &given);
        let item = Item {
            name: alias
                .map(|alias| alias.aliasname.clone())
                .unwrap_or_default(),
            schema: None,
            holds: Holds::Derived(Arc::new(names)),
            seen: Seen::Alone,
        };
        self.add(item);
    }

    /// USING and NATURAL compare columns of both sides, which stand from `from` and from `middle` on.
    pub(super) fn compare_joined(&mut self, join: &JoinExpr, from: usize, middle: usize) {
        let Some(scope) = self.scopes.last() else {
            return;
        };
        let mut marks = Marks::new();
        let side = |range| {
            let items: &[Item<'_>] = scope.items.get(range).unwrap_or_default();
            let seen = items.iter().filter(|item| item.seen != Seen::Covered);
            seen.collect::<Vec<_>>()
        };
        let (left, right) = (side(from..middle), side(middle..scope.items.len()));
        let both = || left.iter().chain(&right).copied();
        let mut steps = scope.items.len() - from.min(scope.items.len());
        steps += join.using_clause.len() * cost(both());
        if join.is_natural {
            for (one, other) in [(&left, &right), (&right, &left)] {
                let known = names_in(other, &scope.items);
                steps += known.as_ref().map_or(1, Vec::len) * cost(one.iter().copied());
                for item in one {
                    match &known {
                        Some(names) => {
                            for name in names {
                                item.named(name, &scope.items, &mut marks);
                            }
                        }
                        None => item.whole(&scope.items, &mut marks),
                    }
                }
            }
        }
        for node in &join.using_clause {
            if let Some(N::String(name)) = &node.node {
                for item in both() {
                    item.named(&name.sval, &scope.items, &mut marks);
                }
            }
        }
        self.work.spend(steps);
        self.read_marked(marks);
    }

    /// The names that a join has as a whole, and what it leaves of those that it joins (`transformFromClauseItem`):
    /// an alias hides them completely, also the one that USING gave; without one they are seen as tables alone, and
    /// their columns as the join's.
    pub(super) fn add_join(&mut self, join: &JoinExpr, from: usize) {
        let Some(scope) = self.scopes.last_mut() else {
            return;
        };
        self.work.spend(scope.items.len().saturating_sub(from));
        let alias = join.alias.as_ref();
        let (mut members, mut total) = (Vec::new(), 0);
        for (at, item) in scope.items.iter_mut().enumerate().skip(from) {
            if item.seen == Seen::Covered {
                continue;
            }
            item.seen = Seen::InJoin;
            if alias.is_some() {
                item.seen = Seen::Covered;
                members.push(at);
                total += item.cost();
            }
        }
        if let Some(alias) = alias {
            self.add(Item {
                name: alias.aliasname.clone(),
                schema: None,
                holds: Holds::Joined(Joined {
                    members: members.into(),
                    given: names_given(alias),
                    cost: 1 + total,
                }),
                seen: Seen::Alone,
            });
        } else if let Some(alias) = &join.join_using_alias {
            // Of the columns that were compared, nothing else.
            self.add(Item {
                name: alias.aliasname.clone(),
                schema: None,
                holds: Holds::Derived(Arc::new(Names {
                    known: HashSet::new(),
                    complete: true,
                })),
                seen: Seen::InJoin,
            });
        }
    }

    /// A reference to columns, wherever it stands.
    pub(super) fn refer(&mut self, column: &ColumnRef) {
        let mut names = Vec::with_capacity(column.fields.len());
        let mut star = false;
        for field in &column.fields {
            match field.node.as_ref() {
                Some(N::String(name)) => names.push(name.sval.as_str()),
                Some(N::AStar(_)) => star = true,
                _ => return self.refer_to_all(),
            }
        }
        match (names.as_slice(), star) {
            ([], true) => self.refer_to_level(),
            ([name], false) => self.refer_plainly(name),
            ([row], true) => self.refer_within(None, row, None),
            ([row, name], false) => self.refer_within(None, row, Some(name)),
            ([schema, row] | [_, schema, row], true) => {
                self.refer_within(Some(schema), row, None);
            }
            ([schema, row, name] | [_, schema, row, name], false) => {
                self.refer_within(Some(schema), row, Some(name));
            }
            _ => self.refer_to_all(),
        }
    }

    /// A name by itself: a column of the nearest level that has one so called, or else a whole row.
    pub(super) fn refer_plainly(&mut self, name: &str) {
        let mut marks = Marks::new();
        let mut steps = 1;
        let mut found = false;
        for scope in self.scopes.iter().rev() {
            steps += cost(scope.in_sight());
            for item in scope.in_sight() {
                found |= item.plainly(name, &scope.items, &mut marks) == Has::Surely;
            }
            if found {
                break;
            }
        }
        if !found {
            for scope in self.scopes.iter().rev() {
                for item in scope.in_sight().filter(|item| item.name == name) {
                    item.whole(&scope.items, &mut marks);
                    found = true;
                }
                if found {
                    break;
                }
            }
        }
        // It may be a column that is newer than the catalogue.
        if !found {
            for scope in &self.scopes {
                steps += cost(scope.in_sight());
                for item in scope.in_sight() {
                    item.unknown(&scope.items, &mut marks);
                }
            }
        }
        self.work.spend(steps);
        self.read_marked(marks);
    }

    /// Whether this level has a column of this name, or may have one that a join's alias calls otherwise.
    pub(super) fn level_has(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|scope| {
            let mut items = scope.in_sight();
            items.any(|item| item.plainly(name, &scope.items, &mut Marks::new()) != Has::No)
        })
    }

    /// `row.name`, `row.*`: of the nearest level that has such a row.
    fn refer_within(&mut self, schema: Option<&str>, row: &str, name: Option<&str>) {
        let mut marks = Marks::new();
        let mut known = false;
        let mut steps = 1;
        for scope in self.scopes.iter().rev() {
            steps += cost(scope.in_sight());
            for item in scope.in_sight() {
                let fits = item.name == row && (schema.is_none() || item.schema == schema);
                if !fits {
                    continue;
                }
                known = true;
                let has = |name| item.named(name, &scope.items, &mut marks) == Has::Surely;
                let column = name.is_some_and(has);
                // What is no column of the row is a function that takes all of it, or newer than the catalogue.
                match name {
                    Some(_) if column => {}
                    Some(_) => {
                        item.whole(&scope.items, &mut marks);
                        item.unknown(&scope.items, &mut marks);
                    }
                    None => item.whole(&scope.items, &mut marks),
                }
            }
            if known {
                break;
            }
        }
        self.work.spend(steps);
        if known {
            self.read_marked(marks);
        } else {
            self.refer_to_all();
        }
    }

    /// `*`
    fn refer_to_level(&mut self) {
        let mut marks = Marks::new();
        if let Some(scope) = self.scopes.last() {
            for item in scope.in_sight() {
                item.whole(&scope.items, &mut marks);
            }
        }
        self.read_marked(marks);
    }

    fn refer_to_all(&mut self) {
        let mut marks = Marks::new();
        let mut steps = 1;
        for scope in &self.scopes {
            steps += cost(scope.items.iter());
            for item in &scope.items {
                item.whole(&scope.items, &mut marks);
            }
        }
        self.work.spend(steps);
        self.read_marked(marks);
    }

    fn read_marked(&mut self, marks: Marks) {
        for (oid, which) in marks {
            self.mark(oid, Action::Select, which);
        }
    }
}

impl<'a> Scope<'a> {
    fn in_sight(&self) -> impl Iterator<Item = &Item<'a>> {
        let items = self.items.get(self.hidden..).unwrap_or_default();
        items.iter().filter(|item| item.seen != Seen::Covered)
    }
}

impl<'a> Item<'a> {
    /// Marks the column that a name by itself leads to, as far as this item is concerned.
    fn plainly(&self, name: &str, items: &[Self], marks: &mut Marks) -> Has {
        self.column(name, self.seen == Seen::Alone, items, marks)
    }

    /// The same of a name that is qualified, or compared by USING.
    fn named(&self, name: &str, items: &[Self], marks: &mut Marks) -> Has {
        self.column(name, true, items, marks)
    }

    /// Marks the column of this name; `system` says whether one of the system's is meant too.
    fn column(&self, name: &str, system: bool, items: &[Self], marks: &mut Marks) -> Has {
        match &self.holds {
            Holds::Relation(relation, given) => {
                let renamed = given.iter().position(|one| one == name);
                let column = match renamed {
                    Some(at) => relation.columns.get(at).cloned(),
                    None => relation.column(name).filter(|found| {
                        let own = relation.columns.iter().position(|one| one == found);
                        own.map_or(system, |at| at >= given.len())
                    }),
                };
                match column {
                    Some(column) => marks.push((relation.oid, Which::Named(column))),
                    None => return Has::No,
                }
                Has::Surely
            }
            Holds::Derived(names) if names.known.contains(name) => Has::Surely,
            Holds::Derived(_) => Has::No,
            Holds::Joined(joined) => {
                if joined.given.iter().any(|one| one == name) {
                    self.whole(items, marks);
                    return Has::Surely;
                }
                // A join has no system columns.
                let found = joined.members(items).fold(Has::No, |found, item| {
                    match (found, item.column(name, false, items, marks)) {
                        (Has::Surely, _) | (_, Has::Surely) => Has::Surely,
                        (Has::Perhaps, _) | (_, Has::Perhaps) => Has::Perhaps,
                        _ => Has::No,
                    }
                });
                // Which of its columns the alias calls otherwise, is not told here.
                match found {
                    Has::Surely if !joined.given.is_empty() => Has::Perhaps,
                    found => found,
                }
            }
        }
    }

    /// Marks a column that it may have, and the catalogue does not know.
    fn unknown(&self, items: &[Self], marks: &mut Marks) {
        match &self.holds {
            Holds::Relation(relation, _) => marks.push((relation.oid, Which::Unknown)),
            Holds::Derived(_) => {}
            Holds::Joined(joined) => {
                for item in joined.members(items) {
                    item.unknown(items, marks);
                }
            }
        }
    }

    /// Marks all that it has.
    fn whole(&self, items: &[Self], marks: &mut Marks) {
        match &self.holds {
            Holds::Relation(relation, _) => marks.push((relation.oid, Which::All)),
            Holds::Derived(_) => {}
            Holds::Joined(joined) => {
                for item in joined.members(items) {
                    item.whole(items, marks);
                }
            }
        }
    }

    /// Steps that a look at it takes.
    fn cost(&self) -> usize {
        match &self.holds {
            Holds::Relation(relation, _) => 1 + relation.columns.len() / 32,
            Holds::Derived(_) => 1,
            Holds::Joined(joined) => joined.cost,
        }
    }
}

impl Joined {
    fn members<'i, 'a>(&self, items: &'i [Item<'a>]) -> impl Iterator<Item = &'i Item<'a>> {
        self.members.iter().filter_map(|at| items.get(*at))
    }
}

fn cost<'i, 'a: 'i>(items: impl Iterator<Item = &'i Item<'a>>) -> usize {
    items.map(Item::cost).sum()
}

/// Every name that these have; nothing where one of them may have more.
fn names_in(some: &[&Item<'_>], items: &[Item<'_>]) -> Option<Vec<Arc<str>>> {
    let mut names = BTreeSet::new();
    let mut next = some.to_vec();
    while let Some(item) = next.pop() {
        match &item.holds {
            Holds::Relation(relation, given) => {
                names.extend(relation.columns.iter().skip(given.len()).cloned());
                names.extend(given.iter().map(|name| Arc::from(name.as_str())));
            }
            Holds::Derived(given) if given.complete => {
                names.extend(given.known.iter().map(|name| Arc::from(name.as_str())));
            }
            Holds::Joined(joined) if joined.given.is_empty() => next.extend(joined.members(items)),
            _ => return None,
        }
    }
    Some(names.into_iter().collect())
}

fn names_given(alias: &Alias) -> Arc<[String]> {
    let names = alias.colnames.iter().map(|node| match &node.node {
        Some(N::String(name)) => name.sval.clone(),
        _ => String::new(),
    });
    names.collect()
}

/// What the columns of a query are surely called, in their order.
pub(super) fn names_of(select: &SelectStmt) -> Vec<Option<String>> {
    let mut leftmost = select;
    while let Some(left) = leftmost.larg.as_deref() {
        leftmost = left;
    }
    leftmost
        .target_list
        .iter()
        .map(|node| match node.node.as_ref() {
            Some(N::ResTarget(target)) if !target.name.is_empty() => Some(target.name.clone()),
            Some(N::ResTarget(target)) => {
                let Some(N::ColumnRef(column)) = target.val.as_deref()?.node.as_ref() else {
                    return None;
                };
                match column.fields.last()?.node.as_ref()? {
                    N::String(name) => Some(name.sval.clone()),
                    _ => None,
                }
            }
            _ => None,
        })
        .collect()
}

/// A name by itself, as GROUP BY and ORDER BY may mean a column of the result.
pub(super) fn bare_name(node: &Node) -> Option<(&ColumnRef, &str)> {
    let Some(N::ColumnRef(column)) = node.node.as_ref() else {
        return None;
    };
    match column.fields.as_slice() {
        [only] => match only.node.as_ref()? {
            N::String(name) => Some((column, name.sval.as_str())),
            _ => None,
        },
        _ => None,
    }
}
