//! What the server's errors may tell of rows, where columns are decided on. Not their text: that the session passes on.

use super::{ANY, Judge, Known};
use crate::database::Snapshot;
use crate::sql::{Coverage, Effect, Resolved};
use estate::{Action, Estate, ResourceKind, ResourceRef};
use std::collections::{BTreeMap, BTreeSet};

impl Judge {
    /// Whether errors of this statement may quote what policy does not let the principal read: a constraint that a
    /// row breaks has the server show the row, or its key. What only reads names each column that it reads.
    pub(super) fn withholds(
        &self,
        estate: &Estate,
        resolved: &Resolved,
        known: &Known,
        snapshot: &Snapshot,
    ) -> bool {
        if !estate.decides_columns() || resolved.effect < Effect::Write {
            return false;
        }
        // What functions and triggers write, nobody knows.
        if resolved.coverage == Coverage::Opaque {
            return true;
        }
        let catalog = &snapshot.catalog;
        let mut columns: BTreeMap<ResourceRef, BTreeSet<&str>> = BTreeMap::new();
        let relations = resolved.relations.iter();
        for relation in relations.filter_map(|oid| catalog.relation(*oid)) {
            let path = [catalog.database.as_str(), &relation.schema, &relation.name];
            let table = ResourceRef::from_segments(ResourceKind::Table, &path);
            let names = relation.columns.iter().map(|name| &**name);
            columns.entry(table).or_default().extend(names);
        }
        let changed = resolved.accesses.iter().filter(|access| {
            access.action != Action::Select && access.resource.kind == ResourceKind::Table
        });
        let tables: BTreeSet<&ResourceRef> = changed.map(|access| &access.resource).collect();
        let readable = |resource: &ResourceRef| {
            let (decision, _) = self.decide_one(estate, Action::Select, resource, known);
            decision.allow
        };
        let whole = |table: &ResourceRef| {
            let own = columns.get(table).into_iter().flatten().copied();
            let mut names: BTreeSet<&str> = own.collect();
            names.extend(estate.columns_of(table));
            // One that is newer than the catalogue.
            names.insert(ANY);
            readable(table) && names.into_iter().all(|name| readable(&table.column(name)))
        };
        !tables.into_iter().all(whole)
    }
}
