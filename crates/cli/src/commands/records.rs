//! Questions to the records of folders on this machine. What they come to is for `record-index` to say; here it
//! is typed and printed.

pub(crate) mod completeness;
pub(crate) mod live;
mod print;

use super::estate as estates;
use crate::arguments::{
    AccessesArguments, FolderArguments, Global, HistoryArguments, Moment, ReplayArguments,
    SearchArguments, UnusedArguments, WithoutArguments,
};
use crate::commands::ledger::show_hit;
use crate::{Failure, output};
use ::estate::{Action, Estate, ResourceRef};
use facts::Finding;
use ledger::Receipt;
use record_index::{About, Asked, Error, Filter, Page, Searched, Site, TimeRange};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An index that lies, like a proof that does not hold, is another exit than a refusal.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
pub(crate) fn failed(error: Error) -> Failure {
    let finding = error.finding();
    match error {
        Error::Lied(_) => Failure::verification(vec![finding]),
        _ => Failure::refused(finding),
    }
}

/// The ledgers of the folders, indexed up to their heads.
fn open(folders: &[PathBuf], index: Option<&Path>, global: &Global) -> Result<Site, Failure> {
    if let Some(index) = index {
        std::fs::create_dir_all(index).map_err(|error| crate::files::unwritable(index, &error))?;
    }
    let mut site: Option<Site> = None;
    for folder in folders {
        let opened = Site::open(folder, index).map_err(failed)?;
        match &mut site {
            None => site = Some(opened),
            Some(site) => site.join(opened).map_err(failed)?,
        }
    }
    let mut site = site.ok_or_else(|| Failure::usage("name a --folder"))?;
    let followed = site.catch_up().map_err(failed)?;
    if !global.json {
        let notes = site.notes.iter();
        notes.for_each(|note| output::note(format_args!("note: {note}")));
        for (source, followed) in site.sources().iter().zip(followed) {
            if followed.rebuilt {
                output::note(format_args!(
                    "note: the index of {} was of another tree and was made anew",
                    source.name
                ));
            }
        }
    }
    Ok(site)
}

fn at(folder: &FolderArguments, global: &Global) -> Result<Site, Failure> {
    open(&folder.folders, folder.index.as_deref(), global)
}

/// As [`at`], without the ledgers that are to be left out.
fn without(
    folder: &FolderArguments,
    left_out: &WithoutArguments,
    global: &Global,
) -> Result<Site, Failure> {
    let mut site = at(folder, global)?;
    site.leave_out(&left_out.names).map_err(failed)?;
    Ok(site)
}

fn times(since: Option<Moment>, until: Option<Moment>) -> TimeRange {
    TimeRange {
        since: since.map(|moment| moment.0),
        until: until.map(|moment| moment.0),
    }
}

/// `ledger search --folder`.
pub(crate) fn search(arguments: &SearchArguments, global: &Global) -> Result<(), Failure> {
    let site = open(&arguments.at.folders, arguments.at.index.as_deref(), global)?;
    let filter = Filter {
        identity: arguments.identity.clone(),
        machine: arguments.machine.clone(),
        code: arguments.code.clone(),
        resource: arguments.resource.clone(),
        action: arguments.action.clone(),
        decision: arguments.decision.clone(),
        types: arguments.types.clone(),
        estate: arguments.estate_version.clone(),
        policy: arguments.policy.clone(),
        on_behalf_of: arguments.on_behalf_of.clone(),
        times: times(arguments.since, arguments.until),
    };
    let page = Page {
        ledger: &arguments.ledger,
        from: arguments.from,
        cursor: arguments.cursor.as_deref(),
        limit: (arguments.limit > 0).then_some(arguments.limit),
        receipts: arguments.receipts,
    };
    let searched = record_index::search(&site, &filter, &page, |hit| {
        show_hit(
            &hit.ledger,
            hit.index,
            &hit.record,
            hit.receipt.as_ref(),
            global,
        );
        ControlFlow::Continue(())
    });
    let searched = searched.map_err(failed)?;
    told(&searched, &site, global);
    if arguments.verify {
        let verified = match &arguments.from_url {
            None => record_index::verify(&site, &filter, &arguments.ledger),
            Some(url) => {
                let tiles = monitor::Bundles::at(url, arguments.from_ca_file.as_deref())?;
                let now = tokio::runtime::Handle::current();
                record_index::verify_from(&site, &filter, &arguments.ledger, |path| {
                    tokio::task::block_in_place(|| now.block_on(tiles.bundle(path)))
                })
            }
        };
        let verified = verified.map_err(failed)?;
        let document =
            json!({ "verified": { "read": verified.read, "matching": verified.matching } });
        if global.json {
            output::json(&document);
        } else {
            output::note(format_args!(
                "verified: {} records of the ledgers were read, {} match, and the index says the same",
                verified.read, verified.matching
            ));
        }
    }
    Ok(())
}

