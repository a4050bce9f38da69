//! What a statement touches: its text becomes the list of accesses that policy decides on.
//!
//! Nothing here decides or talks to a database. PostgreSQL's own grammar reads the text
//! (`pg_query`), our resolver walks the tree against a snapshot of the catalogue, and a census of
//! the same tree checks that the walk met every relation and function in it. What the resolver
//! does not know it refuses.

mod access;
pub(crate) mod catalog;
mod census;
mod columns;
#[cfg(test)]
mod conformance;
mod expression;
mod functions;
#[cfg(test)]
mod judged;
mod query;
mod relation;
mod resolve;
mod scope;
mod settings;
mod statistics;
mod system;
mod utility;
mod views;

pub use access::{Access, Columns, Coverage, Definition, Effect, Name, NamedEffect, Resolved};
pub use catalog::{Catalog, Function, Reference, ReferentialAction, Relation, RelationKind};
pub use resolve::{Declared, Environment, Limits, Refusal, resolve, resolve_quickly, stands_for};
pub use settings::{StartupParameter, startup_parameter};
pub use views::Views;
