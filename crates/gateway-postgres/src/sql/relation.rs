//! From a relation's name to the resources that it stands for: views to their base tables,
//! parents to children, partitions to what governs them.

use super::access::{Coverage, Definition, Effect, Name};
use super::catalog::{Found, ReferentialAction, Relation, RelationKind};
use super::columns::Which;
use super::resolve::{Environment, Walker};
use super::system;
use estate::{Action, ResourceKind, ResourceRef};
use facts::Finding;
use pg_query::protobuf::RangeVar;
use std::collections::BTreeSet;

impl Walker<'_> {
    /// A relation that is read; may name a common table expression.
    pub(super) fn read(&mut self, range: &RangeVar) -> Result<(), Finding> {
        self.work.spend(1 + self.tables_in_scope.len() / 16);
        let in_scope = range.schemaname.is_empty() && self.tables_in_scope.contains(&range.relname);
        if in_scope {
            self.met.relations += 1;
            return Ok(());
        }
        self.note_relation(range);
        if self.locking {
            self.out.writes();
            self.touch_range(range, Action::Update)?;
        }
        self.met.relations += 1;
        self.touch_range(range, Action::Select)
    }

    /// The target of a write: never a common table expression.
    pub(super) fn write(&mut self, range: &RangeVar, action: Action) -> Result<(), Finding> {
        self.met.relations += 1;
        self.out.writes();
        self.change(range, action)
    }

    /// As [`Self::touch_range`], and what foreign keys do about it.
    pub(super) fn change(&mut self, range: &RangeVar, action: Action) -> Result<(), Finding> {
        let follows = matches!(action, Action::Update | Action::Delete);
        let outer = std::mem::replace(&mut self.cascading, follows);
        let changed = self.touch_range(range, action);
        self.cascading = outer;
        changed
    }

    pub(super) fn touch_range(&mut self, range: &RangeVar, action: Action) -> Result<(), Finding> {
        self.check_range(range)?;
        let schema = Some(range.schemaname.as_str()).filter(|schema| !schema.is_empty());
        self.touch_name(schema, &range.relname, action, range.inh)
    }

    fn check_range(&self, range: &RangeVar) -> Result<(), Finding> {
        let catalog = self.environment.catalog;
        if !range.catalogname.is_empty() && range.catalogname != catalog.database {
            return Err(
                Finding::new("SQL-DATABASE", "a relation of another database")
                    .expected(catalog.database.clone())
                    .observed(range.catalogname.clone()),
            );
        }
        if range.relpersistence == "t" {
            return Err(Finding::new(
                "SQL-TEMPORARY",
                "temporary relations are not available: what is copied into one leaves policy's sight",
            ));
        }
        Ok(())
    }

    pub(super) fn touch_name(
        &mut self,
        schema: Option<&str>,
        name: &str,
        action: Action,
        inherited: bool,
    ) -> Result<(), Finding> {
        self.work.spend(1);
        let catalog = self.environment.catalog;
        if schema.is_none() {
            self.usable(|schema| catalog.knows_relation(schema, name))?;
        }
        let found = catalog.find(schema, name, self.environment.search_path);
        self.out.names.insert(looked_up(&found));
        match found {
            Found::System { schema, name } => self.touch_system(&schema, &name, action),
            Found::Unknown { schema, name } => {
                let resource = self.table(&schema, &name);
                self.out.unknown.insert(resource.clone());
                if super::catalog::is_system_schema(&schema) {
                    return self.touch_system(&schema, &name, action);
                }
                self.out.touch(action, resource);
                Ok(())
            }
            Found::Relation(relation) => self.touch_relation(relation, action, inherited),
        }
    }

    /// PostgreSQL passes over a schema of the path that the role may not use, and searches it as soon as
    /// the role may: what such a schema knows is not resolved by the path.
    pub(super) fn usable(&self, knows: impl Fn(&str) -> bool) -> Result<(), Finding> {
        let Environment {
            catalog,
            search_path,
            role,
            ..
        } = self.environment;
        let Some(role) = role else { return Ok(()) };
        let path = search_path.iter().map(String::as_str);
        for schema in path.filter(|schema| !catalog.may_use(role, schema)) {
            if knows(schema) {
                return Err(Finding::new(
                    "SQL-SCHEMA-USAGE",
                    "a name stands in a schema of search_path that the role may not use",
                )
                .observed(schema.to_owned())
                .next("qualify the name, or leave the schema out of search_path"));
            }
        }
        Ok(())
    }

    /// A relation that comes into being: without a schema in the first one of the path that exists.
    pub(super) fn create(
        &mut self,
        target: &RangeVar,
        table: bool,
        replaces: bool,
    ) -> Result<(), Finding> {
        self.check_range(target)?;
        self.met.relations += 1;
        self.out.defines = true;
        self.out.writes();
        self.work.spend(1);
        let catalog = self.environment.catalog;
        let schema = if target.schemaname.is_empty() {
            let path = self.environment.search_path;
            let existing = path.iter().find(|schema| catalog.knows_schema(schema));
            self.usable(|schema| existing.is_some_and(|existing| existing == schema))?;
            let schema = existing.or_else(|| path.first());
            schema.map_or("public", String::as_str)
        } else {
            target.schemaname.as_str()
        };
        let name = target.relname.as_str();
        self.out.definitions.insert(Definition {
            schema: schema.to_owned(),
            name: name.to_owned(),
            table,
            replaces,
        });
        match catalog.find(Some(schema), name, &[]) {
            Found::Relation(relation) => self.touch_relation(relation, Action::Define, false),
            _ if super::catalog::is_system_schema(schema) => {
                self.touch_system(schema, name, Action::Define)
            }
            _ => {
                let resource = self.table(schema, name);
                self.out.unknown.insert(resource.clone());
                self.out.touch(Action::Define, resource);
                Ok(())
            }
        }
    }

    /// As [`Self::touch_name`], of what is dropped.
    pub(super) fn drop_name(&mut self, schema: Option<&str>, name: &str) -> Result<(), Finding> {
        self.touch_name(schema, name, Action::Define, false)?;
        self.out.definitions.insert(Definition {
            schema: schema.unwrap_or_default().to_owned(),
            name: name.to_owned(),
            table: false,
            replaces: false,
        });
        Ok(())
    }

    pub(super) fn table(&self, schema: &str, name: &str) -> ResourceRef {
        let database = self.environment.catalog.database.as_str();
        ResourceRef::from_segments(ResourceKind::Table, &[database, schema, name])
    }

    fn table_of(&self, relation: &Relation) -> ResourceRef {
        self.table(&relation.schema, &relation.name)
    }

    fn touch_system(&mut self, schema: &str, name: &str, action: Action) -> Result<(), Finding> {
        let resource = self.table(schema, name);
        if action == Action::Select && system::is_readable(schema, name) {
            self.out.catalog_reads.insert(resource.path);
            return Ok(());
        }
        Err(Finding::new(
            "SQL-CATALOG",
            format!("{action} on {resource} is never allowed through the gateway"),
        )
        .next("system catalogues that hold other sessions' data or secrets stay closed"))
    }

    pub(super) fn touch_relation(
        &mut self,
        relation: &Relation,
        action: Action,
        inherited: bool,
    ) -> Result<(), Finding> {
        let touch = (relation.oid, action, inherited, self.cascading);
        if !self.touched.insert(touch) {
            return Ok(());
        }
        self.runs_code_of(relation, action);
        match relation.kind {
            RelationKind::View | RelationKind::MaterializedView => {
                self.touch_view(relation, action)
            }
            RelationKind::Sequence => {
                let owner = relation
                    .owned_by
                    .and_then(|oid| self.environment.catalog.relation(oid));
                let resource = self.table_of(owner.unwrap_or(relation));
                // No column of the table changes by it.
                self.link(relation, action, resource.clone(), relation.oid);
                self.out.touch(action, resource);
                Ok(())
            }
            RelationKind::Other => Err(Finding::new(
                "SQL-RELATION",
                format!(
                    "{} is not a relation that holds rows",
                    self.table_of(relation)
                ),
            )),
            RelationKind::Table | RelationKind::Partitioned | RelationKind::Foreign => {
                let mut climbed = BTreeSet::new();
                for oid in self.family(relation, inherited) {
                    if let Some(member) = self.environment.catalog.relation(oid) {
                        self.out.relations.insert(oid);
                        self.runs_code_of(member, action);
                        self.touch_member(relation, member, action, &mut climbed);
                        self.cascade(member, action)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Whoever reads or writes `relation` runs what hangs on it, which may do anything.
    fn runs_code_of(&mut self, relation: &Relation, action: Action) {
        if action != Action::Select && relation.opaque {
            self.out.coverage = Coverage::Opaque;
        }
        if action == Action::Select && relation.opaque_read {
            self.out.coverage = Coverage::Opaque;
            self.out.writes();
        }
    }

    /// What foreign keys do to rows of other tables when rows of `relation` go or change.
    fn cascade(&mut self, relation: &Relation, action: Action) -> Result<(), Finding> {
        if !self.cascading {
            return Ok(());
        }
        let catalog = self.environment.catalog;
        for reference in catalog.references_to(relation.oid) {
            let does = if action == Action::Delete {
                reference.on_delete
            } else {
                reference.on_update
            };
            let follows = match does {
                ReferentialAction::Nothing => continue,
                ReferentialAction::Cascade => action,
                ReferentialAction::Set => Action::Update,
            };
            let Some(from) = catalog.relation(reference.from) else {
                return Err(Finding::new(
                    "SQL-CASCADE",
                    "a foreign key changes a table that is not in the catalogue",
                ));
            };
            if self.cascaded.insert((from.oid, follows)) {
                if follows == Action::Update {
                    self.mark(from.oid, follows, Which::All);
                }
                self.deeper()?;
                self.touch_relation(from, follows, true)?;
                self.depth -= 1;
            }
        }
        Ok(())
    }

    /// `relation` and, when `inherited`, all below it.
    fn family(&mut self, relation: &Relation, inherited: bool) -> BTreeSet<u32> {
        let mut family = BTreeSet::from([relation.oid]);
        let mut next = vec![relation];
        while inherited && let Some(member) = next.pop() {
            self.work.spend(1 + member.children.len());
            for child in &member.children {
                if let Some(child) = self.environment.catalog.relation(*child)
                    && family.insert(child.oid)
                {
                    next.push(child);
                }
            }
        }
        family
    }

    /// A table itself and what its rows also belong to. An undeclared partition is nothing of its
    /// own: what governs it is the table that it is a part of. `climbed` holds those that are done.
    fn touch_member(
        &mut self,
        named: &Relation,
        member: &Relation,
        action: Action,
        climbed: &mut BTreeSet<u32>,
    ) {
        let mut next = vec![member];
        while let Some(member) = next.pop() {
            self.work.spend(1 + member.parents.len());
            if !climbed.insert(member.oid) {
                continue;
            }
            // The keys of what it is a partition of are computed for each of its rows.
            if action != Action::Select {
                self.runs_code_of(member, action);
            }
            let resource = self.table_of(member);
            if !member.partition || self.environment.declared.is_declared(&resource) {
                self.link(named, action, resource.clone(), member.oid);
                self.out.touch(action, resource);
            }
            let parents = member.parents.iter();
            next.extend(parents.filter_map(|parent| self.environment.catalog.relation(*parent)));
        }
    }

    /// A view is another name for its base tables; declared, it is also a resource of its own.
    fn touch_view(&mut self, view: &Relation, action: Action) -> Result<(), Finding> {
        // Its tables stay as they are, whatever becomes of the view.
        if action == Action::Define {
            let resource = self.table_of(view);
            self.out.touch(action, resource);
            return Ok(());
        }
        let Some(known) = self.environment.views.find(view.oid) else {
            self.missing.insert(view.oid);
            return Ok(());
        };
        let inner = known?;
        self.work
            .spend(inner.accesses.len() + inner.relations.len());
        let resource = self.table_of(view);
        let tables: Vec<ResourceRef> = inner.tables().cloned().collect();
        let stands_alone = tables.is_empty();
        if action != Action::Select {
            for table in tables {
                self.out.touch(action, table);
            }
            for oid in &inner.relations {
                if let Some(base) = self.environment.catalog.relation(*oid) {
                    // Which of them the view's own columns are, only its definition knows.
                    if action.is_by_column() {
                        self.mark(base.oid, action, Which::All);
                    }
                    self.touch_relation(base, action, false)?;
                }
            }
        }
        self.out.absorb_view(&inner);
        if inner.effect > Effect::ReadOnly {
            self.out.writes();
        }
        if stands_alone || self.environment.declared.is_declared(&resource) {
            self.link(view, action, resource.clone(), view.oid);
            self.out.touch(action, resource);
        }
        Ok(())
    }
}

fn looked_up(found: &Found<'_>) -> Name {
    let (schema, name, relation) = match found {
        Found::Relation(relation) => (&relation.schema, &relation.name, Some(relation)),
        Found::System { schema, name } | Found::Unknown { schema, name } => (schema, name, None),
    };
    Name {
        schema: schema.clone(),
        name: name.clone(),
        oid: relation.map(|relation| relation.oid),
        sequence: relation.is_some_and(|relation| relation.kind == RelationKind::Sequence),
    }
}
