//! A snapshot of what the database defines, as far as resolving names needs it.
//!
//! Filled by the administrative connection (`upstream::snapshot`); here it is only searched.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// First OID that is not the system's own (`FirstNormalObjectId`).
pub(crate) const FIRST_OWN: u32 = 16_384;

/// What `pg_class.relkind` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
    Sequence,
    /// Indexes, TOAST tables, composite types: nothing that a query may read.
    Other,
}

/// One relation outside the system schemas.
#[derive(Debug, Clone)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    /// A partition, governed by its parent unless the estate declares it.
    pub partition: bool,
    /// Direct parents by inheritance or partitioning.
    pub parents: Vec<u32>,
    pub children: Vec<u32>,
    /// `SELECT` text of a view or materialised view, every name outside `pg_catalog` qualified.
    pub definition: Option<String>,
    /// In their order.
    pub columns: Vec<Arc<str>>,
    /// Of a sequence: the table whose column it feeds.
    pub owned_by: Option<u32>,
    /// Code of its own runs when it is written: triggers, rules, or functions of constraints, defaults, indexes,
    /// types of columns or policies of rows.
    pub opaque: bool,
    /// Code of its own runs when it is read: policies of rows.
    pub opaque_read: bool,
}

/// One function or procedure outside `pg_catalog`.
#[derive(Debug, Clone)]
pub struct Function {
    pub schema: String,
    pub name: String,
    /// Arguments without a default.
    pub required: usize,
    /// `None` when variadic.
    pub most: Option<usize>,
}

/// What a foreign key does to the rows that refer, when what they refer to changes or goes.
/// PostgreSQL does it as the owner of their table: nobody asks the role for a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferentialAction {
    /// `NO ACTION`, `RESTRICT`: refuses.
    Nothing,
    Cascade,
    /// `SET NULL`, `SET DEFAULT`
    Set,
}

/// A foreign key, seen from the table that is referred to.
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    /// The table that refers.
    pub from: u32,
    pub on_delete: ReferentialAction,
    pub on_update: ReferentialAction,
}

/// Everything, indexed. `version` changes whenever anything in it does.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub database: String,
    pub version: String,
    /// `server_version_num`: 150000
    pub server_version: u32,
    relations: HashMap<u32, Relation>,
    by_name: HashMap<(String, String), u32>,
    schemas: HashSet<String>,
    /// Who may use a schema, by its name: roles, and nothing for all.
    usage: HashSet<(String, Option<String>)>,
    /// By the table that is referred to.
    references: HashMap<u32, Vec<Reference>>,
    functions: HashMap<String, Vec<Function>>,
    /// Names in `pg_catalog`, of functions and of relations.
    system_functions: HashSet<String>,
    system_relations: HashSet<(String, String)>,
    /// Names of types outside `pg_catalog` for whose values something of its own runs: all but enums.
    opaque_types: HashSet<String>,
    /// Types outside the system's for whose values nothing of its own runs: enums, and arrays of them.
    harmless_types: HashSet<u32>,
    /// Functions of casts that somebody defined, by the name of the type that they lead to.
    casts: HashMap<String, Vec<(String, String)>>,
    /// Names of operators outside `pg_catalog`, each with the functions behind it.
    operators: HashMap<String, Vec<(String, String)>>,
}

/// What a possibly unqualified relation name leads to.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Relation(&'a Relation),
    /// `pg_catalog`, `information_schema` or TOAST.
    System {
        schema: String,
        name: String,
    },
    /// Not in the snapshot: named as it would be if it existed.
    Unknown {
        schema: String,
        name: String,
    },
}

impl Catalog {
    #[must_use]
    pub fn new(database: &str, version: String, server_version: u32) -> Self {
        Self {
            database: database.to_owned(),
            version,
            server_version,
            ..Self::default()
        }
    }

    pub fn add_relation(&mut self, relation: Relation) {
        self.schemas.insert(relation.schema.clone());
        self.by_name.insert(
            (relation.schema.clone(), relation.name.clone()),
            relation.oid,
        );
        self.relations.insert(relation.oid, relation);
    }

    pub fn add_reference(&mut self, to: u32, reference: Reference) {
        self.references.entry(to).or_default().push(reference);
    }

    pub(crate) fn references_to(&self, oid: u32) -> &[Reference] {
        self.references.get(&oid).map_or(&[], Vec::as_slice)
    }

    pub fn add_function(&mut self, function: Function) {
        self.schemas.insert(function.schema.clone());
        self.functions
            .entry(function.name.clone())
            .or_default()
            .push(function);
    }

