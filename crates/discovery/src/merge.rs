//! What was found, put into the files of an estate. Pure: text in, text and a report out.
//!
//! INVARIANT: nothing that stands in a file is changed but what [`Options`] ask for. Each result is read
//! again before it is handed on: it has all that the text before it had, and a second merge changes nothing.

mod database;
mod kept;
mod named;

use crate::document::Document;
use crate::edit::Edits;
use crate::found::{Found, why_not};
use crate::report::Report;
use estate::EstateFiles;
use facts::Finding;
use std::collections::BTreeMap;

/// The first line of a file that a merge makes.
const HEAD: &str = "# Begun by trilith resources sync. Classifications, owners, labels and groups are yours to write.\n";

/// What a merge may do beside adding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Take out what is gone.
    pub prune: bool,
    /// Let what is new have the classification of what it lies in.
    pub inherit: bool,
    /// Take the definitions that changed as the ones that count from now on.
    pub accept_changed: bool,
}

/// A file and its text, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Within the estate's folder.
    pub file: String,
    pub before: Option<String>,
    pub after: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub changes: Vec<Change>,
    pub report: Report,
}

/// Puts `found` into `files`, and says what came of it.
///
/// # Errors
/// `SYNC-NAME`, `SYNC-TOML`, `SYNC-JSON`, `SYNC-ESTATE-FILE` and `SYNC-EDIT`.
pub fn merge(files: &EstateFiles, found: &Found, options: &Options) -> Result<Outcome, Finding> {
    let outcome = once(files, found, options)?;
    let mut after = files.clone();
    for change in &outcome.changes {
        kept::check(change, options)?;
        after.insert(change.file.as_str(), change.after.as_str());
    }
    let again = once(&after, found, options)?;
    if let Some(change) = again.changes.first() {
        return Err(not_editable(&change.file));
    }
    Ok(outcome)
}

fn not_editable(file: &str) -> Finding {
    Finding::new(
        "SYNC-EDIT",
        format!("{file} is written in a form to which nothing can be added safely"),
    )
    .next("write what it declares under headers, as [[database.schema.table]], and try again")
}

/// What a merge works on.
struct Work<'a> {
    documents: &'a [Document<'a>],
    /// By file; of files that are not there yet as well.
    edits: BTreeMap<String, Edits>,
    report: Report,
    options: &'a Options,
    /// From least to most restricted.
    classifications: Vec<String>,
}

fn once(files: &EstateFiles, found: &Found, options: &Options) -> Result<Outcome, Finding> {
    let (found, refused) = found.checked();
    let name = match &found {
        Found::Database(database) => &database.name,
        Found::ToolServer(server) => &server.name,
        Found::Api(api) => &api.name,
    };
    if let Some(why) = why_not(name) {
        return Err(
            Finding::new("SYNC-NAME", format!("{name:?} is no name: {why}"))
                .next("give it another name in the estate"),
        );
    }
    let mut documents = Vec::new();
    for (file, text) in &files.0 {
        if !file.starts_with("resources/") {
            continue;
        }
        if file.ends_with(".json") {
            refuse_json(file, text, &found)?;
        } else if file.ends_with(".toml") {
            documents.push(Document::parse(file, text)?);
        }
    }
    let mut work = Work {
        documents: &documents,
        edits: BTreeMap::new(),
        report: Report {
            refused,
            ..Report::default()
        },
        options,
        classifications: classifications(files)?,
    };
    match &found {
        Found::Database(database) => work.database(database),
        Found::ToolServer(server) => work.tool_server(server),
        Found::Api(api) => work.api(api),
    }
    let Work { edits, report, .. } = work;
    let changes = edits
        .into_iter()
        .filter(|(_, edits)| !edits.is_empty())
        .map(|(file, edits)| {
            let before = files.0.get(&file).cloned();
            let after = match &before {
                Some(text) => edits.apply(text),
                None => format!("{HEAD}\n{}", edits.apply("")),
            };
            Change {
                file,
                before,
                after,
            }
        })
        .filter(|change| change.before.as_ref() != Some(&change.after))
        .collect();
    Ok(Outcome { changes, report })
}

impl<'a> Work<'a> {
    /// A classification that what is new would inherit, and that is not the most restricted.
    fn would_relax(&self, above: Option<&str>) -> bool {
        above.is_some_and(|above| above != self.most_restricted())
    }

    fn most_restricted(&self) -> &str {
        self.classifications.last().map_or("", String::as_str)
    }

    fn edits(&mut self, file: &str) -> &mut Edits {
        self.edits.entry(file.to_owned()).or_default()
    }

    fn document(&self, file: &str) -> Option<&'a Document<'a>> {
        self.documents.iter().find(|document| document.file == file)
    }
}

/// The file for what no file declares: its path is of letters that a path may have.
fn file_for(name: &str) -> String {
    let plain: String = name
        .chars()
        .take(80)
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!("resources/{plain}.toml")
}

/// JSON has no place for what people write beside it: what stands there is another program's.
fn refuse_json(file: &str, text: &str, found: &Found) -> Result<(), Finding> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let has = |list: &str, fits: &dyn Fn(&serde_json::Value) -> bool| {
        let entries = value.get(list).and_then(serde_json::Value::as_array);
        entries.is_some_and(|entries| entries.iter().any(fits))
    };
    let text_of = |entry: &serde_json::Value, key: &str| {
        entry
            .get(key)
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
    };
    let named = |name: &str, kinds: [&str; 2]| {
        has("resource", &|entry| {
            let kind = text_of(entry, "kind").unwrap_or_default();
            let path = text_of(entry, "name").unwrap_or_default();
            kinds.contains(&kind.as_str()) && path.split('/').next() == Some(&escaped(name))
        })
    };
    let declared = match found {
        Found::Database(database) => has("database", &|entry| {
            text_of(entry, "name").as_ref() == Some(&database.name)
        }),
        Found::ToolServer(server) => named(&server.name, ["ToolServer", "Tool"]),
        Found::Api(api) => named(&api.name, ["Api", "Route"]),
    };
    if !declared {
        return Ok(());
    }
    Err(Finding::new(
        "SYNC-JSON",
        format!("{file} declares it, and JSON is not added to"),
    )
    .next("write that file as TOML, or leave it to the program that writes it"))
}

/// A name as one segment of a path of the estate.
fn escaped(name: &str) -> String {
    estate::ResourceRef::from_segments(estate::ResourceKind::Database, &[name]).path
}

fn classifications(files: &EstateFiles) -> Result<Vec<String>, Finding> {
    let refused = |what: &str| {
        Finding::new(
            "SYNC-ESTATE-FILE",
            format!("estate.toml cannot be read: {what}"),
        )
        .next("correct it; `trilith estate lint` names the line")
    };
    let Some(text) = files.0.get("estate.toml") else {
        return Err(refused("there is none"));
    };
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| refused(error.message()))?;
    let Some(list) = table.get("classifications") else {
        return Ok(estate::CLASSIFICATIONS.map(str::to_owned).to_vec());
    };
    let names: Option<Vec<String>> = list.as_array().and_then(|list| {
        list.iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect()
    });
    names
        .filter(|names| !names.is_empty())
        .ok_or_else(|| refused("classifications are no list of names"))
}

#[cfg(test)]
mod tests;
