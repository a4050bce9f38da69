//! Accesses as they are found: page after page, each printed before the next is asked for.

use super::{estate_record, list, policy_name, residuals, text};
use crate::arguments::{Global, PartArguments};
use crate::commands::delegation;
use crate::{Failure, output};
use facts::Finding;
use serde_json::{Map, Value, json};

/// The first page is short, so that something is seen at once.
const FIRST: u64 = 100;
const FURTHER: u64 = 2_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One document an access.
    Lines,
}

/// An answer that is being printed.
pub(super) struct Printed {
    form: Form,
    /// How many are still to be printed; without it, all.
    left: Option<u64>,
    after: Option<String>,
    /// Whether the last page was the last there is.
    ended: bool,
    shown: u64,
    table: output::Table,
    errors: Vec<Value>,
    estate: Value,
    /// Where that version stands in the server's ledger.
    record: Option<String>,
    undeclared: Option<Value>,
    /// Delegation tokens that are good now, each once.
    tokens: Vec<Value>,
}

impl Printed {
    pub(super) fn new(part: &PartArguments, global: &Global) -> Self {
        Self {
            form: match (part.lines, global.json) {
                (true, _) => Form::Lines,
                (false, true) => Form::Json,
                (false, false) => Form::Table,
            },
            left: part.limit,
            after: part.after.clone(),
            ended: false,
            shown: 0,
            table: output::Table::new(&["IDENTITY", "ACTION", "RESOURCE", "BECAUSE OF"]),
            errors: Vec::new(),
            estate: Value::Null,
            record: None,
            undeclared: None,
            tokens: Vec::new(),
        }
    }

    /// How many are asked for next, and after which cursor; nothing once there is no more, or no more wanted.
    pub(super) fn wants(&self) -> Option<(u64, String)> {
        if self.ended || self.left == Some(0) {
            return None;
        }
        let page = if self.shown == 0 { FIRST } else { FURTHER };
        let limit = self.left.map_or(page, |left| left.min(page));
        Some((limit, self.after.clone().unwrap_or_default()))
    }

    /// # Errors
    /// The answer is none of a server's.
    pub(super) fn page(&mut self, page: &Value) -> Result<(), Failure> {
        let accesses = list(page, "/accesses");
        let errors = list(page, "/errors");
        if self.form == Form::Json && self.estate.is_null() {
            let estate = page.get("estate").unwrap_or(&Value::Null);
            output::part(&format!("{{\"estate\":{estate},\"accesses\":["));
        }
        self.estate = page.get("estate").cloned().unwrap_or(Value::Null);
        if self.estate.is_null() {
            return Err(crate::admin::unusable("it names no estate".to_owned()).into());
        }
        self.record = estate_record(page).map(str::to_owned);
        self.undeclared = page.get("undeclared").cloned();
        for token in list(page, "/tokens") {
            let known = |one: &Value| one.get("jti") == token.get("jti");
            if !self.tokens.iter().any(known) {
                self.tokens.push(token.clone());
            }
        }
        self.print(accesses);
        self.errors.extend_from_slice(errors);
        let given = (accesses.len() + errors.len()) as u64;
        self.shown += accesses.len() as u64;
        // A server that knows no pages gives all at once.
        self.left = self.left.map(|left| left.saturating_sub(given));
        self.after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        self.ended = self.after.is_none();
        Ok(())
    }

    fn print(&mut self, accesses: &[Value]) {
        match self.form {
            Form::Table => self
                .table
                .rows(&accesses.iter().map(row).collect::<Vec<_>>()),
            Form::Lines => accesses.iter().for_each(output::json),
            Form::Json => {
                for (number, access) in accesses.iter().enumerate() {
                    let comma = if self.shown == 0 && number == 0 {
                        ""
                    } else {
                        ","
                    };
                    output::part(&format!("{comma}{access}"));
                }
            }
        }
    }

    /// What is said at the end.
    ///
    /// # Errors
    /// The answer is not complete for errors.
    pub(super) fn end(self) -> Result<(), Failure> {
        let mut end = Map::new();
        end.insert("errors".to_owned(), json!(self.errors));
        if let Some(record) = &self.record {
            end.insert("estate_record".to_owned(), json!(record));
        }
        if let Some(said) = &self.undeclared {
            end.insert("undeclared".to_owned(), said.clone());
        }
        if !self.tokens.is_empty() {
            end.insert("tokens".to_owned(), json!(self.tokens));
        }
        if let Some(after) = &self.after {
            end.insert("next".to_owned(), json!(after));
        }
        match self.form {
            Form::Table => self.end_for_people(),
            Form::Lines => {
                end.insert("estate".to_owned(), self.estate.clone());
                end.insert("shown".to_owned(), json!(self.shown));
                output::json(&json!({ "end": end }));
            }
            Form::Json => {
                let rest = Value::Object(end).to_string();
                output::part(&format!("],{}\n", rest.trim_start_matches('{')));
            }
        }
        match self.errors.len() {
            0 => Ok(()),
            many => Err(Finding::new(
                "ESTATE-ANSWER-INCOMPLETE",
                format!("{many} accesses could not be evaluated: the answer is not complete"),
            )
            .into()),
        }
    }

    fn end_for_people(&self) {
        if self.shown == 0 && self.after.is_none() {
            output::line("none");
        }
        if let Some(said) = self.undeclared.as_ref().and_then(Value::as_str) {
            output::note(format_args!("note: the resource is {said}"));
        }
        if !self.tokens.is_empty() {
            output::line("for others, by delegation tokens that are good now:");
        }
        for token in &self.tokens {
            output::line(format_args!("  {}", delegation::line(token)));
        }
        for error in &self.errors {
            output::note(format_args!(
                "not known: {}",
                error.as_str().unwrap_or_default()
            ));
        }
        if let Some(after) = &self.after {
            let shown = self.shown;
            output::note(format_args!("{shown} shown; more with --after {after}"));
        }
        if let Some(record) = &self.record {
            let version = self.estate.as_str().unwrap_or_default();
            output::note(format_args!("estate {version} (record {record})"));
        }
    }
}

fn row(access: &Value) -> Vec<String> {
    let mut because: Vec<String> = list(access, "/policies").iter().map(policy_name).collect();
    because.extend(residuals(access));
    // On behalf of others: the same of each of them, and who let it act.
    for hop in list(access, "/hops") {
        let policies = list(hop, "/policies").iter().map(policy_name);
        let of_hop: Vec<String> = policies.chain(residuals(hop)).collect();
        because.push(format!("{}: {}", text(hop, "/identity"), of_hop.join(", ")));
    }
    let links = list(access, "/links").iter();
    because.extend(links.flat_map(|link| list(link, "/grants").iter().map(policy_name)));
    let access = list(access, "/hops").last().unwrap_or(access);
    vec![
        text(access, "/identity"),
        text(access, "/action"),
        text(access, "/resource"),
        because.join("; "),
    ]
}
