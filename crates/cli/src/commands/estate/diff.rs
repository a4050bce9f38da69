//! `trilith estate diff`: what one version allows that another does not, whichever of them is the newer one. Compared
//! on this machine; the server is asked for the versions that it has.

use super::{applied_version, finding, in_force, read};
use crate::arguments::{EstateDiffArguments, Global, PartArguments};
use crate::commands::blast::cannot_go_on;
use crate::commands::plan;
use crate::runtime::block_on;
use crate::{Failure, output};
use anyhow::Context as _;
use estate::{Cursor, Estate, EstateFiles};
use estate_prove::{Options, Witnesses};
use facts::Finding;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn run(arguments: &EstateDiffArguments, global: &Global) -> Result<ExitCode, Failure> {
    let from = Side::of(&arguments.from, global)?;
    let to = Side::of(&arguments.to, global)?;
    let options = Options {
        find_second: std::env::var_os("PATH"),
        ..Options::with_solver(std::env::var_os("CVC5"))
    };
    let each = Duration::from_secs(arguments.timeout);
    let options = Options {
        question: each,
        total: each,
        ..options.for_a_hint()
    };
    let witnesses = estate_prove::witnesses_blocking(&from.estate, &to.estate, &options);
    let compared = Compared::new(&from, &to, witnesses)?;
    let (shown, next) = compared.part(&arguments.part)?;
    if arguments.part.lines {
        compared.lines(shown, next.as_deref());
    } else {
        let document = compared.document(shown, next.as_deref());
        if global.json {
            output::json(&document);
        } else {
            print(&document, shown.len(), compared.items.len());
        }
    }
    match compared.errors {
        0 => Ok(ExitCode::SUCCESS),
        many => Err(Finding::new(
            "ESTATE-ANSWER-INCOMPLETE",
            format!("{many} accesses could not be evaluated: the answer is not complete"),
        )
        .into()),
    }
}

/// One of the two.
struct Side {
    estate: Estate,
    /// Of a version of the server's, where it became current: `server:12`.
    record: Option<String>,
}

impl Side {
    fn of(named: &str, global: &Global) -> Result<Self, Failure> {
        let folder = Path::new(named);
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if named == "current" {
            return Self::recorded(block_on(1, in_force(global))?);
        }
        if folder.is_dir() {
            let estate = super::compile(&read(folder)?)?;
            let record = None;
            return Ok(Self { estate, record });
        }
        if named.len() < 8 || !named.bytes().all(digits) {
            return Err(Finding::new(
                "ESTATE-DIFF-SIDE",
                "this is neither a folder nor a version",
            )
            .expected("a folder with estate.toml in it, `current`, or 8 digits or more of a version, small hex")
            .observed(named.to_owned())
            .next("the versions that there were: trilith ledger search --ledger server --type estate-version")
            .into());
        }
        Self::recorded(block_on(1, applied_version(named.to_owned(), global))?)
    }

    fn recorded((files, record): (EstateFiles, Option<String>)) -> Result<Self, Failure> {
        let estate = Estate::compile_recorded(&files)
            .map_err(|problems| Failure::verification(problems.iter().map(finding).collect()))?;
        Ok(Self { estate, record })
    }
}

/// One of a list of the answer.
struct Item {
    /// A JSON pointer.
    at: String,
    value: Value,
    /// As a line.
    line: Value,
}

struct Compared {
    /// The answer with its lists empty.
    head: Map<String, Value>,
    items: Vec<Item>,
    errors: usize,
    versions: (String, String),
}

