//! What stands under `[[resource]]`: tool servers with their tools, APIs with their routes.

use super::{Work, escaped, file_for};
use crate::document::{Document, Element, line_end};
use crate::edit::{New, quoted};
use crate::found::{Api, ToolServer};
use crate::report::{Changed, Item};
use std::collections::BTreeMap;

/// The label that pins what a tool is.
const DEFINITION: &str = "definition";

/// The two kinds of one family, as the files write them and as people do.
struct Family {
    whole: (&'static str, &'static str),
    part: (&'static str, &'static str),
}

const TOOLS: Family = Family {
    whole: ("ToolServer", "tool-server"),
    part: ("Tool", "tool"),
};
const ROUTES: Family = Family {
    whole: ("Api", "api"),
    part: ("Route", "route"),
};

/// An entry of a file.
struct Entry<'a> {
    document: &'a Document<'a>,
    element: Element<'a>,
    at: usize,
}

impl<'a> Work<'a> {
    pub(super) fn tool_server(&mut self, server: &ToolServer) {
        let name = escaped(&server.name);
        let tools = server.tools.iter().map(|(tool, definition)| {
            let path = format!("{name}/{}", escaped(tool));
            (path, Some(definition.as_str()))
        });
        self.family(&TOOLS, &name, &tools.collect());
    }

    pub(super) fn api(&mut self, api: &Api) {
        let name = escaped(&api.name);
        let routes = api
            .routes
            .iter()
            .map(|(method, path)| (format!("{name}/{method}{path}"), None));
        self.family(&ROUTES, &name, &routes.collect());
    }

    fn family(&mut self, family: &Family, name: &str, found: &BTreeMap<String, Option<&str>>) {
        let mut whole: Option<Entry<'a>> = None;
        let mut parts: BTreeMap<&'a str, Entry<'a>> = BTreeMap::new();
        for document in self.documents {
            let list = document.root().list("resource");
            for (at, element) in list.elements().iter().enumerate() {
                let (Some(kind), Some(path)) = (element.text("kind"), element.name()) else {
                    continue;
                };
                let entry = Entry {
                    document,
                    element: element.clone(),
                    at,
                };
                let inside = path.split_once('/').is_some_and(|(first, _)| first == name);
                if kind == family.whole.0 && path == name {
                    whole = Some(entry);
                } else if kind == family.part.0 && inside {
                    parts.insert(path, entry);
                }
            }
        }
        let above = whole
            .as_ref()
            .and_then(|entry| entry.element.text("classification"));
        let unjudged = !parts.is_empty() && self.would_relax(above) && !self.options.inherit;
        let mut new = Vec::new();
        if whole.is_none() {
            self.report.added.push(item(family.whole.1, name));
            new.push(entry(family.whole.0, name));
        } else {
            self.report.kept += 1;
        }
        for (path, definition) in found {
            let this = item(family.part.1, path);
            match parts.get(path.as_str()) {
                Some(entry) => {
                    self.report.kept += 1;
                    if entry.element.text("classification").or(above).is_none() {
                        self.report.unclassified.push(this.clone());
                    }
                    if let Some(definition) = definition {
                        self.pin(entry, this, definition);
                    }
                }
                None => new.push(self.new_part(family, path, *definition, above, unjudged)),
            }
        }
        let gone = self.without(family, &parts, found);
        if new.is_empty() {
            return;
        }
        let known: Vec<&Entry<'_>> = whole.iter().chain(parts.values()).collect();
        match known.first() {
            None => self.append(&file_for(name), "resource", &new),
            Some(first) => {
                let document = first.document;
                let same = known
                    .iter()
                    .filter(|entry| entry.document.file == document.file);
                let end = same.map(|entry| entry.element.end()).max();
                let gone = gone.get(document.file).map_or(&[][..], Vec::as_slice);
                let root = document.root();
                let list = root.list("resource");
                self.edits(document.file)
                    .add(&root, document.text, &[], &list, &new, (end, gone));
            }
        }
    }

