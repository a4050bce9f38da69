//! The outcome of resolving a statement: what it does to what. Not whether it may.

use estate::{Action, ResourceKind, ResourceRef};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One action on one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    pub action: Action,
    pub resource: ResourceRef,
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

/// One statement, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// First words of the statement, upper case: `SELECT`, `COPY TO`, `CREATE TABLE`.
    pub verb: &'static str,
    /// What policy decides on.
    pub accesses: BTreeSet<Access>,
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
}

impl Resolved {
    pub(crate) const fn new(verb: &'static str, effect: Effect) -> Self {
        Self {
            verb,
            accesses: BTreeSet::new(),
            relations: BTreeSet::new(),
            unknown: BTreeSet::new(),
            catalog_reads: BTreeSet::new(),
            effect,
            coverage: Coverage::Parsed,
            named: None,
            defines: false,
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

    /// Takes over what `inner` touches, as `EXPLAIN` and `DECLARE` do.
    pub(crate) fn absorb(&mut self, inner: &Self) {
        self.accesses.extend(inner.accesses.iter().cloned());
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