impl Compared {
    fn new(from: &Side, to: &Side, witnesses: Option<Witnesses>) -> Result<Self, Failure> {
        let diff = estate::diff(&from.estate, &to.estate);
        let mut items = Vec::new();
        items.extend(diff.declared().map(|(of, how, name)| Item {
            at: format!("/diff/{of}/{how}"),
            value: json!(name),
            line: json!({ "declared": { "of": of, "how": how, "name": name } }),
        }));
        listed(&diff.widened, "widened", &mut items)?;
        listed(&diff.narrowed, "narrowed", &mut items)?;
        let errors = diff.errors.len();
        items.extend(diff.errors.iter().map(|error| Item {
            at: "/diff/errors".to_owned(),
            value: json!(error),
            line: json!({ "error": error }),
        }));
        let versions = (diff.from.clone(), diff.to.clone());
        let mut head = Map::new();
        let witnesses = serde_json::to_value(witnesses).context("cannot print the witnesses")?;
        head.insert("from".to_owned(), json!(diff.from));
        head.insert("to".to_owned(), json!(diff.to));
        for (name, side) in [("from_record", from), ("to_record", to)] {
            if let Some(record) = &side.record {
                head.insert(name.to_owned(), json!(record));
            }
        }
        head.insert("witnesses".to_owned(), witnesses);
        let mut diff = serde_json::to_value(&diff).context("cannot print the difference")?;
        for item in &items {
            let list = item.at.strip_prefix("/diff");
            if let Some(Value::Array(list)) = list.and_then(|list| diff.pointer_mut(list)) {
                list.clear();
            }
        }
        head.insert("diff".to_owned(), diff);
        Ok(Self {
            head,
            items,
            errors,
            versions,
        })
    }

    /// The items that are asked for, and how to go on.
    ///
    /// # Errors
    /// The cursor is of two other versions.
    fn part(&self, part: &PartArguments) -> Result<(&[Item], Option<String>), Failure> {
        let (from, to) = &self.versions;
        let question = format!("diff {from}");
        let begin = part.after.as_deref().map_or(Ok(0), |cursor| {
            let cursor: Cursor = cursor.parse()?;
            cursor.given(to, &question)
        });
        let all = self.items.len();
        let begin = begin.map_err(cannot_go_on)?.min(all);
        let most = part.limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let end = begin.saturating_add(most).min(all);
        let next = (end < all).then(|| Cursor::in_list(to, &question, end).to_string());
        Ok((self.items.get(begin..end).unwrap_or_default(), next))
    }

    fn document(&self, shown: &[Item], next: Option<&str>) -> Value {
        let mut document = Value::Object(self.head.clone());
        for item in shown {
            if let Some(Value::Array(list)) = document.pointer_mut(&item.at) {
                list.push(item.value.clone());
            }
        }
        if let (Value::Object(fields), Some(next)) = (&mut document, next) {
            fields.insert("next".to_owned(), json!(next));
        }
        document
    }

    fn lines(&self, shown: &[Item], next: Option<&str>) {
        let head = json!({ "compared": {
            "from": self.head.get("from"), "to": self.head.get("to"), "witnesses": self.head.get("witnesses"),
        } });
        output::json(&head);
        for item in shown {
            output::json(&item.line);
        }
        output::json(&json!({ "end": {
            "shown": shown.len(), "of": self.items.len(), "errors": self.errors, "next": next,
        } }));
    }
}

/// What is declared otherwise, each by itself.
fn listed(
    changes: &[impl Serialize],
    name: &'static str,
    items: &mut Vec<Item>,
) -> Result<(), Failure> {
    for change in changes {
        let value = serde_json::to_value(change).context("cannot print an access")?;
        items.push(Item {
            at: format!("/diff/{name}"),
            line: json!({ name: value }),
            value,
        });
    }
    Ok(())
}

