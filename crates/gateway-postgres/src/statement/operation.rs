//! A statement as its records have it: its fingerprint, and what it touches, named so that no literal gets into a record.

use super::decide::columns_asked;
use super::{ANY, Judge};
use crate::database::Snapshot;
use crate::sql::{Access, Coverage, Resolved};
use estate::{Action, ResourceKind, ResourceRef};
use gateway::{Current, Operation};
use ledger::Commitment;
use ledger::body::{self, ActionOn};
use std::collections::BTreeMap;

/// In the place of a fingerprint.
pub(super) const UNPARSED: &str = "unparsed";
/// Columns of one table that a record names for one action; of more it says that it may be any.
const MOST_COLUMNS: usize = 64;

impl Judge {
    pub(super) fn operation(
        &self,
        fingerprint: &str,
        resolved: &Resolved,
        current: &Current,
        snapshot: &Snapshot,
    ) -> Operation {
        let mut actions: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
        for access in &resolved.accesses {
            let shown = |resource: &ResourceRef| self.shown(resource, resolved, current, snapshot);
            let (resources, columns) = actions.entry(access.action.as_str()).or_default();
            let table = shown(&access.resource);
            columns.extend(columns_touched(resolved, access, &table));
            resources.push(table.to_string());
            for asked in columns_asked(&current.estate, resolved, access) {
                resources.push(shown(&asked.resource).to_string());
            }
        }
        for path in &resolved.catalog_reads {
            let table = ResourceRef::table(path.clone());
            let shown = self.shown(&table, resolved, current, snapshot);
            let (resources, _) = actions.entry("select").or_default();
            resources.push(shown.to_string());
        }
        Operation {
            statement: fingerprint.to_owned(),
            actions: actions
                .into_iter()
                .map(|(action, (resources, columns))| ActionOn {
                    action: action.to_owned(),
                    resources,
                    more: None,
                    columns,
                })
                .collect(),
            policies: Vec::new(),
            coverage: match resolved.coverage {
                Coverage::Parsed => body::Coverage::Complete,
                Coverage::Opaque => body::Coverage::ParsedOnly,
            },
            estate: Some((current.estate.version().to_owned(), current.index)),
        }
    }

    /// A resource as a record names it. What neither catalogue nor estate know is a client's word and
    /// may be a literal or a secret in the wrong place: of it the record holds a commitment.
    pub(super) fn shown(
        &self,
        resource: &ResourceRef,
        resolved: &Resolved,
        current: &Current,
        snapshot: &Snapshot,
    ) -> ResourceRef {
        // A column's name is the catalogue's or the estate's own; its table's may be neither.
        if resource.kind == ResourceKind::Column
            && let Some(table) = resource.parent()
        {
            let table = self.shown(&table, resolved, current, snapshot);
            return table.column(&resource.last_name());
        }
        if !resolved.unknown.contains(resource) || current.estate.object(resource).declared {
            return resource.clone();
        }
        let hidden = |field: &str, value: &str| {
            let commitment = Commitment::new(&self.salt, field, value.as_bytes());
            format!("~{}", crypto::hex::encode(&commitment.0.0))
        };
        let catalog = &snapshot.catalog;
        let schema = resource.path.split('/').nth(1).unwrap_or_default();
        let known = catalog.knows_schema(schema)
            || resource
                .parent()
                .is_some_and(|schema| current.estate.object(&schema).declared);
        let schema = if known {
            schema.to_owned()
        } else {
            hidden("schema", schema)
        };
        let name = hidden("name", &resource.path);
        ResourceRef::from_segments(resource.kind, &[&catalog.database, &schema, &name])
    }

    /// The operation of a statement of which no more than its fingerprint is known, or not even that.
    pub(crate) fn unresolved(&self, known: Option<&str>) -> Operation {
        let current = self.following.current();
        Operation {
            statement: known.map_or_else(|| fingerprint(""), str::to_owned),
            actions: Vec::new(),
            policies: Vec::new(),
            coverage: body::Coverage::Blind,
            estate: current.map(|current| (current.estate.version().to_owned(), current.index)),
        }
    }
}

/// The columns that an access is to, as a record has them, of a table as the record has it.
fn columns_touched(resolved: &Resolved, access: &Access, table: &ResourceRef) -> Vec<String> {
    let Some(columns) = resolved.columns.get(access) else {
        return Vec::new();
    };
    if columns.all || columns.names.len() > MOST_COLUMNS {
        return vec![table.column(ANY).to_string()];
    }
    let names = columns.names.iter();
    names.map(|name| table.column(name).to_string()).collect()
}

/// What is denied comes first, so that a record always has room for it.
pub(super) fn to_front(operation: &mut Operation, action: Action, resource: &str) {
    let Some(at) = operation
        .actions
        .iter()
        .position(|on| on.action == action.as_str())
    else {
        return;
    };
    operation.actions.swap(0, at);
    if let Some(on) = operation.actions.first_mut()
        && let Some(at) = on.resources.iter().position(|known| known == resource)
    {
        on.resources.swap(0, at);
    }
}

/// PostgreSQL's own query fingerprint: literals do not enter it. Of what cannot be parsed nothing is
/// said, because the text may hold literals.
pub(super) fn fingerprint(text: &str) -> String {
    pg_query::fingerprint(text, 0, pg_query::FingerprintOptions::default())
        .map_or_else(|_| UNPARSED.to_owned(), |fingerprint| fingerprint.hex)
}
