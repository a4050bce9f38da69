//! The outcome of resolving a statement: what it does to what. Not whether it may.

use estate::{Action, ResourceKind, ResourceRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One action on one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    pub action: Action,
    pub resource: ResourceRef,
}

/// Which columns of a table an access is to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// To every one, or nobody can tell to which.
    pub all: bool,
    /// To one, at least, that the catalogue does not know.
    pub unknown: bool,
    /// By name, system columns among them; where it is to all, those that the catalogue knows.
    pub names: BTreeSet<Arc<str>>,
}

impl Columns {
    /// Of a table that is not in the catalogue.
    pub(crate) const fn unknown() -> Self {
        Self {
            all: true,
            unknown: true,
            names: BTreeSet::new(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.all |= other.all;
        self.unknown |= other.unknown;
        self.names.extend(other.names.iter().cloned());
    }
}

/// How much of what a statement does its text shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coverage {
    /// Every relation was resolved to base tables.
    Parsed,
    /// It calls functions of its own, fires triggers or rules: what those touch is theirs.
    Opaque,
}

impl Coverage {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parsed => "parsed",
            Self::Opaque => "opaque",
        }
    }
}

/// What a statement does besides touching resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Proven to change nothing that outlives it.
    ReadOnly,
    /// Changes the session only: `SET`, `BEGIN`, `DEALLOCATE`.
    Session,
    /// `COMMIT`, `ROLLBACK` and their kin: says whether earlier writes of the transaction last.
    Commit,
    /// May change data or definitions.
    Write,
}

/// What a statement does to the names of prepared statements and cursors.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedEffect {
    /// `PREPARE name AS …`
    Prepare { name: String, inner: Arc<Resolved> },
    /// `EXECUTE name`
    Execute { name: String },
    /// `DEALLOCATE name`, or all
    Deallocate { name: Option<String> },
    /// `DECLARE name CURSOR FOR …`; `holds` says `WITH HOLD`.
    Declare {
        name: String,
        inner: Arc<Resolved>,
        holds: bool,
    },
    /// `FETCH … FROM name`, `MOVE`
    Fetch { name: String },
    /// `CLOSE name`, or all
    Close { name: Option<String> },
    /// `DISCARD ALL`
    DiscardAll,
}

/// The name of a relation, and what it led to when it was looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Where it was found, or would be looked for first.
    pub schema: String,
    pub name: String,
    /// Nothing of what the catalogue does not know.
    pub oid: Option<u32>,
    pub sequence: bool,
}

/// A relation that a statement brings into being, changes or drops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Definition {
    pub schema: String,
    pub name: String,
    /// It is a plain table afterwards: its name stands for nothing but itself.
    pub table: bool,
    /// It is `CREATE OR REPLACE VIEW`: other views may lead to it.
    pub replaces: bool,
}

/// One statement, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// First words of the statement, upper case: `SELECT`, `COPY TO`, `CREATE TABLE`.
    pub verb: &'static str,
    /// What policy decides on.
    pub accesses: BTreeSet<Access>,
    /// Of each access that selects, inserts or updates in a table: which columns.
    pub columns: BTreeMap<Access, Columns>,
    /// The tables behind `accesses`, by OID, as far as the catalogue knows them.
    pub relations: BTreeSet<u32>,
    /// Resources among `accesses` and `catalog_reads` that the catalogue does not know: their names are a
    /// client's words, and may be anything.
    pub unknown: BTreeSet<ResourceRef>,
    /// System catalogues and views read, by path. Decided like tables, recorded like harmless ones.
    pub catalog_reads: BTreeSet<String>,
    pub effect: Effect,
    pub coverage: Coverage,
    pub named: Option<NamedEffect>,
    /// The catalogue may have changed when it is done.
    pub defines: bool,
    pub definitions: BTreeSet<Definition>,
    /// Every relation that the statement itself names. Views hold what they lead to, not its name.
    pub names: BTreeSet<Name>,
    /// A view is among them, and not only to be defined.
    pub through_view: bool,
    /// Functions outside the safe ones that the statement itself may call, by schema and name.
    pub functions: BTreeSet<(String, String)>,
}

impl Resolved {
    pub(crate) const fn new(verb: &'static str, effect: Effect) -> Self {
        Self {
            verb,
            accesses: BTreeSet::new(),
            columns: BTreeMap::new(),
            relations: BTreeSet::new(),
            unknown: BTreeSet::new(),
            catalog_reads: BTreeSet::new(),
            effect,
            coverage: Coverage::Parsed,
            named: None,
            defines: false,
            definitions: BTreeSet::new(),
            names: BTreeSet::new(),
            through_view: false,
            functions: BTreeSet::new(),
        }
    }

    pub(crate) fn touch(&mut self, action: Action, resource: ResourceRef) {
        self.accesses.insert(Access { action, resource });
    }

    pub(crate) fn writes(&mut self) {
        self.effect = self.effect.max(Effect::Write);
    }

    /// Whether it defines or drops a prepared statement or cursor.
    #[must_use]
    pub const fn changes_names(&self) -> bool {
        !matches!(
            self.named,
            None | Some(NamedEffect::Execute { .. } | NamedEffect::Fetch { .. })
        )
    }

    /// What PREPARE may prepare.
    #[must_use]
    pub fn is_query(&self) -> bool {
        matches!(
            self.verb,
            "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE"
        )
    }

    /// The first name that may lead to something else than the catalogue says, because of what `defined`
    /// holds. Names of indexes and constraints are none that a query could read.
    pub(crate) fn clash(&self, defined: &[&Definition]) -> Option<&Name> {
        if defined.is_empty() {
            return None;
        }
        let through = self.through_view && defined.iter().any(|definition| definition.replaces);
        self.names.iter().find(|name| {
            // Sequences come and go with the tables whose columns they feed, and get names of their own.
            through
                || name.sequence
                || name.name.contains("_seq")
                || defined.iter().any(|definition| {
                    let same = definition.name == name.name;
                    same && !(definition.table && definition.schema == name.schema)
                })
        })
    }

    /// Whether both name the same things themselves. What views stand for may differ: PostgreSQL reads
    /// their definitions anew, as is done here.
    pub(crate) fn means_the_same(&self, other: &Self) -> bool {
        self.functions == other.functions && self.names == other.names
    }

    /// Takes over what a view stands for.
    pub(crate) fn absorb_view(&mut self, view: &Self) {
        self.absorb_accesses(view);
        self.through_view = true;
    }

    /// Takes over what `inner` touches, as `EXPLAIN` and `DECLARE` do.
    pub(crate) fn absorb(&mut self, inner: &Self) {
        self.absorb_accesses(inner);
        self.defines |= inner.defines;
        self.through_view |= inner.through_view;
        self.definitions.extend(inner.definitions.iter().cloned());
        self.names.extend(inner.names.iter().cloned());
        self.functions.extend(inner.functions.iter().cloned());
    }

    fn absorb_accesses(&mut self, inner: &Self) {
        self.accesses.extend(inner.accesses.iter().cloned());
        for (access, columns) in &inner.columns {
            self.columns.entry(access.clone()).or_default().add(columns);
        }
        self.relations.extend(&inner.relations);
        self.unknown.extend(inner.unknown.iter().cloned());
        self.catalog_reads
            .extend(inner.catalog_reads.iter().cloned());
        self.coverage = self.coverage.max(inner.coverage);
    }

    /// The tables among the accesses.
    pub fn tables(&self) -> impl Iterator<Item = &ResourceRef> {
        self.accesses
            .iter()
            .map(|access| &access.resource)
            .filter(|resource| resource.kind == ResourceKind::Table)
    }
}