fn print(document: &Value, shown: usize, all: usize) {
    plan::compared(document);
    if all == 0 {
        output::line("the two declare and allow the same");
    }
    for side in ["from", "to"] {
        let version = document.get(side).and_then(Value::as_str);
        let record = document
            .get(format!("{side}_record"))
            .and_then(Value::as_str);
        let record = record.map_or_else(String::new, |record| format!(" (record {record})"));
        output::line(format_args!(
            "{side} {}{record}",
            version.unwrap_or_default()
        ));
    }
    if let Some(next) = document.get("next").and_then(Value::as_str) {
        output::note(format_args!(
            "{shown} of {all} shown; more with --after {next}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(changes: &[(&str, &str)]) -> Side {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/estate-shop");
        let mut files = read(&folder).unwrap();
        for (path, text) in changes {
            files.insert(*path, *text);
        }
        let estate = crate::commands::estate::compile(&files).unwrap();
        Side {
            estate,
            record: None,
        }
    }

    const MORE: &str = "@id(\"more\") permit (principal is Identity, action == Action::\"truncate\", resource is Table)\n\
        when { resource.classification == \"public\" && principal.kind == \"service\" };";

    fn compared(more: &str) -> Compared {
        let (from, to) = (side(&[]), side(&[("policies/more.cedar", more)]));
        let options = Options {
            question: Duration::from_secs(30),
            total: Duration::from_secs(30),
            ..Options::with_solver(std::env::var_os("CVC5"))
        };
        let witnesses = estate_prove::witnesses_blocking(&from.estate, &to.estate, &options);
        Compared::new(&from, &to, witnesses).unwrap()
    }

    #[test]
    fn what_is_newly_possible_is_a_witness_and_a_list() {
        let compared = compared(MORE);
        let document = compared.document(&compared.items, None);
        let added = document["diff"]["policies"]["added"].as_array().unwrap();
        assert_eq!(added, &["more"]);
        let widened = document["diff"]["widened"].as_array().unwrap();
        assert!(!widened.is_empty());
        assert!(
            widened
                .iter()
                .all(|one| one["after"]["action"] == "truncate"),
            "{document}"
        );
        assert_eq!(document["diff"]["narrowed"], json!([]));
        if testkit::tool("cvc5").is_none() {
            testkit::skip("cli.diff_witness", "cvc5 is not installed");
            return;
        }
        assert_eq!(document["witnesses"]["newly_allowed"]["status"], "found");
        assert_eq!(document["witnesses"]["newly_denied"]["status"], "proved");
    }

    #[test]
    fn what_columns_cost_is_listed_and_never_proved_nor_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/estate-shop");
        let settings = read(&folder).unwrap().0["estate.toml"].clone();
        let decided = format!("columns = \"decided\"\n{settings}");
        let later = settings.replace("trust_domain", "# The same.\ntrust_domain");
        for (changes, more) in [
            (vec![("estate.toml", decided.as_str())], true),
            (
                vec![
                    ("estate.toml", decided.as_str()),
                    ("policies/more.cedar", MORE),
                ],
                true,
            ),
            (vec![("estate.toml", later.as_str())], false),
        ] {
            let (from, to) = (side(&[]), side(&changes));
            let options = Options::with_solver(std::env::var_os("CVC5"));
            let witnesses = estate_prove::witnesses_blocking(&from.estate, &to.estate, &options);
            let compared = Compared::new(&from, &to, witnesses).unwrap();
            let document = compared.document(&compared.items, None);
            assert_eq!(!compared.items.is_empty(), more, "{document}");
            if !more {
                continue;
            }
            let settings = &document["diff"]["settings"]["changed"];
            assert_eq!(
                settings,
                &json!(["columns: by-table before, decided now"]),
                "{document}"
            );
            for way in ["newly_allowed", "newly_denied"] {
                let witness = &document["witnesses"][way];
                assert_eq!(witness["status"], "unknown", "{document}");
                assert_eq!(witness["code"], "PROVE-SCHEMA", "{document}");
            }
            let page = plan::page(&document);
            assert!(
                page.contains("changed setting `columns: by-table"),
                "{page}"
            );
        }
    }

    #[test]
    fn parts_of_a_difference_come_to_the_whole() {
        let compared = compared(MORE);
        let whole = compared.document(&compared.items, None);
        let mut lists: Vec<Value> = Vec::new();
        let mut part = PartArguments {
            limit: Some(1),
            after: None,
            lines: false,
        };
        loop {
            let (shown, next) = compared.part(&part).unwrap();
            assert!(shown.len() <= 1);
            lists.extend(shown.iter().map(|item| item.line.clone()));
            part.after = next;
            if part.after.is_none() {
                break;
            }
        }
        let all: Vec<Value> = compared.items.iter().map(|one| one.line.clone()).collect();
        assert_eq!(lists, all);
        assert!(all.len() > 1, "{whole}");
        // A cursor is of its two versions.
        let (_, next) = compared
            .part(&PartArguments {
                limit: Some(1),
                after: None,
                lines: false,
            })
            .unwrap();
        let other = self::compared(&MORE.replace("public", "internal"));
        let elsewhere = PartArguments {
            limit: None,
            after: next,
            lines: false,
        };
        assert!(other.part(&elsewhere).is_err());
    }
}
