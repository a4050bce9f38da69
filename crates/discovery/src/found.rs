//! What was found, whoever said so: names, and what lies in what. Not what it means.

use crate::report::Refused;
use std::collections::{BTreeMap, BTreeSet};

/// As long as a name of the estate may be.
const MAX_NAME: usize = 4_096;

/// One database, one tool server or one API, with all that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Database(Database),
    ToolServer(ToolServer),
    Api(Api),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Database {
    /// As the estate calls it.
    pub name: String,
    pub schemas: BTreeMap<String, Schema>,
    /// Where was looked: elsewhere nothing is gone.
    pub scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// Tables, views and whatever else has columns, each with these in their order.
    pub tables: BTreeMap<String, Vec<String>>,
    /// Of the tables, those that another governs unless the estate declares them: they are not added.
    pub governed: BTreeSet<String>,
    /// By name alone: all that share one are one resource.
    pub functions: BTreeSet<String>,
}

/// Which schemas were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Only these; `None`: every one.
    pub only: Option<BTreeSet<String>>,
    /// The system's own as well.
    pub system: bool,
}

impl Scope {
    #[must_use]
    pub fn covers(&self, schema: &str) -> bool {
        match &self.only {
            Some(only) => only.contains(schema),
            None => self.system || !is_system(schema),
        }
    }
}

/// PostgreSQL reserves these names for itself.
fn is_system(schema: &str) -> bool {
    schema == "information_schema" || schema.starts_with("pg_")
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolServer {
    pub name: String,
    /// Tools, each with `sha256:` and the digest of its definition.
    pub tools: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Api {
    pub name: String,
    /// Method in capitals, and path from its slash on.
    pub routes: BTreeSet<(String, String)>,
}

impl Found {
    /// Without what no estate can declare, which is told.
    pub(crate) fn checked(&self) -> (Self, Vec<Refused>) {
        let mut refused = Vec::new();
        let mut fits = |kind: &'static str, name: &str| {
            let why = why_not(name);
            refused.extend(why.map(|why| Refused {
                kind,
                name: name.to_owned(),
                why,
            }));
            why.is_none()
        };
        let mut checked = self.clone();
        match &mut checked {
            Self::Database(database) => {
                database.schemas.retain(|name, _| fits("schema", name));
                for schema in database.schemas.values_mut() {
                    schema.tables.retain(|name, _| fits("table", name));
                    schema.functions.retain(|name| fits("function", name));
                    for columns in schema.tables.values_mut() {
                        columns.retain(|name| fits("column", name));
                    }
                }
            }
            Self::ToolServer(server) => server.tools.retain(|name, _| fits("tool", name)),
            Self::Api(api) => api
                .routes
                .retain(|(method, path)| fits("route", &format!("{method} {path}"))),
        }
        (checked, refused)
    }
}

/// Why no estate can declare this name.
pub(crate) fn why_not(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > MAX_NAME {
        Some("it is longer than 4096 bytes")
    } else if name.chars().any(char::is_control) {
        Some("it has control characters")
    } else {
        None
    }
}
