//! `ledger prune`: the oldest records of a gateway's or decision point's own ledger go.

use crate::arguments::{Global, PruneArguments};
use crate::commands::pruned;
use crate::{Failure, output};
use anyhow::Context as _;
use facts::Timestamp;
use gateway_postgres::retention::{self, Prune};
use serde_json::json;

pub(super) fn prune(arguments: &PruneArguments, global: &Global) -> Result<(), Failure> {
    // INVARIANT 2: the ledger's key is in this process.
    device::memory::hide().context("cannot keep this process out of core files")?;
    let by = crate::commands::by();
    let pruning = retention::prune(
        &arguments.folder,
        &Prune {
            before: Timestamp::from_millis(arguments.before.0),
            reason: &arguments.reason,
            by: &by,
            now: Timestamp::now(),
            really: arguments.yes,
        },
    )?;
    if global.json {
        output::json(&json!({
            "ledger": pruning.origin,
            "minimum_index": pruning.minimum,
            "bytes": pruning.bytes,
            "anchor": pruning.anchor,
            "record": pruning.record,
        }));
        return Ok(());
    }
    let (minimum, bytes) = (pruning.minimum, pruning.bytes);
    output::line(pruned(&pruning.origin, minimum, bytes, pruning.record));
    if pruning.record.is_some() {
        output::note("Start the gateway. Ask the server about what is gone: its mirror has it.");
    } else {
        output::note(format_args!(
            "Nothing was pruned. With --yes this is, for good, in this folder; the server keeps them, as its record {} says.",
            pruning.anchor
        ));
    }
    Ok(())
}
