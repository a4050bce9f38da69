//! `resources/`: databases, schemas, tables, columns, functions; classifications inherited down.

use super::{Seen, Source, declarations, parse};
use crate::declare::{ColumnEntry, DatabaseEntry, ResourcesFile, SchemaEntry, TableEntry};
use crate::files::EstateFiles;
use crate::model::{Column, Container, Settings, TableInfo};
use crate::problem::{Lines, Problem};
use crate::resource::{ResourceKind, ResourceRef};
use std::collections::BTreeMap;
use toml::Spanned;

type Containers = BTreeMap<ResourceRef, Container>;
type Objects = BTreeMap<ResourceRef, TableInfo>;

/// Everything is declared once; a database with its schemas stands in one file.
pub(super) fn resolve(
    files: &EstateFiles,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> (Containers, Objects) {
    let mut resolver = Resolver {
        settings,
        seen: Seen::default(),
        containers: Containers::new(),
        objects: Objects::new(),
    };
    for (file, text) in declarations(files, "resources") {
        let Some(declared) = parse::<ResourcesFile>(file, text, problems) else {
            continue;
        };
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        for database in &declared.databases {
            resolver.database(&mut source, database);
        }
    }
    (resolver.containers, resolver.objects)
}

struct Resolver<'a> {
    settings: &'a Settings,
    seen: Seen,
    containers: Containers,
    objects: Objects,
}

impl Resolver<'_> {
    fn database(&mut self, source: &mut Source<'_>, entry: &DatabaseEntry) {
        let name = entry.name.get_ref();
        let Some(resource) = self.declare(source, ResourceKind::Database, &[name], &entry.name)
        else {
            return;
        };
        let container = Container {
            classification: self.classification(source, entry.classification.as_ref()),
            owner: entry.owner.clone(),
        };
        for schema in &entry.schemas {
            self.schema(source, name, &container, schema);
        }
        self.containers.insert(resource, container);
    }

    fn schema(
        &mut self,
        source: &mut Source<'_>,
        database: &str,
        above: &Container,
        entry: &SchemaEntry,
    ) {
        let path = [database, entry.name.get_ref()];
        let Some(resource) = self.declare(source, ResourceKind::Schema, &path, &entry.name) else {
            return;
        };
        let own = self.classification(source, entry.classification.as_ref());
        let container = Container {
            classification: own.or_else(|| above.classification.clone()),
            owner: entry.owner.clone().or_else(|| above.owner.clone()),
        };
        for table in &entry.tables {
            let [database, schema] = path;
            let path = [database, schema, table.name.get_ref()];
            let Some(resource) = self.declare(source, ResourceKind::Table, &path, &table.name)
            else {
                continue;
            };
            let info = self.table(source, &resource, &container, table);
            self.objects.insert(resource, info);
        }
        for function in &entry.functions {
            let [database, schema] = path;
            let path = [database, schema, function.name.get_ref()];
            let Some(resource) =
                self.declare(source, ResourceKind::Function, &path, &function.name)
            else {
                continue;
            };
            let own = self.classification(source, function.classification.as_ref());
            let info = self.object(&resource, &container, own, function.owner.clone());
            self.objects.insert(resource, info);
        }
        self.containers.insert(resource, container);
    }

    fn table(
        &self,
        source: &mut Source<'_>,
        resource: &ResourceRef,
        above: &Container,
        entry: &TableEntry,
    ) -> TableInfo {
        let own = self.classification(source, entry.classification.as_ref());
        let mut info = self.object(resource, above, own, entry.owner.clone());
        for ColumnEntry {
            name,
            classification,
        } in &entry.columns
        {
            source.check_text("the name of a column", name);
            let own = self.classification(source, classification.as_ref());
            let column = Column {
                classification: own.unwrap_or_else(|| info.classification.clone()),
            };
            if info
                .columns
                .insert(name.get_ref().clone(), column)
                .is_some()
            {
                let message = format!("column `{}` is declared twice", name.get_ref());
                source.problem("ESTATE-DUPLICATE", name, message);
            }
        }
        // Decisions are by table: its most restricted column counts for the whole of it.
        let columns = info.columns.values().map(|column| &column.classification);
        if let Some(most) = columns.max_by_key(|name| self.settings.rank(name))
            && self.settings.rank(most) > self.settings.rank(&info.classification)
        {
            info.classification = most.clone();
        }
        info
    }

    fn object(
        &self,
        resource: &ResourceRef,
        above: &Container,
        own: Option<String>,
        owner: Option<String>,
    ) -> TableInfo {
        let classification = own.or_else(|| above.classification.clone());
        TableInfo {
            resource: resource.clone(),
            unclassified: classification.is_none(),
            classification: classification
                .unwrap_or_else(|| self.settings.most_restricted().to_owned()),
            owner: owner.or_else(|| above.owner.clone()),
            columns: BTreeMap::new(),
            declared: true,
        }
    }

    fn declare(
        &mut self,
        source: &mut Source<'_>,
        kind: ResourceKind,
        segments: &[&str],
        name: &Spanned<String>,
    ) -> Option<ResourceRef> {
        source.check_text(
            &format!("the name of a {}", kind.type_name().to_lowercase()),
            name,
        );
        let resource = ResourceRef::from_segments(kind, segments);
        let key = resource.to_string();
        self.seen
            .first(source, kind.type_name(), key, name)
            .then_some(resource)
    }

    fn classification(
        &self,
        source: &mut Source<'_>,
        name: Option<&Spanned<String>>,
    ) -> Option<String> {
        let name = name?;
        let known = &self.settings.classifications;
        if !known.contains(name.get_ref()) {
            let message = format!("no classification `{}` is known", name.get_ref());
            source.unknown(
                "ESTATE-CLASSIFICATION",
                name,
                message,
                known.iter().map(String::as_str),
            );
        }
        Some(name.get_ref().clone())
    }
}