/// What the answer is about, and whether there is more.
fn told(searched: &Searched, site: &Site, global: &Global) {
    let gone = site.gone();
    if global.json {
        let mut document = json!({
            "searched": searched.heads.iter().map(|(ledger, head)| head_json(ledger, head)).collect::<Vec<_>>(),
            "found": searched.found, "more": searched.more,
        });
        if let (Value::Object(fields), false) = (&mut document, gone.is_empty()) {
            fields.insert("gone".to_owned(), json!(gone));
        }
        output::json(&document);
        return;
    }
    for line in gone {
        output::note(format_args!("note: {}", output::value(&line)));
    }
    output::note(format_args!("{} records", searched.found));
    for (ledger, head) in &searched.heads {
        let root = crypto::base64::encode(&head.checkpoint.root);
        output::note(format_args!(
            "searched {ledger} up to {} records, root {root}",
            head.checkpoint.size
        ));
    }
    if let Some(more) = &searched.more {
        output::note(format_args!("there is more: --cursor {more}"));
    }
}

fn head_json(ledger: &str, head: &record_index::Head) -> Value {
    json!({
        "ledger": ledger, "origin": head.checkpoint.origin.as_str(), "size": head.checkpoint.size,
        "root": crypto::base64::encode(&head.checkpoint.root), "checkpoint": head.note.as_ref(),
    })
}

/// The heads of all ledgers that were asked.
fn heads(site: &Site) -> Value {
    let heads = site
        .sources()
        .iter()
        .map(|source| head_json(&source.name, source.head()));
    heads.collect()
}

/// Puts into an answer what was asked, and what was left out.
fn searched(mut document: Value, site: &Site) -> Value {
    if let Value::Object(fields) = &mut document {
        fields.insert("searched".to_owned(), heads(site));
        if !site.left_out().is_empty() {
            fields.insert("without".to_owned(), json!(site.left_out()));
        }
    }
    document
}

/// As c2sp.org/tlog-proof has it.
pub(crate) fn receipt_text(receipt: &Receipt) -> String {
    receipt.to_proof_file().to_string()
}

/// `ledger accesses`.
pub(crate) fn accesses(arguments: &AccessesArguments, global: &Global) -> Result<(), Failure> {
    let site = without(&arguments.at, &arguments.without, global)?;
    let asked = Asked {
        by: arguments.by.clone(),
        of: arguments.of.clone(),
        on_behalf_of: arguments.on_behalf_of.clone(),
        times: times(arguments.since, arguments.until),
    };
    let rows = if arguments.verify {
        record_index::accesses_verified(&site, &asked, arguments.receipts)
    } else {
        record_index::accesses(&site, &asked, arguments.receipts)
    };
    let rows = rows.map_err(failed)?;
    if global.json {
        for row in &rows {
            output::json(&print::access_json(row));
        }
        let document = json!({ "found": rows.len(), "verified": arguments.verify });
        output::json(&searched(document, &site));
    } else {
        print::accesses(&rows);
        print::heads(&site);
        if arguments.verify {
            output::note("verified: every record of the ledgers says the same");
        }
    }
    Ok(())
}

/// `history`.
pub(crate) fn history(arguments: &HistoryArguments, global: &Global) -> Result<(), Failure> {
    let site = at(&arguments.at, global)?;
    let about = about(arguments)?;
    let history = record_index::history(&site, &about, arguments.receipts).map_err(failed)?;
    if global.json {
        let mut document = json!(history);
        if let (true, Value::Object(fields)) = (arguments.receipts, &mut document) {
            let receipts = history
                .changes
                .iter()
                .map(|change| change.receipt.as_deref().map(receipt_text));
            fields.insert("receipts".to_owned(), json!(receipts.collect::<Vec<_>>()));
        }
        if let Value::Object(fields) = &mut document {
            fields.insert("searched".to_owned(), heads(&site));
        }
        output::json(&document);
    } else {
        print::history(&history);
        print::heads(&site);
    }
    if history.unread.is_empty() {
        return Ok(());
    }
    Err(Finding::new(
        "HISTORY-INCOMPLETE",
        format!(
            "{} versions could not be looked at: the answer is not complete",
            history.unread.len()
        ),
    )
    .next("name the server's data_dir, whose `blobs` hold the versions' files; what was erased nobody can look at any more")
    .into())
}

