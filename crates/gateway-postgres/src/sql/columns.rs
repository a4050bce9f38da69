//! Which columns of what a statement touches it reads and writes. Names are noted while the statement is
//! walked; when it has been, they meet the resources that their relations stand for.
//!
//! INVARIANT: never fewer than PostgreSQL would ask a right for. Where names cannot be told, all of them count.

use super::access::{Access, Columns};
use super::catalog::{Relation, RelationKind};
use super::resolve::Walker;
use estate::{Action, ResourceKind, ResourceRef};
use facts::Finding;
use pg_query::NodeEnum as N;
use pg_query::protobuf::{Node, RangeVar, SelectStmt};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Of one relation, as the statement names it, for one action.
#[derive(Debug, Default)]
pub(super) struct Marked {
    pub(super) all: bool,
    pub(super) unknown: bool,
    pub(super) names: BTreeSet<Arc<str>>,
}

/// A resource that is touched because the statement names a relation.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) named: u32,
    pub(super) action: Action,
    pub(super) resource: ResourceRef,
    /// The relation that is called so.
    pub(super) member: u32,
}

#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) marks: HashMap<(u32, Action), Marked>,
    pub(super) links: Vec<Link>,
}

/// Which columns of a relation.
#[derive(Debug, Clone)]
pub(super) enum Which {
    All,
    Named(Arc<str>),
    /// One that the catalogue does not know: any, or one that is newer than it.
    Unknown,
}

impl Walker<'_> {
    pub(super) fn mark(&mut self, oid: u32, action: Action, which: Which) {
        self.work.spend(1);
        let marked = self.noted.marks.entry((oid, action)).or_default();
        match which {
            Which::All => marked.all = true,
            Which::Unknown => (marked.all, marked.unknown) = (true, true),
            Which::Named(name) => {
                marked.names.insert(name);
            }
        }
    }

    pub(super) fn link(
        &mut self,
        named: &Relation,
        action: Action,
        resource: ResourceRef,
        member: u32,
    ) {
        if action.is_by_column() {
            self.noted.links.push(Link {
                named: named.oid,
                action,
                resource,
                member,
            });
        }
    }

    /// Every column of what `range` names.
    pub(super) fn mark_all(&mut self, range: &RangeVar, action: Action) {
        if let Some(relation) = self.relation_of(range) {
            self.mark(relation.oid, action, Which::All);
        }
    }

    /// The columns that these name: of INSERT and COPY, and what SET assigns to.
    pub(super) fn mark_targets(&mut self, range: &RangeVar, targets: &[Node], action: Action) {
        let Some(relation) = self.relation_of(range) else {
            return;
        };
        for target in targets {
            let name = match target.node.as_ref() {
                Some(N::ResTarget(target)) => target.name.as_str(),
                Some(N::String(name)) => name.sval.as_str(),
                _ => "",
            };
            let which = relation.column(name).map_or(Which::Unknown, Which::Named);
            self.mark(relation.oid, action, which);
        }
    }

    /// The first columns, as many as there are values; without their number all.
    pub(super) fn mark_first(&mut self, range: &RangeVar, count: Option<usize>, action: Action) {
        let Some(relation) = self.relation_of(range) else {
            return;
        };
        let count = count.filter(|count| *count < relation.columns.len());
        let Some(count) = count else {
            self.mark(relation.oid, action, Which::All);
            return;
        };
        for name in relation.columns.iter().take(count) {
            self.mark(relation.oid, action, Which::Named(Arc::clone(name)));
        }
    }

    /// Takes what has been noted to the resources of the statement that has been walked.
    pub(super) fn settle_columns(&mut self) -> Result<(), Finding> {
        // What has names of columns is touched; the walk sees to that. If it did not, this does.
        let catalog = self.environment.catalog;
        let marked: Vec<(u32, Action)> = self.noted.marks.keys().copied().collect();
        for (oid, action) in marked {
            let ways = [(true, true), (true, false), (false, true), (false, false)];
            let touched = |(inherited, cascading)| {
                let touch = (oid, action, inherited, cascading);
                self.touched.contains(&touch)
            };
            if !ways.into_iter().any(touched)
                && let Some(relation) = catalog.relation(oid)
            {
                self.touch_relation(relation, action, true)?;
            }
        }
        let Noted { marks, links } = std::mem::take(&mut self.noted);
        for link in links {
            self.work.spend(1);
            let access = Access {
                action: link.action,
                resource: link.resource,
            };
            let columns = self.out.columns.entry(access).or_default();
            let (Some(marked), Some(member)) = (
                marks.get(&(link.named, link.action)),
                catalog.relation(link.member),
            ) else {
                continue;
            };
            self.work
                .spend((marked.names.len() + member.columns.len()) / 16);
            if marked.all {
                columns.all = true;
                // System columns are not among all of them.
                let named = marked.names.iter();
                let named = named.filter_map(|name| member.column(name));
                columns.names.extend(named);
                columns.unknown |= marked.unknown;
                columns.names.extend(member.columns.iter().cloned());
            } else {
                let names = marked.names.iter();
                columns
                    .names
                    .extend(names.filter_map(|name| member.column(name)));
            }
        }
        // What nothing is known of: a relation that is not in the catalogue.
        for access in &self.out.accesses {
            let by_column =
                access.action.is_by_column() && access.resource.kind == ResourceKind::Table;
            if by_column && !self.out.columns.contains_key(access) {
                self.out.columns.insert(access.clone(), Columns::unknown());
            }
        }
        Ok(())
    }
}

impl Relation {
    /// One of its columns by name, a system column among them.
    pub(super) fn column(&self, name: &str) -> Option<Arc<str>> {
        const SYSTEM: [&str; 6] = ["tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"];
        let own = self.columns.iter().find(|column| &***column == name);
        let system = || {
            let has = self.kind != RelationKind::View && SYSTEM.contains(&name);
            has.then(|| Arc::from(name))
        };
        own.cloned().or_else(system)
    }
}

/// How many values each row of an INSERT has; nothing where the text does not say.
pub(super) fn width(source: Option<&Node>) -> Option<usize> {
    let Some(N::SelectStmt(select)) = source?.node.as_ref() else {
        return None;
    };
    let mut leftmost: &SelectStmt = select;
    while let Some(left) = leftmost.larg.as_deref() {
        leftmost = left;
    }
    if let Some(first) = leftmost.values_lists.first() {
        return match first.node.as_ref() {
            Some(N::List(row)) => counted(&row.items),
            _ => None,
        };
    }
    counted(&leftmost.target_list)
}

/// `*` stands for any number of values, wherever it stands.
pub(super) fn counted(values: &[Node]) -> Option<usize> {
    let plain = |node: &Node| {
        let value = match node.node.as_ref() {
            Some(N::ResTarget(target)) => target.val.as_deref().and_then(|val| val.node.as_ref()),
            other => other,
        };
        match value {
            Some(N::ColumnRef(column)) => {
                let mut fields = column.fields.iter();
                !fields.any(|field| matches!(field.node, Some(N::AStar(_))))
            }
            Some(N::AIndirection(part)) => {
                let mut parts = part.indirection.iter();
                !parts.any(|part| matches!(part.node, Some(N::AStar(_))))
            }
            Some(_) => true,
            None => false,
        }
    };
    values.iter().all(plain).then_some(values.len())
}
