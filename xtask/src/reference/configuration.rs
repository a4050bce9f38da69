//! The pages of configuration files and of an estate's files: every key, from the JSON Schemas, which follow from the structs that
//! parse the files. A section is a table of the file, under the name that it has there.

use crate::shell::{Doing as _, Result};
use crate::workspace::read_text;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// File, and its schema.
const FILES: [(&str, &str); 6] = [
    ("server.toml", "docs/reference/server.schema.json"),
    ("agent.toml", "docs/reference/agent.schema.json"),
    ("gateway.toml", "docs/reference/gateway.schema.json"),
    ("pdp.toml", "docs/reference/pdp.schema.json"),
    ("witness.toml", "docs/reference/witness.schema.json"),
    ("monitor.toml", "docs/reference/monitor.schema.json"),
];

const HEAD: &str = "\
# Configuration files

TOML, strict: an unknown key is refused, with its line.
No key and no environment variable turns a check off.
This page is made by `cargo xtask codegen` from the JSON Schemas beside it, and they from the structs that parse the files; a test fails when it is stale.
";

/// An object: a schema for each kind of file.
const ESTATE: &str = "docs/reference/estate.schema.json";

const ESTATE_HEAD: &str = "\
# Files of an estate

A folder; TOML, or JSON of the same shape, strict: an unknown key is refused, with its line.
Beside these stand `policies/*.cedar` and `invariants/*.cedar`; [`examples/estate-shop`](../../examples/estate-shop) has every kind of file.
`trilith estate lint DIR` says what is wrong with a folder and what should not stand in it, [`lint.md`](lint.md) what each finding means; `trilith estate fmt DIR` writes its files in one way and keeps every comment.
This page is made by `cargo xtask codegen` from the JSON Schema beside it, which `trilith estate schema` prints, and that from the structs that parse the files; a test fails when it is stale.
";

pub(super) fn estate() -> Result<String> {
    let mut page = ESTATE_HEAD.to_owned();
    let schemas: Value = serde_json::from_str(&read_text(ESTATE)?).doing(ESTATE)?;
    for (glob, schema) in schemas.as_object().into_iter().flatten() {
        page.push_str(&section(glob, schema));
    }
    Ok(page)
}

pub(super) fn page() -> Result<String> {
    let mut page = HEAD.to_owned();
    for (file, schema) in FILES {
        let schema: Value = serde_json::from_str(&read_text(schema)?).doing(schema)?;
        page.push_str(&section(file, &schema));
    }
    Ok(page)
}

fn section(file: &str, schema: &Value) -> String {
    let mut page = Page {
        root: schema,
        text: format!("\n## {file}\n"),
        written: BTreeMap::new(),
    };
    page.body(schema, "");
    page.text
}

struct Page<'a> {
    root: &'a Value,
    text: String,
    /// Heading of each definition that has a section already.
    written: BTreeMap<&'a str, String>,
}

/// A table within a table.
struct Below<'a> {
    key: &'a str,
    definition: &'a str,
    repeated: bool,
}

