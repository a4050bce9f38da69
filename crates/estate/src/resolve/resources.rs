//! `resources/`: databases, schemas, tables, columns, functions; classifications inherited down.

use super::{Groups, Seen, Source, attributes, check_groups, declarations, names, others, parse};
use crate::declare::{ColumnEntry, DatabaseEntry, ResourcesFile, SchemaEntry, TableEntry};
use crate::files::EstateFiles;
use crate::model::{Column, Container, Model, Settings, TableInfo};
use crate::problem::{Lines, Problem};
use crate::resource::{ResourceKind, ResourceRef};
use crate::vocabulary::Vocabulary;
use std::collections::BTreeMap;
use toml::Spanned;

type Containers = BTreeMap<ResourceRef, Container>;
type Objects = BTreeMap<ResourceRef, TableInfo>;
type Labels = BTreeMap<String, String>;

/// Everything is declared once; a database with its schemas stands in one file.
pub(super) fn resolve(
    files: &EstateFiles,
    vocabulary: &Vocabulary,
    model: &mut Model,
    problems: &mut Vec<Problem>,
) {
    let mut parsed = Vec::new();
    for (file, text) in declarations(files, "resources") {
        if let Some(declared) = parse::<ResourcesFile>(file, text, problems) {
            parsed.push((file, Lines::of(text), declared));
        }
    }
    let mut resolver = Resolver {
        settings: &model.settings,
        groups: &model.groups,
        vocabulary,
        seen: Seen::default(),
        containers: Containers::new(),
        objects: Objects::new(),
    };
    for (file, lines, declared) in &parsed {
        let mut source = Source {
            file,
            lines: lines.clone(),
            problems,
        };
        for database in &declared.databases {
            resolver.database(&mut source, database);
        }
    }
    (model.containers, model.objects) = (resolver.containers, resolver.objects);
    others::resolve(&parsed, vocabulary, model, problems);
}

struct Resolver<'a> {
    settings: &'a Settings,
    groups: &'a Groups,
    vocabulary: &'a Vocabulary,
    seen: Seen,
    containers: Containers,
    objects: Objects,
}

/// What every database object can say of itself.
struct Own<'a> {
    classification: Option<String>,
    owner: Option<&'a String>,
    labels: &'a Labels,
    groups: &'a [Spanned<String>],
}

impl Resolver<'_> {
    fn database(&mut self, source: &mut Source<'_>, entry: &DatabaseEntry) {
        let name = entry.name.get_ref();
        let Some(resource) = self.declare(source, ResourceKind::Database, &[name], &entry.name)
        else {
            return;
        };
        check_groups(source, &entry.groups, self.groups);
        others::check_labels(source, &entry.name, &entry.labels);
        let container = Container {
            classification: classification(source, self.settings, entry.classification.as_ref()),
            owner: entry.owner.clone(),
            labels: entry.labels.clone(),
            groups: names(&entry.groups),
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
        check_groups(source, &entry.groups, self.groups);
        others::check_labels(source, &entry.name, &entry.labels);
        let own = classification(source, self.settings, entry.classification.as_ref());
        let container = Container {
            classification: own.or_else(|| above.classification.clone()),
            owner: entry.owner.clone().or_else(|| above.owner.clone()),
            labels: below(&above.labels, &entry.labels),
            groups: names(&entry.groups),
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
            let own = Own {
                classification: classification(
                    source,
                    self.settings,
                    function.classification.as_ref(),
                ),
                owner: function.owner.as_ref(),
                labels: &function.labels,
                groups: &function.groups,
            };
            let info = self.object(source, &resource, &container, &function.name, own);
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
        let own = Own {
            classification: classification(source, self.settings, entry.classification.as_ref()),
            owner: entry.owner.as_ref(),
            labels: &entry.labels,
            groups: &entry.groups,
        };
        let mut info = self.object(source, resource, above, &entry.name, own);
        info.attributes = attributes(
            source,
            &entry.name,
            &format!("table `{}`", entry.name.get_ref()),
            &entry.attributes,
            &self.vocabulary.table_attributes,
        );
        for ColumnEntry {
            name,
            classification: own,
        } in &entry.columns
        {
            source.check_text("the name of a column", name);
            let own = classification(source, self.settings, own.as_ref());
            let rank = |name: &String| self.settings.rank(name);
            let counts =
                |own: &String| !self.vocabulary.columns || rank(own) > rank(&info.classification);
            let own = own.filter(counts);
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
        if self.vocabulary.columns {
            return info;
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
        source: &mut Source<'_>,
        resource: &ResourceRef,
        above: &Container,
        at: &Spanned<String>,
        own: Own<'_>,
    ) -> TableInfo {
        check_groups(source, own.groups, self.groups);
        others::check_labels(source, at, own.labels);
        let classification = own.classification.or_else(|| above.classification.clone());
        TableInfo {
            resource: resource.clone(),
            unclassified: classification.is_none(),
            classification: classification
                .unwrap_or_else(|| self.settings.most_restricted().to_owned()),
            owner: own.owner.or(above.owner.as_ref()).cloned(),
            labels: below(&above.labels, own.labels),
            groups: names(own.groups),
            attributes: BTreeMap::new(),
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
}

/// The labels of what lies in something with labels `above`.
fn below(above: &Labels, own: &Labels) -> Labels {
    let mut labels = above.clone();
    labels.extend(own.clone());
    labels
}

pub(super) fn classification(
    source: &mut Source<'_>,
    settings: &Settings,
    name: Option<&Spanned<String>>,
) -> Option<String> {
    let name = name?;
    let known = &settings.classifications;
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
