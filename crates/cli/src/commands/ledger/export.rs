//! `ledger export`: what was asked for, handed to `export`.

use crate::arguments::{ExportArguments, Global};
use crate::runtime::{cancelled_by_signal, log_to_stderr};
use crate::{Failure, output};
use ::export::{Cursor, Error, Format, Options, Patience, Secrets, Sink};

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn failed(error: Error) -> Failure {
    let finding = error.finding();
    if error.is_broken() {
        Failure::verification(vec![finding])
    } else {
        Failure::refused(finding)
    }
}

pub(super) async fn export(arguments: &ExportArguments, global: &Global) -> Result<(), Failure> {
    log_to_stderr(&global.log, global.json)?;
    let format = Format::from_name(&arguments.format).ok_or_else(|| {
        Failure::usage(format!(
            "`{}` is no format: cloudevents or ocsf",
            arguments.format
        ))
    })?;
    let secrets = Secrets {
        authorities: arguments.ca_file.clone(),
        headers: arguments.header_file.clone(),
    };
    let cursor = match &arguments.cursor {
        Some(path) => Cursor::open(path, format.as_str(), &arguments.to).map_err(failed)?,
        None => Cursor::unkept(),
    };
    let sink = Sink::open(&arguments.to, format, &secrets).map_err(failed)?;
    let options = Options {
        folders: arguments.folders.clone(),
        ledgers: arguments.ledgers.clone(),
        format,
        follow: arguments.follow,
        patience: Patience::default(),
    };
    let stop = cancelled_by_signal()?;
    let exported = ::export::run(&options, cursor, sink, &stop)
        .await
        .map_err(failed)?;
    // stdout is the events' alone.
    output::note(format_args!("{} records were taken", exported.records));
    Ok(())
}