fn about(arguments: &HistoryArguments) -> Result<About, Failure> {
    let of = arguments.of.clone();
    let resource = |text: &str| {
        text.parse::<ResourceRef>().map_err(|error| {
            Failure::from(
                Finding::new("QUESTION-RESOURCE", error.to_string())
                    .next("name it as the estate does: DATABASE/SCHEMA/TABLE, or Kind::\"name\""),
            )
        })
    };
    match (&arguments.action, &arguments.resource) {
        (Some(action), Some(of_what)) => {
            let action = action.parse::<Action>().map_err(|error| {
                Failure::from(
                    Finding::new("QUESTION-ACTION", error.to_string())
                        .next("ask by an action such as select"),
                )
            })?;
            Ok(About::Access {
                principal: of,
                action,
                resource: resource(of_what)?,
            })
        }
        _ if arguments.policy => Ok(About::Policy(of)),
        // A table has three parts, an identity seldom; what is quoted is a resource, and what is a path of two
        // parts is an identity.
        _ if of.contains("::\"") || of.matches('/').count() == 2 => {
            Ok(About::Resource(resource(&of)?))
        }
        _ => Ok(About::Principal(of)),
    }
}

/// `unused`.
pub(crate) fn unused(arguments: &UnusedArguments, global: &Global) -> Result<ExitCode, Failure> {
    let site = without(&arguments.at, &arguments.without, global)?;
    let estate = match &arguments.estate {
        Some(folder) => estates::compile(&estates::read(folder)?)?,
        None => in_force(&site)?,
    };
    let window = times(Some(arguments.window), None);
    let mut found = record_index::unused(&site, &estate, window).map_err(failed)?;
    if !arguments.patch {
        if global.json {
            output::json(&searched(json!(found), &site));
        } else {
            print::unused(&found, window.since.unwrap_or_default());
            print::heads(&site);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let options = estate_prove::Options {
        find_second: std::env::var_os("PATH"),
        ..estate_prove::Options::with_solver(std::env::var_os("CVC5"))
    };
    let patch =
        record_index::patch(&site, &estate, &mut found, window, &options).map_err(failed)?;
    let proved = patch.widening.is_nothing();
    if global.json {
        let document = json!({ "patch": patch, "unused": found });
        output::json(&searched(document, &site));
    } else {
        if proved {
            // As a whole, so that it can be piped into `git apply`.
            output::line(patch.diff.trim_end_matches('\n'));
        }
        print::patch(&patch, &found);
        print::left_out(&site);
    }
    if proved {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::verification(vec![
        Finding::new(
            "UNUSED-UNPROVED",
            "it is not proved that the smaller estate allows nothing new",
        )
        .observed(json!(patch.widening).to_string())
        .next("install cvc5 or set CVC5, and ask again"),
    ]))
}

fn in_force(site: &Site) -> Result<Estate, Failure> {
    record_index::in_force(site)
        .map_err(failed)?
        .ok_or_else(|| {
            Finding::new(
                "RECORDS-NO-ESTATE",
                "no estate in force is found in these folders",
            )
            .expected("the server's data_dir, with `blobs` in it")
            .next("name the estate's folder with --estate")
            .into()
        })
}

/// `replay`.
pub(crate) fn replay(arguments: &ReplayArguments, global: &Global) -> Result<(), Failure> {
    let site = without(&arguments.at, &arguments.without, global)?;
    let proposed = estates::compile(&estates::read(&arguments.estate)?)?;
    let window = times(Some(arguments.since), arguments.until);
    let replayed = record_index::replay(&site, &proposed, window).map_err(failed)?;
    if global.json {
        output::json(&searched(json!(replayed), &site));
    } else {
        print::replayed(&replayed);
        print::heads(&site);
    }
    Ok(())
}

/// Of a plan: the accesses since then that would change, and those that could not be decided again.
pub(crate) fn of_plan(
    folders: &[PathBuf],
    directory: &Path,
    days: u64,
    global: &Global,
) -> Result<Value, Failure> {
    let site = open(folders, None, global)?;
    let proposed = estates::compile(&estates::read(directory)?)?;
    let length = days.saturating_mul(86_400_000);
    let since = facts::Timestamp::now().as_millis().saturating_sub(length);
    let window = TimeRange {
        since: Some(since),
        until: None,
    };
    let replayed = record_index::replay(&site, &proposed, window).map_err(failed)?;
    if !global.json {
        output::line(format_args!("accesses of the last {days} days:"));
        print::replayed(&replayed);
    }
    let mut document = json!(replayed);
    if let Value::Object(fields) = &mut document {
        fields.insert("days".to_owned(), json!(days));
        fields.insert("searched".to_owned(), heads(&site));
    }
    Ok(document)
}
