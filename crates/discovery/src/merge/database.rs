//! Databases: schemas, tables and functions in them, columns in these.

use super::{Work, escaped, file_for};
use crate::document::{Document, Element};
use crate::edit::{New, quoted};
use crate::found::Database;
use crate::report::Item;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Database,
    Schema,
    Table,
    Function,
    Column,
}

impl Kind {
    /// Its key in the files, and its word for people.
    const fn word(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Schema => "schema",
            Self::Table => "table",
            Self::Function => "function",
            Self::Column => "column",
        }
    }

    /// The header under which it stands.
    const fn header(self) -> &'static [&'static str] {
        match self {
            Self::Database => &["database"],
            Self::Schema => &["database", "schema"],
            Self::Table => &["database", "schema", "table"],
            Self::Function => &["database", "schema", "function"],
            Self::Column => &["database", "schema", "table", "column"],
        }
    }

    const fn within(self) -> &'static [Self] {
        match self {
            Self::Database => &[Self::Schema],
            Self::Schema => &[Self::Table, Self::Function],
            Self::Table => &[Self::Column],
            Self::Function | Self::Column => &[],
        }
    }

    /// What decisions are about.
    const fn is_decided_on(self) -> bool {
        matches!(self, Self::Table | Self::Function)
    }
}

struct Node<'a> {
    kind: Kind,
    name: &'a str,
    /// Need not be declared.
    optional: bool,
    children: Vec<Self>,
}

/// Where a merge is: the file, and the names down to here.
struct Here<'a> {
    document: &'a Document<'a>,
    path: Vec<String>,
    database: &'a Database,
}

impl<'a> Work<'a> {
    pub(super) fn database(&mut self, database: &'a Database) {
        let node = tree(database);
        let declares = |document: &&Document<'_>| {
            let root = document.root();
            let list = root.list("database");
            list.elements()
                .iter()
                .any(|element| element.name() == Some(&database.name))
        };
        if let Some(document) = self.documents.iter().find(declares) {
            let mut here = Here {
                document,
                path: vec![escaped(&database.name)],
                database,
            };
            let root = document.root();
            let list = root.list("database");
            for element in list.elements() {
                if element.name() == Some(&database.name) {
                    self.visit(&mut here, &node, element, None);
                }
            }
            return;
        }
        let file = file_for(&database.name);
        let mut path = vec![escaped(&database.name)];
        let new = self.new_node(&node, &mut path, None, false);
        self.append(&file, "database", &[new]);
    }

    /// Adds to the end of a file, which may not be there yet.
    pub(super) fn append(&mut self, file: &str, key: &str, new: &[New]) {
        let empty;
        let document = match self.document(file) {
            Some(document) => document,
            None => {
                let Ok(made) = Document::parse("", "") else {
                    return;
                };
                empty = made;
                &empty
            }
        };
        let (root, text) = (document.root(), document.text);
        let list = root.list(key);
        self.edits(file)
            .add(&root, text, &[], &list, new, (Some(text.len()), &[]));
    }

    fn visit(
        &mut self,
        here: &mut Here<'a>,
        node: &Node<'_>,
        element: &Element<'a>,
        above: Option<&str>,
    ) {
        self.report.kept += 1;
        let own = element.text("classification").or(above);
        if node.kind.is_decided_on() && own.is_none() {
            self.report.unclassified.push(item(node.kind, &here.path));
        }
        for kind in node.kind.within() {
            self.visit_list(here, *kind, node, element, own);
        }
    }

    fn visit_list(
        &mut self,
        here: &mut Here<'a>,
        kind: Kind,
        node: &Node<'_>,
        element: &Element<'a>,
        above: Option<&str>,
    ) {
        let list = element.list(kind.word());
        let declared: BTreeMap<&str, &Element<'a>> = list
            .elements()
            .iter()
            .filter_map(|element| Some((element.name()?, element)))
            .collect();
        let mut found = BTreeSet::new();
        let mut new = Vec::new();
        for child in node.children.iter().filter(|child| child.kind == kind) {
            found.insert(child.name);
            here.path.push(escaped(child.name));
            match declared.get(child.name) {
                Some(element) => self.visit(here, child, element, above),
                None if child.optional => {}
                // What lists nothing was classified as a whole, with all that was in it.
                None => {
                    let unjudged = !declared.is_empty() && self.would_relax(above);
                    let unjudged = unjudged && !self.options.inherit;
                    new.push(self.new_node(child, &mut here.path, above, unjudged));
                }
            }
            here.path.pop();
        }
        let mut gone = Vec::new();
        for (at, element) in list.elements().iter().enumerate() {
            let Some(name) = element.name() else { continue };
            let covered = kind != Kind::Schema || here.database.scope.covers(name);
            if covered && !found.contains(name) {
                here.path.push(escaped(name));
                self.report.gone.push(item(kind, &here.path));
                here.path.pop();
                gone.push(at);
            }
        }
        let text = here.document.text;
        if self.options.prune {
            let removed = self.report.gone.len() - gone.len();
            let removed = self.report.gone.iter().skip(removed);
            self.report.removed.extend(removed.cloned());
            self.edits(here.document.file).remove(text, &list, &gone);
        } else {
            gone.clear();
        }
        let header = node.kind.header();
        self.edits(here.document.file)
            .add(element, text, header, &list, &new, (None, &gone));
    }

    /// What is written of something new, with all that lies in it.
    fn new_node(
        &mut self,
        node: &Node<'_>,
        path: &mut Vec<String>,
        above: Option<&str>,
        unjudged: bool,
    ) -> New {
        let this = item(node.kind, path);
        let mut pairs = vec![("name", quoted(node.name))];
        if unjudged {
            pairs.push(("classification", quoted(self.most_restricted())));
            self.report.restricted.push(this.clone());
        } else if above.is_none() && node.kind.is_decided_on() {
            self.report.unclassified.push(this.clone());
        }
        self.report.added.push(this);
        let most = self.most_restricted().to_owned();
        let below = if unjudged { Some(most.as_str()) } else { above };
        let mut children = Vec::new();
        for child in node.children.iter().filter(|child| !child.optional) {
            path.push(escaped(child.name));
            children.push(self.new_node(child, path, below, false));
            path.pop();
        }
        New {
            key: node.kind.word(),
            pairs,
            unjudged,
            children,
        }
    }
}

fn item(kind: Kind, path: &[String]) -> Item {
    Item {
        kind: kind.word(),
        path: path.join("/"),
    }
}

fn tree(database: &Database) -> Node<'_> {
    let leaf = |kind, name| Node {
        kind,
        name,
        optional: false,
        children: Vec::new(),
    };
    let schemas = database.schemas.iter().map(|(name, schema)| {
        let tables = schema.tables.iter().map(|(name, columns)| Node {
            kind: Kind::Table,
            name,
            optional: schema.governed.contains(name),
            children: columns
                .iter()
                .map(|name| leaf(Kind::Column, name.as_str()))
                .collect(),
        });
        let functions = schema
            .functions
            .iter()
            .map(|name| leaf(Kind::Function, name.as_str()));
        Node {
            kind: Kind::Schema,
            name,
            optional: false,
            children: tables.chain(functions).collect(),
        }
    });
    Node {
        kind: Kind::Database,
        name: &database.name,
        optional: false,
        children: schemas.collect(),
    }
}
