//! `trilith server snapshot`, `rebuild-state` and `prune`: the state beside the ledger, and what of the ledger may go then.

use super::{protected, server_config};
use crate::arguments::{ConfigArgument, Global, RebuildArguments, ServerPruneArguments};
use crate::commands::pruned;
use crate::{Failure, output};
use facts::Timestamp;
use serde_json::json;
use std::path::Path;

pub(super) fn snapshot(arguments: &ConfigArgument, global: &Global) -> Result<(), Failure> {
    // INVARIANT 2: the ledger's key is in this process.
    protected(device::memory::hide())?;
    let config = server_config(&arguments.config)?;
    let done =
        server::snapshot(&config, &crate::commands::by()).map_err(|error| error.finding())?;
    if global.json {
        output::json(&json!({
            "record": done.index, "records": done.records, "blob": done.blob, "bytes": done.bytes,
            "already": done.already,
        }));
        return Ok(());
    }
    let made = if done.already {
        "the last record"
    } else {
        "record"
    };
    output::line(format_args!(
        "snapshot of the state after {} records: {made} {}, blob {} of {} bytes",
        done.records, done.index, done.blob, done.bytes
    ));
    Ok(())
}

pub(super) fn rebuild(arguments: &RebuildArguments, global: &Global) -> Result<(), Failure> {
    let config = server_config(&arguments.config)?;
    let mut checked = None;
    if let Some(copy) = &arguments.copy {
        checked = Some(check(&config, copy, !arguments.check, global)?);
        if arguments.check {
            return Ok(());
        }
    }
    let rebuild = match arguments.from_first_record {
        true => server::rebuild_from_first(&config),
        false => server::rebuild(&config),
    };
    let rebuild = rebuild.map_err(|error| error.finding())?;
    for finding in &rebuild.refused {
        output::note(finding);
    }
    let digest = crypto::hex::encode(&rebuild.rebuilt.digest);
    if global.json {
        output::json(&json!({
            "records": rebuild.rebuilt.records,
            "digest": digest,
            "snapshot": rebuild.snapshot,
            "from_first_record": arguments.from_first_record,
            "refused": rebuild.refused,
            "restored": checked.as_ref().map(|checked| &checked.restored),
            "kept_again": checked.as_ref().map(|checked| &checked.kept_again),
        }));
        return Ok(());
    }
    output::line(format_args!(
        "state of {} records, digest {digest}",
        rebuild.rebuilt.records
    ));
    output::note(match (rebuild.snapshot, arguments.from_first_record) {
        (Some(record), true) => {
            format!("From the first record. The snapshot of record {record} gives the same.")
        }
        (None, true) => "From the first record. No snapshot could be compared with it.".to_owned(),
        (Some(record), false) => {
            format!("From the snapshot of record {record} and the records after it.")
        }
        (None, false) => "From the first record: there is no snapshot that can be used.".to_owned(),
    });
    Ok(())
}

fn check(
    config: &server::Config,
    copy: &Path,
    restore: bool,
    global: &Global,
) -> Result<server::Checked, Failure> {
    let checked =
        server::check_snapshots(config, copy, restore).map_err(|error| error.finding())?;
    if global.json && !restore {
        output::json(&json!({
            "records": checked.records, "sound": checked.sound, "lost": checked.lost,
            "unkept": checked.unkept.map(|(index, _)| index), "others": checked.others,
        }));
        return whole(checked);
    }
    let list = |indices: &[u64]| {
        let words: Vec<String> = indices.iter().map(ToString::to_string).collect();
        words.join(", ")
    };
    match checked.sound.as_slice() {
        [] if checked.others.is_empty() => {
            output::note("No snapshot was checked: the ledger names none.");
        }
        [] => output::note("No snapshot was checked: the ledger names none of this version."),
        sound => output::note(format_args!(
            "What the records of the copy give is what these snapshots say: records {}",
            list(sound)
        )),
    }
    if !checked.others.is_empty() {
        output::note(format_args!(
            "Of another version of Trilith, and not compared: the snapshots of records {}",
            list(&checked.others)
        ));
    }
    if !checked.restored.is_empty() {
        output::note(format_args!(
            "Made again from the copy: the blobs of records {}",
            list(&checked.restored)
        ));
    }
    if !checked.kept_again.is_empty() {
        output::note(format_args!(
            "Kept again, in the file `apart` of the ledger's folder: {} records of the copy that something lives by",
            checked.kept_again.len()
        ));
    }
    whole(checked)
}

/// What is lost is no harm today, and all of it at the next start or restore.
fn whole(checked: server::Checked) -> Result<server::Checked, Failure> {
    match checked.finding() {
        Some(lost) => Err(Failure::verification(vec![lost])),
        None => Ok(checked),
    }
}

pub(super) fn prune(arguments: &ServerPruneArguments, global: &Global) -> Result<(), Failure> {
    protected(device::memory::hide())?;
    let config = server_config(&arguments.config)?;
    let reading = output::Progress::new("records of what goes were read where they stay");
    let pruning = server::prune_within(
        &config,
        &server::Prune {
            before: Timestamp::from_millis(arguments.before.0),
            reason: &arguments.reason,
            by: &crate::commands::by(),
            now: Timestamp::now(),
            copy: arguments.copy.as_deref(),
            really: arguments.yes,
        },
        &server::PruneBounds {
            told: &|read, of| reading.tell(read, of),
            ..server::PruneBounds::default()
        },
    )
    .map_err(|error| error.finding())?;
    if global.json {
        output::json(&json!({
            "ledger": pruning.origin,
            "minimum_index": pruning.minimum,
            "bytes": pruning.bytes,
            "kept": pruning.kept,
            "kept_bytes": pruning.kept_bytes,
            "snapshot_bytes": pruning.snapshot_bytes,
            "holder": pruning.holder,
            "snapshot": pruning.records.map(|(snapshot, _)| snapshot),
            "record": pruning.records.map(|(_, record)| record),
        }));
        return Ok(());
    }
    for (what, count) in &pruning.kept {
        output::note(format_args!("kept of them for {what}: {count}"));
    }
    output::note(format_args!(
        "Of these bytes {} stay, in the file `apart` of the ledger's folder; the snapshot has {}.",
        pruning.kept_bytes, pruning.snapshot_bytes
    ));
    let (minimum, bytes) = (pruning.minimum, pruning.bytes);
    let record = pruning.records.map(|(_, record)| record);
    output::line(pruned(&pruning.origin, minimum, bytes, record));
    match pruning.records {
        Some((snapshot, _)) => {
            output::note(format_args!(
                "The snapshot of record {snapshot} stands in for them. They are {}.",
                pruning.holder
            ));
        }
        None => {
            output::note(format_args!(
                "Nothing was pruned. With --yes this is, for good, in this server's folder; they are {}.",
                pruning.holder
            ));
            if arguments.copy.is_none() {
                output::note(
                    "Without a copy the snapshot cannot be checked afterwards (rebuild-state --check --copy): what a mirror keeps is no --copy, a copy of this data_dir from before is.",
                );
            }
        }
    }
    Ok(())
}
