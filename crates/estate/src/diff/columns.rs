//! Columns beside their tables, where one of the two versions decides on them: what may be done to a table alone
//! comes to every column of it where nobody decides on columns, and to those that are allowed where somebody does.

use super::touched::Side;
use super::{Accesses, conditions};
use crate::action::Action;
use crate::ask::{Access, undeclared_name};
use crate::estate::Estate;
use crate::resource::{ResourceKind, ResourceRef};
use std::collections::BTreeSet;

/// Both versions, and what one identity may do in them.
pub(super) struct Beside<'a, 'e> {
    pub(super) path: &'a str,
    pub(super) old: &'e Estate,
    pub(super) new: &'e Estate,
    pub(super) before: &'a Side<'e>,
    pub(super) after: &'a Side<'e>,
}

impl Beside<'_, '_> {
    /// Has `was` and `now` say of the same columns what may be done to them.
    pub(super) fn add(&self, was: &mut Accesses, now: &mut Accesses, errors: &mut Vec<String>) {
        match (self.old.decides_columns(), self.new.decides_columns()) {
            (false, false) => {}
            (false, true) => self.switched(self.after, was, now, errors),
            (true, false) => self.switched(self.before, now, was, errors),
            (true, true) => {
                self.of_changed_tables(was, now, errors);
                self.unlisted(was, now, errors);
            }
        }
    }

    /// `open` is of the version that decides on tables alone, `closed` of the other, which `deciding` asks.
    fn switched(
        &self,
        deciding: &Side<'_>,
        open: &mut Accesses,
        closed: &mut Accesses,
        errors: &mut Vec<String>,
    ) {
        // Beside their tables they are asked again.
        closed.retain(|(_, resource), _| resource.kind != ResourceKind::Column);
        for (action, table) in of_tables(open, closed) {
            let key = (action, table);
            let (was, now) = (open.get(&key).cloned(), closed.get(&key).cloned());
            for (resource, shown) in self.columns(&key.1) {
                let column = (action, shown.clone());
                if let Some(was) = &was {
                    let resource = shown.clone();
                    open.insert(
                        column.clone(),
                        Access {
                            resource,
                            ..was.clone()
                        },
                    );
                }
                // A column is of no use without its table.
                if now.is_none() {
                    continue;
                }
                let asked = deciding.one(self.path, action, &resource, &shown, errors);
                if let Some(access) = asked {
                    closed.insert(column, access);
                }
            }
        }
    }

    /// Whoever gains or loses a table gains or loses its columns, whatever is said of them: none can be had without it.
    fn of_changed_tables(&self, was: &mut Accesses, now: &mut Accesses, errors: &mut Vec<String>) {
        for (action, table) in of_tables(was, now) {
            let key = (action, table.clone());
            if was.get(&key).map(conditions) == now.get(&key).map(conditions) {
                continue;
            }
            let sides = [
                (self.old, self.before, &mut *was),
                (self.new, self.after, &mut *now),
            ];
            for (estate, side, accesses) in sides {
                for name in estate.columns_of(&table) {
                    let column = table.column(name);
                    if let Some(access) = side.one(self.path, action, &column, &column, errors) {
                        accesses.insert((action, column), access);
                    }
                }
            }
        }
    }

    /// The first column that a table lists makes every other one unclassified.
    fn unlisted(&self, was: &mut Accesses, now: &mut Accesses, errors: &mut Vec<String>) {
        for (action, table) in of_tables(was, now) {
            let lists = |estate: &Estate| estate.columns_of(&table).next().is_some();
            if table.kind != ResourceKind::Table || lists(self.old) == lists(self.new) {
                continue;
            }
            for (resource, shown) in self.columns(&table) {
                for (side, accesses) in [(self.before, &mut *was), (self.after, &mut *now)] {
                    if let Some(access) = side.one(self.path, action, &resource, &shown, errors) {
                        accesses.insert((action, shown.clone()), access);
                    }
                }
            }
        }
    }

    /// Those that either version lists, and one that stands for all others, with what it is shown as.
    fn columns(&self, table: &ResourceRef) -> Vec<(ResourceRef, ResourceRef)> {
        let listed = self.old.columns_of(table).chain(self.new.columns_of(table));
        let names: BTreeSet<&str> = listed.collect();
        let listed = names.into_iter().map(|name| table.column(name));
        listed
            .map(|column| (column.clone(), column))
            .chain(any_other(table))
            .collect()
    }
}

fn of_tables(one: &Accesses, other: &Accesses) -> BTreeSet<(Action, ResourceRef)> {
    let keys = one.keys().chain(other.keys());
    keys.filter(|(action, resource)| action.is_by_column() && resource.kind != ResourceKind::Column)
        .cloned()
        .collect()
}

/// A column that no file lists, of the table or of what stands for tables that no file lists: shown as `*`.
fn any_other(shown: &ResourceRef) -> Option<(ResourceRef, ResourceRef)> {
    let below = match shown.kind {
        ResourceKind::Table => 1,
        ResourceKind::Schema => 2,
        ResourceKind::Database => 3,
        _ => return None,
    };
    let column = |name: &str| {
        let path = format!("{}{}", shown.path, format!("/{name}").repeat(below));
        ResourceRef::new(ResourceKind::Column, path)
    };
    Some((column(undeclared_name()), column("*")))
}
