//! `trilith server new-log`: the ledger goes on under another name and key.

use super::{protected, server_config};
use crate::arguments::NewLogArguments;
use crate::{Failure, output};
use facts::Finding;

pub(super) fn run(arguments: &NewLogArguments) -> Result<(), Failure> {
    protected(device::memory::hide())?;
    let config = server_config(&arguments.config)?;
    let by = crate::commands::by();
    let why = server::Why {
        reason: &arguments.reason,
        by: &by,
        give_up: arguments.give_up,
    };
    let begun = server::new_log(&config, why).map_err(|error| error.finding())?;
    if begun.already {
        output::note(format_args!(
            "Nothing was done: the new log had been begun, and no server has started since. For yet another one start the server first."
        ));
    }
    output::line(format_args!(
        "{} goes on from {} records as {}",
        begun.was.origin(),
        begun.size,
        begun.key
    ));
    if let Some(path) = &arguments.lineage {
        let told = ledger::pack::Trust {
            trust_domain: config.trust_domain.clone(),
            ledger_key: begun.key.clone(),
            x509_authorities: Vec::new(),
            policy: None,
        };
        let told = serde_json::to_vec_pretty(&told).map_err(|error| {
            Finding::new("CLI-LINEAGE", "the lineage cannot be written as JSON")
                .observed(error.to_string())
                .next("start the server, and print it with: trilith trust")
        })?;
        crate::files::write(path, &told)?;
    }
    if let Some(size) = begun.given_up {
        output::line(format_args!(
            "given up: what was published of {size} records beyond these; record {} and those after it say so",
            begun.index
        ));
    }
    if begun.given_up.is_some() {
        output::note(format_args!(
            "If the folder of the ledger's key came from a backup too, and the ledger had gone on as a new log after that backup: do not start the server, restore the newest copy of that folder. Else one key has signed two successions, and whoever knows the first takes neither."
        ));
    }
    if config.witnesses.is_some() {
        output::note(format_args!(
            "Give the new key to the witnesses, with the file of --lineage, and put it into the policies that list the old one, before the server starts. Without that file run this again now, with --lineage FILE: it changes nothing more."
        ));
    }
    output::note(format_args!(
        "Start the server. Gateways and agents follow by themselves; new trust files: trilith trust"
    ));
    Ok(())
}