    pub fn add_system_function(&mut self, name: String) {
        self.system_functions.insert(name);
    }

    pub fn add_system_relation(&mut self, schema: String, name: String) {
        self.system_relations.insert((schema, name));
    }

    pub fn add_operator(&mut self, name: String, schema: String, function: String) {
        self.operators
            .entry(name)
            .or_default()
            .push((schema, function));
    }

    pub fn add_schema(&mut self, schema: String) {
        self.schemas.insert(schema);
    }

    /// `role` may use the schema, or all may.
    pub fn add_usage(&mut self, schema: String, role: Option<String>) {
        self.usage.insert((schema, role));
    }

    pub fn add_harmless_type(&mut self, oid: u32) {
        self.harmless_types.insert(oid);
    }

    /// Whether something of its own may run for values of this type: a type that nobody knows counts.
    pub(crate) fn is_opaque_oid(&self, oid: u32) -> bool {
        oid >= FIRST_OWN && !self.harmless_types.contains(&oid)
    }

    /// Whether `role` has USAGE on a schema. Of one that does not exist nobody needs it.
    pub(crate) fn may_use(&self, role: &str, schema: &str) -> bool {
        let has = |role| self.usage.contains(&(schema.to_owned(), role));
        !self.schemas.contains(schema) || has(None) || has(Some(role.to_owned()))
    }

    pub(crate) fn knows_relation(&self, schema: &str, name: &str) -> bool {
        self.find_in(schema, name).is_some()
    }

    pub fn add_opaque_type(&mut self, name: String) {
        self.opaque_types.insert(name);
    }

    pub fn add_cast(&mut self, target: String, schema: String, function: String) {
        self.casts
            .entry(target)
            .or_default()
            .push((schema, function));
    }

    pub(crate) fn is_opaque_type(&self, name: &str) -> bool {
        self.opaque_types.contains(name)
    }

    pub(crate) fn casts_to(&self, target: &str) -> &[(String, String)] {
        self.casts.get(target).map_or(&[], Vec::as_slice)
    }

    #[must_use]
    pub fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    pub(crate) fn functions_named(&self, name: &str) -> &[Function] {
        self.functions.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.functions.values().flatten()
    }

    pub(crate) fn is_system_function(&self, name: &str) -> bool {
        self.system_functions.contains(name)
    }

    pub(crate) fn knows_schema(&self, schema: &str) -> bool {
        is_system_schema(schema) || self.schemas.contains(schema)
    }

    pub(crate) fn knows_function(&self, schema: &str, name: &str) -> bool {
        if schema == "pg_catalog" {
            return self.is_system_function(name);
        }
        self.functions_named(name)
            .iter()
            .any(|function| function.schema == schema)
    }

    pub(crate) fn operators_named(&self, name: &str) -> &[(String, String)] {
        self.operators.get(name).map_or(&[], Vec::as_slice)
    }

    fn named(&self, schema: &str, name: &str) -> Option<&Relation> {
        let oid = self.by_name.get(&(schema.to_owned(), name.to_owned()))?;
        self.relations.get(oid)
    }

    /// Follows `search_path` as PostgreSQL does: `pg_catalog` first unless the path lists it.
    /// Temporary relations do not exist: the role may not make them.
    pub(crate) fn find(
        &self,
        schema: Option<&str>,
        name: &str,
        search_path: &[String],
    ) -> Found<'_> {
        if let Some(schema) = schema {
            return self
                .find_in(schema, name)
                .unwrap_or_else(|| Found::Unknown {
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                });
        }
        effective(search_path)
            .find_map(|schema| self.find_in(schema, name))
            .unwrap_or_else(|| Found::Unknown {
                schema: search_path
                    .first()
                    .map_or("public", String::as_str)
                    .to_owned(),
                name: name.to_owned(),
            })
    }

    fn find_in(&self, schema: &str, name: &str) -> Option<Found<'_>> {
        if is_system_schema(schema) {
            let key = (schema.to_owned(), name.to_owned());
            return self
                .system_relations
                .contains(&key)
                .then_some(Found::System {
                    schema: key.0,
                    name: key.1,
                });
        }
        self.named(schema, name).map(Found::Relation)
    }
}

/// The schemas in the order in which they are searched.
pub(crate) fn effective(search_path: &[String]) -> impl Iterator<Item = &str> {
    let implicit = !search_path.iter().any(|schema| schema == "pg_catalog");
    implicit
        .then_some("pg_catalog")
        .into_iter()
        .chain(search_path.iter().map(String::as_str))
}

pub(crate) fn is_system_schema(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema") || schema.starts_with("pg_")
}