impl<'a> Page<'a> {
    fn definition(&self, name: &str) -> &'a Value {
        self.root
            .get("$defs")
            .and_then(|all| all.get(name))
            .unwrap_or(&Value::Null)
    }

    /// What stands in the table at `path`, and the tables in it.
    fn body(&mut self, schema: &'a Value, path: &str) {
        let said = description(schema);
        if !said.is_empty() {
            let _ = write!(self.text, "\n{said}\n");
        }
        let mut below = Vec::new();
        match schema.get("oneOf").and_then(Value::as_array) {
            Some(variants) => {
                for variant in variants {
                    let tag = tag(variant).unwrap_or_default();
                    let _ = write!(self.text, "\nWith `{tag}`: {}\n", description(variant));
                    self.keys(variant, &mut below);
                }
            }
            None => self.keys(schema, &mut below),
        }
        for Below {
            key,
            definition,
            repeated,
        } in below
        {
            let path = if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            };
            let heading = if repeated {
                format!("[[{path}]]")
            } else {
                format!("[{path}]")
            };
            let _ = write!(self.text, "\n### `{heading}`\n");
            if let Some(earlier) = self.written.get(definition) {
                let _ = write!(self.text, "\nAs `{earlier}`.\n");
                continue;
            }
            self.written.insert(definition, heading);
            self.body(self.definition(definition), &path);
        }
    }

    fn keys(&mut self, schema: &'a Value, below: &mut Vec<Below<'a>>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        let mut rows = String::new();
        for (key, property) in properties.into_iter().flatten() {
            let key = key.as_str();
            // The word by which the table is told from others of its kind.
            if let Some(word) = property.get("const") {
                let _ = writeln!(rows, "| `{key}` | `{word}` | yes |  |  |");
                continue;
            }
            let table = self.table(key, property);
            let kind = match &table {
                Some(Below { repeated: true, .. }) => format!("`[[{key}]]`, a table for each"),
                Some(_) => "table".to_owned(),
                None => self
                    .choices(property)
                    .unwrap_or_else(|| self.kind(property)),
            };
            let is_required = required.is_some_and(|names| names.iter().any(|name| name == key));
            let default = match property.get("default") {
                None | Some(Value::Null | Value::Object(_)) => String::new(),
                Some(default) => format!("`{default}`"),
            };
            let _ = writeln!(
                rows,
                "| `{key}` | {kind} | {} | {default} | {} |",
                if is_required { "yes" } else { "no" },
                description(property)
            );
            below.extend(table);
        }
        if !rows.is_empty() {
            let _ = write!(
                self.text,
                "\n| key | type | required | default | |\n|---|---|---|---|---|\n{rows}"
            );
        }
    }

    /// Of `property`, or of the definition that it refers to.
    fn kind(&self, property: &Value) -> String {
        let own = kind(property);
        // A list of words, whose schema stands elsewhere.
        if let Some(items) = property
            .get("items")
            .filter(|items| reference(items).is_some())
        {
            let of = self.choices(items);
            return match of.unwrap_or_else(|| self.kind(items)) {
                words if words.starts_with('`') => format!("list of {words}"),
                kind => format!("list of {kind}s"),
            };
        }
        match reference(property) {
            Some(name) if own.is_empty() => kind(self.definition(name)),
            _ => own,
        }
    }

    /// The words that `property` is one of.
    fn choices(&self, property: &Value) -> Option<String> {
        let schema = self.definition(reference(property)?);
        let listed = schema.get("enum").and_then(Value::as_array);
        let variants = schema.get("oneOf").and_then(Value::as_array);
        let words = listed.into_iter().flatten();
        let words = words.chain(variants.into_iter().flatten().flat_map(|variant| {
            let listed = variant.get("enum").and_then(Value::as_array);
            variant
                .get("const")
                .into_iter()
                .chain(listed.into_iter().flatten())
        }));
        let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// The table that `property` is, or those that it is a list of.
    fn table(&self, key: &'a str, property: &'a Value) -> Option<Below<'a>> {
        let items = property.get("items");
        let reference = reference(items.unwrap_or(property))?;
        let schema = self.definition(reference);
        let is_table = schema.get("properties").is_some()
            || schema
                .get("oneOf")
                .and_then(Value::as_array)
                .is_some_and(|variants| variants.iter().any(|one| one.get("properties").is_some()));
        is_table.then_some(Below {
            key,
            definition: reference,
            repeated: items.is_some(),
        })
    }
}

/// The name of the definition that a schema refers to, or may.
fn reference(schema: &Value) -> Option<&str> {
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        return path.strip_prefix("#/$defs/");
    }
    let either = schema.get("anyOf").and_then(Value::as_array)?;
    either.iter().find_map(reference)
}

/// `kind = "file"`
fn tag(variant: &Value) -> Option<String> {
    let properties = variant.get("properties")?.as_object()?;
    properties.iter().find_map(|(key, property)| {
        let value = property.get("const")?;
        Some(format!("{key} = {value}"))
    })
}

fn kind(property: &Value) -> String {
    let one = |name: &Value| {
        name.as_str()
            .filter(|name| *name != "null")
            .map(str::to_owned)
    };
    let kind = match property.get("type") {
        Some(Value::Array(names)) => names.iter().find_map(one),
        Some(name) => one(name),
        None => None,
    };
    match (kind.as_deref(), property.get("items")) {
        (Some("array"), Some(items)) => format!("list of {}", kind_of_items(items)),
        (Some(kind), _) => kind.to_owned(),
        (None, _) => String::new(),
    }
}

fn kind_of_items(items: &Value) -> String {
    format!("{}s", kind(items))
}

/// One line, fit for a table.
fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str);
    let line = text.unwrap_or_default().replace('\n', " ");
    line.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn keys_are_what_stands_in_the_file_whatever_the_structs_call_them() {
        let schema = r##"{
            "properties": {
                "postgres": { "type": "array", "items": { "$ref": "#/$defs/P" } },
                "may": { "type": "array", "items": { "$ref": "#/$defs/W" } },
                "wait_s": { "type": "integer", "default": 2 }
            },
            "required": ["postgres"],
            "$defs": {
                "P": { "properties": { "key": { "$ref": "#/$defs/K" } } },
                "W": { "enum": ["ask", "explain"] },
                "K": { "oneOf": [{
                    "properties": { "kind": { "const": "file" }, "dir": { "type": "string" } },
                    "required": ["dir"]
                }] }
            }
        }"##;
        let page = section("x.toml", &serde_json::from_str(schema).unwrap());
        for part in [
            "| `postgres` | `[[postgres]]`, a table for each | yes |  |  |",
            "| `wait_s` | integer | no | `2` |  |",
            "### `[[postgres]]`",
            "### `[postgres.key]`",
            "| `may` | list of `\"ask\"` `\"explain\"` | no |  |  |",
            "With `kind = \"file\"`",
            "| `kind` | `\"file\"` | yes |  |  |",
            "| `dir` | string | yes |  |  |",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }
}