    fn new_part(
        &mut self,
        family: &Family,
        path: &str,
        definition: Option<&str>,
        above: Option<&str>,
        unjudged: bool,
    ) -> New {
        let this = item(family.part.1, path);
        let mut new = entry(family.part.0, path);
        new.unjudged = unjudged;
        if unjudged {
            let most = quoted(self.most_restricted());
            new.pairs.push(("classification", most));
            self.report.restricted.push(this.clone());
        } else if above.is_none() {
            self.report.unclassified.push(this.clone());
        }
        if let Some(definition) = definition {
            new.pairs.push(("labels", labels(definition)));
        }
        self.report.added.push(this);
        new
    }

    /// Tells what is declared and was not found; what goes, by file. A route of every method says more than
    /// any description does.
    fn without(
        &mut self,
        family: &Family,
        parts: &BTreeMap<&'a str, Entry<'a>>,
        found: &BTreeMap<String, Option<&str>>,
    ) -> BTreeMap<&'a str, Vec<usize>> {
        let mut gone: BTreeMap<&'a str, Vec<usize>> = BTreeMap::new();
        for (path, entry) in parts {
            let any_method = path.split('/').nth(1) == Some("*") && family.part.0 == "Route";
            if any_method || found.contains_key(*path) {
                continue;
            }
            let this = item(family.part.1, path);
            if self.options.prune {
                self.report.removed.push(this.clone());
                gone.entry(entry.document.file).or_default().push(entry.at);
            }
            self.report.gone.push(this);
        }
        for (file, gone) in &mut gone {
            gone.sort_unstable();
            if let Some(document) = self.document(file) {
                let list = document.root().list("resource");
                self.edits(file).remove(document.text, &list, gone);
            }
        }
        gone
    }

    /// Sees to it that a declared tool says which definition it was declared for.
    fn pin(&mut self, entry: &Entry<'a>, this: Item, definition: &str) {
        let labelled = entry.element.child_table("labels");
        let was = labelled.as_ref().and_then(|labels| labels.text(DEFINITION));
        let Some(was) = was else {
            self.report.pinned.push(this);
            self.add_label(entry, labelled.as_ref(), definition);
            return;
        };
        if was == definition {
            return;
        }
        let accepted = self.options.accept_changed;
        self.report.changed.push(Changed {
            item: this,
            was: was.to_owned(),
            is: definition.to_owned(),
            accepted,
        });
        let place = labelled.and_then(|labels| labels.place(DEFINITION));
        if let Some(place) = place.filter(|_| accepted) {
            self.edits(entry.document.file)
                .replace(place, quoted(definition));
        }
    }

    fn add_label(&mut self, entry: &Entry<'a>, labelled: Option<&Element<'a>>, definition: &str) {
        let text = entry.document.text;
        let value = quoted(definition);
        let own_end = entry.element.own_end();
        let line = |end: usize, added: String| {
            let at = line_end(text, end);
            let ended = text.get(..at).is_some_and(|before| before.ends_with('\n'));
            let lead = if ended { "" } else { "\n" };
            (at, format!("{lead}{added}\n"))
        };
        let (at, added) = match labelled {
            None if entry.element.is_inline() => {
                (own_end, format!(", labels = {}", labels(definition)))
            }
            None => line(own_end, format!("labels = {}", labels(definition))),
            Some(labels) if labels.is_inline() => {
                let end = labels.own_end();
                let first = end == labels.span().start + 1;
                let lead = if first { " " } else { ", " };
                (end, format!("{lead}{DEFINITION} = {value}"))
            }
            Some(labels) if labels.is_dotted() && entry.element.is_inline() => {
                (labels.end(), format!(", labels.{DEFINITION} = {value}"))
            }
            Some(labels) if labels.is_dotted() => {
                line(labels.end(), format!("labels.{DEFINITION} = {value}"))
            }
            Some(labels) => line(labels.end(), format!("{DEFINITION} = {value}")),
        };
        self.edits(entry.document.file).insert(at, added);
    }
}

fn labels(definition: &str) -> String {
    format!("{{ {DEFINITION} = {} }}", quoted(definition))
}

fn entry(kind: &str, name: &str) -> New {
    New {
        key: "resource",
        pairs: vec![("kind", quoted(kind)), ("name", quoted(name))],
        unjudged: false,
        children: Vec::new(),
    }
}

fn item(kind: &'static str, path: &str) -> Item {
    Item {
        kind,
        path: path.to_owned(),
    }
}
