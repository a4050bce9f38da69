//! `blast-radius`: asked of an estate on this machine, be it a folder or what the server has in force.

use super::ask::{estate_record, list, policy_name, residuals, text};
use super::estate;
use crate::arguments::{BlastArguments, Global, TakenCommand};
use crate::{Failure, output};
use ::estate::Taken;
use anyhow::Context as _;
use facts::Finding;
use serde_json::Value;

pub(crate) async fn blast_radius(
    arguments: BlastArguments,
    global: &Global,
) -> Result<(), Failure> {
    let (files, record) = match &arguments.estate {
        Some(folder) => (estate::read(folder)?, None),
        None => estate::in_force(global).await?,
    };
    let estate = estate::compile(&files)?;
    let taken = match arguments.taken {
        TakenCommand::Machine { name, pool } => Taken::Machine { name, pool },
        TakenCommand::Code { sha256 } => Taken::Code(sha256.to_ascii_lowercase()),
        TakenCommand::Signer { name } => Taken::Signer(name),
        TakenCommand::Identity { path } => Taken::Identity(path),
        TakenCommand::Gateway { path } => Taken::Gateway(path),
        TakenCommand::Server => Taken::Server,
    };
    let blast = estate.blast_radius(taken).map_err(|message| {
        Finding::new("BLAST-UNKNOWN", message).next("name it as the estate does")
    })?;
    let mut document = serde_json::to_value(&blast).context("cannot print the answer")?;
    if let (Some(record), Value::Object(fields)) = (record, &mut document) {
        fields.insert("estate_record".to_owned(), record.into());
    }
    if global.json {
        output::json(&document);
    } else {
        print(&document);
    }
    Ok(())
}

fn print(document: &Value) {
    let identities = list(document, "/identities");
    let count = counted(identities.len(), "identity", "identities");
    output::line(format_args!("could become {count}"));
    for reach in identities {
        let because: Vec<String> = list(reach, "/policies").iter().map(policy_name).collect();
        let because = if because.is_empty() {
            String::new()
        } else {
            format!(", because of {}", because.join("; "))
        };
        output::line(format_args!("  {}{because}", text(reach, "/identity")));
        for when in list(reach, "/when") {
            output::line(format_args!("    if {}", text(when, "/condition")));
        }
        for asserting in list(reach, "/asserting") {
            let condition = text(asserting, "/condition");
            output::line(format_args!("    its agent need only assert {condition}"));
        }
    }
    let accesses = list(document, "/accesses");
    let count = counted(accesses.len(), "access", "accesses");
    output::line(format_args!("and by them {count}"));
    for access in accesses {
        let mut because: Vec<String> = list(access, "/policies").iter().map(policy_name).collect();
        because.extend(residuals(access));
        output::line(format_args!(
            "  {} {} {}, because of {}",
            text(access, "/identity"),
            text(access, "/action"),
            text(access, "/resource"),
            because.join("; ")
        ));
    }
    for error in list(document, "/errors") {
        output::line(format_args!("not known: {error}"));
    }
    let record = estate_record(document);
    let record = record.map_or_else(String::new, |record| format!(" (record {record})"));
    output::line(format_args!("estate {}{record}", text(document, "/estate")));
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
