//! `ledger new-log`: the ledger of a gateway or decision point goes on under another name and key.

use crate::arguments::{Global, LedgerNewLogArguments};
use crate::{Failure, output};
use anyhow::Context as _;
use serde_json::json;

pub(super) fn new_log(arguments: &LedgerNewLogArguments, global: &Global) -> Result<(), Failure> {
    // INVARIANT 2: the ledger's keys are in this process.
    device::memory::hide().context("cannot keep this process out of core files")?;
    let by = crate::commands::by();
    let begun = gateway_postgres::new_log(&arguments.folder, &arguments.reason, &by)?;
    if global.json {
        output::json(&json!({
            "was": begun.was.to_string(),
            "key": begun.key.to_string(),
            "record": begun.size,
            "already": begun.already,
        }));
        return Ok(());
    }
    if begun.already {
        output::note(
            "Nothing was done: the new log had been begun, and nothing has started on it since. For yet another one start the gateway first.",
        );
    }
    output::line(format_args!(
        "{} goes on from {} records as {}",
        begun.was.origin(),
        begun.size,
        begun.key
    ));
    output::note(
        "Start the gateway: the server follows by itself, and records the new key with the next anchor. Keep the folder `keys` in data_dir as a whole; the old key's file may be destroyed once the server says so: trilith ledger search --type key-rotation",
    );
    Ok(())
}
